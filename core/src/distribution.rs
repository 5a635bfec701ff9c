//! What one parameter may be: a float range, an integer range or a list of choices.
//!
//! A value of one of these types is valid: constructors check, fields are private, and deserialising goes through
//! checks. The JSON form is Optuna's, so that one text serves storage, wire and Python clients; it admits all that
//! Optuna does, such as a choice that appears twice. Drawing random values is the sampler's business.

use std::fmt;

use serde::{Deserialize, Serialize};

mod error;
mod json;
pub mod python;
#[cfg(test)]
mod tests;

pub use error::DistributionError;

use crate::value::Value;

/// Most choices a categorical may have. Origin: the largest model and quantisation lists seen are below 200.
pub const MAX_CHOICES: usize = 1_000;

/// Integers beyond this do not survive the trip through Optuna's internal representation, a double: 2^53.
const MAX_INT: i64 = 1 << 53;

/// Beyond so many decimal places a grid is left as binary arithmetic gives it.
const MAX_DECIMALS: usize = 17;

/// A range of floats: continuous, continuous in the logarithm, or a grid of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct FloatRange {
    low: f64,
    high: f64,
    step: Option<f64>,
    log: bool,
    /// Decimal places of `low` and `step`, to which grid values are rounded; none for a continuous range.
    decimals: Option<usize>,
}

impl FloatRange {
    /// Checks and makes a range. A step must divide it.
    pub fn new(low: f64, high: f64, step: Option<f64>, log: bool) -> Result<Self, DistributionError> {
        let range = Self::lenient(low, high, step, log)?;
        if let Some(step) = range.step
            && range.high < high
        {
            let (low, high, step, last) = (low.into(), high.into(), step.into(), range.high.into());
            return Err(DistributionError::StepDoesNotDivide { low, high, step, last });
        }
        Ok(range)
    }

    /// As [`Self::new`], but a step that does not divide lowers `high` to the last grid point, in decimal arithmetic,
    /// as Optuna does.
    pub fn lenient(low: f64, high: f64, step: Option<f64>, log: bool) -> Result<Self, DistributionError> {
        if !low.is_finite() || !high.is_finite() || !(high - low).is_finite() {
            return Err(DistributionError::NotFinite("the range"));
        }
        if low > high {
            return Err(DistributionError::Reversed { low: low.into(), high: high.into() });
        }
        if log && step.is_some() {
            return Err(DistributionError::LogStep);
        }
        if log && low <= 0.0 {
            return Err(DistributionError::LogStart { low: low.into() });
        }
        let Some(step) = step else { return Ok(Self { low, high, step: None, log, decimals: None }) };
        if !step.is_finite() {
            return Err(DistributionError::NotFinite("the step"));
        }
        if step <= 0.0 {
            return Err(DistributionError::Step(step.into()));
        }
        let decimals = Some(decimals_of(low).max(decimals_of(step)));
        let mut range = Self { low, high, step: Some(step), log, decimals };
        let mut last = ((high - low) / step).floor();
        // 0.3 / 0.1 is 2.9999999999999996: the decimal answer decides.
        if range.grid(last + 1.0, step) <= high {
            last += 1.0;
        }
        range.high = range.grid(last, step);
        Ok(range)
    }

    /// Smallest value.
    pub fn low(&self) -> f64 {
        self.low
    }

    /// Largest value.
    pub fn high(&self) -> f64 {
        self.high
    }

    /// Distance of neighbours on the grid; `None` when continuous.
    pub fn step(&self) -> Option<f64> {
        self.step
    }

    /// Whether equal ratios, not equal differences, count as equal.
    pub fn log(&self) -> bool {
        self.log
    }

    /// Grid point `index`, rounded to the decimal places of the definition: 0.3, not 0.30000000000000004.
    fn grid(&self, index: f64, step: f64) -> f64 {
        let raw = self.low + index * step;
        match self.decimals {
            Some(places) if places <= MAX_DECIMALS => format!("{raw:.places$}").parse().unwrap_or(raw),
            Some(_) | None => raw,
        }
    }

    /// The value of the range nearest to `number`: clipped, and on the grid if there is one.
    pub fn nearest(&self, number: f64) -> f64 {
        let clipped = number.clamp(self.low, self.high);
        match self.step {
            None => clipped,
            Some(step) => self.grid(((clipped - self.low) / step).round_ties_even(), step).min(self.high),
        }
    }

    fn contains(&self, number: f64) -> bool {
        let inside = self.low <= number && number <= self.high;
        inside
            && self.step.is_none_or(|step| {
                // Optuna's tolerance.
                let index = (number - self.low) / step;
                (index - index.round()).abs() < 1e-8
            })
    }
}

/// Decimal places of the shortest text that reads back as `number`.
fn decimals_of(number: f64) -> usize {
    format!("{number}").split_once('.').map_or(0, |(_, places)| places.len())
}

/// A range of integers, a grid of `step`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntRange {
    low: i64,
    high: i64,
    step: i64,
    log: bool,
}

impl IntRange {
    /// Checks and makes a range. A step must divide it.
    pub fn new(low: i64, high: i64, step: i64, log: bool) -> Result<Self, DistributionError> {
        let range = Self::lenient(low, high, step, log)?;
        if range.high != high {
            let (low, high, step, last) = (low.into(), high.into(), step.into(), range.high.into());
            return Err(DistributionError::StepDoesNotDivide { low, high, step, last });
        }
        Ok(range)
    }

    /// As [`Self::new`], but a step that does not divide lowers `high` to the last grid point, as Optuna does.
    pub fn lenient(low: i64, high: i64, step: i64, log: bool) -> Result<Self, DistributionError> {
        if let Some(bad) = [low, high, step].into_iter().find(|bound| bound.unsigned_abs() > MAX_INT.unsigned_abs()) {
            return Err(DistributionError::TooLarge(bad));
        }
        Self::foreign(low, high, step, log)
    }

    /// As [`Self::lenient`], with integers of any size: what clients of Optuna may send.
    fn foreign(low: i64, high: i64, step: i64, log: bool) -> Result<Self, DistributionError> {
        if low > high {
            return Err(DistributionError::Reversed { low: low.into(), high: high.into() });
        }
        if high.checked_sub(low).is_none() {
            return Err(DistributionError::TooLarge(high));
        }
        if step < 1 {
            return Err(DistributionError::Step(step.into()));
        }
        if log && step != 1 {
            return Err(DistributionError::LogStep);
        }
        if log && low < 1 {
            return Err(DistributionError::LogStart { low: low.into() });
        }
        Ok(Self { low, high: low + (high - low) / step * step, step, log })
    }

    /// Smallest value.
    pub fn low(&self) -> i64 {
        self.low
    }

    /// Largest value.
    pub fn high(&self) -> i64 {
        self.high
    }

    /// Distance of neighbours, at least 1.
    pub fn step(&self) -> i64 {
        self.step
    }

    /// Whether equal ratios, not equal differences, count as equal.
    pub fn log(&self) -> bool {
        self.log
    }

    /// The value of the range nearest to `number`, ties to the even grid index.
    pub fn nearest(&self, number: f64) -> i64 {
        let clipped = number.clamp(self.low as f64, self.high as f64);
        let index = ((clipped - self.low as f64) / self.step as f64).round_ties_even() as i64;
        (self.low + index * self.step).min(self.high)
    }

    fn contains(&self, number: i64) -> bool {
        self.low <= number && number <= self.high && (number - self.low) % self.step == 0
    }
}

/// A list of choices, in the order people gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Choices(Vec<Value>);

impl Choices {
    /// Checks and makes a list: 1 to [`MAX_CHOICES`] different, finite choices.
    pub fn new(choices: Vec<Value>) -> Result<Self, DistributionError> {
        if choices.is_empty() {
            return Err(DistributionError::NoChoices);
        }
        if choices.len() > MAX_CHOICES {
            return Err(DistributionError::TooManyChoices(choices.len()));
        }
        for (index, choice) in choices.iter().enumerate() {
            if matches!(choice, Value::Float(float) if !float.is_finite()) {
                return Err(DistributionError::NotFinite("a choice"));
            }
            if choices[..index].contains(choice) {
                return Err(DistributionError::DuplicateChoice(choice.clone()));
            }
        }
        Ok(Self(choices))
    }

    /// At least one choice of any kind, as clients of Optuna may send: also NaN, infinities, and a choice twice.
    fn foreign(choices: Vec<Value>) -> Result<Self, DistributionError> {
        if choices.is_empty() { Err(DistributionError::NoChoices) } else { Ok(Self(choices)) }
    }

    /// The choices in order.
    pub fn as_slice(&self) -> &[Value] {
        &self.0
    }

    /// The index of `value`.
    pub fn index_of(&self, value: &Value) -> Option<usize> {
        self.0.iter().position(|choice| choice == value)
    }
}

/// What one parameter may be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "json::Form", try_from = "json::Form")]
pub enum Distribution {
    /// A float range.
    Float(FloatRange),
    /// An integer range.
    Int(IntRange),
    /// A list of choices.
    Categorical(Choices),
}

impl Distribution {
    /// Reads Optuna's JSON text as Optuna's server does: a step that does not divide lowers `high`.
    ///
    /// Accepts the names Optuna deprecated (`UniformDistribution`, …) and the short form with `type` as well.
    pub fn from_optuna_json(text: &str) -> Result<Self, DistributionError> {
        json::lenient(text)
    }

    /// Optuna's JSON text of this distribution, with the tokens that only Python writes where a choice is not finite.
    pub fn to_optuna_json(&self) -> String {
        json::python(self)
    }

    /// Whether Optuna takes both for one parameter of a study: the same kind, the same `log`, and for categoricals the
    /// same choices in the same order, compared as Python does. Ranges and steps may differ.
    pub fn is_compatible(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Float(a), Self::Float(b)) => a.log == b.log,
            (Self::Int(a), Self::Int(b)) => a.log == b.log,
            (Self::Categorical(a), Self::Categorical(b)) => {
                a.0.len() == b.0.len() && a.0.iter().zip(&b.0).all(|(a, b)| a.equals_in_python(b))
            }
            (Self::Float(_) | Self::Int(_) | Self::Categorical(_), _) => false,
        }
    }

    /// JSON text of this distribution; Optuna's where every choice is finite.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("plain data with string keys always has a JSON text")
    }

    /// Optuna's internal representation of `value`: the number, or the index of the choice.
    ///
    /// # Errors
    /// The value has the wrong type or is no choice. Ranges are not checked here; see [`Self::contains`].
    pub fn to_internal(&self, value: &Value) -> Result<f64, DistributionError> {
        let wrong = |expected| DistributionError::WrongType { value: value.clone(), expected };
        match self {
            Self::Float(_) => value.as_f64().ok_or_else(|| wrong("number")),
            Self::Int(_) => value.as_i64().map(|int| int as f64).ok_or_else(|| wrong("integer")),
            Self::Categorical(choices) => {
                choices.index_of(value).map(|index| index as f64).ok_or_else(|| self.outside(value))
            }
        }
    }

    /// The value whose internal representation is `internal`; integers and indices truncate toward zero, as Optuna's
    /// client does. `None` for NaN, infinities and indices without a choice.
    pub fn from_internal(&self, internal: f64) -> Option<Value> {
        if !internal.is_finite() {
            return None;
        }
        match self {
            Self::Float(_) => Some(Value::Float(internal)),
            Self::Int(_) => Some(Value::Int(internal as i64)),
            Self::Categorical(choices) => {
                (internal > -1.0).then(|| choices.0.get(internal as usize).cloned()).flatten()
            }
        }
    }

    /// Whether `value` has the right type, lies in the range and on the grid, or is a choice.
    pub fn contains(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Float(range), Value::Float(float)) => range.contains(*float),
            (Self::Int(range), Value::Int(int)) => range.contains(*int),
            (Self::Categorical(choices), value) => choices.index_of(value).is_some(),
            (Self::Float(_) | Self::Int(_), _) => false,
        }
    }

    /// The value of this distribution that people mean by `value`: 1 in a float range is 1.0, `8.0` in an integer
    /// range is 8, and a choice may be given in another type when its text is the same.
    pub fn coerce(&self, value: &Value) -> Result<Value, DistributionError> {
        let coerced = match self {
            Self::Float(_) => self.to_internal(value).map(Value::Float)?,
            Self::Int(_) => {
                let wrong = || DistributionError::WrongType { value: value.clone(), expected: "integer" };
                Value::Int(value.as_i64().ok_or_else(wrong)?)
            }
            Self::Categorical(choices) if choices.index_of(value).is_some() => value.clone(),
            Self::Categorical(choices) => {
                let same_number = |choice: &&Value| choice.as_f64().is_some() && choice.as_f64() == value.as_f64();
                let text = value.to_string();
                let same_text = |choice: &&Value| choice.to_string() == text;
                let mut found = choices.0.iter().filter(|choice| same_number(choice) || same_text(choice));
                match (found.next(), found.next()) {
                    (Some(only), None) => only.clone(),
                    (_, _) => return Err(self.outside(value)),
                }
            }
        };
        match (self, &coerced) {
            (_, coerced) if !self.contains(coerced) => Err(self.outside(value)),
            // Within Optuna's tolerance of a grid point is that grid point.
            (Self::Float(range), Value::Float(float)) if range.step.is_some() => {
                Ok(Value::Float(range.nearest(*float)))
            }
            (_, _) => Ok(coerced),
        }
    }

    fn outside(&self, value: &Value) -> DistributionError {
        DistributionError::Outside { value: value.clone(), distribution: self.to_string() }
    }

    /// How many values there are; `None` when continuous.
    pub fn cardinality(&self) -> Option<u64> {
        match self {
            Self::Float(range) if range.low >= range.high => Some(1),
            Self::Float(range) => range.step.map(|step| ((range.high - range.low) / step).round() as u64 + 1),
            Self::Int(range) => Some(range.high.abs_diff(range.low) / range.step.unsigned_abs() + 1),
            Self::Categorical(choices) => Some(choices.0.len() as u64),
        }
    }

    /// Value number `index` of a finite distribution, from 0, ascending or in the order of the choices. An index
    /// beyond the end gives the last value; a continuous range gives its start for 0, else its end.
    pub fn value_at(&self, index: u64) -> Value {
        let last = self.cardinality().map_or(u64::MAX, |count| count - 1);
        let index = index.min(last);
        match self {
            Self::Float(range) => Value::Float(match range.step {
                _ if index == 0 => range.low,
                Some(step) if index < last => range.grid(index as f64, step),
                Some(_) | None => range.high,
            }),
            Self::Int(range) => Value::Int(range.low + index as i64 * range.step),
            Self::Categorical(choices) => choices.0[index as usize].clone(),
        }
    }

    /// Whether there is only one value.
    pub fn is_single(&self) -> bool {
        self.cardinality() == Some(1)
    }

    /// The distribution whose only value is `value`.
    pub fn single(value: &Value) -> Result<Self, DistributionError> {
        Ok(match value {
            Value::Int(int) => Self::Int(IntRange::new(*int, *int, 1, false)?),
            Value::Float(float) => Self::Float(FloatRange::new(*float, *float, None, false)?),
            Value::Null | Value::Bool(_) | Value::Text(_) => Self::Categorical(Choices::new(vec![value.clone()])?),
        })
    }

    /// The distribution with the single value `value`, which must be one of this one's.
    pub fn pinned(&self, value: &Value) -> Result<Self, DistributionError> {
        Ok(match self.coerce(value)? {
            Value::Float(float) if matches!(self, Self::Float(_)) => {
                Self::Float(FloatRange::new(float, float, None, false)?)
            }
            Value::Int(int) if matches!(self, Self::Int(_)) => Self::Int(IntRange::new(int, int, 1, false)?),
            choice => Self::Categorical(Choices::new(vec![choice])?),
        })
    }

    /// For an ordered categorical, the rank of each choice by size: at least three choices, all numbers, rising or
    /// falling in the order given. `None` for everything else.
    pub fn ordered_ranks(&self) -> Option<Vec<usize>> {
        let Self::Categorical(choices) = self else { return None };
        let numbers = choices.0.iter().map(Value::as_f64).collect::<Option<Vec<_>>>()?;
        if numbers.len() < 3 {
            return None;
        }
        let count = numbers.len();
        if numbers.windows(2).all(|pair| pair[0] < pair[1]) {
            Some((0..count).collect())
        } else if numbers.windows(2).all(|pair| pair[0] > pair[1]) {
            Some((0..count).rev().collect())
        } else {
            None
        }
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Float(range) => {
                write!(f, "float {:?}..{:?}", range.low, range.high)?;
                range.step.map_or(Ok(()), |step| write!(f, " step {step:?}"))?;
                if range.log { f.write_str(" log") } else { Ok(()) }
            }
            Self::Int(range) => {
                write!(f, "int {}..{}", range.low, range.high)?;
                if range.step != 1 {
                    write!(f, " step {}", range.step)?;
                }
                if range.log { f.write_str(" log") } else { Ok(()) }
            }
            Self::Categorical(choices) => {
                const SHOWN: usize = 12;
                f.write_str("{")?;
                for (index, choice) in choices.0.iter().take(SHOWN).enumerate() {
                    write!(f, "{}{choice}", if index == 0 { "" } else { ", " })?;
                }
                match choices.0.len().saturating_sub(SHOWN) {
                    0 => f.write_str("}"),
                    more => write!(f, ", … {more} more}}"),
                }
            }
        }
    }
}
