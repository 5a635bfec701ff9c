"""A client of fleetune in Python, made of the .proto files and grpcio alone.

    client.py ADDRESS PROTO_FOLDER

Minimises a function over the network, and uses on the way what a client can: reflection, health, ask, report, tell,
enqueue, watch, best, and the reasons of errors. Exits 0 when everything was as the .proto files say.
"""

import sys
import tempfile
import threading
import uuid
from importlib import resources
from pathlib import Path

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_tools import protoc

TRIALS = 15
# Longer than any call takes on a busy machine.
DEADLINE_S = 60
# Reports above it are stopped by the study's pruner.
HOPELESS = 40.0


def compile_protos(folder):
    """Compiles the .proto files into modules that can be imported."""
    target = tempfile.mkdtemp(prefix="fleetune-protos-")
    files = sorted(str(path.relative_to(folder)) for path in Path(folder, "fleetune").rglob("*.proto"))
    known = resources.files("grpc_tools") / "_proto"
    code = protoc.main(
        ["protoc", f"-I{folder}", f"-I{known}", f"--python_out={target}", f"--grpc_python_out={target}", *files]
    )
    assert code == 0, f"protoc ended with {code}"
    sys.path.insert(0, target)


def check_reflection(channel):
    """Finds services and describes a method with nothing but an address, as grpcurl does."""
    database = ProtoReflectionDescriptorDatabase(channel)
    services = set(database.get_services())
    expected = {
        "fleetune.v1.StudyService",
        "fleetune.v1.WorkerService",
        "fleetune.v1.FleetService",
        "grpc.health.v1.Health",
    }
    assert expected <= services, f"reflection lists only {sorted(services)}"

    ask = DescriptorPool(database).FindServiceByName("fleetune.v1.StudyService").FindMethodByName("Ask")
    assert ask.input_type.full_name == "fleetune.v1.AskRequest"
    assert ask.output_type.full_name == "fleetune.v1.AskResponse"
    fields = {field.name for field in ask.input_type.fields}
    assert {"request_id", "study", "count"} <= fields, f"AskRequest has only {sorted(fields)}"


def check_health(channel):
    """The server as a whole and its services say that they serve."""
    health = health_pb2_grpc.HealthStub(channel)
    for service in ["", "fleetune.v1.StudyService", "fleetune.v1.WorkerService"]:
        answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=DEADLINE_S)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING, f"{service!r}: {answer}"


def refusal(call):
    """The status code and the stable reason with which `call` is refused."""
    try:
        answer = call()
    except grpc.RpcError as error:
        metadata = {key: value for key, value in error.trailing_metadata()}
        assert error.details(), "a refusal says why"
        return error.code(), metadata.get("fleetune-reason")
    raise AssertionError(f"was not refused, but answered: {answer}")


def new_id():
    """An id for a request that creates something; a repetition of the request carries the same one."""
    return uuid.uuid4().hex


def plain(value):
    """The value of a parameter as Python knows it."""
    kind = value.WhichOneof("kind")
    return None if kind == "null" else getattr(value, kind)


def objective(params, step):
    """What is minimised, as it looks after `step` of 3."""
    x, y, kind = params["x"], params["y"], params["kind"]
    bowl = (x - 1.0) ** 2 + (y + 2.0) ** 2 + {"plain": 0.0, "bumpy": 3.0, "steep": 9.0}[kind]
    return bowl + (3 - step) * 0.1


def search(channel):
    """A complete search: create, watch, ask, report, tell, best."""
    from fleetune.v1 import common_pb2, study_pb2, study_pb2_grpc

    studies = study_pb2_grpc.StudyServiceStub(channel)

    def choice(text):
        return common_pb2.Value(text=text)

    def uniform(name):
        distribution = common_pb2.Distribution(float=common_pb2.FloatDistribution(low=-5.0, high=5.0))
        return common_pb2.Parameter(name=name, distribution=distribution)

    kinds = common_pb2.CategoricalDistribution(choices=[choice("plain"), choice("bumpy"), choice("steep")])
    space = common_pb2.SearchSpace(
        parameters=[
            uniform("x"),
            uniform("y"),
            common_pb2.Parameter(name="kind", distribution=common_pb2.Distribution(categorical=kinds)),
        ]
    )
    config = common_pb2.StudyConfig(
        directions=[common_pb2.DIRECTION_MINIMIZE],
        space=space,
        sampler=common_pb2.Sampler(name="tpe"),
        pruner=common_pb2.Pruner(threshold=common_pb2.ThresholdPruner(upper=HOPELESS)),
        budget=common_pb2.Budget(trials=TRIALS),
        seed=7,
    )
    create = study_pb2.CreateStudyRequest(request_id=new_id(), name="from python", config=config)
    study = studies.CreateStudy(create, timeout=DEADLINE_S).study
    assert study.state == common_pb2.STUDY_STATE_ACTIVE
    again = studies.CreateStudy(create, timeout=DEADLINE_S).study
    assert again.id == study.id, "a repeated request creates nothing"

    create.request_id = new_id()
    taken = refusal(lambda: studies.CreateStudy(create, timeout=DEADLINE_S))
    assert taken == (grpc.StatusCode.ALREADY_EXISTS, "STUDY_EXISTS"), taken
    missing = refusal(lambda: studies.GetStudy(study_pb2.GetStudyRequest(name="no such"), timeout=DEADLINE_S))
    assert missing == (grpc.StatusCode.NOT_FOUND, "STUDY_NOT_FOUND"), missing

    seen = {"ended": set(), "state": None}

    def watch():
        for event in studies.Watch(study_pb2.WatchRequest(study=study.name), timeout=DEADLINE_S):
            if event.HasField("study"):
                seen["state"] = event.study.state
            if event.HasField("trial") and event.trial.HasField("ended_at"):
                seen["ended"].add(event.trial.number)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()

    # A queue entry that is bound to be stopped: far away, and of the worst kind.
    far = {"x": common_pb2.Value(float=-5.0), "y": common_pb2.Value(float=5.0), "kind": choice("steep")}
    entry = study_pb2.FixedParams(params=far)
    studies.Enqueue(study_pb2.EnqueueRequest(request_id=new_id(), study=study.name, trials=[entry]), timeout=DEADLINE_S)

    told = {}
    stopped = set()
    for _ in range(TRIALS):
        ask = study_pb2.AskRequest(request_id=new_id(), study=study.name)
        [trial] = studies.Ask(ask, timeout=DEADLINE_S).trials
        [repeated] = studies.Ask(ask, timeout=DEADLINE_S).trials
        assert repeated.number == trial.number, "a repeated ask gives the same trial"
        params = {name: plain(value) for name, value in trial.params.items()}
        assert -5.0 <= params["x"] <= 5.0 and -5.0 <= params["y"] <= 5.0, params

        tell = study_pb2.TellRequest(study=study.name, number=trial.number)
        for step in range(1, 4):
            value = objective(params, step)
            report = study_pb2.ReportRequest(study=study.name, number=trial.number, step=step, value=value)
            if studies.Report(report, timeout=DEADLINE_S).verdict == study_pb2.VERDICT_STOP:
                assert value > HOPELESS, f"trial {trial.number} was stopped at {value}"
                stopped.add(trial.number)
                tell.state = common_pb2.TRIAL_STATE_PRUNED
                break
        else:
            tell.state = common_pb2.TRIAL_STATE_COMPLETE
            told[trial.number] = objective(params, 3)
            tell.values.append(told[trial.number])
        ended = studies.Tell(tell, timeout=DEADLINE_S).trial
        assert ended.state == tell.state
        studies.Tell(tell, timeout=DEADLINE_S)

    assert 0 in stopped, "the queue entry comes first and is hopeless"
    assert sorted(told.keys() | stopped) == list(range(TRIALS)), "numbers are dense"

    last = max(told)
    other = study_pb2.TellRequest(
        study=study.name, number=last, state=common_pb2.TRIAL_STATE_COMPLETE, values=[told[last] + 1.0]
    )
    changed = refusal(lambda: studies.Tell(other, timeout=DEADLINE_S))
    assert changed == (grpc.StatusCode.FAILED_PRECONDITION, "TRIAL_ENDED"), changed
    over = refusal(lambda: studies.Ask(study_pb2.AskRequest(request_id=new_id(), study=study.name), timeout=DEADLINE_S))
    assert over == (grpc.StatusCode.FAILED_PRECONDITION, "STUDY_FINISHED"), over

    watcher.join(DEADLINE_S)
    assert not watcher.is_alive(), "the stream ends with the study"
    assert seen["ended"] == set(range(TRIALS)), f"watched only {sorted(seen['ended'])}"
    assert seen["state"] == common_pb2.STUDY_STATE_FINISHED, seen["state"]

    best = studies.Best(study_pb2.BestRequest(study=study.name, count=3), timeout=DEADLINE_S)
    assert [trial.number for trial in best.trials] == sorted(told, key=told.get)[:3]
    assert best.winner.values[0] == min(told.values()), best.winner

    stored = {trial.number for trial in studies.ListTrials(study_pb2.ListTrialsRequest(study=study.name))}
    assert stored == set(range(TRIALS))
    print(f"best of {TRIALS} trials: {min(told.values()):.3f}; stopped early: {len(stopped)}")


def main():
    address, protos = sys.argv[1:]
    compile_protos(protos)
    with grpc.insecure_channel(address) as channel:
        grpc.channel_ready_future(channel).result(timeout=DEADLINE_S)
        check_health(channel)
        check_reflection(channel)
        search(channel)


if __name__ == "__main__":
    main()
