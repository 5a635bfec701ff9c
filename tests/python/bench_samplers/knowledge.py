"""Searches that know model and machine, as `fleetune tune` does.

What arithmetic says of a configuration comes from a study's description, which a worker gives. Here the benchmark is that
worker: it registers with the problem's machine as its inventory and describes the problem's model by its dimensions, as
a worker would from a GGUF file. Trials are then asked for and told as in every other cell.
"""

import json
import uuid

import ours

FINGERPRINT = "bench-samplers"


def inventory(case):
    host = case.host
    cards = [
        {"index": index, "name": card.name, "vendor": "nvidia", "uuid": f"GPU-{index}", "vram_mib": card.vram}
        | {"driver": "580.95.05"}
        for index, card in enumerate(host.cards)
    ]
    return {
        "os": "linux",
        "kernel": "6.12.0",
        "host": "bench",
        "boot_id": "bench",
        "wsl": {"detected": host.spills, "kernel_says_so": host.spills, "has_dxg": host.spills},
        "cpu": {
            "model": host.name,
            "physical_cores": host.cores + host.slow_cores,
            "logical_cpus": host.logical,
        },
        "ram_mib": host.ram,
        "gpus": cards,
    }


def metadata(case):
    """What the header of the model's file would say."""
    net = case.net
    mib = 1 << 20
    layer_bytes = int(net.layer_mib * mib)
    layer = {
        "bytes": layer_bytes,
        "active_bytes": int(layer_bytes * net.active),
        "active_elements": int(layer_bytes * net.active * 8.0 / case.bits),
        "largest_bytes": int(net.feed * net.width * case.bits / 8.0),
        "k_width": net.kv_width,
        "v_width": net.kv_width,
    }
    head = net.width // net.heads
    return {
        "architecture": "llama",
        "name": net.name,
        "quantization": {4: "Q4_K_M", 5: "Q5_K_M", 8: "Q8_0"}[int(case.bits)],
        "parameters": int(net.file_mib * mib * 8.0 / case.bits),
        "tensor_bytes": int(net.file_mib * mib),
        "file_bytes": int(net.file_mib * mib),
        "tensor_count": net.layers * 9 + 3,
        "block_count": net.layers,
        "context_length": 131_072,
        "embedding_length": net.width,
        "feed_forward_length": net.feed,
        "head_count": net.heads,
        "head_count_kv": net.kv_width // head,
        "key_length": head,
        "value_length": head,
        "vocab_size": net.vocab,
        "expert_count": 8 if net.active < 1.0 else 0,
        "expert_used_count": 2 if net.active < 1.0 else 0,
        "split_count": 1,
        "layout": {
            "runs": [{"count": net.layers, "layer": layer}],
            "input_bytes": int(net.input_mib * mib),
            "output_bytes": int(net.output_mib * mib),
            "output_elements": net.vocab * net.width,
            "rearrangeable": True,
            "feed_forward_width": net.feed * (2 if net.active < 1.0 else 1),
        },
    }


class Study(ours.Study):
    """A study of a model, described by the benchmark itself."""

    def create(self):
        client, case = self.client, self.problem.extra["case"]
        common, messages = client.common, client.worker_messages
        model_hash = uuid.uuid4().hex * 2
        path = f"/{model_hash}.gguf"
        objective = common.Objective.Value(f"OBJECTIVE_{case.objective.upper()}")
        self.config.benchmark.CopyFrom(
            common.Benchmark(
                model=path,
                executor="llama-cpp",
                workload=common.Workload(prompt=case.prompt, gen=case.gen, repetitions=1),
                objective=objective,
                fixed={"n_ctx": client.value(case.context)},
            )
        )
        self.config.benchmark.timeout.FromSeconds(900)
        super().create()

        worker = uuid.uuid4().hex
        machine = json.dumps(inventory(case))
        model = common.Model(name=path[1:], path=path, hash=model_hash, bytes=int(case.net.file_mib) << 20)
        client.workers.Register(
            messages.RegisterRequest(
                worker_id=worker,
                name="bench",
                inventory_json=machine,
                executors={"llama-cpp": FINGERPRINT},
                models=[model],
            ),
            timeout=ours.DEADLINE_S,
        )
        request = messages.AcquireRequest(
            worker_id=worker, max_jobs=1, wait_s=30, study=self.name, request_id=uuid.uuid4().hex
        )
        answer = client.workers.Acquire(request, timeout=ours.DEADLINE_S)
        assert answer.jobs, f"no job: {list(answer.obstacles)}"
        [job] = answer.jobs
        assert job.WhichOneof("work") == "describe", job
        defaults = {name: client.value(value) for name, value in self.problem.default.items()}
        described = messages.Description(
            model_json=json.dumps(metadata(case)),
            inventory_json=machine,
            pin=common.Pin(model_hash=model_hash, executor="llama-cpp", engine=FINGERPRINT, device_class="bench"),
            defaults=defaults,
        )
        client.workers.Finish(
            messages.FinishRequest(lease_token=job.lease.token, described=described), timeout=ours.DEADLINE_S
        )
        study = client.studies.GetStudy(client.messages.GetStudyRequest(name=self.name), timeout=ours.DEADLINE_S).study
        assert study.state == common.STUDY_STATE_ACTIVE, study.reason
        assert not self.config.benchmark.no_prior and study.description_json, "nothing is known of the model"
