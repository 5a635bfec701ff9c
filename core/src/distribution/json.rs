//! Optuna's JSON form of a distribution: `{"name": …, "attributes": {…}}`, keys in Optuna's order.

use serde::{Deserialize, Serialize};

use super::{Choices, Distribution, DistributionError, FloatRange, IntRange};
use crate::value::Value;

/// The strict form, written and read by us.
#[derive(Serialize, Deserialize)]
#[expect(clippy::enum_variant_names, reason = "the names are Optuna's")]
#[serde(tag = "name", content = "attributes", deny_unknown_fields)]
pub(super) enum Form {
    FloatDistribution { step: Option<f64>, low: f64, high: f64, log: bool },
    IntDistribution { log: bool, step: i64, low: i64, high: i64 },
    CategoricalDistribution { choices: Vec<Value> },
}

impl From<Distribution> for Form {
    fn from(distribution: Distribution) -> Self {
        match distribution {
            Distribution::Float(FloatRange { low, high, step, log, decimals: _ }) => {
                Self::FloatDistribution { step, low, high, log }
            }
            Distribution::Int(IntRange { low, high, step, log }) => Self::IntDistribution { log, step, low, high },
            Distribution::Categorical(Choices(choices)) => Self::CategoricalDistribution { choices },
        }
    }
}

impl TryFrom<Form> for Distribution {
    type Error = DistributionError;

    fn try_from(form: Form) -> Result<Self, DistributionError> {
        Ok(match form {
            Form::FloatDistribution { step, low, high, log } => Self::Float(FloatRange::new(low, high, step, log)?),
            Form::IntDistribution { log, step, low, high } => Self::Int(IntRange::new(low, high, step, log)?),
            Form::CategoricalDistribution { choices } => Self::Categorical(Choices::new(choices)?),
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
        choices: Vec<Value>,
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
        choices: Vec<Value>,
    },
}

pub(super) fn lenient(text: &str) -> Result<Distribution, DistributionError> {
    let bad = |error: serde_json::Error| DistributionError::Json(error.to_string());
    let json: serde_json::Value = serde_json::from_str(text).map_err(bad)?;
    if json.get("name").is_none() {
        return match serde_json::from_value(json).map_err(bad)? {
            Short::Float { low, high, step, log } => float(low, high, step, log),
            Short::Int { low, high, step, log } => int(&low, &high, step.as_ref(), log),
            Short::Categorical { choices } => Ok(Distribution::Categorical(Choices::new(choices)?)),
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
        Named::CategoricalDistribution { choices } => Ok(Distribution::Categorical(Choices::new(choices)?)),
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
    IntRange::lenient(integer(low)?, integer(high)?, step, log).map(Distribution::Int)
}
