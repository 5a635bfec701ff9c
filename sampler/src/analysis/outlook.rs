//! What is left to gain, and what every single change of the winner would cost.

use fleetune_core::{Distribution, Params, SearchSpace, TrialNumber, Value};

use super::observation::Observation;
use super::surrogate::Surrogate;
use crate::draw;
use crate::rng::{below, trial_rng, unit};

/// Random configurations among which the best lower bound is looked for.
const RANDOM: usize = 1_000;
/// Neighbours of the best observations among which it is looked for as well.
const NEIGHBOURS: usize = 500;
/// Observations whose neighbours these are.
const PARENTS: usize = 5;
/// Values of one number that are compared, both ends among them.
const VALUES: u64 = 9;

/// How much a longer search can be expected to gain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outlook {
    /// Upper bound of the improvement left, in units of the loss, at least 0.
    pub gain: f64,
    /// The same as a share of the best predicted loss.
    pub relative: f64,
    /// Below this share a search may stop: one percent, or the noise where it is larger.
    pub threshold: f64,
}

impl Outlook {
    /// Whether a longer search is not worth it.
    pub fn may_stop(&self) -> bool {
        self.relative < self.threshold
    }
}

/// Bounds what a longer search can gain: the least upper bound of the loss among `tried` less the least lower bound
/// anywhere. `noise`: relative standard deviation of a measured value. `tried`: at least one, best first.
///
/// Source: Makarova et al. 2021, arXiv:2104.08166; the bounds' width as in Optuna's terminator, a fifth of the theory's.
pub fn outlook(
    space: &SearchSpace,
    surrogate: &dyn Surrogate,
    tried: &[&Observation],
    noise: f64,
    seed: u64,
) -> Outlook {
    let count = tried.len().max(1) as f64;
    let dimensions = space.parameters().values().filter(|p| !p.distribution().is_single()).count().max(1) as f64;
    let pi = std::f64::consts::PI;
    // δ = 0.1, as in the paper's experiments.
    let beta = 2.0 * libm::log(dimensions * count * count * pi * pi / 0.6) / 5.0;
    let width = beta.max(0.0).sqrt();
    let mut upper = f64::INFINITY;
    let mut lower = f64::INFINITY;
    let mut best = f64::INFINITY;
    for observation in tried {
        let (mean, sd) = surrogate.mean_sd(&observation.values());
        upper = upper.min(mean + width * sd);
        lower = lower.min(mean - width * sd);
        best = best.min(mean);
    }
    let mut rng = trial_rng(seed, TrialNumber(0), &["outlook"]);
    let nothing = Params::new();
    for _ in 0..RANDOM {
        let Ok(params) = draw::configuration(space, &nothing, &mut rng) else { break };
        let (mean, sd) = surrogate.mean_sd(&params);
        lower = lower.min(mean - width * sd);
    }
    let names = space.order();
    for _ in 0..NEIGHBOURS {
        let parent = tried.get(below(&mut rng, PARENTS.min(tried.len()).max(1) as u64) as usize);
        let Some(parent) = parent else { break };
        let name = &names[below(&mut rng, names.len() as u64) as usize];
        let to = draw::at(space.parameters()[name].distribution(), unit(&mut rng));
        if let Some(params) = changed(space, &parent.values(), name, &to, tried) {
            let (mean, sd) = surrogate.mean_sd(&params);
            lower = lower.min(mean - width * sd);
        }
    }
    let gain = (upper - lower).max(0.0);
    let relative = if gain == 0.0 { 0.0 } else { gain / best.abs() };
    Outlook { gain, relative, threshold: noise.max(0.01) }
}

/// The winner with one parameter changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The parameter.
    pub name: String,
    /// Its value in the winner.
    pub from: Value,
    /// Its value after the change.
    pub to: Value,
    /// Predicted loss after the change, less that of the winner: positive is worse.
    pub loss: f64,
    /// The same as a share of the winner's predicted loss; NaN where that is 0.
    pub relative: f64,
    /// Standard deviation of the predicted loss after the change.
    pub sd: f64,
}

/// The predicted loss of each change of one parameter of `winner`, by parameter, then by value. Of long ranges a few
/// values are compared, both ends among them. Parameters that a change brings in take their default, else the value in
/// the best of `tried` (best first) that has them. Forbidden changes are left out.
pub fn sensitivity(
    space: &SearchSpace,
    surrogate: &dyn Surrogate,
    winner: &Params,
    tried: &[&Observation],
) -> Vec<Change> {
    let (base, _) = surrogate.mean_sd(winner);
    let mut changes = Vec::new();
    for (name, from) in winner {
        let Some(parameter) = space.parameters().get(name) else { continue };
        for to in values(parameter.distribution()) {
            if to == *from {
                continue;
            }
            let Some(params) = changed(space, winner, name, &to, tried) else { continue };
            let (mean, sd) = surrogate.mean_sd(&params);
            let (name, from) = (name.clone(), from.clone());
            changes.push(Change { name, from, to, loss: mean - base, relative: (mean - base) / base.abs(), sd });
        }
    }
    changes
}

/// The values that are compared, ascending or in the order of the choices.
fn values(distribution: &Distribution) -> Vec<Value> {
    match (distribution, distribution.cardinality()) {
        (Distribution::Categorical(choices), _) => choices.as_slice().to_vec(),
        (_, Some(count)) if count <= VALUES => (0..count).map(|index| distribution.value_at(index)).collect(),
        (_, _) => {
            let mut values = (0..VALUES).map(|k| draw::at(distribution, k as f64 / (VALUES - 1) as f64));
            let mut kept = Vec::from_iter(values.next());
            for value in values {
                if kept.last() != Some(&value) {
                    kept.push(value);
                }
            }
            kept
        }
    }
}

/// `params` with `name` at `to`, made a configuration of the space; `None` when it is forbidden or `name` is not there.
fn changed(space: &SearchSpace, params: &Params, name: &str, to: &Value, tried: &[&Observation]) -> Option<Params> {
    let mut changed = Params::new();
    for other in space.order() {
        if !space.is_active(other, &changed) {
            continue;
        }
        let parameter = &space.parameters()[other];
        let known = || tried.iter().find_map(|o| o.params.get(other)?.value());
        let value = if other == name { Some(to.clone()) } else { params.get(other).cloned() };
        let value = value.or_else(|| parameter.default().cloned()).or_else(known);
        let value = value.unwrap_or_else(|| draw::at(parameter.distribution(), 0.5));
        changed.insert(other.clone(), value);
    }
    (changed.get(name) == Some(to) && space.check(&changed).is_ok()).then_some(changed)
}
