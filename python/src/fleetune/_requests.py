"""What both clients send, and how they take what comes back."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import unquote

import grpc

from fleetune._proto.fleetune.v1 import common_pb2, study_pb2
from fleetune._types import Distribution, FleetuneError, Trial, TrialState, Value, value_to_wire

DIRECTIONS = {"minimize": common_pb2.DIRECTION_MINIMIZE, "maximize": common_pb2.DIRECTION_MAXIMIZE}

# What may be answered otherwise by the same call a little later.
PASSING = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.ABORTED}

# Keeps a connection over which nothing is said from being taken for a dead one, and finds a dead one.
OPTIONS = [("grpc.keepalive_time_ms", 20_000), ("grpc.max_receive_message_length", -1)]


class Pauses:
    """Growing pauses, until `limit_s` have gone by since the first failure."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._since: float | None = None
        self._next_s = 0.05

    def next(self) -> float | None:
        """How long to wait before the next try; None when it has been long enough."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
        if now - self._since >= self._limit_s:
            return None
        pause = self._next_s * random.uniform(0.5, 1.0)
        self._next_s = min(self._next_s * 2, 2.0)
        return pause


def error_of(error: grpc.RpcError, address: str) -> FleetuneError:
    """What is raised for a refusal."""
    metadata = dict(error.trailing_metadata() or ())
    if "fleetune-reason" not in metadata and error.code() in PASSING:
        return FleetuneError(f"the coordinator at {address} does not answer: {error.details()}")
    reason, hint = metadata.get("fleetune-reason", ""), unquote(metadata.get("fleetune-hint", ""))
    return FleetuneError(error.details() or str(error.code()), str(reason), hint)


def passes(error: grpc.RpcError) -> bool:
    """Whether the same call may be answered otherwise a little later."""
    overloaded = ("fleetune-reason", "OVERLOADED") in (error.trailing_metadata() or ())
    return error.code() in PASSING or overloaded


def new_id() -> str:
    """An id for a request that creates something: the same one with every try."""
    return uuid.uuid4().hex


def credentials(address: str, token: str | None, tls: bool | bytes) -> grpc.ChannelCredentials | None:
    """Of a channel; None for one without TLS.

    Raises ValueError for a token that would be sent in the clear to another machine.
    """
    if tls is False:
        host = address.rsplit(":", 1)[0]
        if token is not None and host not in ("localhost", "127.0.0.1", "[::1]"):
            raise ValueError(f"a token would be sent in the clear to {host}; pass tls=True")
        return None
    return grpc.ssl_channel_credentials(None if tls is True else tls)


def metadata(token: str | None) -> tuple[tuple[str, str], ...] | None:
    """What goes with every call."""
    return None if token is None else (("authorization", f"Bearer {token}"),)


def create_study(
    name: str,
    space: Mapping[str, Distribution],
    directions: str | Sequence[str],
    sampler: str,
    trials: int | None,
    seed: int,
    warm_start: Sequence[str],
) -> study_pb2.CreateStudyRequest:
    """A new study."""
    if isinstance(directions, str):
        directions = [directions]
    for direction in directions:
        if direction not in DIRECTIONS:
            raise ValueError(f"{direction!r} is no direction: minimize or maximize")
    parameters = [common_pb2.Parameter(name=name, distribution=it._wire()) for name, it in space.items()]
    budget = common_pb2.Budget()
    if trials is not None:
        budget.trials = trials
    config = common_pb2.StudyConfig(
        directions=[DIRECTIONS[direction] for direction in directions],
        space=common_pb2.SearchSpace(parameters=parameters),
        sampler=common_pb2.Sampler(name=sampler),
        budget=budget,
        seed=seed,
        warm_start=warm_start,
    )
    return study_pb2.CreateStudyRequest(request_id=new_id(), name=name, config=config)


def ask(study: str, count: int, lease_s: float | None, holder: str) -> study_pb2.AskRequest:
    """A question for trials."""
    request = study_pb2.AskRequest(request_id=new_id(), study=study, count=count, holder=holder)
    if lease_s is not None:
        request.lease.FromMicroseconds(round(lease_s * 1e6))
    return request


def tell(
    study: str,
    trial: Trial | int,
    values: float | Sequence[float] | None,
    state: TrialState | None,
    constraints: Mapping[str, float] | None,
    message: str,
) -> study_pb2.TellRequest:
    """The end of a trial."""
    if state is None:
        state = TrialState.COMPLETE if values is not None else TrialState.FAIL
    if values is None:
        values = []
    elif isinstance(values, (int, float)):
        values = [values]
    request = study_pb2.TellRequest(
        study=study,
        number=number_of(trial),
        state=common_pb2.TrialState.Value(f"TRIAL_STATE_{state.name}"),
        values=values,
        constraints=dict(constraints or {}),
        lease_token=lease_of(trial),
    )
    if state == TrialState.FAIL:
        request.failure.kind = common_pb2.FAIL_KIND_ERROR
        request.failure.message = message
    return request


def enqueue(study: str, params: Mapping[str, Value]) -> study_pb2.EnqueueRequest:
    """A queue entry."""
    wire = {name: value_to_wire(value) for name, value in params.items()}
    fixed = study_pb2.FixedParams(params=wire)
    return study_pb2.EnqueueRequest(request_id=new_id(), study=study, trials=[fixed])


def number_of(trial: Trial | int) -> int:
    """The number of a trial, or the number."""
    return trial.number if isinstance(trial, Trial) else trial


def lease_of(trial: Trial | int) -> str:
    """The token of a trial's lease."""
    return trial.lease if isinstance(trial, Trial) else ""


def trials_of(answer: study_pb2.AskResponse) -> Iterator[tuple[common_pb2.Trial, str]]:
    """Trials with the tokens of their leases."""
    for index, trial in enumerate(answer.trials):
        yield trial, answer.leases[index].token if answer.leases else ""
