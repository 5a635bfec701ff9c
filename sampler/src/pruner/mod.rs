//! Rules that stop a trial early. Formulas and defaults are Optuna 5.0's, but for [`racing`].
//!
//! A verdict is a function of what is stored: the trials of the study and the steps they have reported. No rule keeps
//! anything between two questions, so that every replica gives the same answer.

mod field;
mod halving;
mod hyperband;
mod patient;
mod percentile;
mod racing;
mod threshold;
mod wilcoxon;

use fleetune_core::Direction;
use fleetune_core::study::PrunerConfig;

pub use field::{Candidate, Field, Series};
pub use hyperband::{bracket_of, brackets};
pub use wilcoxon::signed_rank_p;

use field::Checks;
use halving::{Halving, Resource};
use hyperband::Hyperband;
use patient::Patient;
use percentile::Percentile;
use racing::Racing;
use threshold::Threshold;
use wilcoxon::Wilcoxon;

/// A rule that stops trials.
pub trait Pruner: Send + Sync {
    /// Whether `own`, a running trial that has just reported, should stop. What `field` says of that same trial is not
    /// looked at.
    fn should_stop(&self, field: &Field<'_>, own: &Candidate<'_>) -> bool;
}

/// Never stops a trial.
struct Never;

impl Pruner for Never {
    fn should_stop(&self, _: &Field<'_>, _: &Candidate<'_>) -> bool {
        false
    }
}

/// The rule of a study, whose options passed [`PrunerConfig::check`].
pub fn build_pruner(config: &PrunerConfig, direction: Direction) -> Box<dyn Pruner> {
    match config {
        PrunerConfig::None => Box::new(Never),
        PrunerConfig::Racing(options) => Box::new(Racing { options: *options, direction }),
        PrunerConfig::Median(median) => Box::new(Percentile {
            percent: 50.0,
            direction,
            startup_trials: median.n_startup_trials as usize,
            checks: Checks { warmup_steps: median.n_warmup_steps, interval_steps: median.interval_steps },
            min_trials: median.n_min_trials as usize,
        }),
        PrunerConfig::Percentile(percentile) => Box::new(Percentile {
            percent: percentile.percentile,
            direction,
            startup_trials: percentile.n_startup_trials as usize,
            checks: Checks { warmup_steps: percentile.n_warmup_steps, interval_steps: percentile.interval_steps },
            min_trials: percentile.n_min_trials as usize,
        }),
        PrunerConfig::SuccessiveHalving(halving) => Box::new(Halving {
            direction,
            resource: halving.min_resource.map_or(Resource::Auto, |min| Resource::Fixed(min.into())),
            reduction: halving.reduction_factor.into(),
            skipped_rungs: halving.min_early_stopping_rate,
            bootstrap: halving.bootstrap_count as usize,
        }),
        PrunerConfig::Hyperband(options) => Box::new(Hyperband { options: *options, direction }),
        PrunerConfig::Threshold(threshold) => Box::new(Threshold {
            lower: threshold.lower,
            upper: threshold.upper,
            checks: Checks { warmup_steps: threshold.n_warmup_steps, interval_steps: threshold.interval_steps },
        }),
        PrunerConfig::Patient(patient) => Box::new(Patient {
            wrapped: match *patient.wrapped {
                PrunerConfig::None => None,
                ref wrapped => Some(build_pruner(wrapped, direction)),
            },
            direction,
            patience: patient.patience as usize,
            min_delta: patient.min_delta,
        }),
        PrunerConfig::Wilcoxon(wilcoxon) => Box::new(Wilcoxon {
            direction,
            threshold: wilcoxon.p_threshold,
            startup_steps: wilcoxon.n_startup_steps as usize,
        }),
    }
}
