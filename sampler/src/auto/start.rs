//! The first trials: where nothing was measured yet.
//!
//! Points of a scrambled Sobol sequence by trial number, so that parallel workers need not agree. With an estimate, the
//! first ones are plausible configurations that differ from each other instead.

use std::cmp::Ordering;

use rand::rngs::ChaCha8Rng;

use super::encode::{Candidate, Encoding};
use super::knowledge::Knowledge;
use crate::qmc::Sobol;
use crate::rng::unit;
use crate::seam::Ask;

/// Trials assumed where the budget does not say.
const USUAL_BUDGET: u32 = 100;
/// Points of the sequence tried for one trial, and their distance in it.
const TRIES: u32 = 32;
const STRIDE: u32 = 64;
/// The first trials that an estimate chooses, the configurations it chooses from, and what the best estimate is worth
/// in distance.
const PLAUSIBLE: usize = 5;
const DRAWS: usize = 400;
const ESTIMATE_SHARE: f64 = 0.3;

/// The design of the first trials.
#[derive(Debug)]
pub(super) struct Start {
    /// How many there are.
    pub(super) trials: usize,
    sobol: Sobol,
}

/// Which configurations may be suggested.
pub(super) type Accept<'a> = &'a dyn Fn(&Candidate) -> bool;

impl Start {
    /// More in more dimensions, fewer of a small budget.
    pub(super) fn new(axes: usize, planned: Option<u32>, seed: u64) -> Self {
        let share = planned.unwrap_or(USUAL_BUDGET) as usize / 5;
        Self { trials: axes.max(8).min(share.max(4)).min(12), sobol: Sobol::new(axes, seed) }
    }

    /// A point of the sequence that is accepted and, where that is known, fits.
    pub(super) fn point(
        &self,
        ask: &Ask<'_>,
        encoding: &Encoding,
        accept: Accept<'_>,
        knowledge: Option<&Knowledge<'_>>,
    ) -> Option<Candidate> {
        let axes = encoding.axes();
        let made = |attempt: u32| {
            // Wraps after 2^32 trials, when the start is long over.
            let point = self.sobol.point((ask.number.0 as u32).wrapping_add(attempt * STRIDE));
            let made = encoding.assemble(ask.fixed, &mut |axis| axes[axis].spread(point[axis]));
            made.filter(accept)
        };
        let fits = |candidate: &Candidate| knowledge.is_none_or(|known| known.facts(&candidate.params).fits());
        (0..TRIES).filter_map(made).find(fits)
    }

    /// Of random configurations that fit the one that is farthest from those that were `seen`; better estimates are
    /// worth some distance. `None` when this is no longer the time for it.
    pub(super) fn plausible(
        ask: &Ask<'_>,
        encoding: &Encoding,
        accept: Accept<'_>,
        knowledge: &Knowledge<'_>,
        seen: &[Vec<f64>],
        rng: &mut ChaCha8Rng,
    ) -> Option<Candidate> {
        if seen.len() > PLAUSIBLE {
            return None;
        }
        let axes = encoding.axes();
        let drawn = (0..DRAWS).filter_map(|_| encoding.assemble(ask.fixed, &mut |axis| axes[axis].spread(unit(rng))));
        let known = drawn.filter(accept).map(|candidate| (knowledge.facts(&candidate.params), candidate));
        let mut fitting = known.filter(|(facts, _)| facts.fits()).collect::<Vec<_>>();
        if fitting.iter().any(|(facts, _)| facts.log_objective.is_some()) {
            // The best first, what is unknown last; of equals the one drawn first.
            let merit = |facts: &super::knowledge::Facts| {
                facts.log_objective.map_or(f64::INFINITY, |objective| knowledge.direction().minimized(objective))
            };
            fitting.sort_by(|a, b| merit(&a.0).partial_cmp(&merit(&b.0)).unwrap_or(Ordering::Equal));
        }
        let count = fitting.len().max(1) as f64;
        let mut best = None;
        for (rank, (_, candidate)) in fitting.into_iter().enumerate() {
            let share = 1.0 - rank as f64 / count;
            let score = least_distance(encoding, &candidate.point, seen) * (1.0 + ESTIMATE_SHARE * share);
            if best.as_ref().is_none_or(|(highest, _)| score > *highest) {
                best = Some((score, candidate));
            }
        }
        best.map(|(_, candidate)| candidate)
    }
}

/// The distance of a point from the nearest of those seen; a choice that was not seen yet counts double. 1 when none
/// was seen.
fn least_distance(encoding: &Encoding, point: &[f64], seen: &[Vec<f64>]) -> f64 {
    let is_new = |axis: usize| {
        encoding.axes()[axis].choices().is_some()
            && seen.iter().all(|other| other[axis].to_bits() != point[axis].to_bits())
    };
    let weights = (0..point.len()).map(|axis| if is_new(axis) { 2.0 } else { 1.0 }).collect::<Vec<_>>();
    let distance = |other: &Vec<f64>| {
        let axes = encoding.axes().iter().enumerate();
        axes.map(|(index, axis)| weights[index] * axis.dimension().distance(point[index], other[index])).sum::<f64>()
    };
    seen.iter().map(distance).reduce(f64::min).unwrap_or(1.0)
}
