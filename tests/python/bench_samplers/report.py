"""Tables of results: Markdown for people, JSON for programs."""

import json
from collections import defaultdict

import numpy as np

import score
from searches import CHECKPOINTS

ORDER = ("auto-prior", "auto", "tpe", "tpe-optuna5", "cma-es", "random")
RIVALS = ("optuna-tpe", "optuna-tpe-worst", "optuna-cma-es", "optuna-gp", "optuna-random")
OURS_AGAINST = ("auto-prior", "auto", "tpe")


def collect(rows):
    """Scores and failures by (suite, parallel), sampler, (problem, seed)."""
    cells = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        scores = score.of_distance(row["suite"], np.array([float(value) for value in row["distances"].split()]))
        group = cells[row["suite"], int(row["parallel"])][row["sampler"]]
        group[row["problem"], int(row["seed"])] = (scores, int(row["failed"]))
    for samplers in cells.values():
        if "optuna-tpe-worst" in samplers:
            # Where nothing fails both are the same search.
            samplers["optuna-tpe-worst"] = samplers["optuna-tpe"] | samplers["optuna-tpe-worst"]
    return cells


def by_problem(cells):
    problems = defaultdict(list)
    for (problem, _), value in sorted(cells.items()):
        problems[problem].append(value)
    return [np.array(rows) for rows in problems.values()]


def numbers(values):
    """For JSON, which knows no NaN."""
    return [round(float(value), 4) if np.isfinite(value) else None for value in values]


def summary(cells):
    """Mean, interval and failures of one sampler on one suite."""
    means, low, high = score.mean_with_interval(by_problem({key: scores for key, (scores, _) in cells.items()}))
    return {
        "searches": len(cells),
        "mean": means.round(4).tolist(),
        "low": numbers(low),
        "high": numbers(high),
        "failed_trials": round(float(np.mean([failed for _, failed in cells.values()])), 2),
    }


def difference(one, other):
    """How much better `one` is than `other` on the searches that both did."""
    both = one.keys() & other.keys()
    if not both:
        return None
    means, low, high = score.mean_with_interval(by_problem({key: one[key][0] - other[key][0] for key in both}))
    return {
        "searches": len(both),
        "mean": means.round(4).tolist(),
        "low": numbers(low),
        "high": numbers(high),
    }


def signed(number):
    return f"{number:+.3f}".replace("-", "−")


def cell(mean, low, high, spell):
    """A mean and its interval; no interval where there is one seed."""
    return spell(mean) if low is None else f"{spell(mean)} ({spell(low)} to {spell(high)})"


def marked(mean, low, high):
    """A difference, bold where its interval does not hold 0."""
    text = cell(mean, low, high, signed)
    sure = low is not None and (low > 0 or high < 0)
    return f"**{signed(mean)}**{text.removeprefix(signed(mean))}" if sure else text


def table(group, samplers, columns):
    """One suite."""
    head = " | ".join(f"{count} trials" for count in CHECKPOINTS[:columns])
    lines = [f"| sampler | {head} | failed | searches |", "|---" * (columns + 3) + "|"]

    def row(name, entry, spell):
        return f"| {name} | " + " | ".join(map(spell, entry["mean"], entry["low"], entry["high"]))

    for name in samplers:
        entry = group["samplers"][name]
        values = row(name, entry, lambda *numbers: cell(*numbers, "{:.3f}".format))
        lines.append(f"{values} | {entry['failed_trials']:.1f} | {entry['searches']} |")
    lines += ["", f"| how much better | {head} | searches |", "|---" * (columns + 2) + "|"]
    for name, entry in group["differences"].items():
        lines.append(f"{row(name, entry, marked)} | {entry['searches']} |")
    return lines


def write(rows, out):
    """Writes summary.json and summary.md into `out`; gives the latter."""
    groups, lines = [], []
    for (suite, parallel), samplers in sorted(collect(rows).items()):
        order = [name for name in (*ORDER, *RIVALS) if name in samplers]
        group = {"suite": suite, "parallel": parallel, "samplers": {}, "differences": {}, "problems": {}}
        for name in order:
            group["samplers"][name] = summary(samplers[name])
        pairs = [(own, rival) for own in OURS_AGAINST for rival in RIVALS]
        pairs += [("auto-prior", "auto"), ("auto", "tpe"), ("tpe-optuna5", "optuna-tpe"), ("cma-es", "optuna-cma-es")]
        for own, other in pairs:
            if own in samplers and other in samplers and (found := difference(samplers[own], samplers[other])):
                group["differences"][f"{own} over {other}"] = found
        names = sorted({problem for cells in samplers.values() for problem, _ in cells})
        for problem in names:
            group["problems"][problem] = {
                name: np.mean([s for (p, _), (s, _) in samplers[name].items() if p == problem], axis=0).round(3).tolist()
                for name in order
                if any(p == problem for p, _ in samplers[name])
            }
        groups.append(group)
        columns = len(group["samplers"][order[0]]["mean"])
        at_once = "one trial at a time" if parallel == 1 else f"{parallel} at once"
        lines += [f"### {suite}, {at_once} ({len(names)} problem{'s' if len(names) > 1 else ''})", "", *table(group, order, columns), ""]
        lines += [f"By problem, after {CHECKPOINTS[columns - 1]} trials:", ""]
        lines += [f"| problem | {' | '.join(order)} |", "|---" * (len(order) + 1) + "|"]
        for problem, scores in group["problems"].items():
            values = " | ".join(f"{scores[name][-1]:.2f}" if name in scores else "" for name in order)
            lines.append(f"| {problem} | {values} |")
        lines.append("")
    text = "\n".join(lines)
    (out / "summary.json").write_text(json.dumps(groups, indent=1) + "\n")
    (out / "summary.md").write_text(text + "\n")
    return text
