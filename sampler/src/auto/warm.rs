//! What earlier studies say of a space: where to begin, and which values are to be expected.
//!
//! Their values count by rank alone, since another model or machine has other numbers. A process of them is the mean of
//! the objective's, with a slope that own values choose ([`super::objective`]).

use fleetune_core::Params;
use fleetune_core::study::{EarlierStudy, EarlierTrial};

use super::encode::{Candidate, Encoding};
use super::fits::Fits;
use super::gp::{Observations, Posterior, Prior};
use super::kernel::Points;
use crate::numeric::normal_quantile;
use crate::seam::Ask;

/// Configurations of theirs that a search begins with, and the share of its trials that they may take.
const STARTS: usize = 3;
const SHARE: u32 = 3;
/// Such ones are of the best share of all, and differ: by a choice, or so much in numbers (squared, of the range).
const BEST: f64 = 0.35;
const DIFFERENT: f64 = 0.06;
/// Least own values for them to disagree.
const LEAST_TO_DISAGREE: usize = 4;
/// Ranks of another study are no measurements: mean of the prior of their log noise.
const LOG_NOISE: f64 = -2.0;

/// What they say.
#[derive(Debug)]
pub(super) struct Warm {
    /// Configurations to begin with, and their points.
    starts: Vec<(Vec<f64>, Params)>,
    /// Where a start says nothing.
    default: Vec<f64>,
    /// The axes that they had too.
    axes: Vec<usize>,
    posterior: Posterior,
    /// Of the most similar one, 0 to 1.
    similarity: f64,
}

impl Warm {
    /// `None` when they say nothing of this space.
    pub(super) fn new(
        studies: &[EarlierStudy],
        encoding: &Encoding,
        default: &Params,
        planned: Option<u32>,
        fits: &Fits,
    ) -> Option<Self> {
        let mut rows = Vec::new();
        for study in studies.iter().filter(|study| study.similarity > 0.0) {
            let known = study.trials.iter().filter(|trial| (0.0..=1.0).contains(&trial.rank));
            let row = |trial: &EarlierTrial| Row {
                point: encoding.encode(&trial.params),
                params: trial.params.clone(),
                rank: trial.rank,
                similarity: study.similarity.min(1.0),
            };
            rows.extend(known.map(row));
        }
        let has = |axis: &usize| rows.iter().any(|row| !row.point[*axis].is_nan());
        let axes = (0..encoding.axes().len()).filter(has).collect::<Vec<_>>();
        if axes.is_empty() || rows.len() < 2 {
            return None;
        }
        let all = encoding.dimensions();
        let dimensions = axes.iter().map(|axis| all[*axis]).collect::<Vec<_>>();
        let parts = rows.iter().map(|row| part(&row.point, &axes)).collect::<Vec<_>>();
        let least = 0.5 / rows.len() as f64;
        let observations = |chosen: &[usize]| Observations {
            points: Points::new(dimensions.len(), chosen.iter().map(|row| parts[*row].as_slice())),
            targets: chosen.iter().map(|row| normal_quantile(rows[*row].rank.clamp(least, 1.0 - least))).collect(),
            noise_scale: chosen.iter().map(|row| 1.0 / rows[*row].similarity).collect(),
            variance: vec![0.0; chosen.len()],
        };
        let prior = Prior::new(dimensions.len(), LOG_NOISE);
        let hyper = fits.hyper(&dimensions, rows.len(), prior, &observations);
        let posterior = Posterior::new(hyper, &observations(&(0..rows.len()).collect::<Vec<_>>()))?;
        let most = planned.map_or(STARTS, |planned| STARTS.min((planned / SHARE) as usize));
        let similarity = rows.iter().map(|row| row.similarity).fold(0.0, f64::max);
        rows.sort_by(|a, b| (a.rank / a.similarity).total_cmp(&(b.rank / b.similarity)));
        let mut starts: Vec<(Vec<f64>, Params)> = Vec::new();
        for Row { point, params, .. } in rows.into_iter().filter(|row| row.rank <= BEST) {
            let distance = |other: &[f64]| -> f64 {
                axes.iter().map(|axis| all[*axis].distance(point[*axis], other[*axis])).sum()
            };
            if starts.len() < most && starts.iter().all(|(other, _)| distance(other) >= DIFFERENT) {
                starts.push((point, params));
            }
        }
        Some(Self { starts, default: encoding.encode(default), axes, posterior, similarity })
    }

    /// How many configurations to begin with there are.
    pub(super) fn starts(&self) -> usize {
        self.starts.len()
    }

    /// How much they are believed at first.
    pub(super) fn similarity(&self) -> f64 {
        self.similarity
    }

    /// The next configuration to begin with that is accepted; what it lacks is as in the default.
    pub(super) fn start(
        &self,
        ask: &Ask<'_>,
        encoding: &Encoding,
        accept: &dyn Fn(&Candidate) -> bool,
    ) -> Option<Candidate> {
        let axes = encoding.axes();
        let coordinate = |point: &[f64], axis: usize| {
            let known = [point[axis], self.default[axis]].into_iter().find(|coordinate| !coordinate.is_nan());
            known.unwrap_or_else(|| axes[axis].spread(0.5))
        };
        let made = |(point, params): &(Vec<f64>, Params)| {
            let candidate = encoding.assemble(ask.fixed, &mut |axis| coordinate(point, axis))?;
            Some(encoding.exactly(candidate, ask.fixed, params))
        };
        self.starts.iter().filter_map(made).find(accept)
    }

    /// What is expected at a point, in deviations from the middle; smaller is better.
    pub(super) fn mean(&self, point: &[f64]) -> f64 {
        self.posterior.mean(&part(point, &self.axes))
    }

    /// Whether own values stand in the opposite order more often than not (Kendall's τ below 0).
    pub(super) fn is_contradicted(own: &[f64], expected: &[f64]) -> bool {
        let mut agreement = 0.0;
        for (index, (value, mean)) in own.iter().zip(expected).enumerate() {
            for (other, theirs) in own[..index].iter().zip(expected) {
                let product = (value - other) * (mean - theirs);
                agreement += if product > 0.0 {
                    1.0
                } else if product < 0.0 {
                    -1.0
                } else {
                    0.0
                };
            }
        }
        own.len() >= LEAST_TO_DISAGREE && agreement < 0.0
    }
}

/// A trial of an earlier study.
struct Row {
    point: Vec<f64>,
    params: Params,
    rank: f64,
    similarity: f64,
}

fn part(point: &[f64], axes: &[usize]) -> Vec<f64> {
    axes.iter().map(|axis| point[*axis]).collect()
}
