//! What can be wrong with a distribution or a value of one, with remedies.

use super::MAX_CHOICES;
use crate::value::Value;

/// Why something is no distribution, or a value not one of it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DistributionError {
    /// NaN or infinite bounds, steps or choices.
    #[error("{0} is not finite")]
    NotFinite(&'static str),
    /// `low > high`.
    #[error("range starts at {low}, above its end {high}")]
    Reversed {
        /// Start of the range.
        low: Value,
        /// End of the range.
        high: Value,
    },
    /// A logarithmic range with a start that has no logarithm, or (integers) below 1.
    #[error("range starts at {low}, but a logarithmic range must start {}", log_floor(low))]
    LogStart {
        /// Start of the range.
        low: Value,
    },
    /// Both `log` and a step.
    #[error("`log` and `step` exclude each other")]
    LogStep,
    /// A step of zero or below.
    #[error("step {0} is not above 0")]
    Step(Value),
    /// A step that does not divide the range.
    #[error("step {step} does not divide the range from {low} to {high}")]
    StepDoesNotDivide {
        /// Start of the range.
        low: Value,
        /// End of the range.
        high: Value,
        /// The step.
        step: Value,
        /// The last value on the grid.
        last: Value,
    },
    /// An integer that a double does not hold.
    #[error("{0} is beyond ±2^53, the integers a double holds exactly")]
    TooLarge(i64),
    /// No choice at all.
    #[error("there are no choices")]
    NoChoices,
    /// More than [`MAX_CHOICES`].
    #[error("{0} choices are more than the {MAX_CHOICES} allowed")]
    TooManyChoices(usize),
    /// The same choice twice.
    #[error("choice {0} appears twice")]
    DuplicateChoice(Value),
    /// A value of another type.
    #[error("{value} is no {expected}")]
    WrongType {
        /// The value.
        value: Value,
        /// What it should have been.
        expected: &'static str,
    },
    /// A value outside the range, off the grid, or not among the choices.
    #[error("{value} is not in {distribution}")]
    Outside {
        /// The value.
        value: Value,
        /// Where it should have been, as text.
        distribution: String,
    },
    /// A text that is not Optuna's JSON form.
    #[error("not a distribution: {0}")]
    Json(String),
}

fn log_floor(low: &Value) -> &'static str {
    match low {
        Value::Int(_) => "at 1 or above",
        Value::Null | Value::Bool(_) | Value::Float(_) | Value::Text(_) => "above 0",
    }
}

impl DistributionError {
    /// The remedy where it is known, as something that can be pasted.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Reversed { low, high } => Some(format!("set `low = {high}` and `high = {low}`")),
            Self::LogStart { low: Value::Int(_) } => Some("set `low = 1`, or drop `log = true`".to_owned()),
            Self::LogStart { .. } => {
                Some("set `low = 1e-6` or another positive number, or drop `log = true`".to_owned())
            }
            Self::LogStep => Some("drop `step` or drop `log = true`".to_owned()),
            Self::Step(_) => Some("set `step = 1`, or drop `step`".to_owned()),
            Self::StepDoesNotDivide { last, .. } => Some(format!("set `high = {last}`")),
            Self::NoChoices => Some("set `choices = [\"a\", \"b\"]`".to_owned()),
            Self::NotFinite(_)
            | Self::TooLarge(_)
            | Self::TooManyChoices(_)
            | Self::DuplicateChoice(_)
            | Self::WrongType { .. }
            | Self::Outside { .. }
            | Self::Json(_) => None,
        }
    }
}
