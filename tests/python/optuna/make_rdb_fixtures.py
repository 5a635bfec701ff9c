"""Writes one of tests/fixtures/optuna: a database of the Optuna that runs this, as the text that makes it again, and what
that Optuna says is in it.

    python -m venv v && v/bin/pip install 'optuna==4.9.0' && TZ=JST-9 v/bin/python make_rdb_fixtures.py FOLDER

The files are made with optuna 3.0.6 (with sqlalchemy 1.4, numpy 1, scipy 1.11), 3.6.2, 4.9.0 and 5.0.0.
"""

import datetime
import json
import math
import os
import sqlite3
import struct
import sys
import tempfile

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

AT = datetime.datetime(2026, 1, 2, 3, 4, 5, 678901)
SECOND = datetime.timedelta(seconds=1)

PARAMS = {
    "x": (0.1 + 0.2, FloatDistribution(-5.0, 5.0)),
    "rate": (1.2345678901234567e-3, FloatDistribution(1e-5, 1e-1, log=True)),
    "grid": (0.30000000000000004, FloatDistribution(0.0, 1.0, step=0.1)),
    "n": (7, IntDistribution(1, 64, log=True)),
    "even": (4, IntDistribution(0, 10, step=2)),
    "kind": ("ü", CategoricalDistribution(["a", None, 1, 2.5, True, "ü"])),
}


def trial(state, values=None, **more):
    more.setdefault("datetime_start", AT)
    more.setdefault("datetime_complete", AT + SECOND if state.is_finished() else None)
    made = create_trial(state=state, values=values, **{k: v for k, v in more.items() if not k.startswith("datetime")})
    made.datetime_start, made.datetime_complete = more["datetime_start"], more["datetime_complete"]
    return made


def params(*names):
    return {
        "params": {name: PARAMS[name][0] for name in names},
        "distributions": {name: PARAMS[name][1] for name in names},
    }


def fill(storage):
    study = optuna.create_study(study_name="every state", storage=storage, direction="maximize")
    study.set_user_attr("note", {"text": "ü \U0001f600", "odd": [math.nan, math.inf, -math.inf], "none": None})
    study._storage.set_study_system_attr(study._study_id, "study:metric_names", ["loss"])
    steps = {0: 0.5, 1: math.nan, 2: math.inf, 7: -math.inf, 9: -0.0}
    study.add_trial(trial(TrialState.COMPLETE, [0.1 + 0.2], **params(*PARAMS), intermediate_values=steps))
    study.add_trial(trial(TrialState.COMPLETE, [math.inf], **params("x")))
    study.add_trial(trial(TrialState.COMPLETE, [-math.inf], **params("n")))
    study.add_trial(trial(TrialState.PRUNED, [1e-320], **params("x", "kind"), intermediate_values={3: 1e308}))
    study.add_trial(trial(TrialState.PRUNED))
    study.add_trial(trial(TrialState.FAIL, user_attrs={"why": "broken"}, system_attrs={"fail_reason": "x" * 3000}))
    study.add_trial(trial(TrialState.RUNNING, **params("x"), system_attrs={"constraints": [-1.0, 0.5]}))
    study.enqueue_trial({"x": 1.5, "kind": "a"}, user_attrs={"queued": True})

    two = optuna.create_study(study_name="two/objectives", storage=storage, directions=["minimize", "maximize"])
    two.add_trial(trial(TrialState.COMPLETE, [1.0, -math.inf], **params("grid"), system_attrs={"constraints": (0.5,)}))
    two.add_trial(trial(TrialState.COMPLETE, [-0.0, 2.0], **params("grid", "even")))
    optuna.create_study(study_name="empty", storage=storage)


def told(study):
    """What Optuna says, in words that JSON has; floats as their bits."""

    def bits(value):
        return struct.pack(">d", value).hex()

    def of_trial(trial):
        return {
            "number": trial.number,
            "state": trial.state.name,
            "values": None if trial.values is None else [bits(value) for value in trial.values],
            "params": {
                name: [bits(distribution.to_internal_repr(trial.params[name])), json_of(distribution)]
                for name, distribution in trial.distributions.items()
            },
            "steps": {str(step): bits(value) for step, value in trial.intermediate_values.items()},
            "user": {key: json.dumps(value) for key, value in trial.user_attrs.items()},
            "system": {key: json.dumps(value) for key, value in trial.system_attrs.items()},
            "times": [stamp(trial.datetime_start), stamp(trial.datetime_complete)],
        }

    def json_of(distribution):
        return json.loads(optuna.distributions.distribution_to_json(distribution))

    def stamp(time):
        return None if time is None else time.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    return {
        "name": study.study_name,
        "directions": [direction.name for direction in study.directions],
        "user": {key: json.dumps(value) for key, value in study.user_attrs.items()},
        "system": {key: json.dumps(value) for key, value in study._storage.get_study_system_attrs(study._study_id).items()},
        "trials": [of_trial(trial) for trial in study.get_trials(deepcopy=False)],
    }


def main(folder):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with tempfile.TemporaryDirectory() as temporary:
        file = os.path.join(temporary, "optuna.db")
        url = f"sqlite:///{file}"
        fill(optuna.storages.RDBStorage(url))
        storage = optuna.storages.RDBStorage(url)
        names = [summary.study_name for summary in optuna.get_all_study_summaries(storage)]
        facts = [told(optuna.load_study(study_name=name, storage=storage)) for name in names]
        dump = "\n".join(sqlite3.connect(file).iterdump()) + "\n"
    target = os.path.join(folder, f"optuna-{optuna.__version__}")
    with open(f"{target}.sql", "w") as out:
        out.write(dump)
    with open(f"{target}.json", "w") as out:
        json.dump({"time_zone": os.environ["TZ"], "studies": facts}, out, sort_keys=True)
        out.write("\n")


if __name__ == "__main__":
    main(sys.argv[1])
