"""fleetune's sampler and pruner for studies of Optuna that are kept in fleetune."""

from __future__ import annotations

from typing import Any

from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from fleetune._client import Client
from fleetune._proto.fleetune.v1 import common_pb2


class _Server:
    """A connection that each process makes for itself."""

    def __init__(self, address: str, options: dict[str, Any]) -> None:
        self._address = address
        self._options = options
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        if self._client is None:
            self._client = Client(self._address, **self._options)
        return self._client

    def __getstate__(self) -> dict[str, Any]:
        return {"_address": self._address, "_options": self._options, "_client": None}


class FleetuneSampler(BaseSampler):
    """Asks the coordinator, which keeps the study's history at hand, for parameters.

    `address`: the coordinator that keeps the study, `HOST:PORT`. `options` are those of `Client`: `token`, `tls`, `retry_for_s`.

    Parameters that all completed and pruned trials have with the same distribution are suggested together, in one call
    when the trial begins; others one by one. The search is that of the study's sampler, `auto` for one made by Optuna.
    """

    def __init__(self, address: str, **options: Any) -> None:
        self._server = _Server(address, options)
        # Values suggested when the space was asked for, for the call that follows. By trial: threads share a sampler.
        self._suggested: dict[int, dict[str, Any]] = {}

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The space of what the server suggests together."""
        answer = self._server.client.suggest(study.study_name, trial.number, {})
        space = {name: json_to_distribution(text) for name, text in sorted(answer.distributions.items())}
        self._suggested[trial._trial_id] = {
            name: distribution.to_external_repr(answer.internal[name]) for name, distribution in space.items()
        }
        return space

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The values suggested with the space."""
        suggested = self._suggested.pop(trial._trial_id, {})
        return {name: value for name, value in suggested.items() if name in search_space}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A value of one parameter."""
        space = {param_name: distribution_to_json(param_distribution)}
        answer = self._server.client.suggest(study.study_name, trial.number, space)
        return param_distribution.to_external_repr(answer.internal[param_name])


class FleetunePruner(BasePruner):
    """Asks the coordinator whether to stop a trial, instead of reading all trials.

    `address` and `options` as for `FleetuneSampler`. `pruner`: a rule of `fleetune.v1.Pruner` by its field, such as
    `FleetunePruner("127.0.0.1:7700", "median", {"n_startup_trials": 5})`. Without one that of the study decides, and a study
    made by Optuna has none.
    """

    def __init__(
        self, address: str, pruner: str | None = None, rule: dict[str, Any] | None = None, **options: Any
    ) -> None:
        self._server = _Server(address, options)
        self._rule = None if pruner is None else common_pb2.Pruner(**{pruner: rule or {}}).SerializeToString()

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether the trial should stop by what it has reported."""
        if trial.state != TrialState.RUNNING or not trial.intermediate_values:
            return False
        rule = None if self._rule is None else common_pb2.Pruner.FromString(self._rule)
        return self._server.client.should_prune(study.study_name, trial.number, rule)


__all__ = ["FleetunePruner", "FleetuneSampler"]
