//! The parts of a search space and how they are put together and checked.

use std::collections::{BTreeMap, BTreeSet};

use super::error::{SpaceError, nearest};
use super::exclusion::{Excluded, Exclusion};
use super::expression::{Environment, Expression, environment, refuse};
use super::{MAX_CLAUSES, MAX_PARAMETERS};
use crate::distribution::Distribution;
use crate::measurement::{Metric, Samples, Summary, quantile};
use crate::value::{Params, Value};

/// One parameter of a space.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    pub(super) distribution: Distribution,
    pub(super) default: Option<Value>,
    pub(super) when: Option<Expression>,
}

impl Parameter {
    /// What it may be.
    pub fn distribution(&self) -> &Distribution {
        &self.distribution
    }

    /// What it is when nobody chooses.
    pub fn default(&self) -> Option<&Value> {
        self.default.as_ref()
    }

    /// The condition under which it exists.
    pub fn when(&self) -> Option<&str> {
        self.when.as_ref().map(Expression::text)
    }

    /// The parameters its condition mentions, sorted.
    pub fn parents(&self) -> &[String] {
        self.when.as_ref().map_or(&[], Expression::variables)
    }
}

/// A combination that is never sampled.
#[derive(Clone, Debug, PartialEq)]
pub struct Forbid {
    pub(super) condition: Condition,
    pub(super) why: Option<String>,
}

/// Who says that a combination is forbidden.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Condition {
    /// The author of the space.
    Clause(Expression),
    /// What happened while it was searched.
    Excluded(Excluded),
}

impl Forbid {
    /// The expression that is true for a forbidden configuration.
    pub fn expression(&self) -> &str {
        match &self.condition {
            Condition::Clause(expression) => expression.text(),
            Condition::Excluded(excluded) => &excluded.text,
        }
    }

    /// Whether it is a clause of the space's author, and no [`Exclusion`].
    pub(super) fn is_clause(&self) -> bool {
        matches!(self.condition, Condition::Clause(_))
    }

    /// The reason, for people.
    pub fn why(&self) -> Option<&str> {
        self.why.as_deref()
    }

    /// The parameters it mentions, sorted. It applies only where all of them are active.
    pub fn mentions(&self) -> &[String] {
        match &self.condition {
            Condition::Clause(expression) => expression.variables(),
            Condition::Excluded(excluded) => &excluded.names,
        }
    }

    /// Whether it applies to `params` and holds. An evaluation that fails counts as forbidden.
    pub(super) fn applies(&self, params: &Params) -> bool {
        match &self.condition {
            Condition::Clause(expression) => {
                expression.variables().iter().all(|name| params.contains_key(name))
                    && expression.holds(params).unwrap_or(true)
            }
            Condition::Excluded(excluded) => excluded.exclusion.contains(params),
        }
    }
}

/// A number measured after the run; feasible when at most 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Constraint {
    pub(super) name: String,
    pub(super) expression: Option<Expression>,
}

impl Constraint {
    /// Statistics an expression may ask of a metric.
    const STATISTICS: [&str; 10] = ["count", "mean", "median", "sd", "min", "max", "p05", "p90", "p95", "p99"];

    /// Its name, unique within the space.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its expression over `metrics.<name>.<statistic>`; without one the teller gives the number.
    pub fn expression(&self) -> Option<&str> {
        self.expression.as_ref().map(Expression::text)
    }

    /// The constraint's value for what was measured. `None` without expression, or when a metric it needs was not
    /// measured.
    ///
    /// # Errors
    /// The expression is no finite number for these samples, for example after a division by zero.
    pub fn evaluate(&self, samples: &Samples) -> Result<Option<f64>, SpaceError> {
        let Some(expression) = &self.expression else { return Ok(None) };
        let mut metrics = std::collections::HashMap::new();
        for (metric, values) in &samples.0 {
            let Some(summary) = Summary::of(values) else { continue };
            let mut statistics = std::collections::HashMap::new();
            for name in Self::STATISTICS {
                let number = match name {
                    "count" => Some(summary.count as f64),
                    "mean" => Some(summary.mean),
                    "median" => Some(summary.median),
                    "sd" => Some(summary.sd),
                    "min" => Some(summary.min),
                    "max" => Some(summary.max),
                    "p05" => quantile(values, 0.05),
                    "p90" => quantile(values, 0.9),
                    "p95" => quantile(values, 0.95),
                    _ => quantile(values, 0.99),
                };
                if let Some(number) = number {
                    statistics.insert(name.to_owned(), cel::Value::Float(number));
                }
            }
            metrics.insert(metric.as_str().to_owned(), cel::Value::from(statistics));
        }
        let place = format!("constraint `{}`", self.name);
        expression.number(metrics.into()).map_err(|message| refuse(&place, expression.text(), message, None))
    }

    /// Checks that the expression asks only for metrics and statistics there are.
    fn check(&self) -> Result<(), SpaceError> {
        let Some(expression) = &self.expression else { return Ok(()) };
        let place = format!("constraint `{}`", self.name);
        let wrong = |message: String, hint| Err(refuse(&place, expression.text(), message, hint));
        let example = || Some("write `metrics.ttft_ms.p95 - 500.0`".to_owned());
        let paths = expression.paths();
        if paths.is_empty() {
            return wrong("mentions no metric".to_owned(), example());
        }
        for path in paths {
            let [root, metric, statistic] = path[..] else {
                return wrong(format!("`{}` is not `metrics.<name>.<statistic>`", path.join(".")), example());
            };
            if root != "metrics" {
                return wrong(format!("`{root}` is not `metrics`"), example());
            }
            if Metric::from_name(metric).is_none() {
                let hint = nearest(metric, Metric::ALL.iter().map(|metric| metric.as_str()));
                return wrong(
                    format!("there is no metric `{metric}`"),
                    hint.map(|name| format!("did you mean `{name}`?")),
                );
            }
            if !Self::STATISTICS.contains(&statistic) {
                let hint = format!("use one of {}", Self::STATISTICS.join(", "));
                return wrong(format!("there is no statistic `{statistic}`"), Some(hint));
            }
        }
        Ok(())
    }
}

/// What may be sampled: parameters with conditions, forbidden combinations, measured constraints.
///
/// Its serde form is the JSON form of the search space file, read back through the same checks.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchSpace {
    pub(super) parameters: BTreeMap<String, Parameter>,
    pub(super) forbids: Vec<Forbid>,
    pub(super) constraints: Vec<Constraint>,
    /// Names so that every parameter comes after those its condition mentions; by name where free.
    pub(super) order: Vec<String>,
    /// For each position of `order`, the forbid clauses whose last mentioned parameter stands there.
    pub(super) decided_at: Vec<Vec<usize>>,
    /// Parameters that a condition or clause mentions.
    pub(super) involved: BTreeSet<String>,
}

impl SearchSpace {
    /// Starts a space in code.
    pub fn builder() -> SpaceBuilder {
        SpaceBuilder::default()
    }

    /// The same parts as they went in, to be changed and checked again.
    pub(super) fn to_builder(&self) -> SpaceBuilder {
        SpaceBuilder {
            parameters: self
                .parameters
                .iter()
                .map(|(name, parameter)| {
                    let when = parameter.when().map(str::to_owned);
                    (name.clone(), (parameter.distribution.clone(), parameter.default.clone(), when))
                })
                .collect(),
            forbids: self
                .forbids
                .iter()
                .filter(|forbid| forbid.is_clause())
                .map(|forbid| (forbid.expression().to_owned(), forbid.why.clone()))
                .collect(),
            excluded: self
                .forbids
                .iter()
                .filter_map(|forbid| match &forbid.condition {
                    Condition::Clause(_) => None,
                    Condition::Excluded(excluded) => Some(excluded.exclusion.clone()),
                })
                .collect(),
            constraints: self
                .constraints
                .iter()
                .map(|constraint| (constraint.name.clone(), constraint.expression().map(str::to_owned)))
                .collect(),
        }
    }
}

/// Puts a [`SearchSpace`] together; [`Self::build`] checks everything at once.
#[derive(Clone, Debug, Default)]
pub struct SpaceBuilder {
    pub(super) parameters: BTreeMap<String, (Distribution, Option<Value>, Option<String>)>,
    pub(super) forbids: Vec<(String, Option<String>)>,
    pub(super) excluded: Vec<Exclusion>,
    pub(super) constraints: Vec<(String, Option<String>)>,
}

impl SpaceBuilder {
    /// Adds a parameter, or replaces the one of that name.
    #[must_use]
    pub fn parameter(mut self, name: &str, distribution: Distribution, default: Option<Value>) -> Self {
        self.parameters.insert(name.to_owned(), (distribution, default, None));
        self
    }

    /// Adds a parameter that exists only where the CEL expression `when` holds.
    #[must_use]
    pub fn conditional(mut self, name: &str, distribution: Distribution, default: Option<Value>, when: &str) -> Self {
        self.parameters.insert(name.to_owned(), (distribution, default, Some(when.to_owned())));
        self
    }

    /// Forbids what the CEL expression `clause` holds for.
    #[must_use]
    pub fn forbid(mut self, clause: &str, why: &str) -> Self {
        self.forbids.push((clause.to_owned(), (!why.is_empty()).then(|| why.to_owned())));
        self
    }

    /// Adds a measured constraint.
    #[must_use]
    pub fn constraint(mut self, name: &str, expression: Option<&str>) -> Self {
        self.constraints.push((name.to_owned(), expression.map(str::to_owned)));
        self
    }

    /// Checks and makes the space.
    pub fn build(self) -> Result<SearchSpace, SpaceError> {
        self.check_limits()?;
        let environment = environment();
        let mut parameters = BTreeMap::new();
        for (name, (distribution, default, when)) in self.parameters {
            if !is_name(&name) {
                return Err(SpaceError::BadName(super::error::shorten(&name)));
            }
            let default = default
                .map(|value| distribution.coerce(&value))
                .transpose()
                .map_err(|source| SpaceError::Default { name: name.clone(), source })?;
            let place = format!("parameter `{name}`");
            let when = when.map(|text| Expression::compile(&place, &text, &environment)).transpose()?;
            parameters.insert(name, Parameter { distribution, default, when });
        }
        let mut forbids = compile_forbids(self.forbids, &environment)?;
        forbids.extend(self.excluded.into_iter().map(Forbid::from));
        let mut space = SearchSpace {
            order: Vec::new(),
            decided_at: Vec::new(),
            involved: BTreeSet::new(),
            constraints: compile_constraints(self.constraints, &environment)?,
            parameters,
            forbids,
        };
        space.link()?;
        space.check_expressions()?;
        match space.find_allowed() {
            super::search::Allowed::Found => Ok(space),
            super::search::Allowed::None { proven } => Err(SpaceError::Unsatisfiable { proven }),
        }
    }

    fn check_limits(&self) -> Result<(), SpaceError> {
        let limit = |what: &str, count: usize, limit: usize| {
            if count <= limit {
                return Ok(());
            }
            Err(SpaceError::TooLarge { what: format!("a number of {count} {what}"), limit: limit.to_string() })
        };
        if self.parameters.is_empty() {
            return Err(SpaceError::NoParameters);
        }
        limit("parameters", self.parameters.len(), MAX_PARAMETERS)?;
        limit("forbid clauses", self.forbids.len(), MAX_CLAUSES)?;
        limit("constraints", self.constraints.len(), MAX_CLAUSES)
    }
}

fn compile_forbids(
    clauses: Vec<(String, Option<String>)>,
    environment: &Environment,
) -> Result<Vec<Forbid>, SpaceError> {
    let compile = |(index, (text, why)): (usize, (String, Option<String>))| {
        let place = format!("forbid clause {}", index + 1);
        Ok(Forbid { condition: Condition::Clause(Expression::compile(&place, &text, environment)?), why })
    };
    clauses.into_iter().enumerate().map(compile).collect()
}

fn compile_constraints(
    constraints: Vec<(String, Option<String>)>,
    environment: &Environment,
) -> Result<Vec<Constraint>, SpaceError> {
    let mut compiled = Vec::<Constraint>::new();
    for (name, text) in constraints {
        if !is_name(&name) {
            return Err(SpaceError::BadName(super::error::shorten(&name)));
        }
        if compiled.iter().any(|constraint| constraint.name == name) {
            return Err(SpaceError::DuplicateConstraint(name));
        }
        let place = format!("constraint `{name}`");
        let expression = text.map(|text| Expression::compile(&place, &text, environment)).transpose()?;
        let constraint = Constraint { name, expression };
        constraint.check()?;
        compiled.push(constraint);
    }
    Ok(compiled)
}

fn is_name(name: &str) -> bool {
    let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    first && name.len() <= 128 && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
}

impl SearchSpace {
    /// Orders the parameters and finds out who mentions whom.
    fn link(&mut self) -> Result<(), SpaceError> {
        let known = || self.parameters.keys().map(String::as_str);
        let mentioned = |place: String, name: &String| {
            if self.parameters.contains_key(name) {
                return Ok(());
            }
            Err(SpaceError::UnknownParameter { place, name: name.clone(), nearest: nearest(name, known()) })
        };
        for (name, parameter) in &self.parameters {
            let Some(when) = &parameter.when else { continue };
            let place = format!("parameter `{name}`");
            if when.variables().is_empty() {
                let hint = Some("drop `when`, or mention another parameter".to_owned());
                return Err(refuse(&place, when.text(), "mentions no parameter".to_owned(), hint));
            }
            for parent in when.variables() {
                mentioned(place.clone(), parent)?;
            }
        }
        for (index, forbid) in self.forbids.iter().enumerate() {
            let place = format!("forbid clause {}", index + 1);
            if forbid.mentions().is_empty() {
                return Err(refuse(&place, forbid.expression(), "mentions no parameter".to_owned(), None));
            }
            for name in forbid.mentions() {
                mentioned(place.clone(), name)?;
            }
        }
        self.order = self.topological()?;
        self.decide();
        Ok(())
    }

    /// Finds out which parameters are mentioned, and which is the last one that each forbid clause needs.
    pub(super) fn decide(&mut self) {
        let mut involved = BTreeSet::new();
        for (name, parameter) in self.parameters.iter().filter(|(_, parameter)| parameter.when.is_some()) {
            involved.insert(name.clone());
            involved.extend(parameter.parents().iter().cloned());
        }
        let position = |name: &String| self.order.iter().position(|other| other == name);
        let mut decided_at = vec![Vec::new(); self.order.len()];
        for (index, forbid) in self.forbids.iter().enumerate() {
            involved.extend(forbid.mentions().iter().cloned());
            if let Some(last) = forbid.mentions().iter().filter_map(position).max() {
                decided_at[last].push(index);
            }
        }
        self.decided_at = decided_at;
        self.involved = involved;
    }

    fn topological(&self) -> Result<Vec<String>, SpaceError> {
        let mut order = Vec::with_capacity(self.parameters.len());
        let mut left = self.parameters.keys().collect::<BTreeSet<_>>();
        while !left.is_empty() {
            let ready = |name: &&&String| self.parameters[**name].parents().iter().all(|parent| !left.contains(parent));
            let Some(next) = left.iter().find(ready).copied() else {
                return Err(SpaceError::Cycle(self.cycle(&left)));
            };
            left.remove(next);
            order.push(next.clone());
        }
        Ok(order)
    }

    /// A cycle among `left`, each of which waits for another of them.
    fn cycle(&self, left: &BTreeSet<&String>) -> Vec<String> {
        let mut path = Vec::<&String>::new();
        let mut current = left.first().copied();
        while let Some(name) = current {
            if let Some(start) = path.iter().position(|earlier| *earlier == name) {
                return path[start..].iter().map(|name| (*name).clone()).collect();
            }
            path.push(name);
            current = self.parameters[name].parents().iter().find(|parent| left.contains(parent));
        }
        Vec::new()
    }
}
