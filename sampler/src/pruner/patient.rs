//! Asks another rule only when a trial has not improved for a while.
//!
//! Departs from Optuna where successive halving or Hyperband is wrapped: a rung is completed by a report, not by the
//! question asked then, so that trials compete that were never judged.

use fleetune_core::Direction;

use super::{Candidate, Field, Pruner, Series};

pub(super) struct Patient {
    /// None: always stops.
    pub(super) wrapped: Option<Box<dyn Pruner>>,
    pub(super) direction: Direction,
    pub(super) patience: usize,
    pub(super) min_delta: f64,
}

impl Pruner for Patient {
    fn should_stop(&self, field: &Field<'_>, own: &Candidate<'_>) -> bool {
        let Some(split) = own.series.len().checked_sub(self.patience.saturating_add(1)).filter(|split| *split > 0)
        else {
            return false;
        };
        let (before, after) = own.series.split_at(split);
        let best = |series: Series<'_>| {
            let values = series.iter().map(|(_, value)| self.direction.minimized(*value));
            values.filter(|value| !value.is_nan()).reduce(f64::min)
        };
        let (Some(before), Some(after)) = (best(before), best(after)) else { return false };
        before + self.min_delta < after && self.wrapped.as_ref().is_none_or(|wrapped| wrapped.should_stop(field, own))
    }
}
