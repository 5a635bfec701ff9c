//! Uniform draws: a value of a distribution, an allowed configuration of a space.

use std::ops::ControlFlow;

use fleetune_core::distribution::{Distribution, FloatRange, IntRange};
use fleetune_core::space::Visit;
use fleetune_core::{Params, SearchSpace, Value};
use rand::rngs::ChaCha8Rng;

use crate::rng::{below, shuffle, unit};
use crate::seam::{Ask, SpaceExhausted};
use crate::tried::Tried;

/// Draws before a systematic search begins.
const DRAWS: usize = 200;
/// Values assigned by one systematic search.
const SEARCH_BUDGET: u64 = 50_000;
/// A systematic search tries all values of a parameter that has at most this many, else as many random ones.
const SEARCH_VALUES: u64 = 64;
/// Estimated need over capacity up to which a configuration counts as fitting. Short of 1, since the estimate is not
/// exact and others use some memory too.
const FITS: f64 = 0.98;
/// Draws among which the first that fits is taken.
const FITTING_DRAWS: usize = 24;

/// A uniform value, as Optuna's random sampler draws it: integers and grids get half a step at each end.
pub(crate) fn uniform(distribution: &Distribution, rng: &mut ChaCha8Rng) -> Value {
    at(distribution, unit(rng))
}

/// The value at `u` in [0, 1] of the way through a distribution, on its own scale: for a uniform `u` a uniform value.
pub(crate) fn at(distribution: &Distribution, u: f64) -> Value {
    match distribution {
        Distribution::Float(range) => Value::Float(float(range, u)),
        Distribution::Int(range) => Value::Int(int(range, u)),
        Distribution::Categorical(choices) => {
            let count = choices.as_slice().len();
            choices.as_slice()[((u * count as f64) as usize).min(count - 1)].clone()
        }
    }
}

fn float(range: &FloatRange, u: f64) -> f64 {
    if range.log() {
        let (low, high) = (libm::log(range.low()), libm::log(range.high()));
        return libm::exp(low + u * (high - low)).clamp(range.low(), range.high());
    }
    let half = range.step().map_or(0.0, |step| step / 2.0);
    let (low, high) = (range.low() - half, range.high() + half);
    range.nearest(low + u * (high - low))
}

fn int(range: &IntRange, u: f64) -> i64 {
    if range.log() {
        let (low, high) = (libm::log(range.low() as f64 - 0.5), libm::log(range.high() as f64 + 0.5));
        return range.nearest(libm::exp(low + u * (high - low)));
    }
    let count = range.high().abs_diff(range.low()) / range.step().unsigned_abs() + 1;
    let index = ((u * count as f64) as u64).min(count - 1);
    range.low() + index as i64 * range.step()
}

/// One draw of the active parameters around `fixed`; `None` when a clause forbids it or a fixed parameter is inactive.
fn draw(space: &SearchSpace, fixed: &Params, rng: &mut ChaCha8Rng) -> Option<Params> {
    let mut params = Params::new();
    let mut kept = 0;
    for name in space.order() {
        if !space.is_active(name, &params) {
            continue;
        }
        let value = match fixed.get(name) {
            Some(value) => {
                kept += 1;
                value.clone()
            }
            None => uniform(space.parameters()[name].distribution(), rng),
        };
        params.insert(name.clone(), value);
    }
    (kept == fixed.len() && space.forbidden_by(&params).is_none()).then_some(params)
}

/// An allowed configuration around `fixed`: uniform by rejection, else found systematically.
pub(crate) fn configuration(
    space: &SearchSpace,
    fixed: &Params,
    rng: &mut ChaCha8Rng,
) -> Result<Params, SpaceExhausted> {
    (0..DRAWS)
        .find_map(|_| draw(space, fixed, rng))
        .or_else(|| search(space, fixed, rng, false, 1, &mut |_| true).0.pop())
        .ok_or(SpaceExhausted::NothingAllowed { fixed: !fixed.is_empty() })
}

/// An allowed configuration that was not tried and does not run, and that fits where that is known and such a one is
/// found soon. `None` when every configuration was tried, as far as a bounded search shows.
pub(crate) fn fresh(
    space: &SearchSpace,
    ask: &Ask<'_>,
    tried: &Tried,
    rng: &mut ChaCha8Rng,
) -> Result<Option<Params>, SpaceExhausted> {
    let busy = tried.keys_of(ask.running);
    let is_new = |params: &Params| !tried.contains(params, &busy);
    let mut misfit = None;
    let mut fitting = 0;
    for _ in 0..DRAWS {
        let Some(params) = draw(space, ask.fixed, rng).filter(&is_new) else { continue };
        let ratio = ask.estimate.and_then(|estimate| estimate.memory_ratio(&params));
        fitting += 1;
        if ratio.is_none_or(|ratio| ratio <= FITS) {
            return Ok(Some(params));
        }
        misfit.get_or_insert(params);
        if fitting == FITTING_DRAWS {
            break;
        }
    }
    if misfit.is_some() {
        return Ok(misfit);
    }
    let mut any = false;
    let (mut found, _) = search(space, ask.fixed, rng, true, 1, &mut |params| {
        any = true;
        is_new(params)
    });
    if found.is_empty() && !any {
        return Err(SpaceExhausted::NothingAllowed { fixed: !ask.fixed.is_empty() });
    }
    Ok(found.pop())
}

/// Up to `wanted` allowed configurations that `accept` takes, in a random order; and whether the search saw everything.
/// With `all` every parameter is varied, else only those that conditions and clauses mention.
pub(crate) fn search(
    space: &SearchSpace,
    fixed: &Params,
    rng: &mut ChaCha8Rng,
    all: bool,
    wanted: usize,
    accept: &mut dyn FnMut(&Params) -> bool,
) -> (Vec<Params>, bool) {
    let mut found = Vec::new();
    let mut sampled = false;
    let ended = space.visit(
        fixed,
        SEARCH_BUDGET,
        &mut |name, distribution| {
            if !all && !space.is_involved(name) {
                return vec![uniform(distribution, rng)];
            }
            if let Some(count) = distribution.cardinality().filter(|count| *count <= SEARCH_VALUES) {
                let mut values = (0..count).map(|index| distribution.value_at(index)).collect::<Vec<_>>();
                shuffle(&mut values, rng);
                return values;
            }
            sampled = true;
            sample_values(distribution, rng)
        },
        &mut |params| {
            if accept(params) {
                found.push(params.clone());
            }
            if found.len() >= wanted { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        },
    );
    (found, ended == Visit::Complete && !sampled)
}

/// Both ends and random values between. Of ranges up to a thousand values all: a clause may leave a single one.
fn sample_values(distribution: &Distribution, rng: &mut ChaCha8Rng) -> Vec<Value> {
    let mut values = match distribution.cardinality() {
        Some(count) if count <= 1_000 => (0..count).map(|index| distribution.value_at(index)).collect::<Vec<_>>(),
        Some(count) => {
            let inner = (2..SEARCH_VALUES).map(|_| below(rng, count)).collect::<Vec<_>>();
            inner.into_iter().chain([0, count - 1]).map(|index| distribution.value_at(index)).collect()
        }
        None => {
            let inner = (2..SEARCH_VALUES).map(|_| uniform(distribution, rng)).collect::<Vec<_>>();
            inner.into_iter().chain([distribution.value_at(0), distribution.value_at(1)]).collect()
        }
    };
    shuffle(&mut values, rng);
    values
}
