//! Stops a trial whose best value is worse than a percentile of the complete trials at the same step.

use fleetune_core::Direction;

use super::{Candidate, Checks, Field, Pruner};

pub(super) struct Percentile {
    /// 50 is the median. Counted from the best, so that a larger one keeps more trials.
    pub(super) percent: f64,
    pub(super) direction: Direction,
    pub(super) startup_trials: usize,
    pub(super) checks: Checks,
    pub(super) min_trials: usize,
}

impl Pruner for Percentile {
    fn should_stop(&self, field: &Field<'_>, own: &Candidate<'_>) -> bool {
        let completed = field.complete().count();
        let Some(step) = own.last_step() else { return false };
        if completed == 0 || completed < self.startup_trials || !self.checks.looks_at(own.series) {
            return false;
        }
        let minimized = own.series.iter().map(|(_, value)| self.direction.minimized(*value));
        let Some(best) = minimized.filter(|value| !value.is_nan()).reduce(f64::min) else {
            // It reported nothing but NaN.
            return true;
        };
        let at_step = |trial: &Candidate<'_>| {
            let index = trial.series.binary_search_by_key(&step, |(step, _)| *step).ok()?;
            Some(trial.series[index].1)
        };
        let mut others = field.complete().filter_map(at_step).collect::<Vec<_>>();
        if others.len() < self.min_trials {
            return false;
        }
        others.retain(|value| !value.is_nan());
        let percentile = match self.direction {
            Direction::Minimize => self.percent,
            Direction::Maximize => 100.0 - self.percent,
        };
        numpys_percentile(&mut others, percentile).is_some_and(|reference| best > self.direction.minimized(reference))
    }
}

/// The percentile with linear interpolation, rounded as `NumPy` rounds it: a trial may lie exactly on it.
fn numpys_percentile(values: &mut [f64], percentile: f64) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    let position = last as f64 * (percentile / 100.0);
    let below = (position.floor() as usize).min(last);
    let (a, b) = (values[below], values[(below + 1).min(last)]);
    let share = position - position.floor();
    let gap = b - a;
    Some(if share >= 0.5 { b - gap * (1.0 - share) } else { a + gap * share })
}
