//! Stops a trial that is hardly better than the best one so far, judged by the spread of its repetitions.
//!
//! The logarithms of the repetitions of one process are taken as normal about a mean of that process, and those means
//! as normal about what the configuration is worth. The variance within processes is learned; the one between them
//! cannot be learned from one process for each configuration, and is an option.

use fleetune_core::measurement::median;
use fleetune_core::study::RacingConfig;
use fleetune_core::{Direction, TrialState};

use super::{Candidate, Field, Pruner, Series};
use crate::numeric::{log_ndtr, normal_quantile};

/// Weight of the variance that is usual in the study, in observations. Origin: the usual weak prior of an
/// inverse-gamma distribution, as strong as four repetitions.
const PSEUDO_OBSERVATIONS: f64 = 3.0;
/// Relative standard deviation within a process before any trial has shown one. Origin: published sweeps of llama.cpp.
const USUAL_SPREAD: f64 = 0.003;

pub(super) struct Racing {
    pub(super) options: RacingConfig,
    pub(super) direction: Direction,
}

impl Pruner for Racing {
    fn should_stop(&self, field: &Field<'_>, own: &Candidate<'_>) -> bool {
        let Some(incumbent) = field.best(self.direction).filter(|best| best.number != own.number) else { return false };
        if own.steps.len() < self.options.min_repetitions.max(1) as usize {
            return false;
        }
        let Some(scale) = Scale::of(self.direction, &[own.steps, incumbent.steps]) else { return false };
        let (Some(own), Some(best)) = (Sample::of(scale, own.steps), Sample::of(scale, incumbent.steps)) else {
            return false;
        };
        self.is_hardly_better(&own, &best, Self::usual_variance(field, scale))
            || field.repetitions.is_some_and(|planned| self.cannot_win(&own, &best, planned as usize))
    }
}

impl Racing {
    /// Whether the probability of being better by the margin is below what the confidence leaves.
    fn is_hardly_better(&self, own: &Sample, best: &Sample, usual_variance: f64) -> bool {
        let freedom = own.freedom() + best.freedom();
        let squares = PSEUDO_OBSERVATIONS * usual_variance + own.squares + best.squares;
        let within = squares / (PSEUDO_OBSERVATIONS + freedom);
        let variance = within * (1.0 / own.count() + 1.0 / best.count()) + self.between_variance();
        // Both ways a gain of the margin is this far from none.
        let gain = best.mean - own.mean - self.margin();
        let log_probability = match variance > 0.0 {
            true => log_ndtr(gain / variance.sqrt()),
            false if gain >= 0.0 => 0.0,
            false => f64::NEG_INFINITY,
        };
        log_probability < libm::log(1.0 - self.options.confidence)
    }

    /// Whether the median would fall short even if every repetition left were as good as the best one, by more than
    /// two processes of one configuration differ.
    fn cannot_win(&self, own: &Sample, best: &Sample, planned: usize) -> bool {
        let Some(least) = own.values.iter().copied().reduce(f64::min) else { return false };
        let left = planned.saturating_sub(own.values.len());
        let projected = own.values.iter().copied().chain(std::iter::repeat_n(least, left)).collect::<Vec<_>>();
        let (Some(projected), Some(bar)) = (median(&projected), median(&best.values)) else { return false };
        let luck = normal_quantile(self.options.confidence) * self.between_variance().sqrt();
        projected > bar - self.margin() + luck
    }

    fn margin(&self) -> f64 {
        libm::log1p(self.options.margin)
    }

    /// Of the difference of two processes.
    fn between_variance(&self) -> f64 {
        2.0 * self.options.process_noise * self.options.process_noise
    }

    /// The median variance within the trials that ended: typical even where a few were disturbed.
    fn usual_variance(field: &Field<'_>, scale: Scale) -> f64 {
        let ended =
            field.trials.iter().filter(|trial| matches!(trial.state, TrialState::Complete | TrialState::Pruned));
        let variance = |trial: &Candidate<'_>| {
            let sample = Sample::of(scale, trial.steps)?;
            (sample.freedom() > 0.0).then(|| sample.squares / sample.freedom())
        };
        median(&ended.filter_map(variance).collect::<Vec<_>>()).unwrap_or(USUAL_SPREAD * USUAL_SPREAD)
    }
}

/// How values become numbers whose differences are relative, smaller ones better.
#[derive(Clone, Copy)]
enum Scale {
    /// Minus logarithms where larger is better.
    Log(f64),
    /// Where values are not all positive: in units of this size, signed alike.
    Linear(f64),
}

impl Scale {
    /// One that serves all these series; none where something is not finite.
    fn of(direction: Direction, all: &[Series<'_>]) -> Option<Self> {
        let sign = direction.minimized(1.0);
        let values = all.iter().flat_map(|steps| steps.iter().map(|(_, value)| *value));
        let (mut least, mut largest) = (f64::INFINITY, 0.0_f64);
        for value in values {
            if !value.is_finite() {
                return None;
            }
            least = least.min(value);
            largest = largest.max(value.abs());
        }
        let linear = if largest > 0.0 { sign / largest } else { sign };
        Some(if least > 0.0 { Self::Log(sign) } else { Self::Linear(linear) })
    }

    fn apply(self, value: f64) -> f64 {
        match self {
            Self::Log(sign) => sign * libm::log(value),
            Self::Linear(factor) => factor * value,
        }
    }
}

/// The repetitions of a trial on a scale.
struct Sample {
    values: Vec<f64>,
    mean: f64,
    /// Sum of squared deviations from the mean.
    squares: f64,
}

impl Sample {
    /// None without values, and where one has no place on the scale.
    fn of(scale: Scale, steps: Series<'_>) -> Option<Self> {
        let values = steps.iter().map(|(_, value)| scale.apply(*value)).collect::<Vec<_>>();
        if values.is_empty() || values.iter().any(|value| !value.is_finite()) {
            return None;
        }
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let squares = values.iter().map(|value| (value - mean) * (value - mean)).sum();
        Some(Self { values, mean, squares })
    }

    fn count(&self) -> f64 {
        self.values.len() as f64
    }

    fn freedom(&self) -> f64 {
        self.count() - 1.0
    }
}
