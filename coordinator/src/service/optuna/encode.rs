//! From what is stored to what is sent.

use std::collections::BTreeMap;

use bytes::Bytes;
use fleetune_core::distribution::python;
use fleetune_core::{Direction, TrialState, Value};
use fleetune_proto::optuna as wire;
use prost::Message as _;

use super::times;
use crate::scheduler::OptunaTimes;
use crate::storage::{Attribute, AttributeKind, StudyRecord, WholeTrial};

/// A study.
pub fn study(record: &StudyRecord, attributes: &[Attribute]) -> wire::Study {
    let (user_attributes, system_attributes) = by_kind(attributes);
    wire::Study {
        study_id: record.id.0,
        study_name: record.name.clone(),
        directions: directions(&record.config.directions),
        user_attributes,
        system_attributes,
    }
}

/// Directions.
pub fn directions(directions: &[Direction]) -> Vec<i32> {
    let one = |direction: &Direction| match direction {
        Direction::Minimize => wire::StudyDirection::Minimize,
        Direction::Maximize => wire::StudyDirection::Maximize,
    };
    directions.iter().map(|direction| one(direction).into()).collect()
}

/// A trial, encoded.
pub fn trial(whole: &WholeTrial, times: OptunaTimes) -> Bytes {
    let WholeTrial { record, attributes } = whole;
    let (user_attributes, mut system_attributes) = by_kind(attributes);
    // What was not written by such a client is told in its words.
    if !record.fixed.is_empty() && !system_attributes.contains_key("fixed_params") {
        let member = |(name, value): (&String, &Value)| format!("{}: {}", json_text(name), python::text(value));
        let members: Vec<String> = record.fixed.iter().map(member).collect();
        system_attributes.insert("fixed_params".to_owned(), format!("{{{}}}", members.join(", ")));
    }
    let told = system_attributes.keys().any(|key| key == "constraints" || key.starts_with("constraints:"));
    if !record.constraints.is_empty() && !told {
        let values: Vec<String> = record.constraints.iter().map(|&value| python::text(&value.into())).collect();
        system_attributes.insert("constraints".to_owned(), format!("[{}]", values.join(", ")));
    }
    let mut params = BTreeMap::new();
    let mut distributions = BTreeMap::new();
    for (name, param) in &record.params {
        distributions.insert(name.clone(), param.distribution.to_optuna_json());
        params.insert(name.clone(), param.internal);
    }
    let encoded = wire::Trial {
        trial_id: record.id.0,
        number: record.number.0,
        state: state(record.state).into(),
        values: record.values.clone(),
        datetime_start: times::text(record.started_at, times),
        datetime_complete: times::text(record.ended_at, times),
        params,
        distributions,
        user_attributes,
        system_attributes,
        intermediate_values: record.steps.iter().map(|&(step, value)| (step.into(), value)).collect(),
    };
    encoded.encode_to_vec().into()
}

fn json_text(text: &str) -> String {
    serde_json::to_string(text).expect("a text always has a JSON text")
}

fn by_kind(attributes: &[Attribute]) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let mut user = BTreeMap::new();
    let mut system = BTreeMap::new();
    for (kind, key, value) in attributes {
        match kind {
            AttributeKind::User => user.insert(key.clone(), value.clone()),
            AttributeKind::System => system.insert(key.clone(), value.clone()),
        };
    }
    (user, system)
}

fn state(state: TrialState) -> wire::TrialState {
    match state {
        TrialState::Waiting => wire::TrialState::Waiting,
        TrialState::Running => wire::TrialState::Running,
        TrialState::Complete => wire::TrialState::Complete,
        TrialState::Pruned => wire::TrialState::Pruned,
        TrialState::Fail => wire::TrialState::Fail,
    }
}
