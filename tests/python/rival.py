"""The load of `fleetune-load` on Optuna's own server, for comparison.

    rival.py STORAGE SAMPLER CLIENTS SECONDS REPETITIONS

STORAGE is a Postgres URL as fleetune takes it. Starts `optuna.storages.run_grpc_proxy_server` as a process, drives it
with clients that ask and tell as Optuna's users do, and prints what was measured as JSON, in the shape of a cell of
`fleetune-load`. Optuna's sampler works in the client; an ask takes several calls.
"""

import json
import math
import multiprocessing
import socket
import sys
import threading
import time
import warnings

# Same as in the load generator.
STUDY_TRIALS = 1_000
BANDS = [(0, 100), (100, 300), (300, STUDY_TRIALS)]
WARM_UP_S = 1.0
# Python runs one thread at a time; more clients than these share a process.
PROCESSES = 8
# Of the server, instead of Optuna's default of 10, so that no client waits for a thread.
SERVER_THREADS = 64
START_DEADLINE_S = 60
TICKS_PER_S = 100


def sqlalchemy_url(url):
    """What SQLAlchemy calls the database."""
    return "postgresql+psycopg2" + url.removeprefix("postgres")


def quiet_optuna():
    """Optuna, without its notes on what it calls experimental: the server and its client."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna


def serve(url, port):
    """Optuna's server, on a pool of connections that fits its threads."""
    from concurrent.futures import ThreadPoolExecutor

    optuna = quiet_optuna()
    storage = optuna.storages.RDBStorage(url, engine_kwargs={"pool_size": SERVER_THREADS})
    pool = ThreadPoolExecutor(max_workers=SERVER_THREADS)
    # With the cache that Optuna's documentation asks for.
    storage = optuna.storages.get_storage(storage)
    optuna.storages.run_grpc_proxy_server(storage, host="127.0.0.1", port=port, thread_pool=pool)


def objective(params):
    """The load generator's bowl."""
    return (
        (math.log(params["batch"]) - 5.0) ** 2
        + (params["threads"] / 8.0 - 3.0) ** 2
        + (params["fraction"] - 0.7) ** 2
        + (math.log10(params["rate"]) + 3.0) ** 2
        + (ord(params["kind"][0]) - ord("a"))
        + (ord(params["mode"][0]) - ord("a")) / 10.0
    )


class Client(threading.Thread):
    """Asks and tells until `end`; keeps (trial number, seconds of the ask, seconds of the tell) of pairs in time."""

    def __init__(self, storage, sampler, name, end):
        super().__init__()
        self.storage, self.sampler, self.name_of_study, self.end = storage, sampler, name, end
        self.pairs, self.error = [], None

    def run(self):
        try:
            self.drive()
        except Exception as error:
            self.error = f"{type(error).__name__}: {error}"

    def drive(self):
        import optuna
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        space = {
            "batch": IntDistribution(1, 4_096, log=True),
            "threads": IntDistribution(1, 64),
            "fraction": FloatDistribution(0.0, 1.0),
            "rate": FloatDistribution(1e-5, 1.0, log=True),
            "kind": CategoricalDistribution(["a", "b", "c", "d"]),
            "mode": CategoricalDistribution(["off", "on", "auto"]),
        }
        samplers = {"random": optuna.samplers.RandomSampler, "tpe": optuna.samplers.TPESampler}

        def study(number):
            return optuna.create_study(
                storage=self.storage,
                sampler=samplers[self.sampler](),
                study_name=f"{self.name_of_study}-{number}",
                load_if_exists=True,
            )

        number = 0
        current = study(number)
        while time.monotonic() < self.end:
            start = time.monotonic()
            trial = current.ask(space)
            asked = time.monotonic()
            value = objective(trial.params)
            telling = time.monotonic()
            current.tell(trial, value)
            told = time.monotonic()
            if told <= self.end:
                self.pairs.append((trial.number, asked - start, told - telling))
            if trial.number + 1 >= STUDY_TRIALS:
                number += 1
                current = study(number)


def work(port, sampler, threads, pipe):
    """A process of clients, each with a connection of its own."""
    optuna = quiet_optuna()
    storages = [optuna.storages.GrpcStorageProxy(host="127.0.0.1", port=port) for _ in range(threads)]
    for storage in storages:
        storage.wait_server_ready(timeout=START_DEADLINE_S)
    pipe.send("ready")
    while (order := pipe.recv()) is not None:
        name, end = order
        clients = [Client(storage, sampler, name, end) for storage in storages]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        pairs = [pair for client in clients for pair in client.pairs]
        pipe.send((pairs, [client.error for client in clients if client.error]))


def cpu_s(pid):
    """Processor time of a process so far."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def peak_rss_mib(pid):
    """The most memory that a process ever had in use."""
    with open(f"/proc/{pid}/status") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def quantiles(seconds):
    """Latencies in milliseconds."""
    ordered = sorted(seconds)
    if not ordered:
        return {"count": 0, "p50": 0.0, "p95": 0.0, "p99": 0.0, "max": 0.0}

    def at(quantile):
        return ordered[max(0, math.ceil(quantile * len(ordered)) - 1)] * 1000.0

    return {"count": len(ordered), "p50": at(0.5), "p95": at(0.95), "p99": at(0.99), "max": ordered[-1] * 1000.0}


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def main():
    storage, sampler, clients, seconds, repetitions = sys.argv[1:]
    clients, seconds, repetitions = int(clients), float(seconds), int(repetitions)
    # A fork would take half of gRPC's threads along.
    processes = multiprocessing.get_context("spawn")
    port = free_port()
    server = processes.Process(target=serve, args=(sqlalchemy_url(storage), port), daemon=True)
    server.start()

    workers = []
    count = min(clients, PROCESSES)
    for index in range(count):
        threads = clients // count + (index < clients % count)
        pipe, other = processes.Pipe()
        processes.Process(target=work, args=(port, sampler, threads, other), daemon=True).start()
        workers.append(pipe)
    for pipe in workers:
        assert pipe.recv() == "ready"

    rates, pairs, errors, used = [], [], [], 0.0
    for repetition in range(repetitions + 1):
        length = seconds if repetition else WARM_UP_S
        before = cpu_s(server.pid)
        end = time.monotonic() + length
        for pipe in workers:
            pipe.send((f"load-{repetition}", end))
        time.sleep(max(0.0, end - time.monotonic()))
        spent = cpu_s(server.pid) - before
        answers = [pipe.recv() for pipe in workers]
        errors += [error for _, failed in answers for error in failed]
        if repetition:
            seen = [pair for part, _ in answers for pair in part]
            rates.append(len(seen) / length)
            pairs += seen
            used += spent
        if errors:
            break

    for error in errors[:3]:
        print(f"  a client gave up: {error}", file=sys.stderr)
    cell = {
        "system": "optuna",
        "storage": "postgres",
        "sampler": sampler,
        "clients": clients,
        "pairs_per_s": rates,
        "ask_ms": quantiles([ask for _, ask, _ in pairs]),
        "tell_ms": quantiles([tell for _, _, tell in pairs]),
        "ask_ms_by_size": [
            {"from": low, "to": high, "ask_ms": quantiles([ask for number, ask, _ in pairs if low <= number < high])}
            for low, high in BANDS
        ],
        "errors": len(errors),
        "server_cpu_s": used,
        "server_peak_rss_mib": peak_rss_mib(server.pid),
    }
    print(json.dumps(cell))
    for pipe in workers:
        pipe.send(None)
    server.terminate()
    server.join()


if __name__ == "__main__":
    main()
