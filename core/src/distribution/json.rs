//! Optuna's JSON form of a distribution: `{"name": …, "attributes": {…}}`, keys in Optuna's order.

use serde::{Deserialize, Serialize};

use super::{Choices, Distribution, DistributionError, FloatRange, IntRange, python};
use crate::value::Value;

/// A choice. JSON has no word for numbers that are not finite.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Choice {
    Value(Value),
    Odd { float: Odd },
}

#[derive(Serialize, Deserialize)]
pub(super) enum Odd {
    #[serde(rename = "NaN")]
    Nan,
    #[serde(rename = "Infinity")]
    Infinity,
    #[serde(rename = "-Infinity")]
    NegativeInfinity,
}

impl From<Value> for Choice {
    fn from(value: Value) -> Self {
        match value {
            Value::Float(float) if float.is_nan() => Self::Odd { float: Odd::Nan },
            Value::Float(f64::INFINITY) => Self::Odd { float: Odd::Infinity },
            Value::Float(f64::NEG_INFINITY) => Self::Odd { float: Odd::NegativeInfinity },
            value => Self::Value(value),
        }
    }
}

impl From<Choice> for Value {
    fn from(choice: Choice) -> Self {
        match choice {
            Choice::Value(value) => value,
            Choice::Odd { float: Odd::Nan } => Self::Float(f64::NAN),
            Choice::Odd { float: Odd::Infinity } => Self::Float(f64::INFINITY),
            Choice::Odd { float: Odd::NegativeInfinity } => Self::Float(f64::NEG_INFINITY),
        }
    }
}

fn categorical(choices: Vec<Choice>) -> Result<Distribution, DistributionError> {
    Choices::foreign(choices.into_iter().map(Value::from).collect()).map(Distribution::Categorical)
}

/// The form that is written and read by us.
#[derive(Serialize, Deserialize)]
#[expect(clippy::enum_variant_names, reason = "the names are Optuna's")]
#[serde(tag = "name", content = "attributes", deny_unknown_fields)]
pub(super) enum Form {
    FloatDistribution { step: Option<f64>, low: f64, high: f64, log: bool },
    IntDistribution { log: bool, step: i64, low: i64, high: i64 },
    CategoricalDistribution { choices: Vec<Choice> },
}

impl From<Distribution> for Form {
    fn from(distribution: Distribution) -> Self {
        match distribution {
            Distribution::Float(FloatRange { low, high, step, log, decimals: _ }) => {
                Self::FloatDistribution { step, low, high, log }
            }
            Distribution::Int(IntRange { low, high, step, log }) => Self::IntDistribution { log, step, low, high },
            Distribution::Categorical(Choices(choices)) => {
                Self::CategoricalDistribution { choices: choices.into_iter().map(Choice::from).collect() }
            }
        }
    }
}

impl TryFrom<Form> for Distribution {
    type Error = DistributionError;

    fn try_from(form: Form) -> Result<Self, DistributionError> {
        Ok(match form {
            Form::FloatDistribution { step, low, high, log } => Self::Float(FloatRange::new(low, high, step, log)?),
            Form::IntDistribution { log, step, low, high } => {
                let range = IntRange::foreign(low, high, step, log)?;
                // The strict constructor says why it does not divide.
                Self::Int(if range.high == high { range } else { IntRange::new(low, high, step, log)? })
            }
            Form::CategoricalDistribution { choices } => categorical(choices)?,
        })
    }
}

/// Everything Optuna 5 still reads. Integers may come as `1.0`, since other clients write them so.
#[derive(Deserialize)]
#[expect(clippy::enum_variant_names, reason = "the names are Optuna's")]
#[serde(tag = "name", content = "attributes")]
enum Named {
    FloatDistribution {
        step: Option<f64>,
        low: f64,
        high: f64,
        #[serde(default)]
        log: bool,
    },
    IntDistribution {
        #[serde(default)]
        log: bool,
        step: Option<Value>,
        low: Value,
        high: Value,
    },
    CategoricalDistribution {
        choices: Vec<Choice>,
    },
    UniformDistribution {
        low: f64,
        high: f64,
    },
    LogUniformDistribution {
        low: f64,
        high: f64,
    },
    DiscreteUniformDistribution {
        low: f64,
        high: f64,
        q: f64,
    },
    IntUniformDistribution {
        low: Value,
        high: Value,
        step: Option<Value>,
    },
    IntLogUniformDistribution {
        low: Value,
        high: Value,
    },
}

/// The short form Optuna reads for hand-written definitions.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Short {
    Float {
        low: f64,
        high: f64,
        step: Option<f64>,
        #[serde(default)]
        log: bool,
    },
    Int {
        low: Value,
        high: Value,
        step: Option<Value>,
        #[serde(default)]
        log: bool,
    },
    Categorical {
        choices: Vec<Choice>,
    },
}

/// Optuna's text.
pub(super) fn python(distribution: &Distribution) -> String {
    let odd = |choice: &Value| matches!(choice, Value::Float(float) if !float.is_finite());
    match distribution {
        Distribution::Categorical(choices) if choices.0.iter().any(odd) => {
            let choices: Vec<String> = choices.0.iter().map(python::text).collect();
            format!(r#"{{"name":"CategoricalDistribution","attributes":{{"choices":[{}]}}}}"#, choices.join(","))
        }
        Distribution::Float(_) | Distribution::Int(_) | Distribution::Categorical(_) => distribution.to_json(),
    }
}

pub(super) fn lenient(text: &str) -> Result<Distribution, DistributionError> {
    let bad = |error: serde_json::Error| DistributionError::Json(error.to_string());
    let strict = python::to_json(text, python::Odd::Object).map_err(DistributionError::Json)?;
    let json: serde_json::Value = serde_json::from_str(&strict).map_err(bad)?;
    if json.get("name").is_none() {
        return match serde_json::from_value(json).map_err(bad)? {
            Short::Float { low, high, step, log } => float(low, high, step, log),
            Short::Int { low, high, step, log } => int(&low, &high, step.as_ref(), log),
            Short::Categorical { choices } => categorical(choices),
        };
    }
    match serde_json::from_value(json).map_err(bad)? {
        Named::FloatDistribution { step, low, high, log } => float(low, high, step, log),
        Named::UniformDistribution { low, high } => float(low, high, None, false),
        Named::LogUniformDistribution { low, high } => float(low, high, None, true),
        Named::DiscreteUniformDistribution { low, high, q } => float(low, high, Some(q), false),
        Named::IntDistribution { log, step, low, high } => int(&low, &high, step.as_ref(), log),
        Named::IntUniformDistribution { low, high, step } => int(&low, &high, step.as_ref(), false),
        Named::IntLogUniformDistribution { low, high } => int(&low, &high, None, true),
        Named::CategoricalDistribution { choices } => categorical(choices),
    }
}

fn float(low: f64, high: f64, step: Option<f64>, log: bool) -> Result<Distribution, DistributionError> {
    FloatRange::lenient(low, high, step, log).map(Distribution::Float)
}

fn int(low: &Value, high: &Value, step: Option<&Value>, log: bool) -> Result<Distribution, DistributionError> {
    let integer = |value: &Value| {
        value.as_i64().ok_or_else(|| DistributionError::WrongType { value: value.clone(), expected: "integer" })
    };
    let step = step.map_or(Ok(1), integer)?;
    IntRange::foreign(integer(low)?, integer(high)?, step, log).map(Distribution::Int)
}
