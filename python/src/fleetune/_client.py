"""The clients. Every call may be repeated, and is, while the server is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

import grpc
import grpc.aio

from fleetune import _requests as requests
from fleetune._proto.fleetune.v1 import common_pb2, study_pb2, study_pb2_grpc
from fleetune._types import Distribution, FleetuneError, Study, Trial, TrialState, Value, study_of, trial_of


def _event_of(event: study_pb2.WatchEvent) -> tuple[Study | Trial | None, int]:
    """What an event says, and the revision after which to go on."""
    if event.HasField("trial"):
        return trial_of(event.trial), event.trial.revision
    if event.HasField("study"):
        return study_of(event.study), 0
    return None, 0


class _Connection:
    """What both clients are told, and the channel that they open with it."""

    _module: Any

    def __init__(
        self,
        address: str,
        *,
        token: str | None = None,
        tls: bool | bytes = False,
        retry_for_s: float = 60.0,
        timeout_s: float = 30.0,
    ) -> None:
        self._address = address
        self._metadata = requests.metadata(token)
        self._retry_for_s = retry_for_s
        self._timeout_s = timeout_s
        secure = requests.credentials(address, token, tls)
        if secure is None:
            self._channel = self._module.insecure_channel(address, options=requests.OPTIONS)
        else:
            self._channel = self._module.secure_channel(address, secure, options=requests.OPTIONS)
        self._stub = study_pb2_grpc.StudyServiceStub(self._channel)


class Client(_Connection):
    """A client of a coordinator at `address`, `HOST:PORT`.

    `token`: what the server asks for. `tls`: True for https, or the certificates (PEM) to trust. While the server is away a
    call is repeated for `retry_for_s` seconds, with the same request id, so that nothing is done twice; then it raises
    FleetuneError. Threads may share a client; processes may not.
    """

    _module = grpc

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the connection."""
        self._channel.close()

    def _call(self, method: str, request: Any) -> Any:
        pauses = requests.Pauses(self._retry_for_s)
        while True:
            try:
                return getattr(self._stub, method)(request, timeout=self._timeout_s, metadata=self._metadata)
            except grpc.RpcError as error:
                pause = pauses.next() if requests.passes(error) else None
                if pause is None:
                    raise requests.error_of(error, self._address) from error
                time.sleep(pause)

    def create_study(
        self,
        name: str,
        space: Mapping[str, Distribution],
        *,
        directions: str | Sequence[str] = "minimize",
        sampler: str = "auto",
        trials: int | None = None,
        seed: int = 0,
        warm_start: Sequence[str] = (),
        exist_ok: bool = False,
    ) -> Study:
        """Creates a study over `space` that ends after `trials`. With `exist_ok` one of that name is taken as it is.

        `warm_start`: names of earlier studies whose best configurations are tried first and whose others are learned from.
        """
        try:
            request = requests.create_study(name, space, directions, sampler, trials, seed, warm_start)
            return study_of(self._call("CreateStudy", request).study)
        except FleetuneError as error:
            if exist_ok and error.reason == "STUDY_EXISTS":
                return self.study(name)
            raise

    def study(self, name: str) -> Study:
        """A study."""
        return study_of(self._call("GetStudy", study_pb2.GetStudyRequest(name=name)).study)

    def delete_study(self, name: str, *, force: bool = False) -> None:
        """Removes a study; one with running trials only with `force`."""
        self._call("DeleteStudy", study_pb2.DeleteStudyRequest(name=name, force=force))

    def ask(self, study: str, *, lease_s: float | None = None, holder: str = "") -> Trial:
        """A trial to measure. With `lease_s` it goes to the next one who asks when nothing is heard of it for so long."""
        return self.ask_many(study, 1, lease_s=lease_s, holder=holder)[0]

    def ask_many(self, study: str, count: int, *, lease_s: float | None = None, holder: str = "") -> list[Trial]:
        """Up to `count` trials to measure at the same time; at least one."""
        answer = self._call("Ask", requests.ask(study, count, lease_s, holder))
        return [trial_of(trial, lease) for trial, lease in requests.trials_of(answer)]

    def report(self, study: str, trial: Trial | int, step: int, value: float) -> bool:
        """Reports an intermediate value. Whether to stop: then tell the trial as PRUNED."""
        request = study_pb2.ReportRequest(
            study=study,
            number=requests.number_of(trial),
            step=step,
            value=value,
            lease_token=requests.lease_of(trial),
        )
        return self._call("Report", request).verdict == study_pb2.VERDICT_STOP

    def tell(
        self,
        study: str,
        trial: Trial | int,
        values: float | Sequence[float] | None = None,
        *,
        state: TrialState | None = None,
        constraints: Mapping[str, float] | None = None,
        message: str = "",
    ) -> Trial:
        """Ends a trial: with values COMPLETE, without FAIL, unless `state` says otherwise."""
        request = requests.tell(study, trial, values, state, constraints, message)
        return trial_of(self._call("Tell", request).trial)

    def enqueue(self, study: str, params: Mapping[str, Value]) -> Trial:
        """Queues a trial with some or all parameters fixed."""
        return trial_of(self._call("Enqueue", requests.enqueue(study, params)).trials[0])

    def best(self, study: str, count: int = 5) -> list[Trial]:
        """The best completed trials, best first."""
        answer = self._call("Best", study_pb2.BestRequest(study=study, count=count))
        return [trial_of(trial) for trial in answer.trials]

    def trials(self, study: str) -> list[Trial]:
        """All trials, by number."""
        pauses = requests.Pauses(self._retry_for_s)
        found: list[Trial] = []
        while True:
            request = study_pb2.ListTrialsRequest(study=study, **{"from": len(found)})
            try:
                for trial in self._stub.ListTrials(request, metadata=self._metadata):
                    found.append(trial_of(trial))
                return found
            except grpc.RpcError as error:
                pause = pauses.next() if requests.passes(error) else None
                if pause is None:
                    raise requests.error_of(error, self._address) from error
                time.sleep(pause)

    def watch(self, study: str) -> Iterator[Study | Trial]:
        """The study and each trial that changes, until the study ends. Goes on where it was after a restart."""
        after = 0
        pauses = requests.Pauses(self._retry_for_s)
        while True:
            try:
                stream = self._stub.Watch(study_pb2.WatchRequest(study=study, after=after), metadata=self._metadata)
                for event in stream:
                    pauses = requests.Pauses(self._retry_for_s)
                    said, revision = _event_of(event)
                    after = max(after, revision)
                    if said is not None:
                        yield said
                    if isinstance(said, Study) and said.state.value in ("finished", "cancelled", "failed", "archived"):
                        return
            except grpc.RpcError as error:
                if not requests.passes(error):
                    raise requests.error_of(error, self._address) from error
                failed = error
            else:
                failed = None
            # A server that stops ends the stream without an error.
            pause = pauses.next()
            if pause is None:
                if failed is None:
                    raise FleetuneError(f"the coordinator at {self._address} ended the stream")
                raise requests.error_of(failed, self._address) from failed
            time.sleep(pause)

    def suggest(self, study: str, trial: int, distributions: Mapping[str, str]) -> study_pb2.SuggestResponse:
        """What the study's sampler suggests for a trial that exists, from Optuna's texts of distributions."""
        request = study_pb2.SuggestRequest(study=study, number=trial, distributions=dict(distributions))
        return self._call("Suggest", request)

    def should_prune(self, study: str, trial: int, pruner: common_pb2.Pruner | None = None) -> bool:
        """Whether a trial should stop by what it has reported."""
        request = study_pb2.ShouldPruneRequest(study=study, number=trial, pruner=pruner)
        return self._call("ShouldPrune", request).verdict == study_pb2.VERDICT_STOP


class AsyncClient(_Connection):
    """As `Client`, for asyncio."""

    _module = grpc.aio

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Lets go of the connection."""
        await self._channel.close()

    async def _call(self, method: str, request: Any) -> Any:
        pauses = requests.Pauses(self._retry_for_s)
        while True:
            try:
                return await getattr(self._stub, method)(request, timeout=self._timeout_s, metadata=self._metadata)
            except grpc.RpcError as error:
                pause = pauses.next() if requests.passes(error) else None
                if pause is None:
                    raise requests.error_of(error, self._address) from error
                await asyncio.sleep(pause)

    async def create_study(
        self,
        name: str,
        space: Mapping[str, Distribution],
        *,
        directions: str | Sequence[str] = "minimize",
        sampler: str = "auto",
        trials: int | None = None,
        seed: int = 0,
        warm_start: Sequence[str] = (),
        exist_ok: bool = False,
    ) -> Study:
        """As `Client.create_study`."""
        try:
            request = requests.create_study(name, space, directions, sampler, trials, seed, warm_start)
            return study_of((await self._call("CreateStudy", request)).study)
        except FleetuneError as error:
            if exist_ok and error.reason == "STUDY_EXISTS":
                return await self.study(name)
            raise

    async def study(self, name: str) -> Study:
        """A study."""
        return study_of((await self._call("GetStudy", study_pb2.GetStudyRequest(name=name))).study)

    async def ask(self, study: str, *, lease_s: float | None = None, holder: str = "") -> Trial:
        """As `Client.ask`."""
        return (await self.ask_many(study, 1, lease_s=lease_s, holder=holder))[0]

    async def ask_many(self, study: str, count: int, *, lease_s: float | None = None, holder: str = "") -> list[Trial]:
        """As `Client.ask_many`."""
        answer = await self._call("Ask", requests.ask(study, count, lease_s, holder))
        return [trial_of(trial, lease) for trial, lease in requests.trials_of(answer)]

    async def report(self, study: str, trial: Trial | int, step: int, value: float) -> bool:
        """As `Client.report`."""
        request = study_pb2.ReportRequest(
            study=study,
            number=requests.number_of(trial),
            step=step,
            value=value,
            lease_token=requests.lease_of(trial),
        )
        return (await self._call("Report", request)).verdict == study_pb2.VERDICT_STOP

    async def tell(
        self,
        study: str,
        trial: Trial | int,
        values: float | Sequence[float] | None = None,
        *,
        state: TrialState | None = None,
        constraints: Mapping[str, float] | None = None,
        message: str = "",
    ) -> Trial:
        """As `Client.tell`."""
        request = requests.tell(study, trial, values, state, constraints, message)
        return trial_of((await self._call("Tell", request)).trial)

    async def enqueue(self, study: str, params: Mapping[str, Value]) -> Trial:
        """As `Client.enqueue`."""
        return trial_of((await self._call("Enqueue", requests.enqueue(study, params))).trials[0])

    async def best(self, study: str, count: int = 5) -> list[Trial]:
        """As `Client.best`."""
        answer = await self._call("Best", study_pb2.BestRequest(study=study, count=count))
        return [trial_of(trial) for trial in answer.trials]

    async def watch(self, study: str) -> AsyncIterator[Study | Trial]:
        """As `Client.watch`."""
        after = 0
        pauses = requests.Pauses(self._retry_for_s)
        while True:
            failed: grpc.RpcError | None = None
            try:
                stream = self._stub.Watch(study_pb2.WatchRequest(study=study, after=after), metadata=self._metadata)
                async for event in stream:
                    pauses = requests.Pauses(self._retry_for_s)
                    said, revision = _event_of(event)
                    after = max(after, revision)
                    if said is not None:
                        yield said
                    if isinstance(said, Study) and said.state.value in ("finished", "cancelled", "failed", "archived"):
                        return
            except grpc.RpcError as error:
                if not requests.passes(error):
                    raise requests.error_of(error, self._address) from error
                failed = error
            pause = pauses.next()
            if pause is None:
                if failed is None:
                    raise FleetuneError(f"the coordinator at {self._address} ended the stream")
                raise requests.error_of(failed, self._address) from failed
            await asyncio.sleep(pause)
