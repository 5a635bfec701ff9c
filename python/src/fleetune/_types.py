"""What goes in and what comes out, as plain Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Union

from fleetune._proto.fleetune.v1 import common_pb2

Value = Union[None, bool, int, float, str]
"""A value of a parameter."""


class TrialState(Enum):
    """Where a trial stands."""

    WAITING = "waiting"
    RUNNING = "running"
    COMPLETE = "complete"
    PRUNED = "pruned"
    FAIL = "fail"


class StudyState(Enum):
    """Where a study stands."""

    PREPARING = "preparing"
    ACTIVE = "active"
    PAUSED = "paused"
    CONFIRMING = "confirming"
    FINISHED = "finished"
    CANCELLED = "cancelled"
    FAILED = "failed"
    ARCHIVED = "archived"


class FleetuneError(Exception):
    """The server refused a call, or could not be reached.

    `reason` is stable and what programs should look at, such as `STUDY_FINISHED` or `TRIAL_LEASE_LOST`; empty when the server was
    not reached. `hint` says what to do, where that is known.
    """

    def __init__(self, message: str, reason: str = "", hint: str = "") -> None:
        super().__init__(message if not hint else f"{message} (hint: {hint})")
        self.reason = reason
        self.hint = hint


@dataclass(frozen=True)
class Float:
    """A range of floats."""

    low: float
    high: float
    step: float | None = None
    log: bool = False

    def _wire(self) -> common_pb2.Distribution:
        inner = common_pb2.FloatDistribution(low=self.low, high=self.high, log=self.log)
        if self.step is not None:
            inner.step = self.step
        return common_pb2.Distribution(float=inner)


@dataclass(frozen=True)
class Int:
    """A range of integers, both ends included."""

    low: int
    high: int
    step: int = 1
    log: bool = False

    def _wire(self) -> common_pb2.Distribution:
        inner = common_pb2.IntDistribution(low=self.low, high=self.high, step=self.step, log=self.log)
        return common_pb2.Distribution(int=inner)


@dataclass(frozen=True)
class Categorical:
    """A list of choices."""

    choices: Sequence[Value]

    def _wire(self) -> common_pb2.Distribution:
        inner = common_pb2.CategoricalDistribution(choices=[value_to_wire(choice) for choice in self.choices])
        return common_pb2.Distribution(categorical=inner)


Distribution = Union[Float, Int, Categorical]
"""What one parameter may be."""


@dataclass(frozen=True)
class Trial:
    """A trial as the server has it."""

    number: int
    state: TrialState
    params: Mapping[str, Value]
    values: Sequence[float] = ()
    constraints: Sequence[float] = ()
    steps: Mapping[int, float] = field(default_factory=dict)
    lease: str = ""
    """The token that writes need when the trial was asked for with a lease."""


@dataclass(frozen=True)
class Study:
    """A study as the server has it."""

    name: str
    state: StudyState
    reason: str
    counts: Mapping[TrialState, int]


def value_to_wire(value: Value) -> common_pb2.Value:
    """A value as it is sent."""
    if value is None:
        return common_pb2.Value(null=True)
    if isinstance(value, bool):
        return common_pb2.Value(bool=value)
    if isinstance(value, int):
        return common_pb2.Value(int=value)
    if isinstance(value, float):
        return common_pb2.Value(float=value)
    if isinstance(value, str):
        return common_pb2.Value(text=value)
    raise TypeError(f"{value!r} is no value of a parameter: None, bool, int, float or str")


def value_of(wire: common_pb2.Value) -> Value:
    """A value as it came."""
    kind = wire.WhichOneof("kind")
    return None if kind in (None, "null") else getattr(wire, kind)


def trial_of(wire: common_pb2.Trial, lease: str = "") -> Trial:
    """A trial as it came."""
    return Trial(
        number=wire.number,
        state=TrialState[common_pb2.TrialState.Name(wire.state).removeprefix("TRIAL_STATE_")],
        params={name: value_of(value) for name, value in sorted(wire.params.items())},
        values=tuple(wire.values),
        constraints=tuple(wire.constraints),
        steps={step.step: step.value for step in wire.steps},
        lease=lease,
    )


def study_of(wire: common_pb2.Study) -> Study:
    """A study as it came."""
    return Study(
        name=wire.name,
        state=StudyState[common_pb2.StudyState.Name(wire.state).removeprefix("STUDY_STATE_")],
        reason=wire.reason,
        counts={state: getattr(wire.counts, state.value) for state in TrialState},
    )
