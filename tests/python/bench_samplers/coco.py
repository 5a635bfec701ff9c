"""The functions of COCO, from the package coco-experiment, in five dimensions.

A seed is an instance: the same function elsewhere, turned otherwise.
"""

import os
import tempfile

import cocoex
import numpy as np

from space import Outcome, Problem, integer, real

DIMENSION = 5
# Of the 24: two or more of each of COCO's five groups.
BBOB = (1, 2, 3, 5, 6, 7, 8, 10, 12, 14, 15, 17, 19, 20, 21, 23)
# Each noiseless function that they are made of but one (116 to 118 are of none), each kind of noise.
NOISY = (101, 105, 107, 109, 110, 113, 115, 119, 121, 123, 125, 129)
NOISELESS = {101: 1, 104: 8, 107: 1, 110: 8, 113: 7, 119: 14, 122: 17, 125: 19, 128: 21}
# With 1, 3 and 9 constraints. Random points seldom find what satisfies more of them.
CONSTRAINED = (1, 2, 3, 7, 8, 13, 14, 20, 26, 32, 38, 44)
INSTANCES = 15
# Random points behind the median; of constrained problems so many feasible ones, or whatever the tries give.
POINTS = 1_000
FEASIBLE = 200
TRIES = 40_000

_suites = {}


def _suite(name):
    if name not in _suites:
        _suites[name] = cocoex.Suite(name, f"instances: 1-{INSTANCES}", f"dimensions: {DIMENSION}")
    return _suites[name]


def _function(suite, number, instance):
    spelled = suite.replace("bbob-noisy", "bbob_noisy")
    return _suite(suite).get_problem(f"{spelled}_f{number:03d}_i{instance:02d}_d{DIMENSION:02d}")


def _best_parameter(function):
    """Where the optimum is. COCO tells it in a file in the working folder."""
    here = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            function._best_parameter("print")
            [name] = os.listdir(".")
            return np.loadtxt(name)
        finally:
            os.chdir(here)


def names(suite):
    numbers = {"bbob": BBOB, "bbob-mixint": BBOB, "bbob-noisy": NOISY, "bbob-constrained": CONSTRAINED}[suite]
    return [f"f{number:03d}" for number in numbers]


def problem(suite, name, seed):
    number = int(name[1:])
    instance = seed % INSTANCES + 1
    seen = _function(suite, number, instance)
    base = seen
    if suite == "bbob-noisy":
        base = _function("bbob", NOISELESS[max(first for first in NOISELESS if first <= number)], instance)
    optimum = float(base(_best_parameter(base)))

    integers = seen.number_of_integer_variables
    space = [
        (integer if index < integers else real)(f"x{index}", *(int(b) if index < integers else float(b) for b in bounds))
        for index, bounds in enumerate(zip(seen.lower_bounds, seen.upper_bounds))
    ]

    def vector(params):
        return np.array([float(params[param.name]) for param in space])

    def constraints(x):
        return tuple(float(value) for value in seen.constraint(x)) if seen.number_of_constraints else ()

    def measure(params, _rng):
        x = vector(params)
        return Outcome(float(seen(x)), None, constraints(x))

    def truth(params):
        return float(base(vector(params)))

    rng = np.random.default_rng([number, instance])
    values = []
    for tried in range(TRIES):
        params = {param.name: param.draw(rng) for param in space}
        if all(value <= 0.0 for value in constraints(vector(params))):
            values.append(truth(params))
        if len(values) >= (FEASIBLE if seen.number_of_constraints else POINTS):
            break
    default = None
    if seen.number_of_constraints:
        # COCO gives a feasible point to start from.
        default = {param.name: float(x) for param, x in zip(space, seen.initial_solution)}
    return Problem(
        suite,
        name,
        space,
        measure,
        truth,
        float(np.median(values)),
        optimum,
        default,
        noisy=suite == "bbob-noisy",
        constraints=seen.number_of_constraints,
    )
