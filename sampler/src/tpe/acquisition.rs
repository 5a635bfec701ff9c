//! The densities of one question, and the score of candidates under them.

use super::column::Column;
use super::options::TpeOptions;
use super::parzen::{Parzen, recency_weights};
use super::split::Split;
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
pub(super) struct Acquisition {
    good: Parzen,
    bad: Parzen,
    feasibility: Option<Feasibility>,
}

#[derive(Debug)]
struct Feasibility {
    ran: Parzen,
    failed: Parzen,
    log_share_ran: f64,
    log_share_failed: f64,
}

/// Rows of the history and of the running trials: `columns[c][row]`, and for each row its trial number.
pub(super) struct Rows<'a> {
    pub(super) ended: &'a [Vec<f64>],
    pub(super) numbers: &'a [i64],
    pub(super) running: &'a [(i64, Vec<f64>)],
    /// Whether there are several objectives.
    pub(super) several: bool,
}

impl Acquisition {
    /// Running trials count as bad, so that parallel workers are not sent to the same point.
    pub(super) fn new(columns: &[Column], rows: &Rows<'_>, split: &Split, options: &TpeOptions) -> Self {
        let estimator = |of: &[usize], running: &[(i64, Vec<f64>)], all_equal: bool| {
            // Oldest first: the weights depend on it.
            let ended = of.iter().map(|row| (rows.numbers[*row], Err(*row)));
            let mut order = ended.chain(running.iter().map(|(number, raw)| (*number, Ok(raw)))).collect::<Vec<_>>();
            if !running.is_empty() {
                order.sort_by_key(|(number, _)| *number);
            }
            let gather = |column: usize| {
                let raw = |(_, source): &(i64, Result<&Vec<f64>, usize>)| match source {
                    Ok(raw) => raw[column],
                    Err(row) => rows.ended[column][*row],
                };
                order.iter().map(raw).collect::<Vec<_>>()
            };
            let observations = (0..columns.len()).map(gather).collect::<Vec<_>>();
            let weights = if all_equal { vec![1.0; order.len()] } else { recency_weights(order.len()) };
            Parzen::new(columns, &observations, &weights, options.parzen)
        };
        let feasibility = (!split.failed.is_empty()).then(|| {
            let mut ran = [&split.good[..], &split.bad[..]].concat();
            ran.sort_unstable();
            // One pseudo-observation each, so that a first success or failure does not decide everything.
            let total = (ran.len() + split.failed.len() + 2) as f64;
            Feasibility {
                log_share_ran: libm::log((ran.len() + 1) as f64 / total),
                log_share_failed: libm::log((split.failed.len() + 1) as f64 / total),
                ran: estimator(&ran, &[], false),
                failed: estimator(&split.failed, &[], false),
            }
        });
        // A front is spread over the space: of several objectives no good trial is out of date.
        let good = estimator(&split.good, &[], rows.several);
        Self { good, bad: estimator(&split.bad, rows.running, false), feasibility }
    }

    /// The density candidates are drawn from.
    pub(super) fn good(&self) -> &Parzen {
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
