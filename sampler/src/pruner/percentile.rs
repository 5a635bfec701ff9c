//! Stops a trial whose best value is worse than a percentile of the complete trials at the same step.

use fleetune_core::Direction;
use fleetune_core::measurement::quantile;

use super::{Checks, Pruner, Series};

pub(super) struct Percentile {
    /// 0.5 is the median. Counted from the best, so that a larger share keeps more trials.
    pub(super) share: f64,
    pub(super) direction: Direction,
    pub(super) startup_trials: usize,
    pub(super) checks: Checks,
    pub(super) min_trials: usize,
}

impl Pruner for Percentile {
    fn should_stop(&self, completed: &[Series<'_>], own: Series<'_>, step: u32) -> bool {
        if completed.is_empty() || completed.len() < self.startup_trials || !self.checks.looks_at(own, step) {
            return false;
        }
        let minimized = own.iter().map(|(_, value)| self.direction.minimized(*value));
        let Some(best) = minimized.filter(|value| !value.is_nan()).reduce(f64::min) else {
            // It reported nothing but NaN.
            return !own.is_empty();
        };
        let at_step = |series: &Series<'_>| {
            let index = series.binary_search_by_key(&step, |(step, _)| *step).ok()?;
            Some(self.direction.minimized(series[index].1))
        };
        let mut others = completed.iter().filter_map(at_step).collect::<Vec<_>>();
        if others.len() < self.min_trials {
            return false;
        }
        others.retain(|value| !value.is_nan());
        quantile(&others, self.share).is_some_and(|reference| best > reference)
    }
}

#[cfg(test)]
mod tests {
    use fleetune_core::study::PrunerConfig;

    use super::*;
    use crate::pruner::build_pruner;

    const DONE: [&[(u32, f64)]; 5] =
        [&[(1, 1.0), (2, 5.0)], &[(1, 2.0)], &[(1, 3.0), (2, f64::NAN)], &[(1, 4.0)], &[(1, 5.0)]];

    fn median(direction: Direction) -> Box<dyn Pruner + Send + Sync> {
        build_pruner(&PrunerConfig::median(), direction)
    }

    #[test]
    fn worse_than_the_median_at_the_step_stops() {
        let pruner = median(Direction::Minimize);
        assert!(pruner.should_stop(&DONE, &[(1, 3.5)], 1));
        assert!(!pruner.should_stop(&DONE, &[(1, 3.0)], 1));
        assert!(!pruner.should_stop(&DONE[..4], &[(1, 9.0)], 1), "too few complete trials");
        let pruner = median(Direction::Maximize);
        assert!(pruner.should_stop(&DONE, &[(1, 2.5)], 1));
        assert!(!pruner.should_stop(&DONE, &[(1, 3.0)], 1));
    }

    #[test]
    fn the_best_of_all_own_steps_counts() {
        let pruner = median(Direction::Minimize);
        assert!(!pruner.should_stop(&DONE, &[(1, 4.0), (2, 9.0)], 2), "4 is better than 5, the only number at step 2");
        assert!(pruner.should_stop(&DONE, &[(1, 6.0), (2, 9.0)], 2));
        assert!(!pruner.should_stop(&DONE, &[(1, 6.0), (3, 9.0)], 3), "nobody was there");
    }

    #[test]
    fn nothing_but_nan_stops() {
        let pruner = median(Direction::Minimize);
        assert!(pruner.should_stop(&DONE, &[(1, f64::NAN)], 1));
        assert!(!pruner.should_stop(&DONE, &[], 1));
    }

    #[test]
    fn only_the_first_report_of_an_interval_is_looked_at() {
        let config =
            PrunerConfig::Median { n_startup_trials: 1, n_warmup_steps: 2, interval_steps: 3, n_min_trials: 1 };
        let pruner = build_pruner(&config, Direction::Minimize);
        let done: Vec<(u32, f64)> = (0..10).map(|step| (step, 0.0)).collect();
        let stops = |own: &[(u32, f64)], step| pruner.should_stop(&[&done], own, step);
        assert!(!stops(&[(1, 1.0)], 1));
        assert!(stops(&[(1, 1.0), (2, 1.0)], 2));
        assert!(!stops(&[(2, 1.0), (3, 1.0)], 3));
        assert!(stops(&[(2, 1.0), (3, 1.0), (6, 1.0)], 6));
    }
}
