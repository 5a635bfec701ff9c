//! What proposes parameters.

use fleetune_core::study::{SamplerConfig, TpeGamma, TpeOptuna5Config, TpeWeights};

use super::Invalid;
use crate::v1;

/// Checks a sampler.
pub(super) fn sampler(wire: Option<v1::Sampler>) -> Result<SamplerConfig, Invalid> {
    let Some(wire) = wire else { return Ok(SamplerConfig::default()) };
    let named = if wire.name.is_empty() {
        SamplerConfig::default()
    } else {
        SamplerConfig::from_name(&wire.name).ok_or_else(|| Invalid {
            field: "config.sampler.name".to_owned(),
            why: format!("there is no sampler `{}`", wire.name),
            hint: Some(format!("use one of {}", SamplerConfig::NAMES.join(", "))),
        })?
    };
    let field = "config.sampler.tpe_optuna5";
    match (named, wire.tpe_optuna5) {
        (named, None) => Ok(named),
        (SamplerConfig::TpeOptuna5(_), Some(options)) => {
            let options = tpe_optuna5(options)?;
            options.check().map_err(|why| Invalid::new(field, why))?;
            Ok(SamplerConfig::TpeOptuna5(options))
        }
        (named, Some(_)) => Err(Invalid::new(field, format!("the sampler `{}` has no such options", named.name()))),
    }
}

fn tpe_optuna5(wire: v1::TpeOptuna5) -> Result<TpeOptuna5Config, Invalid> {
    let default = TpeOptuna5Config::default();
    let unknown = |name: &str| Invalid::new(format!("config.sampler.tpe_optuna5.{name}"), "is of a newer version");
    Ok(TpeOptuna5Config {
        n_startup_trials: wire.n_startup_trials.unwrap_or(default.n_startup_trials),
        n_ei_candidates: if wire.n_ei_candidates == 0 { default.n_ei_candidates } else { wire.n_ei_candidates },
        multivariate: wire.multivariate,
        group: wire.group,
        constant_liar: wire.constant_liar.unwrap_or(default.constant_liar),
        gamma: match v1::TpeGamma::try_from(wire.gamma).map_err(|_| unknown("gamma"))? {
            v1::TpeGamma::Unspecified | v1::TpeGamma::Default => TpeGamma::Default,
            v1::TpeGamma::Hyperopt => TpeGamma::Hyperopt,
        },
        weights: match v1::TpeWeights::try_from(wire.weights).map_err(|_| unknown("weights"))? {
            v1::TpeWeights::Unspecified | v1::TpeWeights::Default => TpeWeights::Default,
            v1::TpeWeights::Uniform => TpeWeights::Uniform,
        },
        prior_weight: wire.prior_weight.unwrap_or(default.prior_weight),
        consider_magic_clip: wire.consider_magic_clip.unwrap_or(default.consider_magic_clip),
        consider_endpoints: wire.consider_endpoints,
    })
}

/// Converts to the wire.
pub(super) fn sampler_to_wire(sampler: &SamplerConfig) -> v1::Sampler {
    let tpe_optuna5 = if let SamplerConfig::TpeOptuna5(options) = sampler {
        Some(v1::TpeOptuna5 {
            n_startup_trials: Some(options.n_startup_trials),
            n_ei_candidates: options.n_ei_candidates,
            multivariate: options.multivariate,
            group: options.group,
            constant_liar: Some(options.constant_liar),
            gamma: match options.gamma {
                TpeGamma::Default => v1::TpeGamma::Default,
                TpeGamma::Hyperopt => v1::TpeGamma::Hyperopt,
            }
            .into(),
            weights: match options.weights {
                TpeWeights::Default => v1::TpeWeights::Default,
                TpeWeights::Uniform => v1::TpeWeights::Uniform,
            }
            .into(),
            prior_weight: Some(options.prior_weight),
            consider_magic_clip: Some(options.consider_magic_clip),
            consider_endpoints: options.consider_endpoints,
        })
    } else {
        None
    };
    v1::Sampler { name: sampler.name().to_owned(), tpe_optuna5 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sampler_survives_the_wire() {
        let odd = TpeOptuna5Config {
            n_startup_trials: 0,
            n_ei_candidates: 7,
            multivariate: Some(true),
            group: true,
            constant_liar: false,
            gamma: TpeGamma::Hyperopt,
            weights: TpeWeights::Uniform,
            prior_weight: 0.0,
            consider_magic_clip: false,
            consider_endpoints: true,
        };
        let named = SamplerConfig::NAMES.into_iter().map(|name| SamplerConfig::from_name(name).unwrap());
        for config in named.chain([SamplerConfig::TpeOptuna5(odd)]) {
            assert_eq!(sampler(Some(sampler_to_wire(&config))).unwrap(), config);
        }
    }

    #[test]
    fn unnamed_sampler_is_auto() {
        assert_eq!(sampler(None).unwrap(), SamplerConfig::Auto);
        assert_eq!(sampler(Some(v1::Sampler::default())).unwrap(), SamplerConfig::Auto);
    }

    #[test]
    fn options_go_with_their_sampler_alone() {
        let read = |name: &str, options: v1::TpeOptuna5| {
            sampler(Some(v1::Sampler { name: name.to_owned(), tpe_optuna5: Some(options) }))
        };
        let defaults = SamplerConfig::TpeOptuna5(TpeOptuna5Config::default());
        assert_eq!(read("tpe-optuna5", v1::TpeOptuna5::default()).unwrap(), defaults);
        assert!(read("tpe", v1::TpeOptuna5::default()).is_err());
        let wrong = v1::TpeOptuna5 { prior_weight: Some(f64::NAN), ..v1::TpeOptuna5::default() };
        assert!(read("tpe-optuna5", wrong).unwrap_err().to_string().contains("prior_weight"));
    }
}
