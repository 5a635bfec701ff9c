//! What a configuration costs: the time it takes, where a search has only so much of it.

use super::fits::Fits;
use super::gp::{Observations, Posterior, Prior};
use super::history::Row;
use super::kernel::{Dimension, Points};
use super::models::LOG_NOISE;
use super::transform::{Transformed, standardize};

/// Trials from which their times are modelled.
const LEAST_TIMES: usize = 5;
/// The power of the cost by which a gain is divided while all of the time is left. Whole cost goes wrong: it keeps to
/// what is cheap (Lee et al. 2020, arXiv:2003.10870).
const POWER: f64 = 0.5;

/// A model of the logarithms of times.
#[derive(Debug)]
pub(super) struct Cost {
    posterior: Posterior,
    /// What one unit of it is of a logarithm, times the power.
    unit: f64,
}

impl Cost {
    /// `left`: the share of the time that is left. `None` when times are unknown or all alike.
    pub(super) fn new(rows: &[Row], dimensions: &[Dimension], fits: &Fits, left: f64) -> Option<Self> {
        let timed = rows.iter().filter(|row| row.seconds > 0.0).collect::<Vec<_>>();
        if timed.len() < LEAST_TIMES || left <= 0.0 {
            return None;
        }
        let scaled = |chosen: &[usize]| {
            let logarithms = chosen.iter().map(|index| libm::log(timed[*index].seconds)).collect();
            standardize(logarithms, vec![1.0; chosen.len()])
        };
        let observations = |chosen: &[usize]| Observations {
            points: Points::new(dimensions.len(), chosen.iter().map(|index| timed[*index].point.as_slice())),
            targets: scaled(chosen).values,
            noise_scale: vec![1.0; chosen.len()],
            variance: vec![0.0; chosen.len()],
        };
        let all = (0..timed.len()).collect::<Vec<_>>();
        let Transformed { slopes, .. } = scaled(&all);
        let slope = slopes.first().copied().filter(|slope| *slope > 0.0)?;
        let prior = Prior::new(dimensions.len(), LOG_NOISE);
        let hyper = fits.hyper(dimensions, timed.len(), prior, &observations);
        Some(Self { posterior: Posterior::new(hyper, &observations(&all))?, unit: POWER * left.min(1.0) / slope })
    }

    /// The logarithm of what a gain at `point` is divided by, up to a constant.
    pub(super) fn log_price(&self, point: &[f64]) -> f64 {
        self.unit * self.posterior.mean(point)
    }
}
