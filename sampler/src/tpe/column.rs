//! One parameter as the estimators see it.

use fleetune_core::Value;
use fleetune_core::distribution::Distribution;

/// A parameter with more than one value.
///
/// Its *raw* number is the value itself, or for a categorical the index of the choice (the rank for an ordered one);
/// NaN where the parameter is not there.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    distribution: Distribution,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// A number: kernels live between `low` and `high`, widened by half a step and in logarithms if `log`.
    Numeric { low: f64, high: f64, step: Option<f64>, log: bool },
    /// A choice among so many.
    Categorical { choices: usize },
}

impl Column {
    /// The column of a distribution. `ordered`: whether numeric choices in order count as numbers.
    pub fn new(distribution: &Distribution, ordered: bool) -> Self {
        let numeric = |low: f64, high: f64, step: Option<f64>, log: bool| {
            let half = step.map_or(0.0, |step| step / 2.0);
            let (low, high) = (low - half, high + half);
            let (low, high) = if log { (libm::log(low), libm::log(high)) } else { (low, high) };
            Kind::Numeric { low, high, step, log }
        };
        let kind = match distribution {
            Distribution::Float(range) => numeric(range.low(), range.high(), range.step(), range.log()),
            Distribution::Int(range) => {
                numeric(range.low() as f64, range.high() as f64, Some(range.step() as f64), range.log())
            }
            Distribution::Categorical(choices) => {
                let count = choices.as_slice().len();
                if ordered && distribution.ordered_ranks().is_some() {
                    numeric(0.0, (count - 1) as f64, Some(1.0), false)
                } else {
                    Kind::Categorical { choices: count }
                }
            }
        };
        Self { distribution: distribution.clone(), kind }
    }

    /// Whether its kernels live in logarithms.
    pub(super) fn is_log(&self) -> bool {
        matches!(self.kind, Kind::Numeric { log: true, .. })
    }

    pub(super) fn kind(&self) -> &Kind {
        &self.kind
    }

    /// The raw number of a value; NaN for what the column cannot hold. Choices in order are monotone, so that the
    /// index serves as rank.
    pub fn encode(&self, value: &Value) -> f64 {
        let raw = self.distribution.to_internal(value).unwrap_or(f64::NAN);
        if self.transform(raw).is_finite() { raw } else { f64::NAN }
    }

    /// The value nearest to a raw number.
    pub fn decode(&self, raw: f64) -> Value {
        match &self.distribution {
            Distribution::Float(range) => Value::Float(range.nearest(raw)),
            Distribution::Int(range) => Value::Int(range.nearest(raw)),
            Distribution::Categorical(choices) => {
                let last = choices.as_slice().len() - 1;
                choices.as_slice()[(raw.clamp(0.0, last as f64).round_ties_even() as usize).min(last)].clone()
            }
        }
    }

    /// The raw number of the value nearest to `raw`.
    pub(super) fn snap(&self, raw: f64) -> f64 {
        match &self.distribution {
            Distribution::Float(range) => range.nearest(raw),
            Distribution::Int(range) => range.nearest(raw) as f64,
            Distribution::Categorical(choices) => {
                raw.clamp(0.0, (choices.as_slice().len() - 1) as f64).round_ties_even()
            }
        }
    }

    /// How many values there are; `None` for a continuous range.
    pub(super) fn cardinality(&self) -> Option<u64> {
        self.distribution.cardinality()
    }

    /// The raw number of value `index`.
    pub(super) fn raw_at(&self, index: u64) -> f64 {
        match &self.distribution {
            Distribution::Float(_) | Distribution::Int(_) => self.encode(&self.distribution.value_at(index)),
            Distribution::Categorical(_) => index as f64,
        }
    }

    /// The scale on which kernels live.
    pub(super) fn transform(&self, raw: f64) -> f64 {
        match self.kind {
            Kind::Numeric { log: true, .. } => libm::log(raw),
            Kind::Numeric { .. } | Kind::Categorical { .. } => raw,
        }
    }

    /// Back from the scale of the kernels.
    pub(super) fn invert(&self, transformed: f64) -> f64 {
        match self.kind {
            Kind::Numeric { log: true, .. } => libm::exp(transformed),
            Kind::Numeric { .. } | Kind::Categorical { .. } => transformed,
        }
    }

    /// The cell of a grid value on the scale of the kernels.
    pub(super) fn cell(&self, raw: f64, step: f64) -> (f64, f64) {
        (self.transform(raw - step / 2.0), self.transform(raw + step / 2.0))
    }
}
