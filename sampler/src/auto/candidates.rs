//! Where to look: configurations that are scored.
//!
//! Three sources: anywhere, near what was good (a Parzen estimator), and small changes of the best. Gradients are not
//! used: most parameters are not continuous.

use rand::rngs::ChaCha8Rng;

use super::encode::{Axis, Candidate, Encoding};
use crate::numeric::{normal_quantile, truncated_quantile};
use crate::rng::{below, shuffle, unit};
use fleetune_core::Params;

/// Candidates of each source; of mutations for the best and for each of the next.
const UNIFORM: usize = 300;
const PARZEN: usize = 160;
const MUTATIONS: (usize, usize) = (80, 40);
/// Candidates while hardly anything ran.
const FEW: usize = 8;
/// Share and limits of the number of good configurations around which the Parzen estimator draws.
const GOOD_SHARE: f64 = 0.15;
const GOOD_LIMITS: (usize, usize) = (2, 25);
/// Configurations that are mutated.
const MUTATED: usize = 6;
/// A mutation changes one parameter, and with this probability each time one more.
const ONE_MORE: f64 = 0.45;
/// A mutated number is uniform with this probability, else moved by a step whose logarithm (to 10) lies between these.
const UNIFORM_STEP: f64 = 0.15;
const LOG_STEP: (f64, f64) = (-2.3, -0.5);
/// Least step on a grid, in cells.
const GRID_STEP: f64 = 0.8;
/// How often a climb moves one number alone.
const SINGLE_STEP: f64 = 0.3;
/// Least bandwidth of a kernel, as a share of the range.
const LEAST_BANDWIDTH: f64 = 0.03;
/// Other choices of one category looked at from an incumbent.
const NEIGHBOURS: u64 = 64;

/// Draws candidates that keep what is fixed.
pub(super) struct Candidates<'a> {
    pub(super) encoding: &'a Encoding,
    pub(super) fixed: &'a Params,
    /// Points that ran, the best first.
    pub(super) ranked: &'a [&'a [f64]],
}

impl Candidates<'_> {
    /// A few configurations from anywhere, or as often small changes of those that ran.
    pub(super) fn few(&self, rng: &mut ChaCha8Rng) -> Vec<Candidate> {
        let axes = self.encoding.axes();
        let base = if unit(rng) < 0.5 { self.ranked.first() } else { None };
        let draw = |_| match base {
            Some(base) => self.mutation(base, rng),
            None => self.encoding.assemble(self.fixed, &mut |axis| axes[axis].spread(unit(rng))),
        };
        (0..FEW).filter_map(draw).collect()
    }

    /// All sources, forbidden configurations left out.
    pub(super) fn draw(&self, rng: &mut ChaCha8Rng) -> Vec<Candidate> {
        let axes = self.encoding.axes();
        let mut found = Vec::with_capacity(UNIFORM + PARZEN + MUTATIONS.0 + (MUTATED - 1) * MUTATIONS.1);
        for _ in 0..UNIFORM {
            found.extend(self.encoding.assemble(self.fixed, &mut |axis| axes[axis].spread(unit(rng))));
        }
        let (least, most) = GOOD_LIMITS;
        let good = ((GOOD_SHARE * self.ranked.len() as f64).ceil() as usize).clamp(least, most).min(self.ranked.len());
        if good > 0 {
            let parzen = Parzen::new(axes, &self.ranked[..good]);
            for _ in 0..PARZEN {
                let kernel = below(rng, good as u64 + 1) as usize;
                let draw = &mut |axis| parzen.draw(&axes[axis], axis, kernel, rng);
                found.extend(self.encoding.assemble(self.fixed, draw));
            }
        }
        for (rank, base) in self.ranked.iter().take(MUTATED).enumerate() {
            for _ in 0..if rank == 0 { MUTATIONS.0 } else { MUTATIONS.1 } {
                found.extend(self.mutation(base, rng));
            }
        }
        found
    }

    fn mutation(&self, base: &[f64], rng: &mut ChaCha8Rng) -> Option<Candidate> {
        let axes = self.encoding.axes();
        let mut free = self.free(base);
        shuffle(&mut free, rng);
        let mut changed = 1;
        while changed < free.len() && unit(rng) < ONE_MORE {
            changed += 1;
        }
        let mut point = base.to_vec();
        for axis in free.into_iter().take(changed) {
            point[axis] = mutated(&axes[axis], base[axis], rng);
        }
        self.assembled(&point, rng)
    }

    /// A configuration next to `base`: its numbers moved by about `scale`, all of them or one. `None` where it has none
    /// that may move, or it is forbidden.
    pub(super) fn near(&self, base: &[f64], scale: f64, rng: &mut ChaCha8Rng) -> Option<Candidate> {
        let axes = self.encoding.axes();
        let free = self.free(base).into_iter().filter(|axis| axes[*axis].choices().is_none()).collect::<Vec<_>>();
        let single = unit(rng) < SINGLE_STEP;
        let only = *free.get(below(rng, free.len().max(1) as u64) as usize)?;
        let mut point = base.to_vec();
        for axis in free.into_iter().filter(|axis| !single || *axis == only) {
            // On a grid a single step leads to the next cell.
            let least = axes[axis].cells().filter(|_| single).map_or(0.0, |cells| GRID_STEP / cells as f64);
            point[axis] = (base[axis] + normal(rng) * scale.max(least)).clamp(0.0, 1.0);
        }
        self.assembled(&point, rng)
    }

    /// The configuration at `point`; what is off there and on by a change is uniform.
    fn assembled(&self, point: &[f64], rng: &mut ChaCha8Rng) -> Option<Candidate> {
        let axes = self.encoding.axes();
        self.encoding.assemble(self.fixed, &mut |axis| {
            if point[axis].is_nan() { axes[axis].spread(unit(rng)) } else { point[axis] }
        })
    }

    /// Axes of parameters that are on at `base` and not fixed.
    fn free(&self, base: &[f64]) -> Vec<usize> {
        let mut free = (0..base.len()).filter(|axis| !base[*axis].is_nan()).collect::<Vec<_>>();
        for axis in self.fixed.keys().filter_map(|name| self.encoding.axis(name)) {
            free.retain(|other| *other != axis);
        }
        free
    }

    /// Configurations that differ from `base` in one category, or have one number at an end of its range.
    pub(super) fn corners(&self, base: &[f64], rng: &mut ChaCha8Rng) -> Vec<Candidate> {
        let axes = self.encoding.axes();
        let mut found = Vec::new();
        for changed in self.free(base) {
            let others = match axes[changed].choices() {
                None => vec![0.0, 1.0],
                Some(choices) if choices <= NEIGHBOURS => (0..choices).map(|choice| choice as f64).collect(),
                Some(choices) => (0..NEIGHBOURS).map(|_| below(rng, choices) as f64).collect(),
            };
            for other in others {
                let choose = &mut |axis: usize| match axis == changed {
                    true => other,
                    false if base[axis].is_nan() => axes[axis].spread(unit(rng)),
                    false => base[axis],
                };
                found.extend(self.encoding.assemble(self.fixed, choose));
            }
        }
        found
    }
}

fn normal(rng: &mut ChaCha8Rng) -> f64 {
    normal_quantile(unit(rng).max(1e-12))
}

/// Another coordinate.
fn mutated(axis: &Axis, base: f64, rng: &mut ChaCha8Rng) -> f64 {
    if let Some(choices) = axis.choices() {
        // One of the others.
        let other = below(rng, choices - 1) as f64;
        return if other >= base { other + 1.0 } else { other };
    }
    if unit(rng) < UNIFORM_STEP {
        return unit(rng);
    }
    let (low, high) = LOG_STEP;
    let step = libm::exp(std::f64::consts::LN_10 * (low + unit(rng) * (high - low)));
    let least = axis.cells().map_or(0.0, |cells| GRID_STEP / cells as f64);
    (base + normal(rng) * step.max(least)).clamp(0.0, 1.0)
}

/// Equal kernels around good points and one that is uniform; numbers are normal with the larger gap to a neighbour as
/// deviation.
struct Parzen<'a> {
    good: &'a [&'a [f64]],
    bandwidths: Vec<Vec<f64>>,
}

impl<'a> Parzen<'a> {
    fn new(axes: &[Axis], good: &'a [&'a [f64]]) -> Self {
        let of_axis = |(index, axis): (usize, &Axis)| {
            let mut sorted = good.iter().map(|point| point[index]).filter(|z| !z.is_nan()).collect::<Vec<_>>();
            sorted.sort_by(f64::total_cmp);
            let least = LEAST_BANDWIDTH.max(axis.cells().map_or(0.0, |cells| 0.5 / cells as f64));
            let bandwidth = |point: &&[f64]| {
                let z = point[index];
                let below = sorted.iter().rev().find(|other| **other < z).copied().unwrap_or(0.0);
                let above = sorted.iter().find(|other| **other > z).copied().unwrap_or(1.0);
                (z - below).max(above - z).clamp(least, 1.0)
            };
            good.iter().map(bandwidth).collect()
        };
        Self { good, bandwidths: axes.iter().enumerate().map(of_axis).collect() }
    }

    fn draw(&self, axis: &Axis, index: usize, kernel: usize, rng: &mut ChaCha8Rng) -> f64 {
        let u = unit(rng);
        let Some(centre) = self.good.get(kernel).map(|point| point[index]).filter(|z| !z.is_nan()) else {
            return axis.spread(u);
        };
        if let Some(choices) = axis.choices() {
            let pseudo = choices as f64 / (self.good.len() + 1) as f64;
            let keep = 1.0 / (1.0 + pseudo);
            return if u < keep { centre } else { axis.spread((u - keep) / (1.0 - keep)) };
        }
        let bandwidth = self.bandwidths[index][kernel];
        centre + bandwidth * truncated_quantile(u, -centre / bandwidth, (1.0 - centre) / bandwidth)
    }
}
