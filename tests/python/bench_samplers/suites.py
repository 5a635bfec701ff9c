"""Which problems there are, and what scores 0 and 1 mean in those that have no known optimum."""

import functools
import hashlib
import json
import os
import tempfile
from pathlib import Path

import numpy as np

import coco
import llama
import mixed
from space import Outcome, Problem, draw, is_active

COCO = ("bbob", "bbob-mixint", "bbob-noisy", "bbob-constrained")
SUITES = (*COCO, "mixed", "llama")
# Random configurations behind the median; and starts and steps of the climb behind the optimum.
POINTS = 20_000
STARTS = 12
STEPS = 3_000


def names(suite):
    if suite in COCO:
        return coco.names(suite)
    return list(mixed.PROBLEMS if suite == "mixed" else llama.CASES)


@functools.lru_cache(maxsize=64)
def problem(suite, name, seed, cache):
    """One problem. Only COCO's depend on the seed, which is their instance."""
    if suite in COCO:
        return coco.problem(suite, name, seed)
    if suite == "mixed":
        space, function, noise, fails, default = mixed.PROBLEMS[name]

        def seen(params, rng):
            outcome, factor = function(params), np.exp(rng.normal(0.0, noise)) if noise else 1.0
            return Outcome(float(outcome.value * factor)) if outcome.fail is None else outcome

        def truth(params):
            return function(params).value

        maximize = False
    else:
        case = llama.CASES[name]
        space, default, noise, fails = llama.space(case), llama.default(case), llama.NOISE, True
        seen, truth = llama.functions(case)
        maximize = llama.is_maximized(case)
    median, optimum = reference(suite, name, space, truth, maximize, Path(cache))
    extra = {"case": llama.CASES[name]} if suite == "llama" else {}
    return Problem(
        suite, name, space, seen, truth, median, optimum, default, maximize, noisy=noise > 0.0, fails=fails, extra=extra
    )


def reference(suite, name, space, truth, maximize, cache):
    """Median of random feasible configurations, and the best that a long climb finds; kept in a file."""
    sources = b"".join(Path(module.__file__).read_bytes() for module in (mixed if suite == "mixed" else llama,))
    file = cache / f"reference-{suite}-{name}-{hashlib.sha256(sources).hexdigest()[:12]}.json"
    if file.exists():
        return json.loads(file.read_text())
    rng = np.random.default_rng(1)
    sign = -1.0 if maximize else 1.0

    def cost(params):
        value = truth(params)
        return np.inf if value is None else sign * value

    found = sorted(((cost(params), index, params) for index, params in points(space, rng)), key=lambda entry: entry[:2])
    feasible = [value for value, _, _ in found if np.isfinite(value)]
    best = feasible[0]
    for value, _, params in found[:STARTS]:
        for _ in range(STEPS):
            other = mutate(space, params, rng)
            tried = cost(other)
            if tried <= value:
                value, params = tried, other
        best = min(best, value)
    answer = [sign * float(np.median(feasible)), sign * float(best)]
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=cache, delete=False) as new:
        json.dump(answer, new)
    os.replace(new.name, file)
    return answer


def points(space, rng):
    return [(index, draw(space, rng)) for index in range(POINTS)]


def mutate(space, params, rng):
    """`params` with one to three parameters drawn anew or moved a little."""
    changed = {space[int(index)].name for index in rng.integers(len(space), size=int(rng.integers(1, 4)))}
    other = {}
    for param in space:
        if not is_active(param, other):
            continue
        if param.name not in params:
            other[param.name] = param.draw(rng)
        elif param.name not in changed:
            other[param.name] = params[param.name]
        elif param.kind == "cat" or rng.random() < 0.3:
            other[param.name] = param.draw(rng)
        else:
            other[param.name] = nudge(param, params[param.name], rng)
    return other


def nudge(param, value, rng):
    scale = 10.0 ** rng.uniform(-4.0, -0.5)
    if param.log:
        moved = value * (param.high / param.low) ** (scale * rng.normal())
    else:
        moved = value + (param.high - param.low) * scale * rng.normal()
    if param.kind == "int":
        moved = round(moved) if round(moved) != value else value + (1 if rng.random() < 0.5 else -1)
    return min(param.high, max(param.low, moved))
