//! Importances, fronts, sensitivity.

use fleetune_core::{Params, Value};
use serde::Serialize;

use super::TrialView;

/// What `study importances` found.
#[derive(Clone, Debug, Serialize)]
pub struct ImportancesView {
    /// Name of the study.
    pub study: String,
    /// `ped-anova` or `fanova`.
    pub method: String,
    /// Completed trials they rest on.
    pub trials: u64,
    /// Most important first.
    pub parameters: Vec<ImportanceView>,
}

/// How much a parameter matters.
#[derive(Clone, Debug, Serialize)]
pub struct ImportanceView {
    /// The parameter.
    pub name: String,
    /// All add up to 1.
    pub importance: f64,
    /// Lower end of the 95 % interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Share of the trials in which the parameter was there.
    pub active: f64,
}

/// What `study pareto` found.
#[derive(Clone, Debug, Serialize)]
pub struct FrontView {
    /// Name of the study.
    pub study: String,
    /// `minimize` or `maximize`, one per objective.
    pub directions: Vec<String>,
    /// The trials that no other beats, by the first objective, best first.
    pub trials: Vec<TrialView>,
    /// Volume between them and the reference; null without trials and with more than four objectives.
    pub hypervolume: Option<f64>,
    /// One number per objective; empty without trials.
    pub reference: Vec<f64>,
    /// Number of the trial where the front bends most; null where it does not.
    pub knee: Option<i64>,
}

/// What `study sensitivity` found.
#[derive(Clone, Debug, Serialize)]
pub struct SensitivityView {
    /// Name of the study.
    pub study: String,
    /// Number of the trial that is changed.
    pub number: i64,
    /// Its parameters.
    pub params: Params,
    /// Value that a model of all completed trials predicts for it.
    pub predicted: f64,
    /// By parameter, then by value.
    pub changes: Vec<ChangeView>,
    /// What a longer search can gain.
    pub outlook: OutlookView,
}

/// One parameter changed.
#[derive(Clone, Debug, Serialize)]
pub struct ChangeView {
    /// The parameter.
    pub name: String,
    /// Its value in the trial.
    pub from: Value,
    /// Its value after the change.
    pub to: Value,
    /// Value predicted after the change.
    pub predicted: f64,
    /// Standard deviation of that prediction.
    pub sd: f64,
    /// How much worse it is than without the change, as a share; negative is better, null where that cannot be said.
    pub loss: f64,
}

/// What a longer search can gain, at most.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct OutlookView {
    /// In the unit of the value.
    pub gain: f64,
    /// As a share of the best prediction.
    pub relative: f64,
    /// Below this share a search may stop.
    pub threshold: f64,
    /// Whether it is below.
    pub may_stop: bool,
}
