//! What the sampler remembers: one row per ended trial that teaches something, by trial number, in columns.

use crate::seam::{Ended, Outcome};
use fleetune_core::Direction;

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

/// Rows by trial number; `columns[c][row]` is a raw number.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    pub(super) numbers: Vec<i64>,
    pub(super) fates: Vec<Fate>,
    /// Where there are several objectives: all values of a complete trial, smaller better; empty for the others.
    pub(super) losses: Vec<Vec<f64>>,
    pub(super) columns: Vec<Vec<f64>>,
}

impl History {
    pub(super) fn new(columns: usize) -> Self {
        Self { columns: vec![Vec::new(); columns], ..Self::default() }
    }

    /// Adds a row; the order of calls leaves no trace. A number that is there already is left as it is.
    pub(super) fn insert(&mut self, number: i64, fate: Fate, losses: Vec<f64>, raw: &[f64]) {
        let Err(row) = self.numbers.binary_search(&number) else { return };
        self.numbers.insert(row, number);
        self.fates.insert(row, fate);
        self.losses.insert(row, losses);
        for (column, raw) in self.columns.iter_mut().zip(raw) {
            column.insert(row, *raw);
        }
    }
}
