//! The model of the objective: values alone, or what an estimate or earlier studies do not explain of them.

use std::sync::Arc;

use super::fits::{Fits, rows_of_fit, sketched};
use super::gp::{Hyper, Observations, Posterior, Prior};
use super::history::{Measured, Row};
use super::kernel::{Dimension, Points};
use super::knowledge::Facts;
use super::models::{LEAST_VALUES, LOG_NOISE, Query};
use super::transform::{SHAPES, Shape, Transformed, pull_in, standardize, transform};
use super::warm::Warm;
use crate::numeric::log_improvement;

/// A gain counts from here: a share of the deviation of the values, and of that of their noise.
const GAIN: (f64, f64) = (0.005, 0.1);
/// Values from which an estimate of the objective is considered.
const LEAST_FOR_ESTIMATE: usize = 8;
/// Values from which their shape is chosen by prediction.
const LEAST_FOR_SHAPE: usize = 8;
/// How many values the assumption is worth that an estimate is right in proportion, and most of what it may say.
const TRUST: f64 = 3.0;
const MOST_SHARE: f64 = 1.2;

/// The objective, smaller is better.
#[derive(Debug)]
pub(super) struct Objective {
    pub(super) posterior: Posterior,
    /// What is explained without it.
    explained: Option<Explained>,
    /// The value to beat.
    target: f64,
}

/// A linear function of what was known before.
#[derive(Clone, Debug)]
struct Explained {
    source: Source,
    middle: f64,
    slope: f64,
}

#[derive(Clone, Debug)]
enum Source {
    /// The logarithm of an estimate.
    Estimate,
    /// Earlier studies.
    Earlier(Arc<Warm>),
}

impl Explained {
    fn at(&self, point: &[f64], facts: Option<&Facts>) -> f64 {
        let known = match &self.source {
            Source::Estimate => facts.and_then(|facts| facts.log_objective),
            Source::Earlier(warm) => Some(warm.mean(point)),
        };
        known.map_or(0.0, |known| self.slope * (known - self.middle))
    }
}

/// Rows that were measured, with their facts.
struct Values<'a> {
    rows: Vec<(&'a Row, &'a Measured, Option<&'a Facts>)>,
    dimensions: &'a [Dimension],
}

impl Objective {
    pub(super) fn new(
        rows: &[Row],
        dimensions: &[Dimension],
        fits: &Fits,
        facts: Option<&[Facts]>,
        warm: Option<&Arc<Warm>>,
    ) -> Option<Self> {
        let of = |(index, row)| {
            let row: &Row = row;
            Some((row, row.measured()?, facts.map(|facts| &facts[index])))
        };
        let values = Values { rows: rows.iter().enumerate().filter_map(of).collect(), dimensions };
        let count = values.rows.len();
        if count < LEAST_VALUES {
            return None;
        }
        let all = (0..count).collect::<Vec<_>>();
        let earlier = warm.and_then(|warm| values.explained_by_earlier(warm, &all, fits));
        let explained = earlier.or_else(|| values.explained(&all, fits));
        let posterior = match &explained {
            Some(Explained { source: Source::Earlier(warm), .. }) => {
                values.posterior(fits, &|chosen| values.new_to(warm, chosen))?
            }
            Some(_) => values.posterior(fits, &|chosen| values.unexplained(chosen, true))?,
            None => {
                let shape = values.shape(fits);
                values.posterior(fits, &|chosen| values.plain(chosen, shape))?
            }
        };
        let mut objective = Self { posterior, explained, target: f64::INFINITY };
        let candidates = values.rows.iter().filter(|(row, _, _)| row.candidate_value().is_some());
        let mean = |(row, _, facts): &(&Row, _, Option<&Facts>)| {
            objective.mean(Query { point: &row.point, facts: *facts, safe: false })
        };
        let best = candidates.map(mean).fold(f64::INFINITY, f64::min);
        // Where nothing was feasible yet, anything that is better than usual counts.
        let best = if best.is_finite() { best } else { 0.0 };
        objective.target = best - GAIN.0 - GAIN.1 * objective.posterior.hyper().noise.sqrt();
        Some(objective)
    }

    pub(super) fn mean(&self, query: Query<'_>) -> f64 {
        self.posterior.mean(query.point) + self.offset(query)
    }

    fn offset(&self, query: Query<'_>) -> f64 {
        self.explained.as_ref().map_or(0.0, |explained| explained.at(query.point, query.facts))
    }

    /// The logarithm of the expected improvement on the target.
    pub(super) fn log_gain(&self, query: Query<'_>) -> f64 {
        let (mean, variance) = self.posterior.predict(query.point);
        let deviation = variance.sqrt();
        log_improvement((self.target - mean - self.offset(query)) / deviation) + libm::log(deviation)
    }
}

impl Values<'_> {
    fn posterior(&self, fits: &Fits, observations: &dyn Fn(&[usize]) -> Observations) -> Option<Posterior> {
        let prior = Prior::new(self.dimensions.len(), LOG_NOISE);
        let hyper = fits.hyper(self.dimensions, self.rows.len(), prior, observations);
        Posterior::new(hyper, &observations(&(0..self.rows.len()).collect::<Vec<_>>()))
    }

    fn values(&self, chosen: &[usize]) -> Vec<f64> {
        chosen.iter().map(|index| self.rows[*index].1.value).collect()
    }

    /// Transformed values.
    fn plain(&self, chosen: &[usize], shape: Option<Shape>) -> Observations {
        let values = self.values(chosen);
        self.observations(chosen, shape.and_then(|shape| shape.of(&values)).unwrap_or_else(|| transform(&values)))
    }

    /// The shape in which the values of some rows tell best the order of all: the scale on which an objective is smooth
    /// is not seen from the values, but from how well they can be predicted. `None` while there are few.
    fn shape(&self, fits: &Fits) -> Option<Shape> {
        if self.rows.len() < LEAST_FOR_SHAPE {
            return None;
        }
        let rows = rows_of_fit(self.rows.len());
        let values = self.values(&rows);
        let known = self.observations(&rows, standardize(values.clone(), vec![1.0; rows.len()]));
        let chosen = fits.shape(known, || {
            let prior = Prior::new(self.dimensions.len(), LOG_NOISE);
            let some = sketched(&rows);
            let merit = |shape: Shape| {
                shape.of(&values)?;
                let hyper = Hyper::sketch(self.dimensions, &self.plain(&some, Some(shape)), &prior);
                let predicted = Posterior::new(hyper, &self.plain(&rows, Some(shape)))?.left_out();
                Some((concordance(&values, &predicted), shape))
            };
            let best = SHAPES.into_iter().filter_map(merit).reduce(|a, b| if b.0 > a.0 { b } else { a });
            best.map_or(Shape::Linear, |(_, shape)| shape)
        });
        Some(chosen)
    }

    /// Standardised logarithms of the values; with `explain` less what the estimate explains.
    fn unexplained(&self, chosen: &[usize], explain: bool) -> Observations {
        let mut logarithms = self.logarithms(chosen);
        if let Some(explained) = self.regression(chosen, &logarithms.values).filter(|_| explain) {
            self.subtract(&explained, chosen, &mut logarithms.values);
        }
        self.observations(chosen, logarithms)
    }

    fn logarithms(&self, chosen: &[usize]) -> Transformed {
        let value = |index: &usize| self.rows[*index].1.value;
        // Of maximised values the negative ones are told: then the larger magnitude is the smaller value.
        let logarithm = |index| libm::log(value(index).abs()) * value(index).signum();
        let slopes = chosen.iter().map(|index| 1.0 / value(index).abs()).collect();
        let (values, slopes) = pull_in(chosen.iter().map(logarithm).collect(), slopes);
        standardize(values, slopes)
    }

    /// Ridge regression of standardised logarithms on those of the estimate, toward proportion.
    fn regression(&self, chosen: &[usize], targets: &[f64]) -> Option<Explained> {
        let sign = self.rows.first()?.1.value.signum();
        let estimates = chosen.iter().map(|index| self.rows[*index].2?.log_objective).collect::<Option<Vec<_>>>()?;
        let count = estimates.len().max(1) as f64;
        let middle = estimates.iter().sum::<f64>() / count;
        let spread = estimates.iter().map(|estimate| (estimate - middle) * (estimate - middle)).sum::<f64>();
        if spread <= 1e-12 {
            return None;
        }
        // What proportion is in standardised units: the deviation of the logarithms of the values.
        let values = chosen.iter().map(|index| libm::log(self.rows[*index].1.value.abs())).collect::<Vec<_>>();
        let mean = values.iter().sum::<f64>() / count;
        let deviation = (values.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / count).sqrt();
        if deviation <= 1e-12 {
            return None;
        }
        let unit = sign / deviation;
        let common = estimates.iter().zip(targets).map(|(estimate, target)| (estimate - middle) * target).sum::<f64>();
        let ridge = TRUST * spread / count;
        let share = ((common / unit + ridge) / (spread + ridge)).clamp(0.0, MOST_SHARE);
        Some(Explained { source: Source::Estimate, middle, slope: share * unit })
    }

    /// What the estimate explains, where that predicts values left out better than nothing does.
    fn explained(&self, all: &[usize], fits: &Fits) -> Option<Explained> {
        let positive = self.rows.iter().all(|(_, measured, _)| measured.value > 0.0);
        let negative = self.rows.iter().all(|(_, measured, _)| measured.value < 0.0);
        if all.len() < LEAST_FOR_ESTIMATE || !(positive || negative) {
            return None;
        }
        let explained = self.regression(all, &self.logarithms(all).values)?;
        let evidence = |explain| {
            self.posterior(fits, &|chosen| self.unexplained(chosen, explain)).map(|posterior| posterior.leave_one_out())
        };
        (evidence(true)? > evidence(false)?).then_some(explained)
    }

    fn subtract(&self, explained: &Explained, chosen: &[usize], values: &mut [f64]) {
        for (value, index) in values.iter_mut().zip(chosen) {
            let (row, _, facts) = self.rows[*index];
            *value -= explained.at(&row.point, facts);
        }
    }

    /// Transformed values less what earlier studies explain.
    fn new_to(&self, warm: &Arc<Warm>, chosen: &[usize]) -> Observations {
        let mut transformed = transform(&self.values(chosen));
        if let Some(explained) = self.on_earlier(warm, chosen, &transformed.values) {
            self.subtract(&explained, chosen, &mut transformed.values);
        }
        self.observations(chosen, transformed)
    }

    /// Ridge regression of transformed values on what earlier studies let expect, toward their similarity; `None` where
    /// the values contradict them.
    fn on_earlier(&self, warm: &Arc<Warm>, chosen: &[usize], targets: &[f64]) -> Option<Explained> {
        let expected = chosen.iter().map(|index| warm.mean(&self.rows[*index].0.point)).collect::<Vec<_>>();
        if Warm::is_contradicted(targets, &expected) {
            return None;
        }
        let middle = expected.iter().sum::<f64>() / expected.len().max(1) as f64;
        let spread = expected.iter().map(|mean| (mean - middle) * (mean - middle)).sum::<f64>();
        let common = expected.iter().zip(targets).map(|(mean, target)| (mean - middle) * target).sum::<f64>();
        let slope = ((common + TRUST * warm.similarity()) / (spread + TRUST)).clamp(0.0, MOST_SHARE);
        Some(Explained { source: Source::Earlier(Arc::clone(warm)), middle, slope })
    }

    /// What earlier studies explain: from so many values on where that predicts values left out better than nothing does.
    fn explained_by_earlier(&self, warm: &Arc<Warm>, all: &[usize], fits: &Fits) -> Option<Explained> {
        let explained = self.on_earlier(warm, all, &transform(&self.values(all)).values)?;
        if all.len() < LEAST_FOR_ESTIMATE {
            return Some(explained);
        }
        let with = self.posterior(fits, &|chosen| self.new_to(warm, chosen))?.leave_one_out();
        let without = self.posterior(fits, &|chosen| self.plain(chosen, None))?.leave_one_out();
        (with > without).then_some(explained)
    }

    fn observations(&self, chosen: &[usize], transformed: Transformed) -> Observations {
        let Transformed { values: targets, slopes } = transformed;
        let rows = || chosen.iter().map(|index| self.rows[*index]);
        let errors = rows().map(|(_, measured, _)| measured.standard_error);
        Observations {
            points: Points::new(self.dimensions.len(), rows().map(|(row, _, _)| row.point.as_slice())),
            targets,
            noise_scale: rows().map(|(_, measured, _)| measured.noise_scale).collect(),
            // An error as large as the spread of all values says no more.
            variance: errors.zip(slopes).map(|(error, slope)| (error * slope * error * slope).min(1.0)).collect(),
        }
    }
}

/// The share of pairs of `values` that stand in the same order in `predicted`; pairs of which one is the k-th best weigh
/// 1 / k, since the order of bad values matters little.
fn concordance(values: &[f64], predicted: &[f64]) -> f64 {
    let mut order = (0..values.len()).collect::<Vec<_>>();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let (mut right, mut all) = (0.0, 0.0);
    for (rank, better) in order.iter().enumerate() {
        let worse = order[rank + 1..].iter().filter(|worse| values[**worse] > values[*better]);
        let (count, ordered) = worse.fold((0, 0), |(count, ordered), worse| {
            (count + 1, ordered + usize::from(predicted[*worse] > predicted[*better]))
        });
        let weight = 1.0 / (rank + 1) as f64;
        all += weight * f64::from(count);
        right += weight * ordered as f64;
    }
    if all > 0.0 { right / all } else { 0.0 }
}
