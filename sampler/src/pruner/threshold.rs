//! Stops a trial whose value leaves fixed limits.

use super::{Checks, Pruner, Series};

pub(super) struct Threshold {
    pub(super) lower: Option<f64>,
    pub(super) upper: Option<f64>,
    pub(super) checks: Checks,
}

impl Pruner for Threshold {
    fn should_stop(&self, _: &[Series<'_>], own: Series<'_>, step: u32) -> bool {
        let Some((_, value)) = own.last() else { return false };
        self.checks.looks_at(own, step)
            && (value.is_nan()
                || self.lower.is_some_and(|lower| *value < lower)
                || self.upper.is_some_and(|upper| *value > upper))
    }
}

#[cfg(test)]
mod tests {
    use fleetune_core::Direction;
    use fleetune_core::study::PrunerConfig;

    use crate::pruner::build_pruner;

    #[test]
    fn outside_the_limits_stops() {
        let config =
            PrunerConfig::Threshold { lower: Some(1.0), upper: Some(2.0), n_warmup_steps: 1, interval_steps: 1 };
        let pruner = build_pruner(&config, Direction::Minimize);
        let stops = |own: &[(u32, f64)], step| pruner.should_stop(&[], own, step);
        assert!(!stops(&[(0, 9.0)], 0), "warm-up");
        assert!(stops(&[(0, 9.0), (1, 2.5)], 1) && stops(&[(1, 0.5)], 1) && stops(&[(1, f64::NAN)], 1));
        assert!(!stops(&[(1, 1.0)], 1) && !stops(&[], 1));
    }
}
