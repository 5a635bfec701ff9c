"""Programs as Optuna's users write them, on fleetune."""

import inspect
import math
import os
import subprocess
import sys
import threading

import optuna
import pytest
from optuna import pruners, samplers
from optuna.artifacts import FileSystemArtifactStore, download_artifact, get_all_artifact_meta, upload_artifact
from optuna.trial import TrialState

from conftest import connect

# Longer than any of it takes on a busy machine.
DEADLINE_S = 300


def mixed(trial):
    """A function of parameters of every kind, one of them conditional."""
    x = trial.suggest_float("x", -5.0, 5.0)
    rate = trial.suggest_float("rate", 1e-5, 1e-1, log=True)
    n = trial.suggest_int("n", 1, 64, log=True)
    step = trial.suggest_float("step", 0.0, 1.0, step=0.1)
    kind = trial.suggest_categorical("kind", ["a", None, 1, 2.5, True])
    value = x**2 + abs(math.log10(rate) + 3) + abs(n - 8) / 8 + step
    if kind == "a":
        value += trial.suggest_int("inner", 0, 10, step=2)
    return value


def smooth(trial):
    """One that continuous samplers take too."""
    return sum(trial.suggest_float(name, -3.0, 3.0) ** 2 for name in "abc")


SAMPLERS = {
    "random": (lambda: samplers.RandomSampler(seed=1), mixed),
    "tpe": (lambda: samplers.TPESampler(seed=1, n_startup_trials=5), mixed),
    "tpe univariate": (lambda: samplers.TPESampler(seed=1, n_startup_trials=5, multivariate=False), mixed),
    "tpe group": (lambda: samplers.TPESampler(seed=1, n_startup_trials=5, multivariate=True, group=True), mixed),
    "cma-es": (lambda: samplers.CmaEsSampler(seed=1, n_startup_trials=3), smooth),
    "nsga-ii": (lambda: samplers.NSGAIISampler(seed=1, population_size=6), mixed),
    "nsga-iii": (lambda: samplers.NSGAIIISampler(seed=1, population_size=6), mixed),
    "qmc": (lambda: samplers.QMCSampler(seed=1), mixed),
    "grid": (lambda: samplers.GridSampler({name: [-1, 0, 1] for name in "abc"}, seed=1), smooth),
    "partial": (lambda: samplers.PartialFixedSampler({"a": 0.5}, samplers.TPESampler(seed=1)), smooth),
    "gp": (lambda: samplers.GPSampler(seed=1, n_startup_trials=5), mixed),
}


def stock(module, base):
    """The classes of `module` that Optuna's users make objects of."""
    classes = [getattr(module, name) for name in module.__all__]
    return {made for made in classes if isinstance(made, type) and issubclass(made, base) and not inspect.isabstract(made)}


def test_no_sampler_and_no_pruner_is_left_out():
    made = {type(make()) for make, _ in SAMPLERS.values()} | {samplers.BruteForceSampler}
    assert made == stock(samplers, samplers.BaseSampler)
    assert {type(make()) for make in PRUNERS.values()} | {pruners.NopPruner} == stock(pruners, pruners.BasePruner)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_searches(storage, name):
    make, objective = SAMPLERS[name]
    if name == "gp":
        pytest.importorskip("torch", reason="needs PyTorch, whose packages are gigabytes")
    study = optuna.create_study(storage=storage, study_name=name, sampler=make())
    study.optimize(objective, n_trials=20)
    again = optuna.load_study(storage=connect(), study_name=name)
    assert [trial.number for trial in again.trials] == list(range(20))
    assert all(trial.state == TrialState.COMPLETE for trial in again.trials)
    assert again.best_value == min(trial.value for trial in study.trials)
    assert again.best_params == study.best_params


def test_brute_force_searches(storage):
    # Over maps, which have no order, Optuna's sampler fails for more than one parameter.
    study = optuna.create_study(storage=storage, sampler=samplers.BruteForceSampler(seed=1))
    study.optimize(lambda trial: trial.suggest_int("n", 0, 5) ** 2)
    assert sorted(trial.params["n"] for trial in study.trials) == [0, 1, 2, 3, 4, 5]


PRUNERS = {
    "median": lambda: pruners.MedianPruner(n_startup_trials=2),
    "percentile": lambda: pruners.PercentilePruner(25.0, n_startup_trials=2),
    "halving": lambda: pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2),
    "hyperband": lambda: pruners.HyperbandPruner(min_resource=1, max_resource=9, reduction_factor=3),
    "threshold": lambda: pruners.ThresholdPruner(upper=4.0),
    "patient": lambda: pruners.PatientPruner(pruners.MedianPruner(n_startup_trials=2), patience=1),
    "wilcoxon": lambda: pruners.WilcoxonPruner(p_threshold=0.2),
}


def curve(trial):
    level = trial.suggest_float("level", 0.0, 10.0)
    for step in range(9):
        # Worse with every step, so that the patient one runs out of patience.
        trial.report(level * (1 + 0.1 * step), step)
        if trial.should_prune():
            raise optuna.TrialPruned()
    return level


@pytest.mark.parametrize("name", PRUNERS)
def test_every_pruner_prunes(storage, name):
    sampler = samplers.RandomSampler(seed=3)
    study = optuna.create_study(storage=storage, study_name=name, sampler=sampler, pruner=PRUNERS[name]())
    study.optimize(curve, n_trials=30)
    again = optuna.load_study(storage=connect(), study_name=name)
    states = [trial.state for trial in again.trials]
    assert states.count(TrialState.PRUNED) >= 3 and states.count(TrialState.COMPLETE) >= 1, states
    for trial in again.trials:
        complete = trial.state == TrialState.COMPLETE
        assert sorted(trial.intermediate_values) == list(range(9 if complete else len(trial.intermediate_values)))


def test_without_a_pruner_nothing_is_pruned(storage):
    study = optuna.create_study(storage=storage, sampler=samplers.RandomSampler(seed=3), pruner=pruners.NopPruner())
    study.optimize(curve, n_trials=10)
    assert [(trial.state, len(trial.intermediate_values)) for trial in study.trials] == [(TrialState.COMPLETE, 9)] * 10


def test_threads_share_a_study(storage):
    study = optuna.create_study(storage=storage, sampler=samplers.TPESampler(n_startup_trials=5))
    study.optimize(mixed, n_trials=40, n_jobs=8)
    assert sorted(trial.number for trial in study.trials) == list(range(40))


WORKER = """
import sys
import optuna
sys.path.insert(0, {folder!r})
import conftest, test_programs
optuna.logging.set_verbosity(optuna.logging.WARNING)
study = optuna.load_study(study_name="shared", storage=conftest.connect())
study.optimize(test_programs.mixed, n_trials={trials})
"""


def start_worker(trials):
    folder = os.path.dirname(os.path.abspath(__file__))
    return subprocess.Popen([sys.executable, "-W", "ignore", "-c", WORKER.format(folder=folder, trials=trials)])


def test_processes_share_a_study(storage):
    study = optuna.create_study(storage=storage, study_name="shared")
    workers = [start_worker(8) for _ in range(8)]
    assert [worker.wait(timeout=DEADLINE_S) for worker in workers] == [0] * 8
    assert [trial.number for trial in study.trials] == list(range(64))
    assert all(trial.state == TrialState.COMPLETE for trial in study.trials)


def test_each_queue_entry_is_taken_once(storage):
    study = optuna.create_study(storage=storage, study_name="queue")
    for index in range(30):
        study.enqueue_trial({"x": float(index)})
    taken = []
    failures = []

    def take():
        try:
            own = optuna.load_study(study_name="queue", storage=connect())
            for _ in range(3):
                trial = own.ask()
                taken.append((trial.number, trial.suggest_float("x", 0.0, 100.0)))
                own.tell(trial, 0.0)
        except Exception as failure:
            failures.append(failure)

    takers = [threading.Thread(target=take) for _ in range(10)]
    for taker in takers:
        taker.start()
    for taker in takers:
        taker.join(DEADLINE_S)
    assert failures == []
    assert sorted(taken) == [(index, float(index)) for index in range(30)]


SEVERAL = {
    "tpe": lambda: samplers.TPESampler(seed=1, n_startup_trials=5),
    "nsga-ii": lambda: samplers.NSGAIISampler(seed=1, population_size=6),
    "nsga-iii": lambda: samplers.NSGAIIISampler(seed=1, population_size=6),
}


@pytest.mark.parametrize("name", SEVERAL)
def test_several_objectives(storage, name):
    study = optuna.create_study(
        storage=storage, study_name="two", directions=["minimize", "maximize"], sampler=SEVERAL[name]()
    )

    def objective(trial):
        x = trial.suggest_float("x", 0.0, 2.0)
        return x, 1 - (x - 1) ** 2

    study.optimize(objective, n_trials=30)
    again = optuna.load_study(storage=connect(), study_name="two")
    assert len(again.best_trials) >= 1
    assert {trial.number for trial in again.best_trials} == {trial.number for trial in study.best_trials}
    assert all(len(trial.values) == 2 for trial in again.trials)


def test_constraints_count(storage):
    def objective(trial):
        x = trial.suggest_float("x", -5.0, 5.0)
        trial.set_constraint("x is positive", -x)
        return x

    study = optuna.create_study(storage=storage, study_name="bounded", sampler=samplers.TPESampler(seed=1))
    study.optimize(objective, n_trials=30)
    again = optuna.load_study(storage=connect(), study_name="bounded")
    assert again.best_value >= 0
    assert any(trial.value < 0 for trial in again.trials)


def test_constraints_of_the_older_form_count(storage):
    def objective(trial):
        x = trial.suggest_float("x", -5.0, 5.0)
        trial.set_user_attr("over", -x)
        return x, x**2

    sampler = samplers.NSGAIISampler(seed=1, population_size=6, constraints_func=lambda trial: [trial.user_attrs["over"]])
    study = optuna.create_study(
        storage=storage, study_name="bounded before", directions=["minimize"] * 2, sampler=sampler
    )
    study.optimize(objective, n_trials=30)
    again = optuna.load_study(storage=connect(), study_name="bounded before")
    assert all(trial.system_attrs["constraints"] == [-trial.params["x"]] for trial in again.trials)
    assert any(trial.params["x"] < 0 for trial in again.trials)
    assert again.best_trials and all(trial.params["x"] >= 0 for trial in again.best_trials)


def test_artifacts_are_found_again(storage, tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "model.txt").write_text("weights")
    store = FileSystemArtifactStore(tmp_path / "kept")
    study = optuna.create_study(storage=storage, study_name="with files")
    trial = study.ask()
    of_trial = upload_artifact(artifact_store=store, file_path=tmp_path / "model.txt", study_or_trial=trial)
    of_study = upload_artifact(artifact_store=store, file_path=tmp_path / "model.txt", study_or_trial=study)
    study.tell(trial, 1.0)
    again = optuna.load_study(storage=connect(), study_name="with files")
    for identity, holder in [(of_trial, again.trials[0]), (of_study, again)]:
        [meta] = get_all_artifact_meta(holder, storage=again._storage)
        assert (meta.artifact_id, meta.filename) == (identity, "model.txt")
        download_artifact(artifact_store=store, artifact_id=identity, file_path=tmp_path / identity)
        assert (tmp_path / identity).read_text() == "weights"


def test_attributes_of_every_kind(storage):
    study = optuna.create_study(storage=storage, study_name="noted")
    notes = {"text": "ü \U0001f600 \x00", "number": 0.1 + 0.2, "deep": {"a": [1, None, {"b": True}]}, "inf": math.inf}
    for key, value in notes.items():
        study.set_user_attr(key, value)
    study.set_metric_names(["loss"])
    trial = study.ask()
    trial.set_user_attr("notes", notes)
    trial.storage.set_trial_system_attr(trial._trial_id, "artifacts:1", "x" * 100_000)
    study.tell(trial, 1.0)
    again = optuna.load_study(storage=connect(), study_name="noted")
    assert again.user_attrs == notes
    assert again.metric_names == ["loss"]
    assert again.trials[0].user_attrs["notes"] == notes
    assert again.trials[0].system_attrs["artifacts:1"] == "x" * 100_000


def test_trials_are_copied_between_studies(storage):
    study = optuna.create_study(storage=storage, study_name="from")
    study.optimize(mixed, n_trials=5)
    optuna.copy_study(from_study_name="from", from_storage=storage, to_storage=storage, to_study_name="to")
    there = optuna.load_study(storage=connect(), study_name="to")
    keep = lambda trial: (trial.number, trial.params, trial.value, trial.distributions, trial.datetime_start)
    assert [keep(trial) for trial in there.trials] == [keep(trial) for trial in study.trials]


def test_a_failed_trial_says_so(storage):
    study = optuna.create_study(storage=storage, study_name="failing")

    def objective(trial):
        trial.suggest_float("x", 0, 1)
        raise ValueError("broken")

    study.optimize(objective, n_trials=2, catch=ValueError)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL] * 2
