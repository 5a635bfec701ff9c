"""fleetune through gRPC: a server of its own, studies that ask and tell."""

import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from importlib import resources
from pathlib import Path

import grpc
from grpc_tools import protoc

from space import is_active

SAMPLERS = ("random", "tpe", "tpe-optuna5", "cma-es", "auto", "auto-prior")
DEADLINE_S = 300


def compile_protos(folder, target):
    """Compiles the .proto files into modules below `target`."""
    target.mkdir(parents=True, exist_ok=True)
    files = sorted(str(path.relative_to(folder)) for path in Path(folder, "fleetune").rglob("*.proto"))
    known = resources.files("grpc_tools") / "_proto"
    arguments = ["protoc", f"-I{folder}", f"-I{known}", f"--python_out={target}", f"--grpc_python_out={target}", *files]
    code = protoc.main(arguments)
    assert code == 0, f"protoc ended with {code}"


class Server:
    """A coordinator with a storage that goes with it: in memory where the system has a place for files there."""

    def __init__(self, program):
        memory = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(prefix="fleetune-bench-", dir=memory if os.access(memory, os.W_OK) else None))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FLEETUNE")}
        environment |= {"HOME": str(self.folder), "XDG_CONFIG_HOME": str(self.folder)}
        command = [program, "serve", "--listen", "127.0.0.1:0", "--storage", f"sqlite://{self.folder}/studies.db"]
        with open(self.folder / "log", "w") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
        line = self.process.stdout.readline()
        if "listening on " not in line:
            said = (self.folder / "log").read_text()
            raise SystemExit(f"error: `{program} serve` did not start: {line}{said}")
        self.address = line.split("listening on ")[1].split()[0]

    def stop(self):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Client:
    """A connection, and the generated modules."""

    def __init__(self, address, stubs):
        sys.path.insert(0, str(stubs))
        from fleetune.v1 import common_pb2, study_pb2, study_pb2_grpc, worker_pb2, worker_pb2_grpc

        self.common, self.messages, self.worker_messages = common_pb2, study_pb2, worker_pb2
        channel = grpc.insecure_channel(address)
        self.studies = study_pb2_grpc.StudyServiceStub(channel)
        self.workers = worker_pb2_grpc.WorkerServiceStub(channel)

    def value(self, plain):
        """A value on the wire."""
        kinds = {bool: "bool", int: "int", float: "float", str: "text"}
        return self.common.Value(**{kinds[type(plain)]: plain})

    def parameter(self, param):
        common = self.common
        match param.kind:
            case "float":
                spread = common.FloatDistribution(low=param.low, high=param.high, log=param.log)
                distribution = common.Distribution(float=spread)
            case "int":
                spread = common.IntDistribution(low=int(param.low), high=int(param.high), log=param.log)
                distribution = common.Distribution(int=spread)
            case _:
                spread = common.CategoricalDistribution(choices=[self.value(choice) for choice in param.choices])
                distribution = common.Distribution(categorical=spread)
        when = ""
        if param.when:
            name, values = param.when
            when = " || ".join(f"{name} == '{value}'" for value in values)
        return common.Parameter(name=param.name, distribution=distribution, when=when)


def plain(value):
    """A value of the wire as Python knows it."""
    kind = value.WhichOneof("kind")
    return None if kind == "null" else getattr(value, kind)


class Study:
    """A study of fleetune's, removed when it is closed."""

    def __init__(self, client, problem, sampler, seed, budget):
        self.client, self.problem = client, problem
        common, messages = client.common, client.messages
        self.name = f"{problem.suite} {problem.name} {sampler} {uuid.uuid4().hex}"
        space = common.SearchSpace(
            parameters=[client.parameter(param) for param in problem.space],
            constraints=[common.Constraint(name=f"c{index}") for index in range(problem.constraints)],
        )
        direction = common.DIRECTION_MAXIMIZE if problem.maximize else common.DIRECTION_MINIMIZE
        self.config = common.StudyConfig(
            directions=[direction],
            space=space,
            sampler=common.Sampler(name=sampler.removesuffix("-prior")),
            budget=common.Budget(trials=budget),
            seed=seed,
        )
        self.create()
        if problem.default and not self.config.HasField("benchmark"):
            first = {name: client.value(value) for name, value in problem.default.items()}
            entry = messages.FixedParams(params=first)
            request = messages.EnqueueRequest(request_id=uuid.uuid4().hex, study=self.name, trials=[entry])
            client.studies.Enqueue(request, timeout=DEADLINE_S)

    def create(self):
        request = self.client.messages.CreateStudyRequest(
            request_id=uuid.uuid4().hex, name=self.name, config=self.config
        )
        self.client.studies.CreateStudy(request, timeout=DEADLINE_S)

    def ask(self, count):
        request = self.client.messages.AskRequest(request_id=uuid.uuid4().hex, study=self.name, count=count)
        trials = self.client.studies.Ask(request, timeout=DEADLINE_S).trials
        return [(trial.number, self._params(trial)) for trial in trials]

    def _params(self, trial):
        params = {name: plain(value) for name, value in trial.params.items()}
        active = {}
        for param in self.problem.space:
            if is_active(param, active):
                active[param.name] = params[param.name]
        assert active.keys() == params.keys(), f"{params} holds what is not active"
        return active

    def tell(self, number, outcome):
        common = self.client.common
        request = self.client.messages.TellRequest(study=self.name, number=number)
        if outcome.fail is None:
            request.state = common.TRIAL_STATE_COMPLETE
            request.values.append(outcome.value)
            for index, constraint in enumerate(outcome.constraints):
                request.constraints[f"c{index}"] = constraint
        else:
            request.state = common.TRIAL_STATE_FAIL
            request.failure.kind = common.FailKind.Value(f"FAIL_KIND_{outcome.fail.upper()}")
        self.client.studies.Tell(request, timeout=DEADLINE_S)

    def answer(self):
        """Parameters that it says to use; nothing before a trial has completed."""
        best = self.client.studies.Best(self.client.messages.BestRequest(study=self.name, count=1), timeout=DEADLINE_S)
        return self._params(best.winner) if best.HasField("winner") else None

    def close(self):
        request = self.client.messages.DeleteStudyRequest(name=self.name, force=True)
        self.client.studies.DeleteStudy(request, timeout=DEADLINE_S)
