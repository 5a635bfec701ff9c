"""One search: a problem, a sampler, a seed."""

import signal
import zlib

import numpy as np

import suites

CHECKPOINTS = (20, 30, 50, 100)

_state = {}


def stream(*words):
    """A seed of 32 bits out of names."""
    return zlib.crc32("/".join(map(str, words)).encode())


def run(cell, connect, cache, budget):
    """One search; how far from the optimum its answer is at each checkpoint, and how many trials failed."""
    suite, name, sampler, parallel, seed = cell
    problem = suites.problem(suite, name, seed, cache)
    study = connect(problem, sampler, stream(suite, name, seed), budget)
    checkpoints = [count for count in CHECKPOINTS if count <= budget]
    best, best_params, failed, told, found = None, None, 0, 0, []
    try:
        while told < budget:
            asked = study.ask(min(parallel, budget - told))
            for handle, params in asked:
                noise = np.random.default_rng([stream(suite, name), seed, told])
                outcome = problem.measure(params, noise)
                study.tell(handle, outcome)
                told += 1
                failed += not outcome.ok
                if outcome.ok and (best is None or problem.better(outcome.value, best)):
                    best, best_params = outcome.value, params
                if told in checkpoints:
                    # With noise, the best that was seen is not always what a program would use.
                    answer = (study.answer() if problem.noisy else None) or best_params
                    found.append(problem.distance(problem.truth(answer) if answer else None))
        return failed, found
    finally:
        study.close()


def prepare(address, stubs, cache, budget):
    """Once in each process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _state.update(address=address, stubs=stubs, cache=cache, budget=budget)


def connect(problem, sampler, seed, budget):
    if sampler.startswith("optuna-"):
        import rivals

        return rivals.Study(problem, sampler, seed, budget)
    import knowledge
    import ours

    if "client" not in _state:
        _state["client"] = ours.Client(_state["address"], _state["stubs"])
    study = knowledge.Study if sampler == "auto-prior" else ours.Study
    return study(_state["client"], problem, sampler, seed, budget)


def work(cell):
    try:
        failed, found = run(cell, connect, _state["cache"], _state["budget"])
    except Exception as error:
        return cell, None, f"{type(error).__name__}: {error}"
    return cell, failed, found
