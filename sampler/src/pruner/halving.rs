//! Successive halving, asynchronously: a trial that reaches a rung goes on if it is among the best that were there.
//!
//! Source: Li et al. 2018, arXiv:1810.05934, as Optuna runs it.

use fleetune_core::{Direction, TrialState};

use super::{Candidate, Field, Pruner};

pub(super) struct Halving {
    pub(super) direction: Direction,
    pub(super) resource: Resource,
    pub(super) reduction: u64,
    pub(super) skipped_rungs: u32,
    pub(super) bootstrap: usize,
}

/// Step of the first rung, were none left out.
#[derive(Clone, Copy)]
pub(super) enum Resource {
    Fixed(u64),
    /// A hundredth of a whole trial.
    Auto,
}

impl Halving {
    /// The rungs that a trial completed: the value of its first report at or behind each, and the index of that report.
    ///
    /// Optuna stores them as attributes when it gives its verdicts; here they follow from the series. A trial that was
    /// stopped came no further than the rung it was stopped at: its last report completes only one.
    fn rungs(&self, least: u64, trial: &Candidate<'_>) -> Vec<(usize, f64)> {
        let mut rungs = Vec::new();
        let mut from = 0;
        while let Some(need) = self.step_of(least, rungs.len()) {
            let reaches = |(step, value): &(u32, f64)| u64::from(*step) >= need && !value.is_nan();
            let Some(index) = trial.series[from..].iter().position(reaches).map(|offset| from + offset) else { break };
            let stopped_there = trial.state == TrialState::Pruned && index + 1 == trial.series.len();
            if stopped_there && rungs.last().is_some_and(|(last, _)| *last == index) {
                break;
            }
            rungs.push((index, trial.series[index].1));
            from = index;
        }
        rungs
    }

    /// The step that rung `rung` asks for; none beyond all steps.
    fn step_of(&self, least: u64, rung: usize) -> Option<u64> {
        let exponent = self.skipped_rungs.checked_add(u32::try_from(rung).ok()?)?;
        let step = self.reduction.checked_pow(exponent)?.checked_mul(least)?;
        u32::try_from(step).is_ok().then_some(step)
    }
}

impl Pruner for Halving {
    fn should_stop(&self, field: &Field<'_>, own: &Candidate<'_>) -> bool {
        match self.resource {
            Resource::Fixed(least) => self.stops_from(least, field, own),
            Resource::Auto => field
                .since_first_complete()
                .is_some_and(|(length, field)| self.stops_from(u64::from(length / 100).max(1), &field, own)),
        }
    }
}

impl Halving {
    /// The verdict, where `least` is the step of rung 0.
    fn stops_from(&self, least: u64, field: &Field<'_>, own: &Candidate<'_>) -> bool {
        let Some(last) = own.series.len().checked_sub(1) else { return false };
        let own_rungs = self.rungs(least, own);
        let done = own_rungs.iter().filter(|(index, _)| *index < last).count();
        let (step, value) = own.series[last];
        if self.step_of(least, done).is_none_or(|need| u64::from(step) < need) {
            return false;
        }
        if value.is_nan() {
            return true;
        }
        let others = field.trials.iter().filter(|trial| trial.number != own.number);
        let others = others.map(|trial| self.rungs(least, trial)).collect::<Vec<_>>();
        (done..own_rungs.len()).any(|rung| {
            let reached = others.iter().filter_map(|rungs| Some(self.direction.minimized(rungs.get(rung)?.1)));
            let own = self.direction.minimized(value);
            let mut competing = reached.chain([own]).collect::<Vec<_>>();
            if competing.len() <= self.bootstrap {
                return true;
            }
            // Even among few the best one goes on.
            let promoted = (competing.len() / self.reduction as usize).saturating_sub(1);
            let (_, bar, _) = competing.select_nth_unstable_by(promoted, f64::total_cmp);
            own > *bar
        })
    }
}
