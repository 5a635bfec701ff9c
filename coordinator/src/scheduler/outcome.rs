//! From what was told or measured to what is stored: values, constraints, state.

use std::collections::BTreeMap;

use fleetune_core::measurement::AttemptDetail;
use fleetune_core::study::{Benchmark, StudyConfig};
use fleetune_core::workload::running_median;
use fleetune_core::{FailKind, Samples, Timestamp, TrialState};

use super::error::EngineError;
use crate::storage::{TrialEnd, TrialRecord};

/// How a client says that a trial ended.
#[derive(Clone, Debug)]
pub struct Tell {
    /// `Complete`, `Pruned` or `Fail`.
    pub state: TrialState,
    /// One per objective for `Complete`.
    pub values: Vec<f64>,
    /// By name, for constraints without an expression.
    pub constraints: BTreeMap<String, f64>,
    /// For `Fail`.
    pub fail: Option<(FailKind, String)>,
}

/// The end that a client told.
pub fn told(config: &StudyConfig, trial: &TrialRecord, tell: Tell, now: Timestamp) -> Result<TrialEnd, EngineError> {
    let number = trial.number;
    if let Some(&value) = tell.values.iter().chain(tell.constraints.values()).find(|value| !value.is_finite()) {
        return Err(EngineError::NonFinite { number, value });
    }
    let seconds = match (trial.ended_at, trial.started_at) {
        // A repeated Tell must say what the first one did.
        (Some(_), _) => trial.seconds,
        (None, started) => now.since(started.unwrap_or(now)).as_secs_f64(),
    };
    let (values, fail) = match tell.state {
        TrialState::Complete => {
            if tell.values.len() != config.directions.len() {
                return Err(EngineError::invalid(
                    "values",
                    format!("{} given, but the study has {} objectives", tell.values.len(), config.directions.len()),
                ));
            }
            (tell.values, None)
        }
        TrialState::Pruned => (trial.steps.last().map(|&(_, value)| value).into_iter().collect(), None),
        TrialState::Fail => {
            let fail = tell.fail.unwrap_or((FailKind::Error, String::new()));
            (Vec::new(), Some(fail))
        }
        TrialState::Waiting | TrialState::Running => {
            return Err(EngineError::invalid("state", "a trial ends as complete, pruned or fail"));
        }
    };
    let constraints = constraints(config, &Samples::default(), &tell.constraints, tell.state)?;
    Ok(TrialEnd { state: tell.state, values, constraints, fail, seconds })
}

/// The end of a trial that a worker measured.
pub fn measured(
    config: &StudyConfig,
    benchmark: &Benchmark,
    trial: &TrialRecord,
    state: TrialState,
    fail: Option<(FailKind, String)>,
    detail: &AttemptDetail,
    seconds: f64,
) -> Result<TrialEnd, EngineError> {
    let failed = |kind, message: String| TrialEnd {
        state: TrialState::Fail,
        values: Vec::new(),
        constraints: Vec::new(),
        fail: Some((kind, message)),
        seconds,
    };
    let series = match state {
        TrialState::Complete => {
            running_median(&benchmark.objective.of_repetitions(&detail.samples, &benchmark.workload))
        }
        // What the pruner saw, not what ran on until the child had stopped.
        TrialState::Pruned => running_median(&trial.steps.iter().map(|&(_, value)| value).collect::<Vec<_>>()),
        TrialState::Fail => {
            let (kind, message) = fail.unwrap_or((FailKind::Error, "the worker gave no reason".to_owned()));
            return Ok(failed(kind, message));
        }
        TrialState::Waiting | TrialState::Running => {
            return Err(EngineError::invalid("state", "a trial ends as complete, pruned or fail"));
        }
    };
    let Some(&value) = series.last() else {
        return Ok(failed(FailKind::Error, format!("no repetition measured {}", benchmark.objective)));
    };
    if !value.is_finite() {
        return Ok(failed(FailKind::NonFinite, format!("{} is {value}", benchmark.objective)));
    }
    let constraints = match constraints(config, &detail.samples, &BTreeMap::new(), state) {
        Ok(constraints) => constraints,
        Err(error) => return Ok(failed(FailKind::Error, error.to_string())),
    };
    Ok(TrialEnd { state, values: vec![value], constraints, fail: None, seconds })
}

/// Constraint values in the order of the space. A completed trial must have them all.
fn constraints(
    config: &StudyConfig,
    samples: &Samples,
    told: &BTreeMap<String, f64>,
    state: TrialState,
) -> Result<Vec<f64>, EngineError> {
    let defined = config.space.as_ref().map_or(&[][..], |space| space.constraints());
    if let Some(unknown) = told.keys().find(|name| defined.iter().all(|constraint| constraint.name() != name.as_str()))
    {
        return Err(EngineError::invalid(format!("constraint `{unknown}`"), "is not in the search space"));
    }
    if state != TrialState::Complete {
        return Ok(Vec::new());
    }
    defined
        .iter()
        .map(|constraint| {
            let what = || format!("constraint `{}`", constraint.name());
            let value = match told.get(constraint.name()) {
                Some(&value) => Some(value),
                None => constraint.evaluate(samples).map_err(|error| EngineError::invalid(what(), error))?,
            };
            value.filter(|value| value.is_finite()).ok_or_else(|| EngineError::invalid(what(), "has no finite value"))
        })
        .collect()
}
