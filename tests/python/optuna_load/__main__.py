"""Programs of Optuna's, unmodified, on a server of fleetune and on Optuna's own, both on one Postgres.

    optuna_load PROGRAM URL URL CLIENTS SAMPLERS SECONDS REPETITIONS SIZES

PROGRAM is `fleetune`. The URLs are of two empty databases of one cluster, as fleetune takes them. Lists are
comma-separated. What is measured goes to stdout in tables of Markdown, what is under way to stderr.
"""

import multiprocessing
import statistics
import sys
from pathlib import Path

# The load and Optuna's server are those of `fleetune-load --rival`.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import asks  # noqa: E402
import fill  # noqa: E402
import syncs  # noqa: E402
import throughput  # noqa: E402
from servers import Fleetune, Optuna  # noqa: E402


def say(text):
    print(text, file=sys.stderr, flush=True)


def table(title, heads, rows):
    print(f"\n{title}\n")
    print("| " + " | ".join(heads) + " |")
    print("|" + " --- |" * len(heads))
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)


def spread(values, form):
    """The median, then the smallest and the largest."""
    ordered = sorted(values)
    shown = [format(value, form) for value in (statistics.median(ordered), ordered[0], ordered[-1])]
    return f"{shown[0]} ({shown[1]}–{shown[2]})"


def measure_throughput(systems, clients, samplers, seconds, repetitions):
    rows, per_trial = [], {}
    for sampler in samplers:
        for count in clients:
            for system in systems:
                say(f"{sampler} with {count} clients on {system.name} …")
                with system.start() as server:
                    cell = throughput.measure(server, sampler, count, seconds, repetitions)
                per_trial[sampler, count, system.name] = cell.server_ms
                rates = spread(cell.trials_per_s, ",.0f")
                ms = [f"{cell.server_ms:.2f}", f"{cell.postgres_ms:.2f}", f"{cell.client_ms:.1f}"]
                rows.append([sampler, str(count), system.name, rates, *ms])
            ours, theirs = (per_trial[sampler, count, system.name] for system in systems)
            say(f"  Optuna's server needs {theirs / ours:.1f} times as much processor time for a trial")
    heads = ["sampler", "clients", "server", "trials/s", "server ms/trial", "Postgres ms/trial", "clients ms/trial"]
    table("Trials, and processor time for each", heads, rows)
    pairs = [(key, per_trial[*key, systems[1].name] / per_trial[*key, systems[0].name]) for key in
             ((sampler, count) for sampler in samplers for count in clients)]
    table(
        "Server processor time for a trial: Optuna's by fleetune's",
        ["sampler", "clients", "times"],
        [[sampler, str(count), f"{times:.1f}"] for (sampler, count), times in pairs],
    )


def measure_syncs(systems, sizes, repetitions):
    rows = []
    for size in sizes:
        for system in systems:
            say(f"{size} trials on {system.name}: filling …")
            fill.fill(system, size)
            say("  reading …")
            with system.start() as server:
                read = syncs.measure(server, fill.name(size), size, repetitions)
            rows.append([
                f"{size:,}", system.name, f"{read.first_s:.2f}", spread(read.sync_s, ".2f"), spread(read.bare_s, ".2f"),
                f"{read.server_s:.3f}", f"{read.rss_mib:.0f}", f"{read.peak_mib:.0f}",
            ])
    heads = ["trials", "server", "first after its start s", "first of a client s", "GetTrials alone s",
             "server processor s", "MiB", "at most MiB"]
    table("All trials of a study, by a client that knows none", heads, rows)


def measure_asks(fleetune, size):
    rows = []
    for kind in asks.KINDS:
        say(f"asks of {kind} …")
        with fleetune.start() as server:
            asked = asks.measure(server, fill.name(size), kind)
        row = [f"{asked.first_s * 1000:,.0f}", spread([wall * 1000 for wall in asked.wall_s], ",.1f")]
        row += [f"{asked.client_ms:.1f}", f"{asked.server_ms:.1f}"]
        rows.append([kind, *row])
    heads = ["sampler", "first ask ms", "later asks ms", "client processor ms", "server processor ms"]
    table(f"Asks with six parameters in a study of {size:,} trials on fleetune", heads, rows)


def main():
    program, ours, theirs, clients, samplers, seconds, repetitions, sizes = sys.argv[1:]
    numbers = lambda text: [int(word) for word in text.split(",") if word]
    systems = [Fleetune(program, ours), Optuna(theirs)]
    measure_throughput(systems, numbers(clients), samplers.split(","), float(seconds), int(repetitions))
    measure_syncs(systems, numbers(sizes), int(repetitions))
    measure_asks(systems[0], numbers(sizes)[0])


if __name__ == "__main__":
    # A fork would take half of gRPC's threads along.
    multiprocessing.set_start_method("spawn")
    main()
