"""Studies out of Optuna's own databases and into them, each looked at with Optuna.

FLEETUNE_SOURCE is the URL of an empty database for Optuna, FLEETUNE_PROGRAM the program.
"""

import os
import subprocess

import optuna
import pytest
from optuna.trial import TrialState

from conftest import connect
from make_rdb_fixtures import fill

SOURCE = os.environ["FLEETUNE_SOURCE"]
NAMES = ["empty", "every state", "two/objectives"]


def fleetune(*words):
    server = f"http://{os.environ['FLEETUNE_ADDRESS']}"
    subprocess.run([os.environ["FLEETUNE_PROGRAM"], *words, "--server", server], check=True)


@pytest.fixture(scope="module")
def source():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    fill(optuna.storages.RDBStorage(SOURCE))
    # Whatever was read before, what is in the database counts.
    return optuna.storages.RDBStorage(SOURCE)


def facts(study, copied=False, one_zero=False):
    """What a study says. NaN equals itself in words; the order of parameters is lost on the way."""

    def number(value):
        return repr(value + 0.0 if one_zero else value)

    def of(trial):
        state, complete, system = trial.state, trial.datetime_complete, dict(trial.system_attrs)
        if copied and state == TrialState.RUNNING:
            state, complete = TrialState.FAIL, trial.datetime_start
            system["fleetune:fail_reason"] = "it was RUNNING when it was copied"
        return {
            "number": trial.number,
            "state": state,
            "values": trial.values and [number(value) for value in trial.values],
            "params": {name: (type(value), repr(value)) for name, value in trial.params.items()},
            "distributions": trial.distributions,
            "steps": {step: number(value) for step, value in trial.intermediate_values.items()},
            "user": trial.user_attrs,
            "system": system,
            "times": (trial.datetime_start, complete),
        }

    return {
        "directions": study.directions,
        "metric_names": study.metric_names,
        "user": repr(sorted(study.user_attrs.items())),
        "trials": [of(trial) for trial in study.get_trials(deepcopy=False)],
    }


def test_everything_comes_over_and_goes_back(storage, source, tmp_path):
    fleetune("study", "import", SOURCE)
    assert sorted(study.study_name for study in storage.get_all_studies()) == NAMES
    for index, name in enumerate(NAMES):
        original = optuna.load_study(study_name=name, storage=source)
        here = optuna.load_study(study_name=name, storage=connect())
        assert facts(here) == facts(original, copied=True)

        file = tmp_path / f"{index}.db"
        fleetune("study", "export", name, "--to", str(file))
        back = optuna.load_study(study_name=name, storage=f"sqlite:///{file}")
        assert facts(back, one_zero=True) == facts(here, one_zero=True)

    # Nothing of the source was changed.
    states = [trial.state for trial in optuna.load_study(study_name="every state", storage=source).trials]
    assert TrialState.RUNNING in states


def test_a_search_goes_on_on_both_sides(storage, tmp_path):
    def objective(trial):
        x = trial.suggest_float("x", -5.0, 5.0)
        trial.report(x, 0)
        return x**2

    url = f"sqlite:///{tmp_path}/own.db"
    study = optuna.create_study(study_name="own", storage=url)
    study.optimize(objective, n_trials=15)
    study.enqueue_trial({"x": 1.25})
    # A path, and a study under another name.
    fleetune("study", "import", str(tmp_path / "own.db"), "--as", "ours")
    ours = optuna.load_study(study_name="ours", storage=connect())
    ours.optimize(objective, n_trials=5)
    assert [trial.number for trial in ours.trials] == list(range(20))
    assert ours.trials[15].params == {"x": 1.25}
    assert ours.best_value <= study.best_value

    fleetune("study", "export", "ours", "--to", str(tmp_path / "back.db"))
    back = optuna.load_study(study_name="ours", storage=f"sqlite:///{tmp_path}/back.db")
    assert facts(back) == facts(ours)
    back.optimize(objective, n_trials=5)
    assert [trial.number for trial in back.trials] == list(range(25))
    assert len(study.get_trials(deepcopy=False)) == 16
