//! Finding and counting allowed configurations.

use std::ops::ControlFlow;

use super::MAX_COUNTED;
use super::error::SpaceError;
use super::expression::{Expression, refuse};
use super::model::{Condition, SearchSpace};
use crate::distribution::Distribution;
use crate::value::{Params, Value};

/// Random points tried before a systematic search.
const RANDOM_POINTS: u64 = 256;
/// Random points over which every expression must evaluate.
const CHECK_POINTS: u64 = 32;
/// Values assigned before a systematic search gives up.
const SEARCH_BUDGET: u64 = 200_000;
/// A systematic search tries every value of a parameter that has at most this many.
const ALL_VALUES: u64 = 1_000;
/// Of longer ranges it tries this many, spread evenly, both ends among them.
const SEARCH_VALUES: u64 = 33;

/// How a walk over configurations ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visit {
    /// Every configuration was seen.
    Complete,
    /// The visitor had enough.
    Stopped,
    /// The budget was used up.
    OutOfBudget,
}

pub(super) enum Allowed {
    Found,
    None { proven: bool },
}

impl SearchSpace {
    /// Walks over the allowed configurations that contain `fixed`, in the order of `values`, each once.
    ///
    /// `values` names the values to try for an active parameter, given the parameters before it; `visit` sees complete
    /// configurations. At most `budget` values are assigned. Clauses cut a branch as soon as they are decided.
    pub fn visit(
        &self,
        fixed: &Params,
        budget: u64,
        values: &mut dyn FnMut(&str, &Distribution) -> Vec<Value>,
        visit: &mut dyn FnMut(&Params) -> ControlFlow<()>,
    ) -> Visit {
        let mut walk = Walk { space: self, fixed, left: budget, values, visit, params: Params::new() };
        match walk.descend(0) {
            ControlFlow::Continue(()) => Visit::Complete,
            ControlFlow::Break(visit) => visit,
        }
    }

    /// The number of allowed configurations, if there are at most [`MAX_COUNTED`] and they can be walked over within a
    /// bound; `None` for continuous and larger spaces.
    pub fn cardinality(&self) -> Option<u64> {
        let mut product = Some(1_u64);
        for parameter in self.parameters.values() {
            // A parameter that alone is too large cannot be walked over, even if it is rarely active.
            let count = parameter.distribution.cardinality().filter(|count| *count <= MAX_COUNTED)?;
            product = product.and_then(|product| product.checked_mul(count));
        }
        if self.involved.is_empty() {
            return product.filter(|product| *product <= MAX_COUNTED);
        }
        let mut count = 0;
        let ended =
            self.visit(&Params::new(), 4 * MAX_COUNTED, &mut |_, distribution| every_value(distribution), &mut |_| {
                count += 1;
                if count > MAX_COUNTED { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
        (ended == Visit::Complete).then_some(count)
    }

    /// Looks for an allowed configuration: the defaults, random points, then systematically over the parameters that
    /// conditions and clauses mention.
    pub(super) fn find_allowed(&self) -> Allowed {
        let mut random = SplitMix(0);
        for point in 0..=RANDOM_POINTS {
            let params = self.draw(&mut random, point == 0);
            if self.forbidden_by(&params).is_none() {
                return Allowed::Found;
            }
        }
        let mut found = false;
        let mut proven = true;
        let ended = self.visit(
            &Params::new(),
            SEARCH_BUDGET,
            &mut |name, distribution| {
                if !self.involved.contains(name) {
                    return vec![distribution.value_at(0)];
                }
                proven &= distribution.cardinality().is_some_and(|count| count <= ALL_VALUES);
                search_values(distribution)
            },
            &mut |_| {
                found = true;
                ControlFlow::Break(())
            },
        );
        if found { Allowed::Found } else { Allowed::None { proven: proven && ended == Visit::Complete } }
    }

    /// A configuration with the active parameters, clauses not asked.
    fn draw(&self, random: &mut SplitMix, defaults: bool) -> Params {
        let mut params = Params::new();
        for name in &self.order {
            if !self.is_active(name, &params) {
                continue;
            }
            let parameter = &self.parameters[name];
            let value = match &parameter.default {
                Some(default) if defaults => default.clone(),
                Some(_) | None => random.value(&parameter.distribution),
            };
            params.insert(name.clone(), value);
        }
        params
    }

    /// Evaluates every expression at the defaults and at random points, so that one that cannot be evaluated (a text
    /// compared with a number, a number where a truth is wanted) is refused and not silently ignored.
    pub(super) fn check_expressions(&self) -> Result<(), SpaceError> {
        let check = |place: &dyn Fn() -> String, expression: &Expression, params: &Params| {
            if !expression.variables().iter().all(|name| params.contains_key(name)) {
                return Ok(());
            }
            let wrong = |message| {
                let hint = "compare numbers with numbers and texts with texts, for example `spec == 'draft'`";
                refuse(&place(), expression.text(), message, Some(hint.to_owned()))
            };
            expression.holds(params).map(|_| ()).map_err(wrong)
        };
        if self.involved.is_empty() {
            return Ok(());
        }
        let mut random = SplitMix(1);
        for point in 0..=CHECK_POINTS {
            let params = self.draw(&mut random, point == 0);
            for (name, parameter) in &self.parameters {
                if let Some(when) = &parameter.when {
                    check(&|| format!("parameter `{name}`"), when, &params)?;
                }
            }
            for (index, forbid) in self.forbids.iter().enumerate() {
                if let Condition::Clause(expression) = &forbid.condition {
                    check(&|| format!("forbid clause {}", index + 1), expression, &params)?;
                }
            }
        }
        Ok(())
    }
}

fn every_value(distribution: &Distribution) -> Vec<Value> {
    (0..distribution.cardinality().unwrap_or(0)).map(|index| distribution.value_at(index)).collect()
}

/// All values of a parameter, or some when they are many.
fn search_values(distribution: &Distribution) -> Vec<Value> {
    match distribution.cardinality() {
        Some(count) if count <= ALL_VALUES => every_value(distribution),
        Some(count) => {
            let last = u128::from(count - 1);
            let index =
                |k: u64| u64::try_from(last * u128::from(k) / u128::from(SEARCH_VALUES - 1)).unwrap_or(u64::MAX);
            (0..SEARCH_VALUES).map(|k| distribution.value_at(index(k))).collect()
        }
        None => {
            let at = |k: u64| between(distribution, k as f64 / (SEARCH_VALUES - 1) as f64);
            (0..SEARCH_VALUES).map(at).collect()
        }
    }
}

/// The value at `share` (0 to 1) of the way through a continuous range.
fn between(distribution: &Distribution, share: f64) -> Value {
    match distribution {
        Distribution::Float(range) if range.log() => {
            Value::Float((range.low() * (range.high() / range.low()).powf(share)).clamp(range.low(), range.high()))
        }
        Distribution::Float(range) => Value::Float(range.nearest(range.low() + share * (range.high() - range.low()))),
        Distribution::Int(_) | Distribution::Categorical(_) => distribution.value_at(0),
    }
}

struct Walk<'a> {
    space: &'a SearchSpace,
    fixed: &'a Params,
    left: u64,
    values: &'a mut dyn FnMut(&str, &Distribution) -> Vec<Value>,
    visit: &'a mut dyn FnMut(&Params) -> ControlFlow<()>,
    params: Params,
}

impl Walk<'_> {
    fn descend(&mut self, position: usize) -> ControlFlow<Visit> {
        let space = self.space;
        let Some(name) = space.order.get(position) else {
            return match (self.visit)(&self.params) {
                ControlFlow::Continue(()) => ControlFlow::Continue(()),
                ControlFlow::Break(()) => ControlFlow::Break(Visit::Stopped),
            };
        };
        let fixed = self.fixed.get(name);
        if !space.is_active(name, &self.params) {
            // A fixed parameter must exist.
            return if fixed.is_some() { ControlFlow::Continue(()) } else { self.descend(position + 1) };
        }
        let values = match fixed {
            Some(value) => vec![value.clone()],
            None => (self.values)(name, &space.parameters[name].distribution),
        };
        for value in values {
            if self.left == 0 {
                return ControlFlow::Break(Visit::OutOfBudget);
            }
            self.left -= 1;
            self.params.insert(name.clone(), value);
            if !space.forbidden_at(position, &self.params) {
                self.descend(position + 1)?;
            }
        }
        self.params.remove(name);
        ControlFlow::Continue(())
    }
}

/// Steele and others' generator: enough to spread points, and the same for ever.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn value(&mut self, distribution: &Distribution) -> Value {
        match distribution.cardinality() {
            Some(count) => distribution.value_at(self.next() % count),
            None => between(distribution, (self.next() >> 11) as f64 / (1_u64 << 53) as f64),
        }
    }
}
