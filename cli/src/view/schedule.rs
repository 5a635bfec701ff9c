//! Which study workers serve next.

use fleetune_core::Schedule;
use serde::Serialize;

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
