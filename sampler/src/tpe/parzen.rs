//! A Parzen estimator: a mixture of products of one-dimensional kernels, one for each observation plus a wide prior.
//!
//! A kernel whose observation lacks a parameter is uniform in it: the space of all parameters, on or off, is modelled
//! jointly, without Optuna's decomposition into groups.

use rand::rngs::ChaCha8Rng;

use super::column::{Column, Kind};
use super::options::{LeastBandwidth, ParzenOptions};
use crate::numeric::{LN_SQRT_2PI, log_cell_mass, log_gauss_mass, log_sum_exp, truncated_quantile};
use crate::rng::unit;

/// Observations that get full weight; older ones get a ramp. Origin: Optuna's default weights.
const RECENT: usize = 25;
/// Least bandwidth without any clip. Origin: Optuna.
const TINY_BANDWIDTH: f64 = 1e-12;

/// The weights of `n` observations, oldest first: the last 25 get 1, the ones before a ramp from 1/n to 1.
pub fn recency_weights(n: usize) -> Vec<f64> {
    let ramp = n.saturating_sub(RECENT);
    let start = 1.0 / n as f64;
    let step = |index: usize| if ramp > 1 { index as f64 * ((1.0 - start) / (ramp - 1) as f64) } else { 0.0 };
    (0..n).map(|index| if index < ramp { start + step(index) } else { 1.0 }).collect()
}

/// A density over the columns, ready to be drawn from and evaluated.
#[derive(Clone, Debug)]
pub struct Parzen {
    /// One per kernel, the prior last.
    log_weights: Vec<f64>,
    cumulative: Vec<f64>,
    dimensions: Vec<Dimension>,
}

#[derive(Clone, Debug)]
enum Dimension {
    Numeric(Numeric),
    Categorical {
        choices: usize,
        /// Choice of each kernel; `None` for the prior and where the parameter was off.
        chosen: Vec<Option<usize>>,
        hit: f64,
        miss: f64,
    },
}

#[derive(Clone, Debug)]
struct Numeric {
    column: Column,
    low: f64,
    high: f64,
    step: Option<f64>,
    /// Distinct kernels; repeated observations on a grid share one.
    kernels: Vec<Kernel>,
    /// For each kernel of the mixture its index in `kernels`; `None` where the parameter was off.
    index: Vec<Option<u32>>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Kernel {
    centre: f64,
    bandwidth: f64,
    log_bandwidth: f64,
    /// Logarithm of what the density is divided by.
    log_norm: f64,
}

impl Parzen {
    /// The estimator of `observations`, raw numbers by column then by trial (oldest first), with a weight for each
    /// trial. Without observations it is the prior alone.
    pub fn new(columns: &[Column], observations: &[Vec<f64>], weights: &[f64], options: ParzenOptions) -> Self {
        let prior = if weights.is_empty() { 1.0 } else { options.prior_weight };
        let total = weights.iter().sum::<f64>() + prior;
        let shares = weights.iter().chain([&prior]).map(|weight| weight / total);
        let mut sum = 0.0;
        let cumulative = shares
            .clone()
            .map(|share| {
                sum += share;
                sum
            })
            .collect();
        let dimension = |(column, observed): (&Column, &Vec<f64>)| match column.kind() {
            Kind::Numeric { low, high, step, .. } => {
                Dimension::Numeric(Numeric::new(column, (*low, *high, *step), observed, options))
            }
            Kind::Categorical { choices } => {
                let pseudo = options.prior_weight / (observed.len() + 1) as f64;
                let row = 1.0 + *choices as f64 * pseudo;
                let chosen = |raw: &f64| (*raw >= 0.0).then_some(*raw as usize).filter(|index| index < choices);
                Dimension::Categorical {
                    choices: *choices,
                    chosen: observed.iter().map(chosen).chain([None]).collect(),
                    hit: libm::log((1.0 + pseudo) / row),
                    miss: libm::log(pseudo / row),
                }
            }
        };
        Self {
            log_weights: shares.map(libm::log).collect(),
            cumulative,
            dimensions: columns.iter().zip(observations).map(dimension).collect(),
        }
    }

    /// The weight of each kernel, the prior last.
    pub fn weights(&self) -> Vec<f64> {
        self.log_weights.iter().map(|log_weight| libm::exp(*log_weight)).collect()
    }

    /// Bandwidths of the kernels of a column of numbers, the prior last; none where a kernel is uniform in it. Empty for
    /// a column of choices.
    pub fn bandwidths(&self, column: usize) -> Vec<Option<f64>> {
        match &self.dimensions[column] {
            Dimension::Numeric(numeric) => {
                numeric.index.iter().map(|index| Some(numeric.kernels[(*index)? as usize].bandwidth)).collect()
            }
            Dimension::Categorical { .. } => Vec::new(),
        }
    }

    /// Draws a kernel of the mixture.
    pub(super) fn draw_kernel(&self, rng: &mut ChaCha8Rng) -> usize {
        let u = unit(rng);
        self.cumulative.partition_point(|bound| *bound <= u).min(self.cumulative.len() - 1)
    }

    /// Draws a raw number of column `dimension` from a kernel. Grids: rounded to the grid by the caller's decoding.
    pub(super) fn draw(&self, dimension: usize, kernel: usize, rng: &mut ChaCha8Rng) -> f64 {
        let u = unit(rng);
        match &self.dimensions[dimension] {
            Dimension::Numeric(numeric) => numeric.quantile(numeric.index[kernel], u),
            Dimension::Categorical { choices, chosen, hit, miss } => {
                let uniform = ((u * *choices as f64) as usize).min(choices - 1);
                let Some(own) = chosen[kernel] else { return uniform as f64 };
                // The kernel is uniform with total weight C·miss, plus hit − miss at its own choice.
                let extra = libm::exp(*hit) - libm::exp(*miss);
                if u < extra {
                    return own as f64;
                }
                (((u - extra) / (1.0 - extra) * *choices as f64) as usize).min(choices - 1) as f64
            }
        }
    }

    /// The log density at each point, a raw number per column; NaN where a parameter is off, which integrates it out.
    pub fn log_density(&self, points: &[Vec<f64>]) -> Vec<f64> {
        let mut sums = vec![self.log_weights.clone(); points.len()];
        for (dimension, kernel) in self.dimensions.iter().enumerate() {
            // Equal coordinates of several points share a table.
            let mut known = Vec::<u64>::new();
            let mut tables = Vec::<Vec<f64>>::new();
            for (point, sum) in points.iter().zip(&mut sums) {
                let raw = point[dimension];
                if raw.is_nan() {
                    continue;
                }
                match kernel {
                    Dimension::Categorical { choices, chosen, hit, miss } => {
                        let uniform = -libm::log(*choices as f64);
                        for (sum, chosen) in sum.iter_mut().zip(chosen) {
                            *sum += match chosen {
                                None => uniform,
                                Some(own) if *own == raw as usize => *hit,
                                Some(_) => *miss,
                            };
                        }
                    }
                    Dimension::Numeric(numeric) => {
                        let bits = raw.to_bits();
                        let table = known.iter().position(|known| *known == bits).unwrap_or_else(|| {
                            known.push(bits);
                            tables.push(numeric.table(raw));
                            tables.len() - 1
                        });
                        let table = &tables[table];
                        let uniform = table[table.len() - 1];
                        for (sum, index) in sum.iter_mut().zip(&numeric.index) {
                            *sum += index.map_or(uniform, |index| table[index as usize]);
                        }
                    }
                }
            }
        }
        sums.iter().map(|terms| log_sum_exp(terms)).collect()
    }
}

impl Numeric {
    fn new(
        column: &Column,
        (low, high, step): (f64, f64, Option<f64>),
        observed: &[f64],
        options: ParzenOptions,
    ) -> Self {
        let present = observed.iter().enumerate().filter(|(_, raw)| !raw.is_nan());
        let mut sorted = present.map(|(trial, raw)| (column.transform(*raw), trial)).collect::<Vec<_>>();
        sorted.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let centres = sorted.iter().map(|(centre, _)| *centre).collect::<Vec<_>>();
        let widths = bandwidths(&centres, low, high, step.filter(|_| !is_log(column)), options);
        let mut kernels = Vec::<Kernel>::new();
        let mut index = vec![None; observed.len()];
        for ((centre, trial), bandwidth) in sorted.into_iter().zip(widths) {
            // Of equal centres only the first and the last can differ in bandwidth from the others.
            let recent = kernels.len().saturating_sub(3)..kernels.len();
            let same = recent.clone().find(|index| {
                kernels[*index].centre.to_bits() == centre.to_bits()
                    && kernels[*index].bandwidth.to_bits() == bandwidth.to_bits()
            });
            index[trial] = Some(same.unwrap_or_else(|| {
                kernels.push(Kernel::new(centre, bandwidth, low, high, step));
                kernels.len() - 1
            }) as u32);
        }
        index.push(Some(kernels.len() as u32));
        kernels.push(Kernel::new(0.5 * (low + high), high - low, low, high, step));
        Self { column: column.clone(), low, high, step, kernels, index }
    }

    fn quantile(&self, kernel: Option<u32>, u: f64) -> f64 {
        let transformed = match kernel {
            None => self.low + u * (self.high - self.low),
            Some(index) => {
                let Kernel { centre, bandwidth, .. } = self.kernels[index as usize];
                let (a, b) = ((self.low - centre) / bandwidth, (self.high - centre) / bandwidth);
                (centre + bandwidth * truncated_quantile(u, a, b)).clamp(self.low, self.high)
            }
        };
        self.column.invert(transformed)
    }

    /// Log density (log mass on a grid) at `raw` of each distinct kernel, and last of the uniform one.
    fn table(&self, raw: f64) -> Vec<f64> {
        let log_range = libm::log(self.high - self.low);
        match self.step {
            None => {
                let x = self.column.transform(raw);
                let density = |kernel: &Kernel| {
                    let z = (x - kernel.centre) / kernel.bandwidth;
                    -0.5 * z * z - kernel.log_norm
                };
                self.kernels.iter().map(density).chain([-log_range]).collect()
            }
            Some(step) => {
                let (left, right) = self.column.cell(raw, step);
                let (middle, width) = (0.5 * (left + right), right - left);
                let log_width = libm::log(width);
                let mass = |kernel: &Kernel| {
                    let (z, h) = ((middle - kernel.centre) / kernel.bandwidth, width / kernel.bandwidth);
                    log_cell_mass(z, h, log_width - kernel.log_bandwidth) - kernel.log_norm
                };
                self.kernels.iter().map(mass).chain([log_width - log_range]).collect()
            }
        }
    }
}

impl Kernel {
    fn new(centre: f64, bandwidth: f64, low: f64, high: f64, step: Option<f64>) -> Self {
        let mass = log_gauss_mass((low - centre) / bandwidth, (high - centre) / bandwidth);
        let log_bandwidth = libm::log(bandwidth);
        let log_norm = if step.is_some() { mass } else { mass + log_bandwidth + LN_SQRT_2PI };
        Self { centre, bandwidth, log_bandwidth, log_norm }
    }
}

fn is_log(column: &Column) -> bool {
    matches!(column.kind(), Kind::Numeric { log: true, .. })
}

/// Returns the bandwidths of a one-dimensional Parzen estimator.
///
/// `centres`: n >= 0 kernel centres in ascending order, natural log already taken for logarithmic parameters. The n
/// results keep that order and unit: the larger gap to a neighbour, clipped to `[(high - low) / min(100, n + 2),
/// high - low]`. The ends of the range count as neighbours only when n = 1, or with `options.endpoints`.
///
/// Source: Bergstra et al. 2011, section 4.2; clipping as in Watanabe 2023, arXiv:2304.11127. Departs from these with
/// [`LeastBandwidth::Share`]: then the lower clip is that share of the range, and at least half of `step`.
fn bandwidths(centres: &[f64], low: f64, high: f64, step: Option<f64>, options: ParzenOptions) -> Vec<f64> {
    let n = centres.len();
    let range = high - low;
    let least = match options.least {
        LeastBandwidth::MagicClip => range / (n as f64 + 2.0).min(100.0),
        LeastBandwidth::Tiny => TINY_BANDWIDTH,
        LeastBandwidth::Share(share) => (share * range).max(step.map_or(0.0, |step| step / 2.0)).min(range),
    };
    let before = |i: usize| if i == 0 { low } else { centres[i - 1] };
    let after = |i: usize| if i + 1 == n { high } else { centres[i + 1] };
    let width = |i: usize| {
        let ignores_ends = n >= 2 && !options.endpoints;
        if ignores_ends && i == 0 {
            centres[1] - centres[0]
        } else if ignores_ends && i + 1 == n {
            centres[i] - centres[i - 1]
        } else {
            (centres[i] - before(i)).max(after(i) - centres[i])
        }
    };
    (0..n).map(|i| width(i).max(least).min(range)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleetune_core::distribution::{Choices, Distribution, FloatRange, IntRange};

    const OPTUNA: ParzenOptions = ParzenOptions::OPTUNA;
    const COARSE: ParzenOptions = ParzenOptions { least: LeastBandwidth::Share(0.03), ..OPTUNA };

    #[test]
    fn weights_ramp_up_to_the_last_25() {
        assert_eq!(recency_weights(3), [1.0; 3]);
        let weights = recency_weights(30);
        assert!((weights[0] - 1.0 / 30.0).abs() < 1e-15 && (weights[4] - 1.0).abs() < 1e-15);
        assert!((recency_weights(26)[0] - 1.0 / 26.0).abs() < 1e-15);
        assert!(recency_weights(0).is_empty());
    }

    #[test]
    fn bandwidths_are_the_larger_gaps() {
        assert_eq!(bandwidths(&[], 0.0, 1.0, None, OPTUNA), [0.0; 0]);
        assert_eq!(bandwidths(&[0.25], 0.0, 1.0, None, OPTUNA), [0.75]);
        assert_eq!(bandwidths(&[0.0, 0.5, 1.0], 0.0, 1.0, None, OPTUNA), [0.5, 0.5, 0.5]);
        assert_eq!(bandwidths(&[0.5; 3], 0.0, 1.0, None, OPTUNA), [0.2; 3]);
        assert_eq!(bandwidths(&[0.5; 3], 0.0, 1.0, Some(0.5), COARSE), [0.25; 3]);
        let endpoints = ParzenOptions { endpoints: true, ..OPTUNA };
        assert_eq!(bandwidths(&[0.25, 0.5], 0.0, 1.0, None, endpoints), [0.25, 0.5]);
        let tiny = ParzenOptions { least: LeastBandwidth::Tiny, ..OPTUNA };
        assert_eq!(bandwidths(&[0.5; 3], 0.0, 1.0, None, tiny), [1e-12; 3]);
    }

    /// Also with observations that lack the parameter.
    #[test]
    fn densities_integrate_to_one() {
        let kinds = [
            Distribution::Int(IntRange::new(3, 40, 1, false).unwrap()),
            Distribution::Int(IntRange::new(1, 200, 1, true).unwrap()),
            Distribution::Float(FloatRange::new(0.0, 2.0, Some(0.1), false).unwrap()),
            Distribution::Categorical(Choices::new((0..7).map(|i| format!("c{i}").as_str().into()).collect()).unwrap()),
            Distribution::Categorical(Choices::new((0..7).map(fleetune_core::Value::Int).collect()).unwrap()),
        ];
        for options in [OPTUNA, COARSE] {
            for distribution in &kinds {
                let column = Column::new(distribution, true);
                let count = distribution.cardinality().unwrap();
                let raw = |index: u64| column.encode(&distribution.value_at(index % count));
                let observed = vec![raw(0), raw(5), raw(5), f64::NAN, raw(count - 1), raw(5)];
                let parzen = Parzen::new(std::slice::from_ref(&column), &[observed], &recency_weights(6), options);
                let points = (0..count).map(|index| vec![raw(index)]).collect::<Vec<_>>();
                let mass = parzen.log_density(&points).into_iter().map(f64::exp).sum::<f64>();
                assert!((mass - 1.0).abs() < 1e-9, "{distribution} {mass}");
            }
        }
    }
}
