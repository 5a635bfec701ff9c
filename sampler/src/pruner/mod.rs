//! Rules that stop a trial early, on series of values by step. Formulas and defaults are Optuna 5.0's.

mod percentile;
mod threshold;

use fleetune_core::Direction;
use fleetune_core::study::PrunerConfig;

use percentile::Percentile;
use threshold::Threshold;

/// Step and value, ascending by step.
pub type Series<'a> = &'a [(u32, f64)];

/// A rule that stops trials.
pub trait Pruner {
    /// Whether the trial with the series `own`, which has just reported `step`, should stop. `completed` holds the
    /// series of the study's complete trials, those without reports too.
    fn should_stop(&self, completed: &[Series<'_>], own: Series<'_>, step: u32) -> bool;
}

/// Never stops a trial.
struct Never;

impl Pruner for Never {
    fn should_stop(&self, _: &[Series<'_>], _: Series<'_>, _: u32) -> bool {
        false
    }
}

/// The pruner of a study.
pub fn build_pruner(config: &PrunerConfig, direction: Direction) -> Box<dyn Pruner + Send + Sync> {
    match config {
        PrunerConfig::None => Box::new(Never),
        PrunerConfig::Median { n_startup_trials, n_warmup_steps, interval_steps, n_min_trials } => {
            Box::new(Percentile {
                share: 0.5,
                direction,
                startup_trials: *n_startup_trials as usize,
                checks: Checks { warmup_steps: *n_warmup_steps, interval_steps: *interval_steps },
                min_trials: *n_min_trials as usize,
            })
        }
        PrunerConfig::Threshold { lower, upper, n_warmup_steps, interval_steps } => Box::new(Threshold {
            lower: *lower,
            upper: *upper,
            checks: Checks { warmup_steps: *n_warmup_steps, interval_steps: *interval_steps },
        }),
    }
}

/// At which steps a rule looks.
struct Checks {
    warmup_steps: u32,
    interval_steps: u32,
}

impl Checks {
    /// Whether `step` is past the warm-up and the first report within its interval.
    fn looks_at(&self, own: Series<'_>, step: u32) -> bool {
        if step < self.warmup_steps {
            return false;
        }
        let interval = self.interval_steps.max(1);
        let begin = (step - self.warmup_steps) / interval * interval + self.warmup_steps;
        own.iter().filter(|(other, _)| *other != step).all(|(other, _)| *other < begin)
    }
}
