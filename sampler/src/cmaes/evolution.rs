//! The distribution and how a generation changes it.
//!
//! Source: Hansen 2016, arXiv:1604.00772, figure 6 and table 1, negative weights included; the same numbers as the
//! Python package `cmaes` gives.

use super::matrix::eigen;

/// A step size beyond this has left the space.
const MAX_SIGMA: f64 = 1e32;
/// Against a division by zero. Origin: the package `cmaes`.
const EPSILON: f64 = 1e-8;
/// Changes of coordinates and of losses below this count as none. Origin: Hansen 2016, appendix B.3.
const TOLERANCE: f64 = 1e-12;
/// A step size so many times the first one diverges. Origin: the same.
const TOLERANCE_UP: f64 = 1e4;
/// Most ratio of the largest and the smallest eigenvalue. Origin: the same.
const MAX_CONDITION: f64 = 1e14;

/// A normal distribution N(mean, sigma² C) and its paths.
#[derive(Clone, Debug)]
pub struct Evolution {
    population: usize,
    weights: Vec<f64>,
    rates: Rates,
    mean: Vec<f64>,
    sigma: f64,
    covariance: Vec<Vec<f64>>,
    path_sigma: Vec<f64>,
    path_c: Vec<f64>,
    generation: i32,
    /// Square roots of the eigenvalues of C, and its eigenvectors.
    scales: Vec<f64>,
    axes: Vec<Vec<f64>>,
    first_sigma: f64,
    /// Best and worst loss of each of the last generations, newest last.
    seen: Vec<(f64, f64)>,
}

/// Table 1 of the tutorial.
#[derive(Clone, Debug)]
struct Rates {
    mu_eff: f64,
    c1: f64,
    c_mu: f64,
    c_sigma: f64,
    d_sigma: f64,
    c_c: f64,
    chi: f64,
}

impl Evolution {
    /// The population that suits `dimensions`, at least 1.
    pub fn default_population(dimensions: usize) -> usize {
        4 + (3.0 * libm::log(dimensions as f64)) as usize
    }

    /// A round distribution of width `sigma` around `mean`, of at least one dimension. `population`: at least 4.
    pub fn new(mean: Vec<f64>, sigma: f64, population: usize) -> Self {
        let count = mean.len();
        let n = count as f64;
        let raw = (0..population)
            .map(|i| libm::log(f64::midpoint(population as f64, 1.0)) - libm::log(i as f64 + 1.0))
            .collect::<Vec<_>>();
        let effective = |part: &[f64]| {
            let sum = part.iter().sum::<f64>();
            sum * sum / part.iter().map(|w| w * w).sum::<f64>()
        };
        let (parents, others) = raw.split_at(population / 2);
        let (mu_eff, mu_eff_minus) = (effective(parents), effective(others));
        let c1 = 2.0 / ((n + 1.3) * (n + 1.3) + mu_eff);
        let c_mu = 2.0 * (mu_eff - 2.0 + 1.0 / mu_eff) / ((n + 2.0) * (n + 2.0) + mu_eff);
        // 1e-8 for large populations, as in the package `cmaes`.
        let c_mu = c_mu.min(1.0 - c1 - 1e-8);
        let alpha =
            (1.0 + c1 / c_mu).min(1.0 + 2.0 * mu_eff_minus / (mu_eff + 2.0)).min((1.0 - c1 - c_mu) / (n * c_mu));
        let positive = raw.iter().filter(|w| **w > 0.0).sum::<f64>();
        let negative = -raw.iter().filter(|w| **w < 0.0).sum::<f64>();
        let weights = raw.iter().map(|w| if *w >= 0.0 { w / positive } else { alpha * w / negative }).collect();
        let c_sigma = (mu_eff + 2.0) / (n + mu_eff + 5.0);
        let rates = Rates {
            mu_eff,
            c1,
            c_mu,
            c_sigma,
            d_sigma: 1.0 + 2.0 * (((mu_eff - 1.0) / (n + 1.0)).sqrt() - 1.0).max(0.0) + c_sigma,
            c_c: (4.0 + mu_eff / n) / (n + 4.0 + 2.0 * mu_eff / n),
            chi: n.sqrt() * (1.0 - 1.0 / (4.0 * n) + 1.0 / (21.0 * n * n)),
        };
        let identity = (0..count).map(|i| (0..count).map(|j| f64::from(u8::from(i == j))).collect());
        let identity = identity.collect::<Vec<Vec<f64>>>();
        Self {
            population,
            weights,
            rates,
            mean,
            sigma,
            covariance: identity.clone(),
            path_sigma: vec![0.0; count],
            path_c: vec![0.0; count],
            generation: 0,
            scales: vec![1.0; count],
            axes: identity,
            first_sigma: sigma,
            seen: Vec::new(),
        }
    }

    /// Points of one generation.
    pub fn population(&self) -> usize {
        self.population
    }

    /// Its centre.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    pub(super) fn mean_mut(&mut self) -> &mut [f64] {
        &mut self.mean
    }

    /// Its step size.
    pub fn sigma(&self) -> f64 {
        self.sigma
    }

    /// The matrix C.
    pub fn covariance(&self) -> &[Vec<f64>] {
        &self.covariance
    }

    /// The paths of the step size and of C.
    pub fn paths(&self) -> (&[f64], &[f64]) {
        (&self.path_sigma, &self.path_c)
    }

    /// The standard deviation along a coordinate.
    pub fn deviation(&self, coordinate: usize) -> f64 {
        self.sigma * self.covariance[coordinate][coordinate].sqrt()
    }

    /// The point that belongs to standard normal numbers, one per dimension.
    pub fn point(&self, normals: &[f64]) -> Vec<f64> {
        let scaled = normals.iter().zip(&self.scales).map(|(z, scale)| z * scale).collect::<Vec<_>>();
        let coordinate = |(mean, row): (&f64, &Vec<f64>)| mean + self.sigma * dot(row, &scaled);
        self.mean.iter().zip(&self.axes).map(coordinate).collect()
    }

    /// C^(−½) y.
    fn whiten(&self, y: &[f64]) -> Vec<f64> {
        let n = y.len();
        let along = (0..n).map(|k| (0..n).map(|i| self.axes[i][k] * y[i]).sum::<f64>() / self.scales[k]);
        let along = along.collect::<Vec<_>>();
        self.axes.iter().map(|row| dot(row, &along)).collect()
    }

    /// `point`, drawn toward the mean if it lies farther out than this distribution would draw one, so that points from
    /// elsewhere do not tear it apart.
    ///
    /// Source: Hansen 2011, injecting external solutions, arXiv:1110.4181.
    pub fn within_reach(&self, point: Vec<f64>) -> Vec<f64> {
        let n = point.len() as f64;
        let y = point.iter().zip(&self.mean).map(|(x, mean)| (x - mean) / self.sigma).collect::<Vec<_>>();
        let white = self.whiten(&y);
        let length = dot(&white, &white).sqrt();
        let most = n.sqrt() + 2.0 * n / (n + 2.0);
        if length <= most {
            return point;
        }
        y.iter().zip(&self.mean).map(|(y, mean)| mean + self.sigma * y * most / length).collect()
    }

    /// Takes a generation: as many points as the population, best first; the best and the worst loss of it.
    pub fn update(&mut self, points: &[Vec<f64>], losses: (f64, f64)) {
        let Rates { mu_eff, c1, c_mu, c_sigma, d_sigma, c_c, chi } = self.rates;
        let n = self.mean.len();
        self.generation += 1;
        self.seen.push(losses);
        if self.seen.len() > self.window() {
            self.seen.remove(0);
        }
        let step = |x: &Vec<f64>| x.iter().zip(&self.mean).map(|(x, mean)| (x - mean) / self.sigma).collect();
        let steps = points.iter().map(step).collect::<Vec<Vec<f64>>>();
        let parents = self.population / 2;
        let mean_step = (0..n)
            .map(|i| steps[..parents].iter().zip(&self.weights).map(|(y, weight)| weight * y[i]).sum::<f64>())
            .collect::<Vec<_>>();
        for (mean, y) in self.mean.iter_mut().zip(&mean_step) {
            *mean += self.sigma * y;
        }
        let stride = (c_sigma * (2.0 - c_sigma) * mu_eff).sqrt();
        let white = self.whiten(&mean_step);
        for (path, white) in self.path_sigma.iter_mut().zip(&white) {
            *path = (1.0 - c_sigma) * *path + stride * white;
        }
        let whites = steps.iter().map(|y| self.whiten(y)).collect::<Vec<_>>();
        let length = dot(&self.path_sigma, &self.path_sigma).sqrt();
        self.sigma = (self.sigma * libm::exp(c_sigma / d_sigma * (length / chi - 1.0))).min(MAX_SIGMA);
        let settled = (1.0 - libm::pow(1.0 - c_sigma, f64::from(2 * (self.generation + 1)))).sqrt();
        let is_slow = length / settled < (1.4 + 2.0 / (n as f64 + 1.0)) * chi;
        let stride = if is_slow { (c_c * (2.0 - c_c) * mu_eff).sqrt() } else { 0.0 };
        for (path, y) in self.path_c.iter_mut().zip(&mean_step) {
            *path = (1.0 - c_c) * *path + stride * y;
        }
        let lost = if is_slow { 0.0 } else { c_c * (2.0 - c_c) };
        let keep = 1.0 + c1 * lost - c1 - c_mu * self.weights.iter().sum::<f64>();
        let weigh = |(weight, white): (&f64, &Vec<f64>)| {
            if *weight >= 0.0 { *weight } else { weight * n as f64 / (dot(white, white) + EPSILON) }
        };
        let weights = self.weights.iter().zip(&whites).map(weigh).collect::<Vec<_>>();
        for i in 0..n {
            for j in 0..=i {
                let rank_mu = steps.iter().zip(&weights).map(|(y, weight)| weight * y[i] * y[j]).sum::<f64>();
                let rank_one = self.path_c[i] * self.path_c[j];
                let entry = keep * self.covariance[i][j] + c1 * rank_one + c_mu * rank_mu;
                self.covariance[i][j] = entry;
                self.covariance[j][i] = entry;
            }
        }
        self.decompose();
    }

    fn decompose(&mut self) {
        let (values, axes) = eigen(&self.covariance);
        self.scales = values.iter().map(|value| if *value > 0.0 { value.sqrt() } else { EPSILON.sqrt() }).collect();
        self.axes = axes;
    }

    /// Generations over which losses are watched.
    fn window(&self) -> usize {
        10 + (30 * self.mean.len()).div_ceil(self.population)
    }

    /// Whether going on would change nothing: losses or coordinates stand still, the step size explodes, or the matrix
    /// is numerically flat.
    pub fn is_spent(&self) -> bool {
        let n = self.mean.len();
        if self.seen.len() == self.window() {
            let best = self.seen.iter().map(|seen| seen.0).fold(f64::INFINITY, f64::min);
            let worst = self.seen.iter().map(|seen| seen.1).fold(f64::NEG_INFINITY, f64::max);
            if worst - best < TOLERANCE {
                return true;
            }
        }
        let largest = self.scales.iter().copied().fold(0.0, f64::max);
        let smallest = self.scales.iter().copied().fold(f64::INFINITY, f64::min);
        let still = |i: usize| {
            let least = TOLERANCE * self.first_sigma;
            self.deviation(i) < least && (self.sigma * self.path_c[i]).abs() < least
        };
        let is_finite = self.mean.iter().all(|mean| mean.is_finite()) && self.sigma.is_finite();
        (0..n).all(still)
            || self.sigma * largest > TOLERANCE_UP * self.first_sigma
            || largest * largest > MAX_CONDITION * smallest * smallest
            || !is_finite
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}
