"""How long a Python program waits for parameters in a large study: Optuna's sampler, and fleetune's."""

import multiprocessing
import time
from dataclasses import dataclass

from fill import space
from rival import START_DEADLINE_S, objective, quiet_optuna

KINDS = ["TPESampler()", "FleetuneSampler(...)"]
# After the first, which reads the study.
ASKS = 20


@dataclass
class Asked:
    first_s: float
    wall_s: list
    client_ms: float
    server_ms: float


def ask(port, study, kind, pipe):
    optuna = quiet_optuna()
    import fleetune

    address = f"127.0.0.1:{port}"
    sampler = optuna.samplers.TPESampler() if kind == KINDS[0] else fleetune.FleetuneSampler(address)
    storage = optuna.storages.GrpcStorageProxy(host="127.0.0.1", port=port)
    storage.wait_server_ready(timeout=START_DEADLINE_S)
    loaded = optuna.load_study(study_name=study, storage=storage, sampler=sampler)

    def timed():
        start, used = time.monotonic(), time.process_time()
        trial = loaded.ask(space())
        took = time.monotonic() - start, time.process_time() - used
        loaded.tell(trial, objective(trial.params))
        return took

    first, _ = timed()
    pipe.send(first)
    pipe.recv()
    pipe.send([timed() for _ in range(ASKS)])


def measure(server, study, kind):
    pipe, other = multiprocessing.Pipe()
    client = multiprocessing.Process(target=ask, args=(server.port, study, kind, other), daemon=True)
    client.start()
    # So that its end is noticed.
    other.close()
    first = pipe.recv()
    before = server.cpu_s()
    pipe.send("go on")
    later = pipe.recv()
    used = server.cpu_s() - before
    client.join()
    walls, cpus = zip(*later)
    return Asked(first, list(walls), 1000 * sum(cpus) / ASKS, 1000 * used / ASKS)
