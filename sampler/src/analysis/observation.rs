//! What an analysis looks at.

use std::collections::BTreeMap;
use std::sync::Arc;

use fleetune_core::study::Direction;
use fleetune_core::{Distribution, Params, TrialNumber, Value};

use super::pareto;

/// The value of one parameter in one trial, with the distribution it was drawn from.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// What it could be.
    pub distribution: Arc<Distribution>,
    /// Its value as Optuna stores it: the number, or the index of the choice.
    pub internal: f64,
}

impl Setting {
    /// The value as people write it; `None` for an index without a choice.
    pub fn value(&self) -> Option<Value> {
        self.distribution.from_internal(self.internal)
    }
}

/// The number in [0, 1] at which a value stands in its range, logarithms taken and half a step added at each end; `None`
/// for a choice.
pub(super) fn unit(distribution: &Distribution, internal: f64) -> Option<f64> {
    let (low, high, half, log) = match distribution {
        Distribution::Float(range) => (range.low(), range.high(), range.step().unwrap_or(0.0) / 2.0, range.log()),
        Distribution::Int(range) => (range.low() as f64, range.high() as f64, range.step() as f64 / 2.0, range.log()),
        Distribution::Categorical(_) => return None,
    };
    let (low, high) = (low - half, high + half);
    let scaled = if log {
        (libm::log(internal) - libm::log(low)) / (libm::log(high) - libm::log(low))
    } else {
        (internal - low) / (high - low)
    };
    // A range of one value, or a value outside of its range.
    Some(if scaled.is_nan() { 0.5 } else { scaled.clamp(0.0, 1.0) })
}

/// A completed trial.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// The trial.
    pub number: TrialNumber,
    /// Its parameters.
    pub params: BTreeMap<String, Setting>,
    /// One per objective, smaller is better.
    pub losses: Vec<f64>,
    /// Whether it kept every constraint.
    pub feasible: bool,
}

impl Observation {
    /// Its parameters as people write them.
    pub fn values(&self) -> Params {
        self.params.iter().filter_map(|(name, setting)| Some((name.clone(), setting.value()?))).collect()
    }
}

/// One number per observation that says how good it is, smaller is better: the loss of `objective`, or without one and
/// with several objectives the place in the order of fronts, within a front the lonelier first. What has a loss that is
/// not finite is left out.
///
/// Departs from Optuna 5.0, where the last front that counts as good is cut by hypervolume: places are one number per
/// trial whatever the share that counts.
pub fn scalar_losses(observations: &[Observation], objective: Option<usize>) -> (Vec<&Observation>, Vec<f64>) {
    let objective = objective.or_else(|| observations.iter().all(|o| o.losses.len() <= 1).then_some(0));
    if let Some(objective) = objective {
        let loss = |o: &Observation| o.losses.get(objective).copied().filter(|loss| loss.is_finite());
        return observations.iter().filter_map(|o| Some((o, loss(o)?))).unzip();
    }
    let finite = |o: &&Observation| !o.losses.is_empty() && o.losses.iter().all(|loss| loss.is_finite());
    let kept = observations.iter().filter(finite).collect::<Vec<_>>();
    let points = kept.iter().map(|o| o.losses.clone()).collect::<Vec<_>>();
    let ranks = pareto::ranks(&points);
    let mut crowding = vec![0.0; kept.len()];
    for rank in 0..=ranks.iter().copied().max().unwrap_or(0) {
        let members = (0..kept.len()).filter(|&index| ranks[index] == rank).collect::<Vec<_>>();
        let front = members.iter().map(|&index| points[index].clone()).collect::<Vec<_>>();
        for (member, distance) in members.into_iter().zip(pareto::crowding(&front)) {
            crowding[member] = distance;
        }
    }
    let mut places = (0..kept.len()).collect::<Vec<_>>();
    places.sort_by(|&a, &b| ranks[a].cmp(&ranks[b]).then(pareto::order(crowding[b], crowding[a])).then(a.cmp(&b)));
    let mut losses = vec![0.0; kept.len()];
    for (place, index) in places.into_iter().enumerate() {
        losses[index] = place as f64;
    }
    (kept, losses)
}

/// The losses of values measured under `directions`.
pub fn losses(directions: &[Direction], values: &[f64]) -> Vec<f64> {
    directions.iter().zip(values).map(|(direction, &value)| direction.minimized(value)).collect()
}
