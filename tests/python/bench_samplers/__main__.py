"""Compares fleetune's samplers with Optuna's: `make bench-samplers`.

Every cell is one search: a problem, a sampler, a seed, one trial at a time or several in lock step. Finished cells are
kept in OUT/results.csv and not run again; those of another build of fleetune are. All options are variables of the
environment, or of make.
"""

import csv
import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
# Distances are from the optimum, in units of the distance of a median random feasible point, at each checkpoint.
FIELDS = ("suite", "problem", "sampler", "parallel", "seed", "program", "failed", "distances")
# Its searches take minutes; it is run on fewer seeds, and only on request.
SLOW, SLOW_SEEDS = ("optuna-gp",), 2
OPTIONS = """\
  SUITES=bbob,llama      of bbob, bbob-mixint, bbob-noisy, bbob-constrained, mixed, llama; default: all
  PROBLEMS=f001,draft    only these; default: all of the suites
  SAMPLERS=auto,tpe      default: all but optuna-gp, which is slow, needs torch and runs on 2 seeds
  SEEDS=10               how many, or a range: 5-9
  BUDGET=100             trials of a search
  PARALLEL=1             trials that run at once, asked for and told in lock step; several: 1,8
  PROCESSES=2            searches at once
  FLEETUNE=path          program to measure; default: the release build
  OUT=folder             results; default: target/bench-samplers
  REPORT_ONLY=1          runs nothing
  LATENCY_ONLY=1         measures how long ask and tell take instead
"""


def listed(name, default):
    text = os.environ.get(name, "")
    return [part for part in text.replace(",", " ").split() if part] or list(default)


def seeds():
    text = os.environ.get("SEEDS") or "10"
    first, _, last = text.rpartition("-")
    return range(int(first), int(last) + 1) if first else range(int(last))


def is_wanted(sampler, problem_fails, suite):
    """Whether a cell says something that another one does not."""
    if sampler == "auto-prior":
        return suite == "llama"
    # Where everything works there is no worst value to tell.
    return sampler != "optuna-tpe-worst" or problem_fails


def plan(samplers):
    """All cells, so ordered that a run which is cut short has a little of everything."""
    import suites

    cells = []
    chosen = listed("PROBLEMS", ())
    for parallel in map(int, listed("PARALLEL", ["1"])):
        for seed in seeds():
            for suite in listed("SUITES", suites.SUITES):
                if suite not in suites.SUITES:
                    raise SystemExit(f"error: no suite is called `{suite}`; there are {', '.join(suites.SUITES)}")
                for name in suites.names(suite):
                    if chosen and name not in chosen:
                        continue
                    fails = suite in ("bbob-constrained", "llama") or (suite == "mixed" and suites.mixed.PROBLEMS[name][3])
                    cells += [
                        (suite, name, sampler, parallel, seed)
                        for sampler in samplers
                        if is_wanted(sampler, fails, suite) and (sampler not in SLOW or seed < SLOW_SEEDS)
                    ]
    return cells


def load(file, programs):
    """Finished cells of these programs; the rest of the file is dropped."""
    if not file.exists():
        return {}
    with open(file, newline="") as opened:
        rows = list(csv.DictReader(opened))
    kept = [row for row in rows if row["program"] == programs(row["sampler"])]
    if len(kept) < len(rows):
        print(f"{len(rows) - len(kept)} results are of another build and are dropped")
        write(file, kept)
    return {(row["suite"], row["problem"], row["sampler"], int(row["parallel"]), int(row["seed"])): row for row in kept}


def write(file, rows):
    new = file.with_suffix(".new")
    with open(new, "w", newline="") as opened:
        writer = csv.DictWriter(opened, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    new.replace(file)


def clock(seconds):
    return f"{int(seconds) // 3600}:{int(seconds) % 3600 // 60:02}:{int(seconds) % 60:02}"


def main():
    if len(sys.argv) > 1:
        print(__doc__ + "\n" + OPTIONS)
        return 0 if sys.argv[1] in ("-h", "--help") else 2
    if os.environ.get("LATENCY_ONLY"):
        return subprocess.run([sys.executable, HERE / "latency.py"]).returncode

    import optuna

    import ours
    import report
    import rivals

    program = Path(os.environ.get("FLEETUNE") or ROOT / "target/release/fleetune").resolve()
    known = [*ours.SAMPLERS, *rivals.SAMPLERS]
    samplers = listed("SAMPLERS", [name for name in known if name not in SLOW])
    if unknown := [name for name in samplers if name not in known]:
        raise SystemExit(f"error: no sampler is called `{unknown[0]}`; there are {', '.join(known)}")
    out = Path(os.environ.get("OUT") or ROOT / "target/bench-samplers").resolve()
    out.mkdir(parents=True, exist_ok=True)
    file = out / "results.csv"
    budget = int(os.environ.get("BUDGET") or 100)
    if os.environ.get("REPORT_ONLY"):
        if not file.exists():
            raise SystemExit(f"error: there are no results in {out}; run without REPORT_ONLY first, or name another OUT")
        with open(file, newline="") as opened:
            print(report.write(list(csv.DictReader(opened)), out))
        return 0

    if not program.is_file():
        raise SystemExit(f"error: there is no program at {program}; build it (cargo build --release), or set FLEETUNE")
    build = hashlib.sha256(program.read_bytes()).hexdigest()[:12]

    def program_of(sampler):
        return f"{f'optuna {optuna.__version__}' if sampler.startswith('optuna-') else build}/{budget}"

    done = load(file, program_of)
    cells = [cell for cell in plan(samplers) if cell not in done]
    print(f"{len(done)} searches are done, {len(cells)} to do; results in {file}", flush=True)
    failures = execute(cells, done, file, program, program_of, out, budget) if cells else []
    print(report.write(list(done.values()), out))
    for cell, error in failures[:5]:
        print(f"error: {' '.join(map(str, cell))}: {error}", file=sys.stderr)
    return 1 if failures else 0


def execute(cells, done, file, program, program_of, out, budget):
    """Runs `cells` and adds them to `done` and the file; gives those that broke."""
    import ours
    import searches

    stubs = out / "stubs"
    ours.compile_protos(ROOT / "proto/proto", stubs)
    server = ours.Server(str(program))
    failures, begin, said = [], time.monotonic(), 0.0
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if not file.exists():
        write(file, [])
    # A fork would take half of gRPC's threads along.
    pool = ProcessPoolExecutor(
        int(os.environ.get("PROCESSES") or 2),
        multiprocessing.get_context("spawn"),
        searches.prepare,
        (server.address, stubs, str(out / "cache"), budget),
    )
    try:
        with open(file, "a", newline="") as opened:
            writer = csv.DictWriter(opened, FIELDS, lineterminator="\n")
            running = [pool.submit(searches.work, cell) for cell in cells]
            for count, finished in enumerate(as_completed(running), 1):
                cell, failed, found = finished.result()
                if failed is None:
                    failures.append((cell, found))
                else:
                    suite, problem, sampler, parallel, seed = cell
                    done[cell] = {"suite": suite, "problem": problem, "sampler": sampler, "parallel": parallel}
                    done[cell] |= {"seed": seed, "program": program_of(sampler), "failed": failed}
                    done[cell]["distances"] = " ".join(f"{distance:.4g}" for distance in found)
                    writer.writerow(done[cell])
                    opened.flush()
                spent = time.monotonic() - begin
                if spent - said > 20 or count == len(cells):
                    said = spent
                    left = spent / count * (len(cells) - count)
                    print(f"{count} of {len(cells)} searches, {clock(spent)}; {clock(left)} left", flush=True)
    except KeyboardInterrupt:
        print("stopped; what is finished is kept", file=sys.stderr)
        failures.append((("the run",), "was interrupted"))
    finally:
        pool.shutdown(cancel_futures=True)
        server.stop()
    return failures


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    sys.exit(main())
