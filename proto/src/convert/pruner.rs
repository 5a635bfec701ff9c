//! Rules that stop trials.

use fleetune_core::study::{
    HalvingConfig, HyperbandConfig, MedianConfig, PatientConfig, PercentileConfig, PrunerConfig, RacingConfig,
    ThresholdConfig, WilcoxonConfig,
};

use super::Invalid;
use crate::v1;
use crate::v1::pruner::Kind;

/// Checks a rule.
pub fn pruner(wire: Option<v1::Pruner>) -> Result<PrunerConfig, Invalid> {
    let pruner = from_wire(wire)?;
    match pruner.check() {
        Ok(()) => Ok(pruner),
        Err(why) => Err(Invalid::new(format!("config.pruner.{}", pruner.name().replace('-', "_")), why)),
    }
}

fn from_wire(wire: Option<v1::Pruner>) -> Result<PrunerConfig, Invalid> {
    let Some(kind) = wire.and_then(|pruner| pruner.kind) else { return Ok(PrunerConfig::None) };
    let or = |number: u32, default: u32| if number == 0 { default } else { number };
    Ok(match kind {
        Kind::Racing(racing) => {
            let default = RacingConfig::default();
            PrunerConfig::Racing(RacingConfig {
                confidence: racing.confidence.unwrap_or(default.confidence),
                min_repetitions: or(racing.min_repetitions, default.min_repetitions),
                margin: racing.margin.unwrap_or(default.margin),
                process_noise: racing.process_noise.unwrap_or(default.process_noise),
            })
        }
        Kind::Median(median) => PrunerConfig::Median(MedianConfig {
            n_startup_trials: median.n_startup_trials,
            n_warmup_steps: median.n_warmup_steps,
            interval_steps: or(median.interval_steps, 1),
            n_min_trials: or(median.n_min_trials, 1),
        }),
        Kind::Percentile(percentile) => PrunerConfig::Percentile(PercentileConfig {
            percentile: percentile.percentile.unwrap_or(PercentileConfig::default().percentile),
            n_startup_trials: percentile.n_startup_trials,
            n_warmup_steps: percentile.n_warmup_steps,
            interval_steps: or(percentile.interval_steps, 1),
            n_min_trials: or(percentile.n_min_trials, 1),
        }),
        Kind::SuccessiveHalving(halving) => PrunerConfig::SuccessiveHalving(HalvingConfig {
            min_resource: halving.min_resource,
            reduction_factor: or(halving.reduction_factor, HalvingConfig::default().reduction_factor),
            min_early_stopping_rate: halving.min_early_stopping_rate,
            bootstrap_count: halving.bootstrap_count,
        }),
        Kind::Hyperband(hyperband) => PrunerConfig::Hyperband(HyperbandConfig {
            min_resource: or(hyperband.min_resource, 1),
            max_resource: hyperband.max_resource,
            reduction_factor: or(hyperband.reduction_factor, HyperbandConfig::default().reduction_factor),
            bootstrap_count: hyperband.bootstrap_count,
        }),
        Kind::Threshold(threshold) => PrunerConfig::Threshold(ThresholdConfig {
            lower: threshold.lower,
            upper: threshold.upper,
            n_warmup_steps: threshold.n_warmup_steps,
            interval_steps: or(threshold.interval_steps, 1),
        }),
        Kind::Patient(patient) => PrunerConfig::Patient(PatientConfig {
            wrapped: Box::new(from_wire(patient.wrapped.map(|wrapped| *wrapped))?),
            patience: patient.patience,
            min_delta: patient.min_delta,
        }),
        Kind::Wilcoxon(wilcoxon) => PrunerConfig::Wilcoxon(WilcoxonConfig {
            p_threshold: wilcoxon.p_threshold.unwrap_or(WilcoxonConfig::default().p_threshold),
            n_startup_steps: wilcoxon.n_startup_steps.max(2),
        }),
    })
}

/// Converts to the wire.
pub(super) fn pruner_to_wire(pruner: &PrunerConfig) -> v1::Pruner {
    let kind = match pruner {
        PrunerConfig::None => None,
        PrunerConfig::Racing(racing) => Some(Kind::Racing(v1::RacingPruner {
            confidence: Some(racing.confidence),
            min_repetitions: racing.min_repetitions,
            margin: Some(racing.margin),
            process_noise: Some(racing.process_noise),
        })),
        PrunerConfig::Median(median) => Some(Kind::Median(v1::MedianPruner {
            n_startup_trials: median.n_startup_trials,
            n_warmup_steps: median.n_warmup_steps,
            interval_steps: median.interval_steps,
            n_min_trials: median.n_min_trials,
        })),
        PrunerConfig::Percentile(percentile) => Some(Kind::Percentile(v1::PercentilePruner {
            percentile: Some(percentile.percentile),
            n_startup_trials: percentile.n_startup_trials,
            n_warmup_steps: percentile.n_warmup_steps,
            interval_steps: percentile.interval_steps,
            n_min_trials: percentile.n_min_trials,
        })),
        PrunerConfig::SuccessiveHalving(halving) => Some(Kind::SuccessiveHalving(v1::SuccessiveHalvingPruner {
            min_resource: halving.min_resource,
            reduction_factor: halving.reduction_factor,
            min_early_stopping_rate: halving.min_early_stopping_rate,
            bootstrap_count: halving.bootstrap_count,
        })),
        PrunerConfig::Hyperband(hyperband) => Some(Kind::Hyperband(v1::HyperbandPruner {
            min_resource: hyperband.min_resource,
            max_resource: hyperband.max_resource,
            reduction_factor: hyperband.reduction_factor,
            bootstrap_count: hyperband.bootstrap_count,
        })),
        PrunerConfig::Threshold(threshold) => Some(Kind::Threshold(v1::ThresholdPruner {
            lower: threshold.lower,
            upper: threshold.upper,
            n_warmup_steps: threshold.n_warmup_steps,
            interval_steps: threshold.interval_steps,
        })),
        PrunerConfig::Patient(patient) => Some(Kind::Patient(Box::new(v1::PatientPruner {
            wrapped: Some(Box::new(pruner_to_wire(&patient.wrapped))),
            patience: patient.patience,
            min_delta: patient.min_delta,
        }))),
        PrunerConfig::Wilcoxon(wilcoxon) => Some(Kind::Wilcoxon(v1::WilcoxonPruner {
            p_threshold: Some(wilcoxon.p_threshold),
            n_startup_steps: wilcoxon.n_startup_steps,
        })),
    };
    v1::Pruner { kind }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_survives_the_wire() {
        let patient = |wrapped| PrunerConfig::Patient(PatientConfig { wrapped, patience: 3, min_delta: 0.5 });
        let limits = ThresholdConfig { lower: Some(-1.0), ..ThresholdConfig::default() };
        let others = [patient(Box::new(PrunerConfig::racing())), PrunerConfig::Threshold(limits)];
        let named = PrunerConfig::NAMES.into_iter().filter(|name| *name != "threshold");
        for config in named.map(|name| PrunerConfig::from_name(name).unwrap()).chain(others) {
            assert_eq!(pruner(Some(pruner_to_wire(&config))).unwrap(), config);
        }
    }

    #[test]
    fn an_empty_message_means_the_defaults() {
        assert_eq!(pruner(None).unwrap(), PrunerConfig::None);
        let read = |kind| pruner(Some(v1::Pruner { kind: Some(kind) }));
        assert_eq!(read(Kind::Racing(v1::RacingPruner::default())).unwrap(), PrunerConfig::racing());
        let hyperband = PrunerConfig::Hyperband(HyperbandConfig::default());
        assert_eq!(read(Kind::Hyperband(v1::HyperbandPruner::default())).unwrap(), hyperband);
        let refused = read(Kind::Threshold(v1::ThresholdPruner::default())).unwrap_err();
        assert_eq!(refused.to_string(), "field `config.pruner.threshold`: needs `lower`, `upper` or both, as numbers");
    }

    #[test]
    fn patience_within_patience_is_refused_however_deep() {
        let mut wire = v1::Pruner::default();
        for _ in 0..50 {
            let patient = v1::PatientPruner { wrapped: Some(Box::new(wire)), ..v1::PatientPruner::default() };
            wire = v1::Pruner { kind: Some(Kind::Patient(Box::new(patient))) };
        }
        assert!(pruner(Some(wire)).is_err());
    }
}
