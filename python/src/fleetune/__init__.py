"""Client of fleetune.

`Client` and `AsyncClient` create studies, ask, report, tell and watch. With Optuna, `FleetuneSampler` and `FleetunePruner`
let the server sample and prune for a study that is kept there:

    storage = optuna.storages.GrpcStorageProxy(host="127.0.0.1", port=7700)
    sampler = fleetune.FleetuneSampler("127.0.0.1:7700")
    study = optuna.create_study(storage=storage, sampler=sampler)
"""

from typing import TYPE_CHECKING, Any

from fleetune._client import AsyncClient, Client
from fleetune._types import (
    Categorical,
    FleetuneError,
    Float,
    Int,
    StudyState,
    TrialState,
    Study,
    Trial,
)

if TYPE_CHECKING:
    from fleetune._optuna import FleetunePruner, FleetuneSampler

__all__ = [
    "AsyncClient",
    "Categorical",
    "Client",
    "FleetuneError",
    "FleetunePruner",
    "FleetuneSampler",
    "Float",
    "Int",
    "Study",
    "StudyState",
    "Trial",
    "TrialState",
]


def __getattr__(name: str) -> Any:
    """Imports what needs Optuna only when it is asked for."""
    if name in ("FleetunePruner", "FleetuneSampler"):
        from fleetune import _optuna

        return getattr(_optuna, name)
    raise AttributeError(f"module 'fleetune' has no attribute {name!r}")
