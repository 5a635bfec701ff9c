"""Search spaces and problems, in terms of neither system."""

import math
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Param:
    """One parameter. `when`: name of another one and the values of it with which this one counts."""

    name: str
    kind: str
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    choices: tuple = ()
    when: tuple | None = None

    def draw(self, rng):
        """A uniform value, on a logarithmic scale where the parameter has one."""
        if self.kind == "cat":
            return self.choices[int(rng.integers(len(self.choices)))]
        if self.kind == "int" and not self.log:
            return int(rng.integers(self.low, self.high + 1))
        if not self.log:
            return float(rng.uniform(self.low, self.high))
        half = 0.5 if self.kind == "int" else 0.0
        value = math.exp(rng.uniform(math.log(self.low - half), math.log(self.high + half)))
        return int(min(self.high, max(self.low, round(value)))) if half else float(value)


def real(name, low, high, log=False, when=None):
    return Param(name, "float", low, high, log, when=when)


def integer(name, low, high, log=False, when=None):
    return Param(name, "int", low, high, log, when=when)


def choice(name, *choices, when=None):
    return Param(name, "cat", choices=choices, when=when)


def is_active(param, params):
    """Whether `param` counts beside the values of `params`, which holds what comes before it."""
    return param.when is None or params.get(param.when[0]) in param.when[1]


def draw(space, rng):
    """A uniform configuration."""
    params = {}
    for param in space:
        if is_active(param, params):
            params[param.name] = param.draw(rng)
    return params


@dataclass(frozen=True)
class Outcome:
    """What an evaluation says: a value, or why there is none. Infeasible where a constraint is above 0."""

    value: float | None = None
    fail: str | None = None
    constraints: tuple = ()

    @property
    def ok(self):
        return self.fail is None and all(constraint <= 0.0 for constraint in self.constraints)


@dataclass
class Problem:
    """One function to search.

    `measure(params, rng)` is what a search sees, `truth(params)` the same without noise. `median` and `optimum` are the
    values of the scores 0 and 1.
    """

    suite: str
    name: str
    space: list
    measure: object
    truth: object
    median: float
    optimum: float
    default: dict | None = None
    maximize: bool = False
    noisy: bool = False
    fails: bool = False
    constraints: int = 0
    extra: dict = field(default_factory=dict)

    def better(self, a, b):
        return a > b if self.maximize else a < b

    def distance(self, value):
        """From the optimum, in units of the distance of the median; infinite for nothing."""
        if value is None:
            return math.inf
        left = (self.optimum - value) if self.maximize else (value - self.optimum)
        return max(0.0, left) / abs(self.optimum - self.median)
