//! What the sampler remembers: one row per ended trial that teaches something, by trial number, in columns.

use fleetune_core::Direction;

use super::column::Column;
use super::observations::Observations;
use super::options::ParzenOptions;
use super::split::better;
use crate::seam::{Ended, Outcome};

/// What came of a trial, smaller values better.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fate {
    /// Ended with a value.
    Complete {
        /// Its first value; NaN counts as the worst.
        value: f64,
        /// Sum of its positive constraint values; 0 is feasible.
        violation: f64,
    },
    /// Stopped by the pruner.
    Pruned {
        /// Last step reported.
        last_step: Option<u32>,
        /// Value at that step.
        value: f64,
        /// Sum of its positive constraint values; 0 is feasible.
        violation: f64,
    },
    /// Failed in a way that is held against its parameters.
    Failed,
}

impl Fate {
    /// What `ended` teaches; `None` for failures without evidence and for trials without a value.
    pub(crate) fn of(ended: &Ended, directions: &[Direction]) -> Option<Self> {
        let direction = *directions.first()?;
        let minimized = |value: f64| if value.is_nan() { f64::INFINITY } else { direction.minimized(value) };
        // NaN is no feasibility either.
        let violation = |constraints: &[f64]| {
            constraints.iter().map(|c| if c.is_nan() { f64::INFINITY } else { c.max(0.0) }).sum::<f64>()
        };
        match &ended.outcome {
            Outcome::Complete { values, constraints } if values.len() == directions.len() => {
                Some(Self::Complete { value: minimized(*values.first()?), violation: violation(constraints) })
            }
            Outcome::Complete { .. } => None,
            Outcome::Pruned { value, last_step, constraints } => Some(Self::Pruned {
                last_step: *last_step,
                value: value.map_or(f64::INFINITY, minimized),
                violation: violation(constraints),
            }),
            Outcome::Failed { kind } => kind.is_evidence().then_some(Self::Failed),
        }
    }

    /// Whether it ran and kept its constraints.
    pub fn is_ok(&self) -> bool {
        match self {
            Self::Complete { violation, .. } | Self::Pruned { violation, .. } => *violation <= 0.0,
            Self::Failed => false,
        }
    }
}

/// The values of a trial of several objectives, smaller better; empty where there are none and for one objective.
pub(super) fn losses(ended: &Ended, directions: &[Direction]) -> Vec<f64> {
    match &ended.outcome {
        Outcome::Complete { values, .. } if directions.len() > 1 && values.len() == directions.len() => {
            let loss = |(value, direction): (&f64, &Direction)| {
                if value.is_nan() { f64::INFINITY } else { direction.minimized(*value) }
            };
            values.iter().zip(directions).map(loss).collect()
        }
        Outcome::Complete { .. } | Outcome::Pruned { .. } | Outcome::Failed { .. } => Vec::new(),
    }
}

/// Trials by number, one row each, and the best of them.
#[derive(Clone, Debug)]
pub(super) struct History {
    pub(super) observations: Observations,
    pub(super) fates: Vec<Fate>,
    /// Where there are several objectives: all values of a complete trial, smaller better; empty for the others.
    pub(super) losses: Vec<Vec<f64>>,
    /// Rows of the best trials with their values, best first.
    leaders: Vec<usize>,
    /// How many are kept.
    most_leaders: usize,
}

impl History {
    /// No trial yet. `most_leaders`: so many of the best are at hand.
    pub(super) fn new(columns: &[Column], options: ParzenOptions, most_leaders: usize) -> Self {
        let observations = Observations::new(columns, options);
        Self { observations, fates: Vec::new(), losses: Vec::new(), leaders: Vec::new(), most_leaders }
    }

    /// Adds a row; the order of calls leaves no trace. A number that is there already is left as it is;
    /// whether it was new.
    pub(super) fn insert(&mut self, number: i64, fate: Fate, losses: Vec<f64>, raw: &[f64]) -> bool {
        let Some(row) = self.observations.insert(number, raw) else { return false };
        self.fates.insert(row, fate);
        self.losses.insert(row, losses);
        for leader in self.leaders.iter_mut().filter(|leader| **leader >= row) {
            *leader += 1;
        }
        let is_ahead = |leader: &usize| better(&self.fates[*leader], &fate).then(leader.cmp(&row)).is_lt();
        let place = self.leaders.partition_point(is_ahead);
        if place < self.most_leaders {
            self.leaders.insert(place, row);
            self.leaders.truncate(self.most_leaders);
        }
        true
    }

    pub(super) fn len(&self) -> usize {
        self.fates.len()
    }

    /// Rows of the `count` best by value, ascending; no more than are kept.
    pub(super) fn best(&self, count: usize) -> Vec<usize> {
        let mut rows = self.leaders[..count.min(self.leaders.len())].to_vec();
        rows.sort_unstable();
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::super::split::best_rows;
    use super::*;
    use crate::rng::{shuffle, trial_rng};
    use fleetune_core::TrialNumber;

    #[test]
    fn leaders_are_the_best_rows_in_whatever_order_trials_ended() {
        let fate = |number: i64| {
            let value = (number * 7 % 11) as f64;
            match number % 5 {
                0 => Fate::Pruned { last_step: Some(number as u32 % 3), value, violation: 0.0 },
                1 => Fate::Complete { value, violation: value - 8.0 },
                _ => Fate::Complete { value, violation: 0.0 },
            }
        };
        for seed in 0..20 {
            let mut history = History::new(&[], ParzenOptions::OPTUNA, 25);
            let mut numbers = (0..60).collect::<Vec<_>>();
            shuffle(&mut numbers, &mut trial_rng(seed, TrialNumber(0), &[]));
            for number in numbers {
                history.insert(number, fate(number), Vec::new(), &[]);
            }
            for count in [0, 1, 9, 25] {
                assert_eq!(history.best(count), best_rows(&history.fates, &[], (0..60).collect(), count).0);
            }
        }
    }
}
