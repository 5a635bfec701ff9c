//! Gaussian process regression with length scales of its own for each dimension, chosen by maximum a posteriori.

use std::cmp::Ordering;

use super::kernel::{Dimension, Kernel, Points, matern, same_bits};
use super::lbfgs::{Evaluation, minimize};
use super::linalg::{Cholesky, Triangle, dot};
use crate::numeric::{LN_SQRT_2PI, normal_quantile};

/// Bounds of θ (the logarithm of a length scale), log σ² and log noise.
const THETA: (f64, f64) = (-4.0, 5.0);
const LOG_SIGNAL: (f64, f64) = (-3.0, 3.0);
const LOG_NOISE: (f64, f64) = (-12.0, 1.0);
/// Steps of one fit, and of one that only has to tell models apart.
const ITERATIONS: usize = 30;
const SKETCHED: usize = 12;
/// First jitter on a diagonal that is not positive definite, its growth, and where it is given up.
const JITTER: (f64, f64, f64) = (1e-8, 100.0, 1.0);

/// Values at points.
#[derive(Clone, Debug, Default)]
pub(super) struct Observations {
    pub(super) points: Points,
    pub(super) targets: Vec<f64>,
    /// The common noise of each point times this: more than 1 where less was measured than planned.
    pub(super) noise_scale: Vec<f64>,
    /// Variance known of each point, besides the common noise.
    pub(super) variance: Vec<f64>,
}

impl Observations {
    pub(super) fn len(&self) -> usize {
        self.targets.len()
    }

    /// Whether both hold the same bits.
    pub(super) fn same(&self, other: &Self) -> bool {
        self.points.same(&other.points)
            && same_bits(&self.targets, &other.targets)
            && same_bits(&self.noise_scale, &other.noise_scale)
            && same_bits(&self.variance, &other.variance)
    }
}

/// Normal distributions of the logarithms: length scales, signal, noise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Prior {
    theta: (f64, f64),
    log_signal: (f64, f64),
    log_noise: (f64, f64),
}

impl Prior {
    /// The prior for so many dimensions. Length scales grow with their number, as distances do. Departs from Hvarfner
    /// et al. 2024 (arXiv:2402.02229), whose scales are wider: measured, those lost much in the first hundred trials.
    pub(super) fn new(dimensions: usize, log_noise: f64) -> Self {
        let theta = libm::log(0.35) + 0.45 * libm::log(dimensions.max(1) as f64 / 2.0);
        Self { theta: (theta, 0.9), log_signal: (0.0, 1.0), log_noise: (log_noise, 1.5) }
    }

    fn of(&self, dimensions: usize, index: usize) -> (f64, f64) {
        match index.cmp(&dimensions) {
            Ordering::Less => self.theta,
            Ordering::Equal => self.log_signal,
            Ordering::Greater => self.log_noise,
        }
    }

    /// The parameters at quantiles `u` of the prior, in (0, 1).
    fn quantiles(&self, dimensions: usize, u: &mut dyn FnMut() -> f64) -> Vec<f64> {
        let draw = |index| {
            let (mean, deviation) = self.of(dimensions, index);
            mean + deviation * normal_quantile(u().clamp(1e-3, 1.0 - 1e-3))
        };
        (0..dimensions + 2).map(draw).collect()
    }
}

/// Kernel and noise of a process.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Hyper {
    pub(super) kernel: Kernel,
    pub(super) noise: f64,
}

impl Hyper {
    fn new(dimensions: &[Dimension], parameters: &[f64]) -> Self {
        let count = dimensions.len();
        let weights = parameters[..count].iter().map(|theta| libm::exp(-2.0 * theta)).collect();
        let kernel = Kernel { dimensions: dimensions.to_vec(), weights, signal: libm::exp(parameters[count]) };
        Self { kernel, noise: libm::exp(parameters[count + 1]) }
    }

    /// The mean of the prior: what is assumed before there is data.
    pub(super) fn prior(dimensions: &[Dimension], prior: &Prior) -> Self {
        Self::new(dimensions, &prior.quantiles(dimensions.len(), &mut || 0.5))
    }

    /// The parameters a few steps from the prior's mean toward the most probable ones.
    pub(super) fn sketch(dimensions: &[Dimension], data: &Observations, prior: &Prior) -> Self {
        let start = prior.quantiles(dimensions.len(), &mut || 0.5);
        let found = search(dimensions, data, prior, &[start], SKETCHED);
        found.unwrap_or_else(|| Self::prior(dimensions, prior))
    }

    /// The most probable parameters given `data`, of two searches: from the prior's mean and from a point drawn by
    /// `uniform`.
    pub(super) fn fit(
        dimensions: &[Dimension],
        data: &Observations,
        prior: &Prior,
        uniform: &mut dyn FnMut() -> f64,
    ) -> Self {
        let count = dimensions.len();
        if data.len() < 2 {
            return Self::prior(dimensions, prior);
        }
        let starts = [prior.quantiles(count, &mut || 0.5), prior.quantiles(count, uniform)];
        let found = search(dimensions, data, prior, &starts, ITERATIONS);
        found.unwrap_or_else(|| Self::prior(dimensions, prior))
    }
}

/// The most probable parameters that are found from `starts`.
fn search(
    dimensions: &[Dimension],
    data: &Observations,
    prior: &Prior,
    starts: &[Vec<f64>],
    iterations: usize,
) -> Option<Hyper> {
    let likelihood = Likelihood::new(dimensions, data, prior);
    let bounds = |pick: &dyn Fn((f64, f64)) -> f64| {
        let tail = [pick(LOG_SIGNAL), pick(LOG_NOISE)];
        std::iter::repeat_n(pick(THETA), dimensions.len()).chain(tail).collect::<Vec<_>>()
    };
    let (low, high) = (bounds(&|pair| pair.0), bounds(&|pair| pair.1));
    let searches =
        starts.iter().filter_map(|start| minimize(&|p| likelihood.evaluate(p), start, &low, &high, iterations));
    let best = searches.reduce(|best, other| if other.1 < best.1 { other } else { best });
    best.map(|(parameters, _)| Hyper::new(dimensions, &parameters))
}

/// The negative logarithm of the posterior density of the parameters, up to a constant.
struct Likelihood<'a> {
    dimensions: usize,
    data: &'a Observations,
    prior: &'a Prior,
    /// For each dimension the distances of all pairs, row after row of the lower triangle, diagonal included.
    distances: Vec<Vec<f64>>,
}

impl<'a> Likelihood<'a> {
    fn new(dimensions: &[Dimension], data: &'a Observations, prior: &'a Prior) -> Self {
        let table = |(index, dimension): (usize, &Dimension)| {
            let column = data.points.column(index);
            let row = |a: usize| column[..=a].iter().map(move |b| dimension.distance(column[a], *b));
            (0..column.len()).flat_map(row).collect()
        };
        Self {
            dimensions: dimensions.len(),
            data,
            prior,
            distances: dimensions.iter().enumerate().map(table).collect(),
        }
    }

    /// The value and its gradient: with G = ½ (K⁻¹ − α αᵀ), Σ G · dK.
    fn evaluate(&self, parameters: &[f64]) -> Evaluation {
        let (count, rows) = (self.dimensions, self.data.len());
        let weights = parameters[..count].iter().map(|theta| libm::exp(-2.0 * theta)).collect::<Vec<_>>();
        let (signal, noise) = (libm::exp(parameters[count]), libm::exp(parameters[count + 1]));
        let mut r2 = vec![0.0; rows * (rows + 1) / 2];
        for (weight, distances) in weights.iter().zip(&self.distances) {
            r2.iter_mut().zip(distances).for_each(|(r2, distance)| *r2 += weight * distance);
        }
        let (mut matrix, mut slopes) = (r2, Vec::with_capacity(rows * (rows + 1) / 2));
        for entry in &mut matrix {
            let (value, slope) = matern(*entry);
            *entry = signal * value;
            slopes.push(slope);
        }
        // Without noise: what the signal's derivative needs.
        let covariances = matrix.clone();
        let mut diagonal = 0;
        for row in 0..rows {
            diagonal += row;
            matrix[diagonal + row] += noise * self.data.noise_scale[row] + self.data.variance[row];
        }
        let factor = Cholesky::of(&Triangle::from_entries(rows, matrix))?;
        let mut alpha = self.data.targets.clone();
        factor.solve(&mut alpha);
        let mut value = 0.5 * dot(&alpha, &self.data.targets) + 0.5 * factor.log_determinant();

        // Off the diagonal each pair counts twice.
        let mut g = factor.inverse().entries().to_vec();
        let (mut by_signal, mut by_noise) = (0.0, 0.0);
        let mut start = 0;
        for row in 0..rows {
            let entries = &mut g[start..=start + row];
            for (entry, other) in entries.iter_mut().zip(&alpha) {
                *entry -= alpha[row] * other;
            }
            entries[row] *= 0.5;
            by_noise += entries[row] * noise * self.data.noise_scale[row];
            by_signal += dot(entries, &covariances[start..=start + row]);
            start += row + 1;
        }
        // dK/dθ = −2 w δ · dK/dr², dK/dr² = −(5/6) σ² (1 + a) e^(−a).
        g.iter_mut().zip(&slopes).for_each(|(g, slope)| *g *= slope);
        let scale = 5.0 / 3.0 * signal;
        let by_theta =
            weights.iter().zip(&self.distances).map(|(weight, distances)| scale * weight * dot(&g, distances));
        let mut gradient = by_theta.chain([by_signal, by_noise]).collect::<Vec<_>>();
        for (index, parameter) in parameters.iter().enumerate() {
            let (mean, deviation) = self.prior.of(count, index);
            let gap = (parameter - mean) / deviation;
            value += 0.5 * gap * gap;
            gradient[index] += gap / deviation;
        }
        value.is_finite().then_some((value, gradient))
    }
}

/// A process given observations.
#[derive(Clone, Debug)]
pub(super) struct Posterior {
    hyper: Hyper,
    points: Points,
    factor: Cholesky,
    targets: Vec<f64>,
    /// K⁻¹ y.
    alpha: Vec<f64>,
}

impl Posterior {
    /// Conditions on `data`. A matrix that is not positive definite gets jitter; `None` when even that does not help.
    pub(super) fn new(hyper: Hyper, data: &Observations) -> Option<Self> {
        let (start, growth, end) = JITTER;
        let mut jitter = 0.0;
        let factor = loop {
            if let Some(factor) = factorize(&hyper, data, jitter) {
                break factor;
            }
            jitter = if jitter == 0.0 { start } else { jitter * growth };
            if jitter > end {
                return None;
            }
        };
        let mut alpha = data.targets.clone();
        factor.solve(&mut alpha);
        Some(Self { hyper, points: data.points.clone(), factor, targets: data.targets.clone(), alpha })
    }

    pub(super) fn hyper(&self) -> &Hyper {
        &self.hyper
    }

    /// Mean and variance of the function (without noise) at `point`.
    pub(super) fn predict(&self, point: &[f64]) -> (f64, f64) {
        let mut covariances = self.hyper.kernel.covariances(&self.points, point);
        let mean = dot(&covariances, &self.alpha);
        self.factor.solve_lower(&mut covariances);
        let variance = self.hyper.kernel.signal - dot(&covariances, &covariances);
        (mean, variance.max(1e-10 * self.hyper.kernel.signal))
    }

    /// The mean alone, which is much cheaper.
    pub(super) fn mean(&self, point: &[f64]) -> f64 {
        dot(&self.hyper.kernel.covariances(&self.points, point), &self.alpha)
    }

    /// Adds an observation that says what is expected there: means stay, variances around it shrink. One that does
    /// not fit in, next to its double, is dropped.
    pub(super) fn fantasize(&mut self, point: &[f64]) {
        let covariances = self.hyper.kernel.covariances(&self.points, point);
        let mean = dot(&covariances, &self.alpha);
        let variance = self.hyper.kernel.signal + self.hyper.noise;
        let added = |factor: &mut Cholesky, jitter: f64| factor.append(&covariances, variance + jitter);
        let (start, growth, end) = JITTER;
        let mut jitter = 0.0;
        while added(&mut self.factor, jitter).is_none() {
            jitter = if jitter == 0.0 { start } else { jitter * growth };
            if jitter > end {
                return;
            }
        }
        self.points.push(point);
        self.targets.push(mean);
        // Its weight is zero: y − m is.
        self.alpha.push(0.0);
    }

    /// What is expected of each observation given the others.
    pub(super) fn left_out(&self) -> Vec<f64> {
        let inverse = self.factor.inverse();
        (0..self.targets.len()).map(|row| self.targets[row] - self.alpha[row] / inverse.row(row)[row]).collect()
    }

    /// The sum of the log densities of each observation given the others.
    pub(super) fn leave_one_out(&self) -> f64 {
        let inverse = self.factor.inverse();
        let term = |row: usize| {
            let precision = inverse.row(row)[row];
            let gap = self.alpha[row] / precision;
            0.5 * (libm::log(precision) - gap * gap * precision - 2.0 * LN_SQRT_2PI)
        };
        (0..self.targets.len()).map(term).sum()
    }
}

fn factorize(hyper: &Hyper, data: &Observations, jitter: f64) -> Option<Cholesky> {
    let mut factor = Cholesky::default();
    let mut known = Points::new(data.points.dimensions(), []);
    let mut point = vec![0.0; data.points.dimensions()];
    for row in 0..data.len() {
        for (index, coordinate) in point.iter_mut().enumerate() {
            *coordinate = data.points.column(index)[row];
        }
        let covariances = hyper.kernel.covariances(&known, &point);
        let noise = hyper.noise * data.noise_scale[row] + data.variance[row] + jitter;
        factor.append(&covariances, hyper.kernel.signal + noise)?;
        known.push(&point);
    }
    Some(factor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{trial_rng, unit};
    use fleetune_core::TrialNumber;

    const DIMENSIONS: [Dimension; 3] = [Dimension::Number, Dimension::Category, Dimension::Number];

    /// A smooth function of numbers, categories and a parameter that is sometimes off.
    fn data(rows: usize, seed: u64) -> Observations {
        let mut rng = trial_rng(seed, TrialNumber(0), &[]);
        let mut data = Observations { points: Points::new(3, []), ..Observations::default() };
        for row in 0..rows {
            let (x, k, c) = (unit(&mut rng), (unit(&mut rng) * 3.0).floor(), unit(&mut rng));
            let off = k > 0.5 && k < 1.5;
            data.points.push(&[x, k, if off { f64::NAN } else { c }]);
            data.targets.push((x - 0.4) * (x - 0.4) * 4.0 + k - 1.5 - if off { 1.0 } else { c });
            data.noise_scale.push(if row % 5 == 4 { 3.0 } else { 1.0 });
            data.variance.push(if row % 4 == 1 { 0.01 } else { 0.0 });
        }
        data
    }

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        let data = data(20, 1);
        let prior = Prior::new(3, -4.0);
        let likelihood = Likelihood::new(&DIMENSIONS, &data, &prior);
        for parameters in [[-0.6, -0.2, 0.4, 0.3, -3.0], [0.9, -1.3, 0.1, -1.0, -6.0]] {
            let (_, gradient) = likelihood.evaluate(&parameters).unwrap();
            for index in 0..parameters.len() {
                let step = 1e-5;
                let at = |sign: f64| {
                    let mut moved = parameters;
                    moved[index] += sign * step;
                    likelihood.evaluate(&moved).unwrap().0
                };
                let slope = (at(1.0) - at(-1.0)) / (2.0 * step);
                let gap = (gradient[index] - slope).abs();
                assert!(gap < 1e-5 * slope.abs().max(1.0), "{index}: {} against {slope}", gradient[index]);
            }
        }
    }

    #[test]
    fn a_fit_predicts_what_it_has_not_seen() {
        let (seen, unseen) = (data(40, 1), data(20, 2));
        let prior = Prior::new(3, -4.0);
        let posterior = |hyper| Posterior::new(hyper, &seen).unwrap();
        let error = |posterior: &Posterior| {
            let gap = |row: usize| {
                let point = (0..3).map(|index| unseen.points.column(index)[row]).collect::<Vec<_>>();
                let (mean, variance) = posterior.predict(&point);
                assert_eq!(mean.to_bits(), posterior.mean(&point).to_bits());
                assert!(variance > 0.0 && variance <= posterior.hyper().kernel.signal);
                (mean - unseen.targets[row]) * (mean - unseen.targets[row])
            };
            (0..unseen.len()).map(gap).sum::<f64>() / unseen.len() as f64
        };
        let mut rng = trial_rng(3, TrialNumber(0), &[]);
        let fitted = posterior(Hyper::fit(&DIMENSIONS, &seen, &prior, &mut || unit(&mut rng)));
        let assumed = posterior(Hyper::prior(&DIMENSIONS, &prior));
        assert!(error(&fitted) < 0.1, "{}", error(&fitted));
        assert!(fitted.leave_one_out() > assumed.leave_one_out());
    }

    #[test]
    fn leaving_one_out_is_forgetting_it() {
        let all = data(12, 4);
        let hyper = Hyper::prior(&DIMENSIONS, &Prior::new(3, -2.0));
        let mut sum = 0.0;
        for out in 0..all.len() {
            let point = |row: usize| (0..3).map(|index| all.points.column(index)[row]).collect::<Vec<_>>();
            let rows = (0..all.len()).filter(|row| *row != out).collect::<Vec<_>>();
            let mut rest = Observations { points: Points::new(3, []), ..Observations::default() };
            for row in rows {
                rest.points.push(&point(row));
                rest.targets.push(all.targets[row]);
                rest.noise_scale.push(all.noise_scale[row]);
                rest.variance.push(all.variance[row]);
            }
            let (mean, variance) = Posterior::new(hyper.clone(), &rest).unwrap().predict(&point(out));
            let variance = variance + hyper.noise * all.noise_scale[out] + all.variance[out];
            let gap = all.targets[out] - mean;
            sum -= 0.5 * (gap * gap / variance + libm::log(variance) + 2.0 * LN_SQRT_2PI);
        }
        let quick = Posterior::new(hyper, &all).unwrap().leave_one_out();
        assert!((quick - sum).abs() < 1e-9, "{quick} is not {sum}");
    }

    #[test]
    fn fantasies_shrink_variances_and_keep_means() {
        let data = data(15, 5);
        let mut posterior = Posterior::new(Hyper::prior(&DIMENSIONS, &Prior::new(3, -12.0)), &data).unwrap();
        let (point, near) = ([0.7, 2.0, 0.2], [0.7, 2.0, 0.2 + 1e-9]);
        let before = posterior.predict(&point);
        // Near-duplicates a hundred times over: dropped at worst, never a panic.
        for _ in 0..50 {
            posterior.fantasize(&point);
            posterior.fantasize(&near);
        }
        let after = posterior.predict(&point);
        assert!((before.0 - after.0).abs() < 1e-6 && after.1 < 0.1 * before.1, "{before:?} {after:?}");
    }

    #[test]
    fn identical_points_with_different_values_are_noise() {
        let mut data = Observations { points: Points::new(3, []), ..Observations::default() };
        for row in 0..10 {
            data.points.push(&[0.5, 0.0, 0.5]);
            data.targets.push(f64::from(row % 2));
            data.noise_scale.push(1.0);
            data.variance.push(0.0);
        }
        let hyper = Hyper::fit(&DIMENSIONS, &data, &Prior::new(3, -4.0), &mut || 0.3);
        let (mean, _) = Posterior::new(hyper, &data).unwrap().predict(&[0.5, 0.0, 0.5]);
        assert!((mean - 0.5).abs() < 0.1, "{mean}");
    }
}
