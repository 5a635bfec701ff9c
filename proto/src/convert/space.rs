//! Distributions and search spaces.

use fleetune_core::distribution::{Choices, FloatRange, IntRange};
use fleetune_core::space::SpaceError;
use fleetune_core::{Distribution, SearchSpace};

use super::{Invalid, value, value_to_wire};
use crate::v1;

/// Checks a distribution by the native rules: a step must divide the range.
pub fn distribution(wire: v1::Distribution) -> Result<Distribution, Invalid> {
    use v1::distribution::Kind;
    let checked = match wire.kind {
        None => return Err(Invalid::missing("distribution")),
        Some(Kind::Float(float)) => {
            FloatRange::new(float.low, float.high, float.step, float.log).map(Distribution::Float)
        }
        Some(Kind::Int(int)) => {
            IntRange::new(int.low, int.high, if int.step == 0 { 1 } else { int.step }, int.log).map(Distribution::Int)
        }
        Some(Kind::Categorical(categorical)) => {
            let choices = categorical.choices.into_iter().map(value).collect::<Result<_, _>>()?;
            Choices::new(choices).map(Distribution::Categorical)
        }
    };
    checked.map_err(|error| Invalid { field: "distribution".to_owned(), why: error.to_string(), hint: error.hint() })
}

/// Converts to the wire.
pub fn distribution_to_wire(distribution: &Distribution) -> v1::Distribution {
    use v1::distribution::Kind;
    let kind = match distribution {
        Distribution::Float(float) => Kind::Float(v1::FloatDistribution {
            low: float.low(),
            high: float.high(),
            step: float.step(),
            log: float.log(),
        }),
        Distribution::Int(int) => {
            Kind::Int(v1::IntDistribution { low: int.low(), high: int.high(), step: int.step(), log: int.log() })
        }
        Distribution::Categorical(choices) => Kind::Categorical(v1::CategoricalDistribution {
            choices: choices.as_slice().iter().map(value_to_wire).collect(),
        }),
    };
    v1::Distribution { kind: Some(kind) }
}

/// Checks a search space: every rule of the space file holds for it.
pub fn space(wire: v1::SearchSpace) -> Result<SearchSpace, Invalid> {
    let mut builder = SearchSpace::builder();
    let mut names = std::collections::BTreeSet::new();
    for parameter in wire.parameters {
        if !names.insert(parameter.name.clone()) {
            return Err(Invalid::new(format!("parameter `{}`", parameter.name), "is given twice"));
        }
        let field = |invalid: Invalid| Invalid { field: format!("parameter `{}`", parameter.name), ..invalid };
        let wire_distribution =
            parameter.distribution.clone().ok_or_else(|| field(Invalid::missing("distribution")))?;
        let distribution = distribution(wire_distribution).map_err(field)?;
        let default = parameter.default_value.clone().map(value).transpose().map_err(field)?;
        builder = if parameter.when.is_empty() {
            builder.parameter(&parameter.name, distribution, default)
        } else {
            builder.conditional(&parameter.name, distribution, default, &parameter.when)
        };
    }
    for forbid in wire.forbid {
        builder = builder.forbid(&forbid.condition, &forbid.why);
    }
    for constraint in wire.constraints {
        let expr = (!constraint.expr.is_empty()).then_some(constraint.expr.as_str());
        builder = builder.constraint(&constraint.name, expr);
    }
    builder.build().map_err(|error| invalid(&error))
}

fn invalid(error: &SpaceError) -> Invalid {
    Invalid { field: "space".to_owned(), why: error.to_string(), hint: error.hint() }
}

/// Converts to the wire.
pub fn space_to_wire(space: &SearchSpace) -> v1::SearchSpace {
    v1::SearchSpace {
        parameters: space
            .parameters()
            .iter()
            .map(|(name, parameter)| v1::Parameter {
                name: name.clone(),
                distribution: Some(distribution_to_wire(parameter.distribution())),
                default_value: parameter.default().map(value_to_wire),
                when: parameter.when().unwrap_or_default().to_owned(),
            })
            .collect(),
        forbid: space
            .forbids()
            .iter()
            .map(|forbid| v1::Forbid {
                condition: forbid.expression().to_owned(),
                why: forbid.why().unwrap_or_default().to_owned(),
            })
            .collect(),
        constraints: space
            .constraints()
            .iter()
            .map(|constraint| v1::Constraint {
                name: constraint.name().to_owned(),
                expr: constraint.expression().unwrap_or_default().to_owned(),
            })
            .collect(),
    }
}
