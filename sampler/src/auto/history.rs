//! What the sampler remembers: a row for each ended trial that teaches something, by trial number.

use fleetune_core::{Direction, FailKind, Params};

use super::encode::Encoding;
use crate::seam::{Ended, Outcome};

/// An ended trial.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) number: i64,
    pub(super) params: Params,
    pub(super) point: Vec<f64>,
    /// All objectives of a trial that has them, smaller is better.
    pub(super) losses: Vec<f64>,
    /// How long it took; at least 0.
    pub(super) seconds: f64,
    pub(super) fate: Fate,
}

/// What came of it.
#[derive(Clone, Debug)]
pub(super) enum Fate {
    /// It ran.
    Ran {
        /// Its objective, where there is a finite one.
        measured: Option<Measured>,
        /// Feasible where at most 0; all finite.
        constraints: Vec<f64>,
    },
    /// It failed, and its parameters are to blame.
    Failed(Blame),
}

/// What was to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blame {
    /// Memory was short.
    Memory,
    /// Something else.
    Other,
}

/// An objective value, smaller is better; of several the first, until [`super::several`] makes one of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    pub(super) value: f64,
    /// Repetitions planned over repetitions done.
    pub(super) noise_scale: f64,
    /// Standard error over its repetitions, 0 when unknown.
    pub(super) standard_error: f64,
    /// Ended by itself: only such a one can be the best.
    pub(super) complete: bool,
}

impl Row {
    /// What `ended` teaches; `None` for failures without evidence.
    pub(super) fn of(ended: &Ended, directions: &[Direction], encoding: &Encoding) -> Option<Self> {
        let mut losses = Vec::new();
        let fate = match &ended.outcome {
            Outcome::Complete { values, constraints } => {
                if values.len() == directions.len() {
                    losses =
                        directions.iter().zip(values).map(|(direction, value)| direction.minimized(*value)).collect();
                }
                // One that is as good as failed fails them all.
                let worst = losses.iter().copied().find(|loss| loss.is_nan() || *loss == f64::INFINITY);
                ran(ended, worst.or(losses.first().copied()), constraints, true)
            }
            Outcome::Pruned { value, constraints, .. } => {
                let value = value.zip(directions.first()).map(|(value, direction)| direction.minimized(value));
                ran(ended, value, constraints, false)
            }
            Outcome::Failed { kind } if !kind.is_evidence() => return None,
            Outcome::Failed { kind: FailKind::Oom | FailKind::Infeasible } => Fate::Failed(Blame::Memory),
            Outcome::Failed { .. } => Fate::Failed(Blame::Other),
        };
        let seconds = if ended.seconds.is_finite() { ended.seconds.max(0.0) } else { 0.0 };
        let (params, point) = (ended.params.clone(), encoding.encode(&ended.params));
        Some(Self { number: ended.number.0, params, point, losses, seconds, fate })
    }

    pub(super) fn measured(&self) -> Option<&Measured> {
        match &self.fate {
            Fate::Ran { measured, .. } => measured.as_ref(),
            Fate::Failed(_) => None,
        }
    }

    pub(super) fn constraints(&self) -> &[f64] {
        match &self.fate {
            Fate::Ran { constraints, .. } => constraints,
            Fate::Failed(_) => &[],
        }
    }

    pub(super) fn has_run(&self) -> bool {
        matches!(self.fate, Fate::Ran { .. })
    }

    /// Whether memory sufficed; `None` where something else ended it.
    pub(super) fn fits_memory(&self) -> Option<bool> {
        match self.fate {
            Fate::Ran { .. } => Some(true),
            Fate::Failed(Blame::Memory) => Some(false),
            Fate::Failed(Blame::Other) => None,
        }
    }

    pub(super) fn is_feasible(&self) -> bool {
        self.has_run() && self.constraints().iter().all(|constraint| *constraint <= 0.0)
    }

    /// Its value, if it may be the best.
    pub(super) fn candidate_value(&self) -> Option<f64> {
        let measured = self.measured().filter(|measured| measured.complete)?;
        self.is_feasible().then_some(measured.value)
    }
}

fn ran(ended: &Ended, minimized: Option<f64>, constraints: &[f64], complete: bool) -> Fate {
    // Not a number, or infinitely bad: as good as failed. So is a constraint that is no number.
    let hopeless = minimized.is_some_and(|value| value.is_nan() || value == f64::INFINITY);
    if hopeless || constraints.iter().any(|constraint| constraint.is_nan() || *constraint == f64::INFINITY) {
        return Fate::Failed(Blame::Other);
    }
    let done = ended.series.len().max(1) as f64;
    let noise_scale = if complete { 1.0 } else { (f64::from(ended.repetitions_planned) / done).max(1.0) };
    let standard_error = ended.standard_error.filter(|error| error.is_finite() && *error > 0.0).unwrap_or(0.0);
    let measured = minimized.filter(|value| value.is_finite()).map(|value| Measured {
        value,
        noise_scale,
        standard_error,
        complete,
    });
    Fate::Ran { measured, constraints: constraints.iter().map(|constraint| constraint.max(f64::MIN)).collect() }
}

/// Rows by trial number: the order of events leaves no trace.
pub(super) fn insert(rows: &mut Vec<Row>, row: Row) {
    if let Err(place) = rows.binary_search_by_key(&row.number, |row| row.number) {
        rows.insert(place, row);
    }
}
