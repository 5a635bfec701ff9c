"""Compares how long fleetune's samplers, Optuna's TPE and rustuna's take for one trial, ask and tell together, by number
of finished trials: `make bench-samplers LATENCY_ONLY=1`.

Six mixed parameters, those of `sampler/examples/latency.rs`, which measures ours. Finished trials are uniform; measured
ones are what a sampler asks for, told at once. All in memory, on one thread, in turns. Ratios are of the CPU time of the
median trial: what else runs on the machine counts little then.

  SIZES=100,1000     finished trials; default: 100,1000,10000,100000
  ROUNDS=3           turns
  LATENCY=program    the built example; default: built now
"""

import json
import math
import os
import random
import subprocess
import sys
import time
from pathlib import Path

# Before numpy is loaded: one thread for all.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import optuna  # noqa: E402
import rustuna  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]
CACHE, MODE = ["f32", "f16", "q8_0", "q4_0"], ["none", "layer", "row"]
OURS = ("tpe", "tpe-optuna5")
# Trials measured in one round, by number of finished ones.
MEASURED = {
    "ours": {100: 200, 1_000: 200, 10_000: 100, 100_000: 50},
    "rustuna": {100: 100, 1_000: 100, 10_000: 30, 100_000: 5},
    "optuna": {100: 20, 1_000: 10, 10_000: 3, 100_000: 1},
}


def value(params):
    """The function of `latency.rs`."""
    numbers = (
        params["layers"] / 99 - 0.7,
        math.log(params["batch"]) / 9 - 0.75,
        params["threads"] / 64 - 0.25,
        params["share"] - 0.3,
    )
    return sum(x * x for x in numbers) + 0.3 * ((params["cache"] != "q8_0") + (params["mode"] != "row"))


def uniform(rng):
    batch = math.exp(rng.uniform(math.log(31.5), math.log(4_096.5)))
    return {
        "layers": rng.randint(0, 99),
        "batch": min(max(round(batch), 32), 4_096),
        "threads": rng.randint(1, 64),
        "share": rng.random(),
        "cache": rng.choice(CACHE),
        "mode": rng.choice(MODE),
    }


class Rival:
    """A study with so many finished trials."""

    def __init__(self, package, size):
        self.tells_trials = package is optuna
        if package is optuna:
            optuna.logging.set_verbosity(optuna.logging.ERROR)
            self.study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=7))
        else:
            self.study = rustuna.create_study(sampler=rustuna.samplers.TPESampler(seed=7))
        number = package.distributions.IntDistribution
        choice = package.distributions.CategoricalDistribution
        distributions = {
            "layers": number(0, 99),
            "batch": number(32, 4_096, log=True),
            "threads": number(1, 64),
            "share": package.distributions.FloatDistribution(0.0, 1.0),
            "cache": choice(CACHE),
            "mode": choice(MODE),
        }
        rng = random.Random(7)
        for _ in range(size):
            params = uniform(rng)
            trial = package.trial.create_trial if package is optuna else package.create_trial
            self.study.add_trial(trial(params=params, distributions=distributions, value=value(params)))

    def trial(self):
        trial = self.study.ask()
        params = {
            "layers": trial.suggest_int("layers", 0, 99),
            "batch": trial.suggest_int("batch", 32, 4_096, log=True),
            "threads": trial.suggest_int("threads", 1, 64),
            "share": trial.suggest_float("share", 0.0, 1.0),
            "cache": trial.suggest_categorical("cache", CACHE),
            "mode": trial.suggest_categorical("mode", MODE),
        }
        self.study.tell(trial if self.tells_trials else trial.number, value(params))

    def measure(self, trials):
        """Wall and CPU milliseconds of each trial."""
        measured = []
        for _ in range(trials):
            wall, cpu = time.perf_counter(), time.thread_time()
            self.trial()
            measured.append(((time.perf_counter() - wall) * 1e3, (time.thread_time() - cpu) * 1e3))
        return measured


def median(numbers):
    numbers = sorted(numbers)
    return numbers[(len(numbers) - 1) // 2]


def build():
    command = ["cargo", "build", "--release", "--quiet", "-p", "fleetune-sampler", "--example", "latency"]
    subprocess.run(command, cwd=ROOT, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    return target / "release/examples/latency"


def ours(program, size, trials):
    """(wall, CPU) of the median trial of each of our samplers."""
    arguments = ["--sizes", str(size), "--samplers", ",".join(OURS), "--trials", str(trials), "--json"]
    lines = subprocess.run([program, *arguments], check=True, capture_output=True, text=True).stdout.splitlines()
    measured = {line["sampler"]: line for line in map(json.loads, lines)}
    return {name: (measured[name]["wall_ms"]["p50"], measured[name]["cpu_ms"]["p50"]) for name in OURS}


def main():
    sizes = [int(size) for size in (os.environ.get("SIZES") or "100,1000,10000,100000").split(",")]
    rounds = int(os.environ.get("ROUNDS") or 3)
    program = os.environ.get("LATENCY") or build()
    print("ask + tell in ms: wall (CPU; CPU of the rounds from to), medians")
    for size in sizes:
        trials = {name: by_size.get(size) or max(1, min(200, 200_000 // size)) for name, by_size in MEASURED.items()}
        rivals = {"optuna": Rival(optuna, size), "rustuna": Rival(rustuna, size)}
        rows = {name: [] for name in (*OURS, *rivals)}
        for _ in range(rounds):
            for name, measured in ours(program, size, trials["ours"]).items():
                rows[name].append(measured)
            for name, rival in rivals.items():
                wall, cpu = zip(*rival.measure(trials[name]))
                rows[name].append((median(wall), median(cpu)))
        cpu = {name: median([row[1] for row in measured]) for name, measured in rows.items()}
        parts = []
        for name, measured in rows.items():
            wall = median([row[0] for row in measured])
            low, high = min(row[1] for row in measured), max(row[1] for row in measured)
            parts.append(f"{name} {wall:.3f} ({cpu[name]:.3f}; {low:.3f} to {high:.3f})")
        ratios = [f"{name}/{mine} {cpu[name] / cpu[mine]:.0f}x" for mine in OURS for name in rivals]
        print(f"{size:>7} trials | {' | '.join(parts)} | {', '.join(ratios)}", flush=True)
    load = os.getloadavg()
    print(f"{os.cpu_count()} processors, load {load[0]:.1f} {load[1]:.1f} {load[2]:.1f} (1, 5, 15 minutes)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
