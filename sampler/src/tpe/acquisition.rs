//! The densities of one question, and the score of candidates under them.

use std::ops::Range;

use super::columns::Columns;
use super::observations::Observations;
use super::options::TpeOptions;
use super::order::{Weights, others, ranges};
use super::parzen::{Parzen, RunningRow};
use crate::numeric::log_add_exp;

/// Estimated need over capacity from which a configuration loses score, and the ratio that costs one unit of log
/// probability. Short of 1, since the estimate is not exact and others use some memory too; gradual, so that a
/// configuration just above is not ruled out by an error of a few percent.
const FITS: f64 = 0.98;
const MISFIT_SCALE: f64 = 0.05;
/// Most an estimate alone may cost: what was measured wins.
const MISFIT_CAP: f64 = 4.0;

/// l, g and, where something failed, the densities of the trials that ran and of those that failed.
#[derive(Debug)]
pub(super) struct Acquisition<'a> {
    good: Parzen<'a>,
    bad: Parzen<'a>,
    feasibility: Option<Feasibility<'a>>,
}

#[derive(Debug)]
struct Feasibility<'a> {
    ran: Parzen<'a>,
    failed: Parzen<'a>,
    log_share_ran: f64,
    log_share_failed: f64,
}

/// The trials that count: ascending rows.
pub(super) struct Rows<'a, 'b> {
    pub(super) ran: &'a Observations,
    /// Of those that ran.
    pub(super) good: &'b [usize],
    /// Bad ones of those that ran have no lower row.
    pub(super) first_bad: usize,
    /// What failed or is infeasible, where that has densities of its own.
    pub(super) failed: &'a Observations,
    pub(super) first_failed: usize,
    pub(super) running: &'b [RunningRow],
    /// Whether there are several objectives.
    pub(super) several: bool,
}

impl<'a> Acquisition<'a> {
    /// Running trials count as bad, so that parallel workers are not sent to the same point.
    pub(super) fn new(columns: &Columns, rows: &Rows<'a, '_>, options: &TpeOptions) -> Self {
        let all = (0..columns.list.len()).collect::<Vec<_>>();
        let estimator = |observations: &'a Observations, ranges: &[Range<usize>], running: &[RunningRow], weights| {
            Parzen::new(observations, &all, ranges, running, weights, options.parzen)
        };
        let good = ranges(rows.good.iter().copied());
        let bad = others(rows.good, rows.first_bad, rows.ran.len());
        let feasibility = (rows.failed.len() > rows.first_failed).then(|| {
            let old = rows.good.iter().copied().filter(|row| *row < rows.first_bad);
            let ran = ranges(old.chain(rows.first_bad..rows.ran.len()));
            let failed = rows.first_failed..rows.failed.len();
            // One pseudo-observation each, so that a first success or failure does not decide everything.
            let count = |ranges: &[Range<usize>]| (ranges.iter().map(ExactSizeIterator::len).sum::<usize>() + 1) as f64;
            let (n_ran, n_failed) = (count(&ran), count(std::slice::from_ref(&failed)));
            Feasibility {
                log_share_ran: libm::log(n_ran / (n_ran + n_failed)),
                log_share_failed: libm::log(n_failed / (n_ran + n_failed)),
                ran: estimator(rows.ran, &ran, &[], Weights::Recency),
                failed: estimator(rows.failed, &[failed], &[], Weights::Recency),
            }
        });
        // A front is spread over the space: of several objectives no good trial is out of date.
        let weights = if rows.several { Weights::Uniform } else { Weights::Recency };
        let good = estimator(rows.ran, &good, &[], weights);
        Self { good, bad: estimator(rows.ran, &bad, rows.running, Weights::Recency), feasibility }
    }

    /// The density candidates are drawn from.
    pub(super) fn good(&self) -> &Parzen<'a> {
        &self.good
    }

    /// log l − log g − log(π + (1 − π) q / p) of each candidate; the last term where something failed, with p and q
    /// the densities of what ran and what failed and π the share of what ran.
    pub(super) fn scores(&self, candidates: &[Vec<f64>]) -> Vec<f64> {
        let (good, bad) = (self.good.log_density(candidates), self.bad.log_density(candidates));
        let mut scores = good.iter().zip(&bad).map(|(good, bad)| good - bad).collect::<Vec<_>>();
        if let Some(feasibility) = &self.feasibility {
            let ran = feasibility.ran.log_density(candidates);
            let failed = feasibility.failed.log_density(candidates);
            for ((score, ran), failed) in scores.iter_mut().zip(ran).zip(failed) {
                *score -= log_add_exp(feasibility.log_share_ran, feasibility.log_share_failed + failed - ran);
            }
        }
        scores
    }
}

/// What an estimated memory ratio costs a candidate.
pub(super) fn misfit(ratio: f64) -> f64 {
    let cost = (ratio - FITS) / MISFIT_SCALE;
    if cost.is_nan() { 0.0 } else { cost.clamp(0.0, MISFIT_CAP) }
}
