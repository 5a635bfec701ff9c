"""Tunes a function on two processes: `two_processes.py HOST:PORT`, with `fleetune serve` at that address."""

import multiprocessing
import os
import sys

import fleetune

STUDY = "two processes"
SPACE = {
    "x": fleetune.Float(-5.0, 5.0),
    "rate": fleetune.Float(1e-5, 1e-1, log=True),
    "kind": fleetune.Categorical(["plain", "bumpy"]),
}


def measure(params):
    """What is minimised."""
    bump = 0.5 if params["kind"] == "bumpy" else 0.0
    return (params["x"] - 1.0) ** 2 + abs(params["rate"] - 0.01) + bump


def work(address):
    """Measures trials until the study is finished. One that dies with this process goes to the other after 30 s."""
    with fleetune.Client(address) as client:
        while True:
            try:
                trial = client.ask(STUDY, lease_s=30, holder=f"process {os.getpid()}")
            except fleetune.FleetuneError as error:
                if error.reason == "STUDY_FINISHED":
                    return
                raise
            client.tell(STUDY, trial, measure(trial.params))


def main():
    [address] = sys.argv[1:]
    with fleetune.Client(address) as client:
        client.create_study(STUDY, SPACE, sampler="tpe", trials=40, exist_ok=True)
    # A connection does not survive a fork.
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=work, args=(address,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(worker.exitcode == 0 for worker in workers), "a worker failed"
    with fleetune.Client(address) as client:
        [best] = client.best(STUDY, 1)
        print(f"best of {len(client.trials(STUDY))} trials: {best.values[0]:.4f} with {dict(best.params)}")


if __name__ == "__main__":
    main()
