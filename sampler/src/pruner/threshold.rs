//! Stops a trial whose value leaves fixed limits.

use super::{Candidate, Checks, Field, Pruner};

pub(super) struct Threshold {
    pub(super) lower: Option<f64>,
    pub(super) upper: Option<f64>,
    pub(super) checks: Checks,
}

impl Pruner for Threshold {
    fn should_stop(&self, _: &Field<'_>, own: &Candidate<'_>) -> bool {
        let Some((_, value)) = own.series.last() else { return false };
        self.checks.looks_at(own.series)
            && (value.is_nan()
                || self.lower.is_some_and(|lower| *value < lower)
                || self.upper.is_some_and(|upper| *value > upper))
    }
}
