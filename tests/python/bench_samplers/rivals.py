"""Optuna 5.0 as its users use it: ask and tell, parameters defined as they are needed."""

import warnings

import optuna
from optuna.trial import TrialState

from space import is_active

SAMPLERS = ("optuna-random", "optuna-tpe", "optuna-tpe-worst", "optuna-cma-es", "optuna-gp")

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def _has_rules(name, problem):
    return problem.constraints > 0 and name in ("optuna-tpe", "optuna-gp")


def _sampler(name, seed):
    samplers = optuna.samplers
    match name:
        case "optuna-random":
            return samplers.RandomSampler(seed=seed)
        case "optuna-tpe" | "optuna-tpe-worst":
            return samplers.TPESampler(seed=seed)
        case "optuna-cma-es":
            return samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
        case "optuna-gp":
            return samplers.GPSampler(seed=seed)
    raise ValueError(f"no sampler of Optuna's is called `{name}`; there are {', '.join(SAMPLERS)}")


def tells_worst(name):
    """Whether it hears the worst value so far where there is none. Optuna's CMA-ES and GP know nothing of failures."""
    return name in ("optuna-tpe-worst", "optuna-cma-es", "optuna-gp")


class Study:
    """A study of Optuna's in memory."""

    def __init__(self, problem, sampler, seed, _budget):
        self.problem, self.sampler = problem, sampler
        # The samplers that take measured constraints; the others hear of failures instead.
        self.has_rules = _has_rules(sampler, problem)
        self.worst = None
        direction = "maximize" if problem.maximize else "minimize"
        self.study = optuna.create_study(direction=direction, sampler=_sampler(sampler, seed))
        if problem.default:
            self.study.enqueue_trial(problem.default)

    def ask(self, count):
        asked = []
        for _ in range(count):
            trial, params = self.study.ask(), {}
            for param in self.problem.space:
                if is_active(param, params):
                    params[param.name] = self._suggest(trial, param)
            asked.append((trial, params))
        return asked

    def _suggest(self, trial, param):
        match param.kind:
            case "float":
                return trial.suggest_float(param.name, param.low, param.high, log=param.log)
            case "int":
                return trial.suggest_int(param.name, param.low, param.high, log=param.log)
        return trial.suggest_categorical(param.name, param.choices)

    def tell(self, trial, outcome):
        if self.has_rules:
            for index, constraint in enumerate(outcome.constraints):
                trial.set_constraint(f"c{index}", constraint)
            self.study.tell(trial, outcome.value)
            return
        if outcome.value is not None and (self.worst is None or self.problem.better(self.worst, outcome.value)):
            self.worst = outcome.value
        if outcome.ok:
            self.study.tell(trial, outcome.value)
        elif tells_worst(self.sampler) and self.worst is not None:
            self.study.tell(trial, self.worst)
        else:
            self.study.tell(trial, state=TrialState.FAIL)

    def answer(self):
        """What it would use: it says no more than which trial is best, and the caller knows that."""
        return None

    def close(self):
        pass
