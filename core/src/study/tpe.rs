//! Options of Optuna's tree-structured Parzen estimator.

use serde::{Deserialize, Serialize};

/// Options of [`super::SamplerConfig::TpeOptuna5`]: names and defaults are Optuna 5.0's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "Optuna's options, one by one")]
pub struct TpeOptuna5Config {
    /// Random until so many trials are complete or pruned.
    pub n_startup_trials: u32,
    /// Drawn from the good density for each suggestion; at least 1.
    pub n_ei_candidates: u32,
    /// Whether the parameters that all trials have are modelled jointly. None: with one objective.
    pub multivariate: Option<bool>,
    /// Whether also those that only some trials have, in groups. Needs `multivariate`.
    pub group: bool,
    /// Running trials count as bad.
    pub constant_liar: bool,
    /// How many trials are good.
    pub gamma: TpeGamma,
    /// What trials weigh.
    pub weights: TpeWeights,
    /// Weight of the prior; at least 0.
    pub prior_weight: f64,
    /// A least bandwidth of 1 / min(100, n + 2) of the range.
    pub consider_magic_clip: bool,
    /// The ends of the range count as neighbours of the outermost observations.
    pub consider_endpoints: bool,
}

impl Default for TpeOptuna5Config {
    fn default() -> Self {
        Self {
            n_startup_trials: 10,
            n_ei_candidates: 24,
            multivariate: None,
            group: false,
            constant_liar: true,
            gamma: TpeGamma::Default,
            weights: TpeWeights::Default,
            prior_weight: 1.0,
            consider_magic_clip: true,
            consider_endpoints: false,
        }
    }
}

impl TpeOptuna5Config {
    /// Whether the options can be used.
    ///
    /// # Errors
    /// What is wrong with them, as the end of a sentence that begins with the name of the sampler.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.n_ei_candidates == 0 || self.n_ei_candidates > 10_000 {
            return Err("needs `n_ei_candidates` from 1 to 10000");
        }
        if self.group && self.multivariate == Some(false) {
            return Err("needs `multivariate` where there is `group`");
        }
        if !(self.prior_weight >= 0.0 && self.prior_weight.is_finite()) {
            return Err("needs a finite `prior_weight` of at least 0");
        }
        Ok(())
    }
}

/// How many of n finished trials are good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TpeGamma {
    /// min(⌈n / 10⌉, 25); without the cap where there are several objectives.
    #[default]
    Default,
    /// min(⌈√n / 4⌉, 25).
    Hyperopt,
}

/// What the trials of a group weigh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TpeWeights {
    /// The newest 25 weigh 1, older ones less.
    #[default]
    Default,
    /// All weigh 1.
    Uniform,
}
