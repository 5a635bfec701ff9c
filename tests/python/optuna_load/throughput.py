"""Trials a second of clients that are processes each, on one study at a time."""

import multiprocessing
import time
from dataclasses import dataclass

from rival import WARM_UP_S, work
from servers import tree_cpu_s


@dataclass
class Cell:
    trials_per_s: list
    # Processor time for each trial.
    server_ms: float
    postgres_ms: float
    client_ms: float


def measure(server, sampler, clients, seconds, repetitions):
    """The load of `rival.py`: ask for six parameters, tell; each study has 1,000 trials."""
    pipes, processes = [], []
    try:
        for _ in range(clients):
            pipe, other = multiprocessing.Pipe()
            process = multiprocessing.Process(target=work, args=(server.port, sampler, 1, other), daemon=True)
            process.start()
            # So that its end is noticed.
            other.close()
            pipes.append(pipe)
            processes.append(process)
        for pipe in pipes:
            assert pipe.recv() == "ready"
        rates, trials, used = [], 0, [0.0, 0.0, 0.0]
        for repetition in range(repetitions + 1):
            length = seconds if repetition else WARM_UP_S
            now = lambda: [server.cpu_s(), server.postgres_cpu_s(), sum(tree_cpu_s(one.pid) for one in processes)]
            before = now()
            end = time.monotonic() + length
            for pipe in pipes:
                pipe.send((f"{sampler}-{clients}-{repetition}", end))
            # Until each is done with the trial it was in, so that what it cost is counted with what came of it.
            answers = [pipe.recv() for pipe in pipes]
            after = now()
            took = time.monotonic() - end + length
            failed = [error for _, errors in answers for error in errors]
            assert not failed, f"a client gave up: {failed[0]}"
            if repetition:
                done = sum(len(pairs) for pairs, _ in answers)
                # The last pair of each client came after the end and is not in the list.
                done += clients
                rates.append(done / took)
                trials += done
                used = [sum_of + late - early for sum_of, late, early in zip(used, after, before)]
        for pipe in pipes:
            pipe.send(None)
    finally:
        for process in processes:
            process.join(5)
            process.terminate()
    return Cell(rates, *(1000 * spent / trials for spent in used))
