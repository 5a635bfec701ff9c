//! The models of one question and the score of candidates under them.

use std::sync::Arc;

use fleetune_core::measurement::median;

use super::cost::Cost;
use super::fits::Fits;
use super::gp::{Observations, Posterior, Prior};
use super::history::Row;
use super::kernel::{Dimension, Points};
use super::knowledge::{Facts, Knowledge};
use super::objective::Objective;
use super::transform::{Transformed, standardize};
use super::warm::Warm;
use crate::numeric::log_ndtr;

/// Mean of the prior of log noise: measurements repeat well, failures near a border less so.
pub(super) const LOG_NOISE: f64 = -4.0;
const LOG_NOISE_OF_LABELS: f64 = -3.0;
/// Values from which something measured is modelled.
pub(super) const LEAST_VALUES: usize = 3;
/// Variance of the labels besides the model's, so that no configuration is certain to run.
const LABEL_DOUBT: f64 = 0.05;
/// Least logarithm of the probability to run, log 1e-6.
const LOG_LEAST: f64 = -13.815_510_557_964_274;
/// The same where memory suffices and nothing else failed yet, log 0.99.
const LOG_SAFE: f64 = -0.010_050_335_853_501_44;
/// What is known after some trials.
#[derive(Debug)]
pub(super) struct Models {
    objective: Option<Objective>,
    feasibility: Option<Feasibility>,
    constraints: Vec<Limit>,
    cost: Option<Cost>,
}

/// A configuration that is asked about: its point, and what the estimate says of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Query<'a> {
    pub(super) point: &'a [f64],
    pub(super) facts: Option<&'a Facts>,
    /// Whether it needs no more memory than something that ran.
    pub(super) safe: bool,
}

/// A measured constraint.
#[derive(Debug)]
struct Limit {
    posterior: Posterior,
    /// Where it is met: at most this.
    zero: f64,
}

impl Models {
    /// `left`: the share of its time that a search has left, 0 where time does not matter.
    pub(super) fn new(
        rows: &[Row],
        dimensions: &[Dimension],
        fits: &Fits,
        knowledge: Option<&Knowledge<'_>>,
        warm: Option<&Arc<Warm>>,
        left: f64,
    ) -> Self {
        let count = rows.iter().map(|row| row.constraints().len()).max().unwrap_or(0);
        let facts = knowledge.map(Knowledge::rows);
        let memory = facts.filter(|_| knowledge.is_some_and(Knowledge::knows_memory));
        Self {
            objective: Objective::new(rows, dimensions, fits, facts, warm),
            feasibility: Feasibility::new(rows, dimensions, fits, memory),
            constraints: (0..count).filter_map(|index| Limit::new(rows, index, dimensions, fits)).collect(),
            cost: Cost::new(rows, dimensions, fits, left),
        }
    }

    /// Takes in a trial that runs: what is expected comes of it.
    pub(super) fn fantasize(&mut self, query: Query<'_>) {
        if let Some(feasibility) = &mut self.feasibility {
            let point = feasibility.point(query);
            feasibility.posterior.fantasize(&point);
        }
        let objective = self.objective.iter_mut().map(|objective| &mut objective.posterior);
        let limits = self.constraints.iter_mut().map(|limit| &mut limit.posterior);
        objective.chain(limits).for_each(|posterior| posterior.fantasize(query.point));
    }

    /// Whether there are too few values to say what is good.
    pub(super) fn know_nothing(&self) -> bool {
        self.objective.is_none()
    }

    /// The expected value of a configuration, smaller is better; `None` before there are values.
    pub(super) fn mean(&self, query: Query<'_>) -> Option<f64> {
        self.objective.as_ref().map(|objective| objective.mean(query))
    }

    /// The logarithm of the probability that a configuration runs and keeps its constraints.
    fn log_feasible(&self, query: Query<'_>) -> f64 {
        let runs = self.feasibility.as_ref().map_or(0.0, |feasibility| feasibility.log_probability(query));
        let kept = self.constraints.iter().map(|limit| {
            let (mean, variance) = limit.posterior.predict(query.point);
            log_ndtr((limit.zero - mean) / variance.sqrt()).max(LOG_LEAST)
        });
        runs + kept.sum::<f64>()
    }

    /// How promising a configuration is, a logarithm: the improvement expected, times the probability that it is
    /// feasible, over a power of its time where that is scarce. Before there are values: how much would be learned about what runs.
    pub(super) fn score(&self, query: Query<'_>) -> f64 {
        let feasible = self.log_feasible(query);
        match (&self.objective, &self.feasibility) {
            (Some(objective), _) => {
                let price = self.cost.as_ref().map_or(0.0, |cost| cost.log_price(query.point));
                feasible + objective.log_gain(query) - price
            }
            (None, Some(feasibility)) => {
                feasible + 0.5 * libm::log(feasibility.posterior.predict(&feasibility.point(query)).1)
            }
            (None, None) => feasible,
        }
    }
}

/// The regression on +1 for what ran and −1 for what failed.
#[derive(Debug)]
struct Feasibility {
    posterior: Posterior,
    /// Whether the estimated memory need is one more coordinate, and what it says the mean.
    memory: bool,
    /// Whether nothing but memory failed yet.
    only_memory: bool,
}

/// Needs beyond this are all the same.
const MOST_RATIO: f64 = 2.0;

impl Feasibility {
    /// `None` while nothing failed and nothing is known.
    fn new(rows: &[Row], dimensions: &[Dimension], fits: &Fits, memory: Option<&[Facts]>) -> Option<Self> {
        if rows.iter().all(Row::has_run) && memory.is_none() {
            return None;
        }
        let mut dimensions = dimensions.to_vec();
        if memory.is_some() {
            dimensions.push(Dimension::Number);
        }
        let label = |index: &usize| {
            let label = if rows[*index].has_run() { 1.0 } else { -1.0 };
            label - memory.map_or(0.0, |facts| facts[*index].belief())
        };
        let point = |index: &usize| extended(&rows[*index].point, memory.map(|facts| &facts[*index]));
        let observations = |chosen: &[usize]| {
            let points = chosen.iter().map(point).collect::<Vec<_>>();
            Observations {
                points: Points::new(dimensions.len(), points.iter().map(Vec::as_slice)),
                targets: chosen.iter().map(label).collect(),
                noise_scale: vec![1.0; chosen.len()],
                variance: vec![0.0; chosen.len()],
            }
        };
        let prior = Prior::new(dimensions.len(), LOG_NOISE_OF_LABELS);
        let hyper = fits.hyper(&dimensions, rows.len(), prior, &observations);
        let posterior = Posterior::new(hyper, &observations(&(0..rows.len()).collect::<Vec<_>>()))?;
        let only_memory = rows.iter().all(|row| row.fits_memory().is_some());
        Some(Self { posterior, memory: memory.is_some(), only_memory })
    }

    fn point(&self, query: Query<'_>) -> Vec<f64> {
        if !self.memory {
            return query.point.to_vec();
        }
        extended(query.point, Some(query.facts.unwrap_or(&Facts::default())))
    }

    fn log_probability(&self, query: Query<'_>) -> f64 {
        let (mean, variance) = self.posterior.predict(&self.point(query));
        let belief = query.facts.filter(|_| self.memory).map_or(0.0, Facts::belief);
        let doubt = variance + self.posterior.hyper().noise + LABEL_DOUBT;
        let least = if self.only_memory && query.safe { LOG_SAFE } else { LOG_LEAST };
        log_ndtr((belief + mean) / doubt.sqrt()).max(least)
    }
}

/// A point with the memory need as one more coordinate, if there are facts.
fn extended(point: &[f64], facts: Option<&Facts>) -> Vec<f64> {
    let ratio = |facts: &Facts| facts.ratio().map_or(f64::NAN, |ratio| ratio.clamp(0.0, MOST_RATIO));
    point.iter().copied().chain(facts.map(ratio)).collect()
}

impl Limit {
    /// `None` when the constraint was hardly measured or is constant: then it says nothing about where to look.
    fn new(rows: &[Row], constraint: usize, dimensions: &[Dimension], fits: &Fits) -> Option<Self> {
        let measured = rows.iter().filter(|row| row.constraints().len() > constraint).collect::<Vec<_>>();
        if measured.len() < LEAST_VALUES {
            return None;
        }
        let scaled = |chosen: &[usize]| {
            let values = chosen.iter().map(|index| measured[*index].constraints()[constraint]).collect::<Vec<_>>();
            standardized_limit(&values)
        };
        let observations = |chosen: &[usize]| Observations {
            points: Points::new(dimensions.len(), chosen.iter().map(|index| measured[*index].point.as_slice())),
            targets: scaled(chosen).0,
            noise_scale: vec![1.0; chosen.len()],
            variance: vec![0.0; chosen.len()],
        };
        let all = (0..measured.len()).collect::<Vec<_>>();
        let zero = scaled(&all).1?;
        let prior = Prior::new(dimensions.len(), LOG_NOISE);
        let hyper = fits.hyper(dimensions, measured.len(), prior, &observations);
        Some(Self { posterior: Posterior::new(hyper, &observations(&all))?, zero })
    }
}

/// asinh(c / median |c|), standardised, and where its zero then lies; `None` for constants.
fn standardized_limit(values: &[f64]) -> (Vec<f64>, Option<f64>) {
    let sizes = values.iter().map(|value| value.abs()).collect::<Vec<_>>();
    let mean_size = sizes.iter().map(|size| size / sizes.len() as f64).sum::<f64>();
    // Half of them on the border: then the mean; all of them: any unit will do.
    let units = [median(&sizes).unwrap_or(0.0), mean_size, 1.0];
    let unit = units.into_iter().find(|unit| *unit > 0.0 && unit.is_finite()).unwrap_or(1.0);
    let bent = values.iter().map(|value| libm::asinh((value / unit).clamp(-1e300, 1e300))).collect::<Vec<_>>();
    let mean = bent.iter().sum::<f64>() / bent.len() as f64;
    let Transformed { values, slopes } = standardize(bent, vec![1.0; sizes.len()]);
    let zero = slopes.first().filter(|slope| **slope > 0.0).map(|slope| -mean * slope);
    (values, zero)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_scaled_whatever_their_size() {
        for values in [vec![1e300, -1e300, 0.0], vec![0.0, 0.0, 0.0, -3.0], vec![5e-320, -5e-320, 1.0]] {
            let (scaled, zero) = standardized_limit(&values);
            let zero = zero.unwrap();
            assert!(scaled.iter().chain([&zero]).all(|z| z.is_finite()), "{scaled:?} {zero}");
            for (value, z) in values.iter().zip(&scaled) {
                assert!((*value <= 0.0) == (*z <= zero + 1e-12), "{value} {z} {zero}");
            }
        }
        assert_eq!(standardized_limit(&[2.0; 4]).1, None);
        assert_eq!(standardized_limit(&[0.0; 4]).1, None);
    }
}
