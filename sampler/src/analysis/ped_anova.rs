//! Importances by PED-ANOVA: how much the density of a parameter among the best trials differs from that among all.
//!
//! Source: Watanabe, Bansal and Hutter 2023, arXiv:2304.10255; conditional parameters as in arXiv:2601.20800. The formulas
//! are Optuna 5.0's (`PedAnovaImportanceEvaluator`), so that the numbers are.

use std::sync::Arc;

use fleetune_core::Distribution;

use super::observation::{Observation, Setting};
use crate::numeric::log_gauss_mass;

/// Share of the trials that counts as the best. Origin: Optuna 5.0.
const TARGET_QUANTILE: f64 = 0.1;
/// Grid points of a continuous parameter. Origin: Optuna 5.0.
const STEPS: usize = 50;
/// Weight of the prior, in trials. Origin: Optuna 5.0.
const PRIOR_WEIGHT: f64 = 1.0;
/// Fewest trials that share a distribution of a parameter for it to count. Origin: Optuna 5.0.
const LEAST_TRIALS: usize = 2;
/// Least bandwidth in grid steps: 90 % of the mass within the cell. Origin: Optuna 5.0.
const LEAST_BANDWIDTH: f64 = 0.5 / 1.64;

/// The importance of each of `names`, not normalised. `losses`: finite, one per trial, smaller is better; a trial may be
/// there several times, as after drawing with replacement.
pub(super) fn importances(names: &[&str], trials: &[&Observation], losses: &[f64]) -> Vec<f64> {
    if trials.len() <= 1 {
        return vec![0.0; names.len()];
    }
    let mut sorted = losses.to_vec();
    sorted.sort_by(f64::total_cmp);
    let cutoff = sorted[((TARGET_QUANTILE * losses.len() as f64).ceil() as usize).max(1) - 1];
    let is_target = losses.iter().map(|&loss| loss <= cutoff).collect::<Vec<_>>();
    let targets = is_target.iter().filter(|&&target| target).count();
    let quantile = targets as f64 / trials.len() as f64;
    let importance = |name: &&str| {
        let mut sum = 0.0;
        for (distribution, members) in regimes(name, trials) {
            let best = members.iter().copied().filter(|&(row, _)| is_target[row]).collect::<Vec<_>>();
            if members.len() < LEAST_TRIALS || best.is_empty() || distribution.is_single() {
                continue;
            }
            let share_of_best = best.len() as f64 / targets as f64;
            let share_of_all = members.len() as f64 / trials.len() as f64;
            let divergence = divergence(&density(&distribution, &best), &density(&distribution, &members));
            sum += share_of_best * share_of_best / share_of_all * divergence;
        }
        sum * quantile * quantile
    };
    names.iter().map(importance).collect()
}

type Members<'a> = Vec<(usize, &'a Setting)>;

/// The trials that have the parameter, by row, for each distribution it had, in the order of their first row.
fn regimes<'a>(name: &str, trials: &[&'a Observation]) -> Vec<(Arc<Distribution>, Members<'a>)> {
    let mut regimes = Vec::<(Arc<Distribution>, Members<'a>)>::new();
    for (row, trial) in trials.iter().enumerate() {
        let Some(setting) = trial.params.get(name) else { continue };
        let same =
            |other: &Arc<Distribution>| Arc::ptr_eq(other, &setting.distribution) || *other == setting.distribution;
        match regimes.iter_mut().find(|(distribution, _)| same(distribution)) {
            Some((_, members)) => members.push((row, setting)),
            None => regimes.push((setting.distribution.clone(), vec![(row, setting)])),
        }
    }
    regimes
}

/// Pearson's divergence of the best from all, both densities over the same cells.
fn divergence(best: &[f64], all: &[f64]) -> f64 {
    let term = |(best, all): (&f64, &f64)| {
        let (best, all) = (best + 1e-12, all + 1e-12);
        all * (best / all - 1.0) * (best / all - 1.0)
    };
    best.iter().zip(all).map(term).sum()
}

/// The density of a parameter over its cells.
fn density(distribution: &Distribution, members: &[(usize, &Setting)]) -> Vec<f64> {
    if let Distribution::Categorical(choices) = distribution {
        return categorical_density(&counts(members, choices.as_slice().len(), |internal| internal));
    }
    let (low, high, step, log) = match distribution {
        Distribution::Float(range) => (range.low(), range.high(), range.step(), range.log()),
        Distribution::Int(range) => (range.low() as f64, range.high() as f64, Some(range.step() as f64), range.log()),
        Distribution::Categorical(_) => (0.0, 1.0, None, false),
    };
    let steps = match step {
        Some(_) if log => (libm::log(high - low + 1.0) / libm::log(2.0)).ceil() as usize + 1,
        Some(step) => ((high - low) / step).round_ties_even() as usize + 1,
        None => STEPS,
    };
    let steps = steps.min(STEPS);
    let scale = |number: f64| if log { libm::log(number) } else { number };
    let (low, high) = (scale(low), scale(high));
    let width = (high - low) / (steps - 1) as f64;
    // Half way between two cells is the lower one.
    numeric_density(&counts(members, steps, |internal| ((scale(internal) - low) / width - 0.5).ceil()))
}

/// Trials per cell.
fn counts(members: &[(usize, &Setting)], cells: usize, cell: impl Fn(f64) -> f64) -> Vec<f64> {
    let mut counts = vec![0.0; cells];
    for (_, setting) in members {
        counts[(cell(setting.internal).max(0.0) as usize).min(cells - 1)] += 1.0;
    }
    counts
}

/// A kernel per choice that was taken, and the prior.
fn categorical_density(counts: &[f64]) -> Vec<f64> {
    let kernels = counts.iter().filter(|count| **count > 0.0).count() as f64 + 1.0;
    let trials = counts.iter().sum::<f64>();
    // Each row of weights: the prior's share everywhere, and 1 at the kernel's own choice.
    let base = PRIOR_WEIGHT / kernels;
    let row = base * counts.len() as f64;
    let density = |count: &f64| {
        let elsewhere = (trials - count) * base / (row + 1.0);
        (elsewhere + count * (base + 1.0) / (row + 1.0) + PRIOR_WEIGHT / counts.len() as f64) / (trials + PRIOR_WEIGHT)
    };
    counts.iter().map(density).collect()
}

/// A truncated normal per cell that was met, its bandwidth by Scott's rule, and the prior, over cells 0, 1, 2, ….
fn numeric_density(counts: &[f64]) -> Vec<f64> {
    let cells = counts.len() as f64;
    let met = counts.iter().enumerate().filter(|(_, count)| **count > 0.0);
    let met = met.map(|(cell, count)| (cell as f64, *count)).collect::<Vec<_>>();
    let trials = counts.iter().sum::<f64>();
    let mut density = vec![0.0; counts.len()];
    let mut add = |centre: f64, bandwidth: f64, weight: f64, mass_at: &dyn Fn(f64) -> f64| {
        let edge = |cell: f64| (cell - 0.5 - centre) / bandwidth;
        let whole = libm::exp(log_gauss_mass(edge(0.0), edge(cells)));
        for (cell, density) in density.iter_mut().enumerate() {
            *density += weight / (trials + PRIOR_WEIGHT) * mass_at(cell as f64 - centre) / whole;
        }
    };
    let mass =
        |offset: f64, bandwidth: f64| libm::exp(log_gauss_mass((offset - 0.5) / bandwidth, (offset + 0.5) / bandwidth));
    // The kernels differ in their centre only, which is a cell: so few masses serve them all.
    let narrow = bandwidth(&met, trials);
    let masses = (0..counts.len()).map(|offset| mass(offset as f64, narrow)).collect::<Vec<_>>();
    for (centre, weight) in met {
        add(centre, narrow, weight, &|offset| masses[offset.abs() as usize]);
    }
    add((cells - 1.0) / 2.0, cells, PRIOR_WEIGHT, &|offset| mass(offset, cells));
    density
}

/// Scott's rule with the smaller of deviation and interquartile range; `met`: cells and counts, ascending.
fn bandwidth(met: &[(f64, f64)], trials: f64) -> f64 {
    let mean = met.iter().map(|(cell, count)| cell * count).sum::<f64>() / trials;
    let squares = met.iter().map(|(cell, count)| (cell - mean) * (cell - mean) * count).sum::<f64>();
    let deviation = (squares / (trials - 1.0).max(1.0)).sqrt();
    // Optuna's quartiles: the first cell that reaches a quarter, and the first that exceeds three.
    let place = |reached: &dyn Fn(f64) -> bool| {
        let mut sum = 0.0;
        let counts = met.iter().position(|(_, count)| {
            sum += count;
            reached(sum)
        });
        met[counts.unwrap_or(met.len() - 1)].0
    };
    let first = place(&|sum| sum >= (trials / 4.0).floor());
    let third = place(&|sum| sum > (trials * 3.0 / 4.0).floor());
    let spread = ((third - first) / 1.34).min(deviation);
    (1.059 * spread * libm::pow(trials, -0.2)).max(LEAST_BANDWIDTH)
}
