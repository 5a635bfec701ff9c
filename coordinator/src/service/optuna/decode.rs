//! From what clients send to what is stored. What means nothing is refused here, before anything is written: another
//! client could not read the study any more.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use fleetune_core::distribution::python::{self, Odd};
use fleetune_core::{Direction, Distribution, Params, TrialState, Value};
use fleetune_proto::convert::Invalid;
use fleetune_proto::optuna as wire;

use super::times;
use crate::storage::{Attribute, AttributeKind, Meaning, NewTrial, Param, ParamSet, constraint_values};

type Result<T> = std::result::Result<T, Invalid>;

/// A direction.
pub fn direction(number: i32) -> Result<Direction> {
    match wire::StudyDirection::try_from(number) {
        Ok(wire::StudyDirection::Minimize) => Ok(Direction::Minimize),
        Ok(wire::StudyDirection::Maximize) => Ok(Direction::Maximize),
        Err(_) => Err(Invalid::new("directions", format!("{number} is none"))),
    }
}

/// A state.
pub fn state(number: i32) -> Result<TrialState> {
    match wire::TrialState::try_from(number) {
        Ok(wire::TrialState::Running) => Ok(TrialState::Running),
        Ok(wire::TrialState::Complete) => Ok(TrialState::Complete),
        Ok(wire::TrialState::Pruned) => Ok(TrialState::Pruned),
        Ok(wire::TrialState::Fail) => Ok(TrialState::Fail),
        Ok(wire::TrialState::Waiting) => Ok(TrialState::Waiting),
        Err(_) => Err(Invalid::new("state", format!("{number} is none"))),
    }
}

/// A step.
pub fn step(step: i64) -> Result<u32> {
    u32::try_from(step).map_err(|_| Invalid::new("step", format!("{step} is outside 0 to {}", u32::MAX)))
}

/// Texts of distributions that are remembered, at most, and the longest of them.
const DISTRIBUTIONS: usize = 4_096;
const LONGEST: usize = 4_096;

/// Distributions by the texts that clients send, again and again.
#[derive(Default)]
pub struct Distributions(Mutex<HashMap<String, Arc<Distribution>>>);

impl Distributions {
    /// The distribution of parameter `name`.
    pub fn read(&self, name: &str, text: &str) -> Result<Arc<Distribution>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(text).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let read = distribution(name, text)?;
        if text.len() <= LONGEST {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= DISTRIBUTIONS {
                known.clear();
            }
            known.insert(text.to_owned(), Arc::clone(&read));
        }
        Ok(read)
    }
}

/// The distribution of parameter `name`.
pub fn distribution(name: &str, text: &str) -> Result<Arc<Distribution>> {
    let read = Distribution::from_optuna_json(text);
    read.map(Arc::new).map_err(|error| Invalid::new(format!("distribution of `{name}`"), error))
}

/// A parameter.
pub fn param(name: &str, internal: f64, distribution: Arc<Distribution>) -> Result<Param> {
    let bad = |why: String| Err(Invalid::new(format!("value of `{name}`"), why));
    match &*distribution {
        // Whatever the range: a client may have narrowed it.
        Distribution::Float(_) => {}
        Distribution::Int(_) if internal.is_finite() => {}
        Distribution::Int(_) => return bad(format!("{internal} is no integer")),
        Distribution::Categorical(choices) => {
            let count = choices.as_slice().len();
            if !(internal >= 0.0 && internal < count as f64 && internal.fract() == 0.0) {
                return bad(format!("{internal} is no index of one of {count} choices"));
            }
        }
    }
    Ok(Param { distribution, internal })
}

/// An attribute.
pub fn attribute(kind: AttributeKind, key: String, value: String) -> Result<Attribute> {
    match python::fault(&value) {
        None => Ok((kind, key, value)),
        Some(why) => Err(Invalid::new(format!("attribute `{key}`"), format!("is no JSON text: {why}"))),
    }
}

/// What an attribute of a trial means for the trial.
pub fn meaning((kind, key, value): &Attribute) -> Meaning {
    match (kind, key.as_str()) {
        (AttributeKind::System, "fixed_params") => Meaning::Fixed(fixed(value)),
        (AttributeKind::System, "constraints") => Meaning::Constraints,
        (AttributeKind::System, key) if key.starts_with("constraints:") => Meaning::Constraints,
        (AttributeKind::System | AttributeKind::User, _) => Meaning::None,
    }
}

/// What `fixed_params` says. A text that says something else fixes nothing, and is kept as it is.
fn fixed(text: &str) -> Params {
    let strict = python::to_json(text, Odd::Object).unwrap_or_default();
    serde_json::from_str::<BTreeMap<String, Value>>(&strict).unwrap_or_default()
}

/// A trial that a client brings whole.
pub fn template(trial: wire::Trial) -> Result<NewTrial> {
    let mut params = ParamSet::new();
    for (name, internal) in trial.params {
        let Some(text) = trial.distributions.get(&name) else {
            return Err(Invalid::new(format!("template_trial: parameter `{name}`"), "has no distribution"));
        };
        let param = param(&name, internal, distribution(&name, text)?)?;
        params.insert(name, param);
    }
    if let Some(name) = trial.distributions.keys().find(|name| !params.contains_key(*name)) {
        return Err(Invalid::new(format!("template_trial: distribution of `{name}`"), "has no value"));
    }
    let mut attributes = Vec::new();
    for (kind, pairs) in
        [(AttributeKind::User, trial.user_attributes), (AttributeKind::System, trial.system_attributes)]
    {
        for (key, value) in pairs {
            attributes.push(attribute(kind, key, value)?);
        }
    }
    let system = attributes.iter().filter(|(kind, ..)| *kind == AttributeKind::System);
    let constraints = constraint_values(system.map(|(_, key, value)| (key.as_str(), value.as_str())));
    let fixed = attributes.iter().find_map(|attribute| match meaning(attribute) {
        Meaning::Fixed(fixed) => Some(fixed),
        Meaning::None | Meaning::Constraints => None,
    });
    let steps = trial.intermediate_values.into_iter().map(|(key, value)| Ok((step(key)?, value)));
    Ok(NewTrial {
        state: state(trial.state)?,
        values: trial.values,
        constraints,
        started_at: time("template_trial.datetime_start", &trial.datetime_start)?,
        ended_at: time("template_trial.datetime_complete", &trial.datetime_complete)?,
        fixed: fixed.unwrap_or_default(),
        params,
        steps: steps.collect::<Result<_>>()?,
        attributes,
    })
}

fn time(field: &str, text: &str) -> Result<Option<fleetune_core::Timestamp>> {
    if text.is_empty() {
        return Ok(None);
    }
    let bad = || Invalid::new(field, "is no time; `2026-11-21 05:27:54.752916` and ISO 8601 are read");
    times::read(text).map(Some).ok_or_else(bad)
}
