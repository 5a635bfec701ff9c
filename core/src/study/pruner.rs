//! When a trial is stopped early, with the options of each rule.

use serde::{Deserialize, Serialize};

/// When a trial is stopped early. Names, options and defaults are Optuna 5.0's, but for `racing`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case", deny_unknown_fields)]
pub enum PrunerConfig {
    /// Never.
    #[default]
    None,
    /// Hardly better than the best so far, by the spread of repeated measurements.
    Racing(RacingConfig),
    /// Worse than the median of the completed trials at the same step.
    Median(MedianConfig),
    /// Worse than a percentile of the completed trials at the same step.
    Percentile(PercentileConfig),
    /// Not among the best of those that came as far.
    SuccessiveHalving(HalvingConfig),
    /// Successive halving in brackets that begin at different steps.
    Hyperband(HyperbandConfig),
    /// Outside fixed limits.
    Threshold(ThresholdConfig),
    /// Another rule, asked only once a trial has not improved for a while.
    Patient(PatientConfig),
    /// Worse than the best trial, by Wilcoxon's signed-rank test over the steps that both reported.
    Wilcoxon(WilcoxonConfig),
}

/// Options of [`PrunerConfig::Racing`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RacingConfig {
    /// Stops when the probability of being better by `margin` is below 1 − this; in (0.5, 1).
    pub confidence: f64,
    /// Repetitions made before anything is stopped; at least 1.
    pub min_repetitions: u32,
    /// Relative gain over the incumbent that is worth finding out; in [0, 1).
    pub margin: f64,
    /// Relative standard deviation of one configuration between processes; in [0, 1).
    pub process_noise: f64,
}

impl Default for RacingConfig {
    /// `process_noise`: published sweeps of llama.cpp show 3.4 % between processes against 0.3 % within one.
    fn default() -> Self {
        Self { confidence: 0.95, min_repetitions: 2, margin: 0.01, process_noise: 0.034 }
    }
}

/// Options of [`PrunerConfig::Median`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MedianConfig {
    /// Completed trials needed before anything is pruned.
    pub n_startup_trials: u32,
    /// Steps below this are never pruned.
    pub n_warmup_steps: u32,
    /// Checked only at the first report within each interval of this many steps; at least 1.
    pub interval_steps: u32,
    /// Values of completed trials needed at the step; at least 1.
    pub n_min_trials: u32,
}

impl Default for MedianConfig {
    fn default() -> Self {
        Self { n_startup_trials: 5, n_warmup_steps: 0, interval_steps: 1, n_min_trials: 1 }
    }
}

/// Options of [`PrunerConfig::Percentile`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PercentileConfig {
    /// Share of the trials that is kept, 0 to 100. Optuna has no default; here 25, as in its examples.
    pub percentile: f64,
    /// As for the median.
    pub n_startup_trials: u32,
    /// As for the median.
    pub n_warmup_steps: u32,
    /// As for the median; at least 1.
    pub interval_steps: u32,
    /// As for the median; at least 1.
    pub n_min_trials: u32,
}

impl Default for PercentileConfig {
    fn default() -> Self {
        Self { percentile: 25.0, n_startup_trials: 5, n_warmup_steps: 0, interval_steps: 1, n_min_trials: 1 }
    }
}

/// Options of [`PrunerConfig::SuccessiveHalving`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HalvingConfig {
    /// Step of the first rung, at least 1. None: a hundredth of the last step of the trial that completed first, at
    /// least 1; nothing is pruned before.
    pub min_resource: Option<u32>,
    /// A rung lies at so many times the step of the one before, and keeps one of so many; at least 2.
    pub reduction_factor: u32,
    /// Rungs left out at the beginning.
    pub min_early_stopping_rate: u32,
    /// So many trials are stopped at a rung before one may pass it. 0 where `min_resource` is none.
    pub bootstrap_count: u32,
}

impl Default for HalvingConfig {
    fn default() -> Self {
        Self { min_resource: None, reduction_factor: 4, min_early_stopping_rate: 0, bootstrap_count: 0 }
    }
}

/// Options of [`PrunerConfig::Hyperband`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HyperbandConfig {
    /// Step of the first rung of the first bracket, at least 1.
    pub min_resource: u32,
    /// Steps of a whole trial, at least `min_resource`. None: the last step of the trial that completed first, plus
    /// 1; nothing is pruned before.
    pub max_resource: Option<u32>,
    /// As for successive halving; at least 2.
    pub reduction_factor: u32,
    /// As for successive halving. 0 where `max_resource` is none.
    pub bootstrap_count: u32,
}

impl Default for HyperbandConfig {
    fn default() -> Self {
        Self { min_resource: 1, max_resource: None, reduction_factor: 3, bootstrap_count: 0 }
    }
}

/// Options of [`PrunerConfig::Threshold`]; one limit at least.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ThresholdConfig {
    /// Stop below this.
    pub lower: Option<f64>,
    /// Stop above this.
    pub upper: Option<f64>,
    /// Steps below this are never pruned.
    pub n_warmup_steps: u32,
    /// As for the median; at least 1.
    pub interval_steps: u32,
}

impl Default for ThresholdConfig {
    fn default() -> Self {
        Self { lower: None, upper: None, n_warmup_steps: 0, interval_steps: 1 }
    }
}

/// Options of [`PrunerConfig::Patient`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PatientConfig {
    /// The rule that is asked; none: what does not improve is stopped. Never patient itself.
    pub wrapped: Box<PrunerConfig>,
    /// Steps without an improvement that are put up with.
    pub patience: u32,
    /// What counts as none; at least 0.
    pub min_delta: f64,
}

/// Options of [`PrunerConfig::Wilcoxon`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WilcoxonConfig {
    /// Stops below this probability; 0 to 1.
    pub p_threshold: f64,
    /// Steps in common with the best trial before anything is stopped; never fewer than 2.
    pub n_startup_steps: u32,
}

impl Default for WilcoxonConfig {
    fn default() -> Self {
        Self { p_threshold: 0.1, n_startup_steps: 2 }
    }
}

impl PrunerConfig {
    /// The names people may give.
    pub const NAMES: [&'static str; 9] = [
        "none",
        "racing",
        "median",
        "percentile",
        "successive-halving",
        "hyperband",
        "threshold",
        "patient",
        "wilcoxon",
    ];

    /// Racing with its defaults.
    pub fn racing() -> Self {
        Self::Racing(RacingConfig::default())
    }

    /// The median rule with Optuna's defaults.
    pub fn median() -> Self {
        Self::Median(MedianConfig::default())
    }

    /// The name on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Racing(_) => "racing",
            Self::Median(_) => "median",
            Self::Percentile(_) => "percentile",
            Self::SuccessiveHalving(_) => "successive-halving",
            Self::Hyperband(_) => "hyperband",
            Self::Threshold(_) => "threshold",
            Self::Patient(_) => "patient",
            Self::Wilcoxon(_) => "wilcoxon",
        }
    }

    /// The rule called `name`, with default options.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "none" => Some(Self::None),
            "racing" => Some(Self::racing()),
            "median" => Some(Self::median()),
            "percentile" => Some(Self::Percentile(PercentileConfig::default())),
            "successive-halving" => Some(Self::SuccessiveHalving(HalvingConfig::default())),
            "hyperband" => Some(Self::Hyperband(HyperbandConfig::default())),
            "threshold" => Some(Self::Threshold(ThresholdConfig::default())),
            "patient" => Some(Self::Patient(PatientConfig::default())),
            "wilcoxon" => Some(Self::Wilcoxon(WilcoxonConfig::default())),
            _ => None,
        }
    }

    /// Whether the options can be used.
    ///
    /// # Errors
    /// What is wrong with them, as the end of a sentence that begins with the name of the rule.
    pub fn check(&self) -> Result<(), &'static str> {
        let need = |holds: bool, why| if holds { Ok(()) } else { Err(why) };
        match self {
            Self::None => Ok(()),
            Self::Racing(racing) => {
                need(racing.confidence > 0.5 && racing.confidence < 1.0, "needs a `confidence` between 0.5 and 1")?;
                need(racing.min_repetitions >= 1, "needs `min_repetitions` of at least 1")?;
                need((0.0..1.0).contains(&racing.margin), "needs a `margin` from 0 to below 1")?;
                need((0.0..1.0).contains(&racing.process_noise), "needs a `process_noise` from 0 to below 1")
            }
            Self::Median(median) => checks(median.interval_steps, median.n_min_trials),
            Self::Percentile(percentile) => {
                need((0.0..=100.0).contains(&percentile.percentile), "needs a `percentile` from 0 to 100")?;
                checks(percentile.interval_steps, percentile.n_min_trials)
            }
            Self::SuccessiveHalving(halving) => {
                need(halving.min_resource != Some(0), "needs a `min_resource` of at least 1")?;
                need(halving.reduction_factor >= 2, "needs a `reduction_factor` of at least 2")?;
                let fixed = halving.min_resource.is_some() || halving.bootstrap_count == 0;
                need(fixed, "needs a `min_resource` where there is a `bootstrap_count`")
            }
            Self::Hyperband(hyperband) => {
                need(hyperband.min_resource >= 1, "needs a `min_resource` of at least 1")?;
                let reaches = hyperband.max_resource.is_none_or(|max| max >= hyperband.min_resource);
                need(reaches, "needs a `max_resource` that is no less than `min_resource`")?;
                need(hyperband.reduction_factor >= 2, "needs a `reduction_factor` of at least 2")?;
                let fixed = hyperband.max_resource.is_some() || hyperband.bootstrap_count == 0;
                need(fixed, "needs a `max_resource` where there is a `bootstrap_count`")
            }
            Self::Threshold(threshold) => {
                let limits = [threshold.lower, threshold.upper];
                let given = limits.iter().any(Option::is_some) && !limits.iter().flatten().any(|limit| limit.is_nan());
                need(given, "needs `lower`, `upper` or both, as numbers")?;
                checks(threshold.interval_steps, 1)
            }
            Self::Patient(patient) => {
                need(patient.min_delta >= 0.0, "needs a `min_delta` of at least 0")?;
                match *patient.wrapped {
                    Self::Patient(_) => Err("cannot wrap another `patient`"),
                    _ => patient.wrapped.check(),
                }
            }
            Self::Wilcoxon(wilcoxon) => {
                need((0.0..=1.0).contains(&wilcoxon.p_threshold), "needs a `p_threshold` from 0 to 1")
            }
        }
    }
}

fn checks(interval_steps: u32, n_min_trials: u32) -> Result<(), &'static str> {
    match (interval_steps, n_min_trials) {
        (0, _) => Err("needs `interval_steps` of at least 1"),
        (_, 0) => Err("needs `n_min_trials` of at least 1"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_agree_with_serde_and_defaults_can_be_used() {
        for name in PrunerConfig::NAMES {
            let config = PrunerConfig::from_name(name).unwrap();
            assert_eq!(config.name(), name);
            let text = serde_json::to_string(&config).unwrap();
            assert!(text.contains(&format!(r#""name":"{name}""#)), "{text}");
            assert_eq!(serde_json::from_str::<PrunerConfig>(&text).unwrap(), config);
            assert_eq!(serde_json::from_str::<PrunerConfig>(&format!(r#"{{"name":"{name}"}}"#)).unwrap(), config);
            assert_eq!(config.check().is_ok(), name != "threshold", "{name}");
        }
    }

    #[test]
    fn wrong_options_are_named() {
        let wrong = |text: &str| match serde_json::from_str::<PrunerConfig>(text) {
            Ok(config) => config.check().unwrap_err().to_owned(),
            Err(error) => error.to_string(),
        };
        assert!(wrong(r#"{"name":"median","n_startup":3}"#).contains("n_startup"));
        assert!(wrong(r#"{"name":"median","interval_steps":0}"#).contains("interval_steps"));
        assert!(wrong(r#"{"name":"racing","confidence":5}"#).contains("confidence"));
        assert!(wrong(r#"{"name":"successive-halving","bootstrap_count":1}"#).contains("min_resource"));
        assert!(wrong(r#"{"name":"hyperband","min_resource":5,"max_resource":4}"#).contains("max_resource"));
        assert!(wrong(r#"{"name":"patient","wrapped":{"name":"patient"}}"#).contains("wrap"));
        assert!(wrong(r#"{"name":"patient","wrapped":{"name":"percentile","percentile":101}}"#).contains("percentile"));
    }
}
