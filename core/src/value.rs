//! Values of parameters as people write them, and sets of them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// One value of a parameter: a number of a range, or one of a categorical's choices.
///
/// Equality is that of the text form: `1` and `1.0` are two values, as two choices may be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// Optuna's `None`; only as a choice.
    Null,
    /// Only as a choice.
    Bool(bool),
    /// A value of an integer range, or a choice.
    Int(i64),
    /// A value of a float range, or a choice.
    Float(f64),
    /// Only as a choice.
    Text(String),
}

impl Value {
    /// The number this value is, if it is one.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Int(int) => Some(*int as f64),
            Self::Float(float) => Some(*float),
            Self::Null | Self::Bool(_) | Self::Text(_) => None,
        }
    }

    /// The integer this value is, if it is one; a float without fraction counts.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Int(int) => Some(*int),
            Self::Float(float) if float.fract() == 0.0 && float.abs() < 9.0e15 => Some(*float as i64),
            Self::Float(_) | Self::Null | Self::Bool(_) | Self::Text(_) => None,
        }
    }

    /// The text this value is, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Null | Self::Bool(_) | Self::Int(_) | Self::Float(_) => None,
        }
    }

    /// Whether Python calls them equal (`1 == 1.0 == True`), two NaNs too, which Optuna takes for one choice.
    #[expect(clippy::float_cmp, reason = "Python's equality is exact")]
    pub fn equals_in_python(&self, other: &Self) -> bool {
        let number = |value: &Self| match value {
            Self::Bool(bool) => Some(f64::from(u8::from(*bool))),
            Self::Int(_) | Self::Float(_) => value.as_f64(),
            Self::Null | Self::Text(_) => None,
        };
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a == b,
            _ => match (number(self), number(other)) {
                (Some(a), Some(b)) => a == b || (a.is_nan() && b.is_nan()),
                _ => self == other,
            },
        }
    }

    /// Reads a value from a command line: `null`, `true`, `12`, `0.5`, else text.
    pub fn from_cli(text: &str) -> Self {
        if text == "null" {
            return Self::Null;
        }
        if let Ok(bool) = text.parse() {
            return Self::Bool(bool);
        }
        if let Ok(int) = text.parse() {
            return Self::Int(int);
        }
        // `inf` and `nan` parse as floats too, but nobody means the number by the word.
        match text.parse::<f64>() {
            Ok(float) if float.is_finite() => Self::Float(float),
            _ => Self::Text(text.to_owned()),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.pad("null"),
            Self::Bool(bool) => f.pad(if *bool { "true" } else { "false" }),
            Self::Int(int) => f.pad(&int.to_string()),
            Self::Float(float) => f.pad(&format!("{float:?}")),
            Self::Text(text) => f.pad(text),
        }
    }
}

impl From<i64> for Value {
    fn from(int: i64) -> Self {
        Self::Int(int)
    }
}

impl From<f64> for Value {
    fn from(float: f64) -> Self {
        Self::Float(float)
    }
}

impl From<bool> for Value {
    fn from(bool: bool) -> Self {
        Self::Bool(bool)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// Parameters by name. Sorted, so that nothing random hangs on a hash order.
pub type Params = BTreeMap<String, Value>;

/// Params as one line: `n_batch=512 n_threads=4`.
pub fn params_line(params: &Params) -> String {
    params.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_values_have_the_type_they_look_like() {
        assert_eq!(Value::from_cli("4096"), Value::Int(4096));
        assert_eq!(Value::from_cli("0.5"), Value::Float(0.5));
        assert_eq!(Value::from_cli("on"), Value::from("on"));
        assert_eq!(Value::from_cli("true"), Value::Bool(true));
        assert_eq!(Value::from_cli("nan"), Value::from("nan"));
    }

    #[test]
    fn json_keeps_integers_and_floats_apart() {
        let json = serde_json::to_string(&[Value::Int(1), Value::Float(1.0)]).unwrap();
        assert_eq!(json, "[1,1.0]");
        let back: Vec<Value> = serde_json::from_str(&json).unwrap();
        assert_eq!(back, [Value::Int(1), Value::Float(1.0)]);
    }
}
