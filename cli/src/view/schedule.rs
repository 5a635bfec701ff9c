//! Which study workers serve next, and studies for each class of workers.

use fleetune_core::Schedule;
use serde::Serialize;

use super::{BestView, Counts};

/// A study's claim to workers.
#[derive(Clone, Debug, Serialize)]
pub struct ScheduleView {
    /// Studies of a higher one are served first.
    pub priority: i32,
    /// Trials that workers may lease at once; null does not limit.
    pub max_parallel: Option<u32>,
    /// Which workers may serve it, in CEL; null admits all.
    pub selector: Option<String>,
}

impl From<&Schedule> for ScheduleView {
    fn from(schedule: &Schedule) -> Self {
        let Schedule { priority, max_parallel, selector } = schedule.clone();
        Self { priority, max_parallel, selector }
    }
}

impl From<&ScheduleView> for Schedule {
    fn from(view: &ScheduleView) -> Self {
        let ScheduleView { priority, max_parallel, selector } = view.clone();
        Self { priority, max_parallel, selector }
    }
}

/// A study for one class of workers, as its parent shows it.
#[derive(Clone, Debug, Serialize)]
pub struct ChildView {
    /// Which workers.
    pub class: String,
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub state: String,
    /// Unit of the values.
    pub unit: String,
    /// Trials by state.
    pub trials: Counts,
    /// Seconds stored in trials.
    pub spent_s: f64,
    /// Trial to use; null before one has completed.
    pub winner: Option<i64>,
    /// Its value.
    pub best: Option<f64>,
    /// Value of the default configuration, if it completed.
    pub baseline: Option<f64>,
    /// Speed of the winner over that of the baseline, as the comparison in fresh processes has proven it; else null.
    pub gain: Option<f64>,
    /// Why no worker gets a trial.
    pub obstacles: Vec<String>,
}

/// The answers of a study that has a child for each class of workers.
#[derive(Clone, Debug, Serialize)]
pub struct FamilyBestView {
    /// Name of the parent.
    pub study: String,
    /// What tells workers apart.
    pub per: String,
    /// The answer of each.
    pub classes: Vec<BestView>,
}
