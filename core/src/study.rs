//! What a study is: states, directions, the configuration of its search, its pin.

mod earlier;
mod pruner;
mod tpe;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::space::SearchSpace;
use crate::value::Params;
use crate::workload::{Objective, Workload};

pub use earlier::{EarlierSetting, EarlierStudy, EarlierTrial, MOST_EARLIER, MOST_EARLIER_TRIALS};
pub use pruner::{
    HalvingConfig, HyperbandConfig, MedianConfig, PatientConfig, PercentileConfig, PrunerConfig, RacingConfig,
    ThresholdConfig, WilcoxonConfig,
};
pub use tpe::{TpeGamma, TpeOptuna5Config, TpeWeights};

/// Where a study stands.
///
/// `Preparing → Active ⇄ Paused → Confirming → Finished`; `Cancelled` or `Failed` from any of these; `Archived` after
/// an end. A larger budget makes `Finished` active again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StudyState {
    /// Waits for a worker to describe the model; refuses asks.
    Preparing,
    /// Trials are started.
    Active,
    /// No trial is started; running ones go on.
    Paused,
    /// The search is over; comparison jobs re-measure the best against the baseline.
    Confirming,
    /// Budget used up, or stopped by a rule.
    Finished,
    /// Ended by a person.
    Cancelled,
    /// Could not be prepared.
    Failed,
    /// Put away after its end.
    Archived,
}

impl StudyState {
    /// Every state.
    pub const ALL: [Self; 8] = [
        Self::Preparing,
        Self::Active,
        Self::Paused,
        Self::Confirming,
        Self::Finished,
        Self::Cancelled,
        Self::Failed,
        Self::Archived,
    ];

    /// The name on the wire and in storage.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Confirming => "confirming",
            Self::Finished => "finished",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
            Self::Archived => "archived",
        }
    }

    /// The state called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether the search is over for good, unless its budget grows.
    pub fn is_ended(self) -> bool {
        match self {
            Self::Finished | Self::Cancelled | Self::Failed | Self::Archived => true,
            Self::Preparing | Self::Active | Self::Paused | Self::Confirming => false,
        }
    }

    /// Whether a study in this state may be put into `next` by hand or by the scheduler.
    pub fn may_become(self, next: Self) -> bool {
        match next {
            Self::Preparing => false,
            Self::Active => matches!(self, Self::Preparing | Self::Paused | Self::Confirming | Self::Finished),
            Self::Paused | Self::Confirming => matches!(self, Self::Active),
            Self::Finished => matches!(self, Self::Active | Self::Confirming),
            Self::Cancelled | Self::Failed => !self.is_ended(),
            Self::Archived => matches!(self, Self::Finished | Self::Cancelled | Self::Failed),
        }
    }
}

impl fmt::Display for StudyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Which values of an objective are better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Smaller.
    Minimize,
    /// Larger.
    Maximize,
}

impl Direction {
    /// The name on the command line, on the wire and in storage.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Minimize => "minimize",
            Self::Maximize => "maximize",
        }
    }

    /// `value` in a form in which smaller is better.
    pub fn minimized(self, value: f64) -> f64 {
        match self {
            Self::Minimize => value,
            Self::Maximize => -value,
        }
    }

    /// Whether `a` is strictly better than `b`.
    pub fn better(self, a: f64, b: f64) -> bool {
        self.minimized(a) < self.minimized(b)
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Which sampler proposes parameters, with its options.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum SamplerConfig {
    /// Bayesian optimisation by Gaussian processes; what suits better where that does not: the tree-structured Parzen
    /// estimator for many trials or parameters, a grid for spaces no larger than the budget, NSGA-II for several
    /// objectives.
    #[default]
    Auto,
    /// Uniform over the allowed configurations.
    Random,
    /// Every combination of a finite space once, in an order shuffled by the seed.
    Grid,
    /// Multivariate tree-structured Parzen estimator with constant liar.
    Tpe,
    /// Optuna 5.0's own tree-structured Parzen estimator.
    #[serde(rename = "tpe-optuna5")]
    TpeOptuna5(TpeOptuna5Config),
    /// Every combination of a finite space once, in order.
    #[serde(rename = "brute-force")]
    BruteForce,
    /// Evolution of a normal distribution, with restarts; one objective.
    #[serde(rename = "cma-es")]
    CmaEs,
    /// Evolution of a population toward the Pareto front.
    #[serde(rename = "nsga-ii")]
    NsgaIi,
    /// Points of a scrambled Sobol sequence, by trial number.
    Qmc,
}

impl SamplerConfig {
    /// The names people may give.
    pub const NAMES: [&'static str; 9] =
        ["auto", "random", "grid", "tpe", "tpe-optuna5", "brute-force", "cma-es", "nsga-ii", "qmc"];

    /// The name on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Random => "random",
            Self::Grid => "grid",
            Self::Tpe => "tpe",
            Self::TpeOptuna5(_) => "tpe-optuna5",
            Self::BruteForce => "brute-force",
            Self::CmaEs => "cma-es",
            Self::NsgaIi => "nsga-ii",
            Self::Qmc => "qmc",
        }
    }

    /// The sampler called `name`, with default options.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "auto" => Some(Self::Auto),
            "random" => Some(Self::Random),
            "grid" => Some(Self::Grid),
            "tpe" => Some(Self::Tpe),
            "tpe-optuna5" => Some(Self::TpeOptuna5(TpeOptuna5Config::default())),
            "brute-force" => Some(Self::BruteForce),
            "cma-es" => Some(Self::CmaEs),
            "nsga-ii" => Some(Self::NsgaIi),
            "qmc" => Some(Self::Qmc),
            _ => None,
        }
    }
}

/// When a search ends. Whatever is reached first; nothing set: never by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Budget {
    /// Trial numbers handed out. Trials skipped before their start do not count, up to as many again.
    pub trials: Option<u32>,
    /// Seconds spent in trials: the sum of stored durations, over all resumes.
    pub seconds: Option<f64>,
    /// A value of the (single) objective that is good enough.
    pub target: Option<f64>,
}

/// Runs a model in `fleetune-runner`, which holds llama.cpp.
pub const LLAMA_CPP: &str = "llama-cpp";
/// Runs a model with any build's `llama-bench`.
pub const LLAMA_BENCH: &str = "llama-bench";
/// The executors that there are.
pub const EXECUTORS: [&str; 2] = [LLAMA_CPP, LLAMA_BENCH];

/// What the workers of a model study run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own that a person makes")]
pub struct Benchmark {
    /// The model, as a path or name that a worker resolves in its folders.
    pub model: String,
    /// Who runs it: one of [`EXECUTORS`].
    pub executor: String,
    /// The request that is measured.
    pub workload: Workload,
    /// The number that is optimised.
    pub objective: Objective,
    /// Settings that are not searched but used in every trial.
    pub fixed: Params,
    /// Time limit of one trial, seconds, waiting for the device not counted.
    pub timeout_s: f64,
    /// Run configurations that a shipped rule calls unsafe under WSL.
    pub allow_wsl_unsafe: bool,
    /// Re-measure the best against the default in fresh processes at the end.
    pub confirm: bool,
    /// Let the sampler know what arithmetic says of configurations: memory, speed, equal settings.
    #[serde(default = "with_prior")]
    pub prior: bool,
    /// Run what lies in an unsafe region: see [`crate::region`].
    #[serde(default)]
    pub ignore_regions: bool,
}

/// Studies that were made before there were estimates have none to be told of, and lose nothing.
fn with_prior() -> bool {
    true
}

/// The configuration of a study: everything a suggestion may depend on besides events and trial number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StudyConfig {
    /// One per objective, at least one.
    pub directions: Vec<Direction>,
    /// What may be sampled. None for studies whose clients sample themselves, and for a model study until its model
    /// was described.
    pub space: Option<SearchSpace>,
    /// Proposes parameters.
    pub sampler: SamplerConfig,
    /// Stops trials early.
    pub pruner: PrunerConfig,
    /// Ends the search.
    pub budget: Budget,
    /// Trials that the study was made for. Samplers that plan ahead go by it, so that a larger budget changes no
    /// suggestion that was made before.
    #[serde(default)]
    pub planned_trials: Option<u32>,
    /// Seed of every random stream of the study.
    pub seed: u64,
    /// What workers run; none when clients measure themselves.
    pub benchmark: Option<Benchmark>,
    /// What the sampler learns from besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<EarlierStudy>,
}

/// What the values of a study hold for. Workers that differ in any of these are skipped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Sampled hash of the model file.
    pub model_hash: String,
    /// Name of the executor.
    pub executor: String,
    /// Version, build and hash of the engine.
    pub engine: String,
    /// [`crate::Inventory::device_class`], or the worker's label `class`.
    pub device_class: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ended_study_only_wakes_by_a_larger_budget() {
        assert!(StudyState::Finished.may_become(StudyState::Active));
        for ended in [StudyState::Cancelled, StudyState::Failed, StudyState::Archived] {
            assert!(!ended.may_become(StudyState::Active), "{ended}");
        }
    }

    #[test]
    fn names_agree_with_serde() {
        for name in SamplerConfig::NAMES {
            let sampler = SamplerConfig::from_name(name).unwrap();
            assert_eq!(sampler.name(), name);
            assert_eq!(serde_json::to_value(sampler).unwrap()["name"], name);
        }
        for state in StudyState::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
            assert_eq!(StudyState::from_name(state.as_str()), Some(state));
        }
    }
}
