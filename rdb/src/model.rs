//! Studies and trials as Optuna's tables hold them.

use std::collections::BTreeMap;

use fleetune_core::{Direction, Timestamp, TrialState};

/// A study, without its trials.
#[derive(Clone, Debug, PartialEq)]
pub struct Study {
    /// Its id in this database.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// At least one.
    pub directions: Vec<Direction>,
    /// JSON text by key.
    pub user_attributes: BTreeMap<String, String>,
    /// JSON text by key.
    pub system_attributes: BTreeMap<String, String>,
    /// How many trials are in which state; none is 0.
    pub counts: BTreeMap<TrialState, u64>,
}

impl Study {
    /// All its trials.
    pub fn trials(&self) -> u64 {
        self.counts.values().sum()
    }
}

/// A parameter of a trial.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// The number itself, or the index of the choice.
    pub internal: f64,
    /// JSON text.
    pub distribution: String,
}

/// A trial.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// From 0 within the study, without gaps.
    pub number: i64,
    /// Where it stands.
    pub state: TrialState,
    /// One for each direction, or none.
    pub values: Vec<f64>,
    /// When it was started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// By name.
    pub params: BTreeMap<String, Param>,
    /// By step.
    pub steps: BTreeMap<i64, f64>,
    /// JSON text by key.
    pub user_attributes: BTreeMap<String, String>,
    /// JSON text by key.
    pub system_attributes: BTreeMap<String, String>,
}
