//! From the configuration of a study to its sampler.

use fleetune_core::study::{Direction, PrunerConfig, SamplerConfig, StudyConfig};

use crate::auto::Auto;
use crate::bracketed::Bracketed;
use crate::brute_force::BruteForce;
use crate::cmaes::CmaEs;
use crate::grid::Grid;
use crate::nsga2::NsgaIi;
use crate::qmc_sampler::Qmc;
use crate::random::Random;
use crate::seam::Sampler;
use crate::tpe::{Optuna5, Tpe, TpeOptions};

/// Why a study's sampler cannot work on its space.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SamplerError {
    /// The study has no space.
    #[error("the study has no search space to sample from")]
    NoSpace,
    /// An exhaustive search over a continuous range.
    #[error("sampler `{sampler}` needs finitely many values, but parameter `{name}` is continuous")]
    Continuous {
        /// The sampler.
        sampler: &'static str,
        /// The parameter.
        name: String,
    },
    /// Grid search over 2^62 combinations or more.
    #[error("grid search over more than 10^18 combinations would never end")]
    HugeGrid,
    /// Brute force over a range that is too long to be walked through.
    #[error("sampler `brute-force` would never come to the end of the {count} values of parameter `{name}`")]
    HugeRange {
        /// The parameter.
        name: String,
        /// Its values.
        count: u64,
    },
    /// A sampler for one objective, and several.
    #[error("sampler `{sampler}` works on one objective, but the study has {objectives}")]
    SeveralObjectives {
        /// The sampler.
        sampler: &'static str,
        /// Their number.
        objectives: usize,
    },
}

impl SamplerError {
    /// The remedy, as something that can be pasted.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoSpace => Some("pass `--space FILE`".to_owned()),
            Self::Continuous { name, .. } => Some(format!("give `{name}` a `step`, or use `--sampler tpe`")),
            Self::HugeGrid => Some("use `--sampler tpe`".to_owned()),
            Self::HugeRange { name, .. } => Some(format!("give `{name}` a larger `step`, or use `--sampler tpe`")),
            Self::SeveralObjectives { .. } => Some("use `--sampler nsga-ii`".to_owned()),
        }
    }
}

/// The sampler of the study called `study`, without history. With Hyperband it is one for each bracket, but for those
/// that go through the space in an order of their own.
pub fn build_for(config: &StudyConfig, study: &str) -> Result<Box<dyn Sampler>, SamplerError> {
    let alone = build(config)?;
    let learns = match &config.sampler {
        SamplerConfig::Random | SamplerConfig::Grid | SamplerConfig::BruteForce | SamplerConfig::Qmc => false,
        SamplerConfig::Auto
        | SamplerConfig::Tpe
        | SamplerConfig::TpeOptuna5(_)
        | SamplerConfig::NsgaIi
        | SamplerConfig::CmaEs => true,
    };
    if let (true, PrunerConfig::Hyperband(options)) = (learns, &config.pruner) {
        let config = config.clone();
        let fresh = move || build(&config).expect("it was built before");
        return Ok(Box::new(Bracketed::new(*options, study, Box::new(fresh))));
    }
    Ok(alone)
}

/// The sampler of a study, without history and whatever its pruner.
pub fn build(config: &StudyConfig) -> Result<Box<dyn Sampler>, SamplerError> {
    let space = config.space.as_ref().ok_or(SamplerError::NoSpace)?;
    match &config.sampler {
        SamplerConfig::Auto => Ok(Box::new(Auto::new(space, config))),
        SamplerConfig::Random => Ok(Box::new(Random::new(space))),
        SamplerConfig::Grid => Ok(Box::new(Grid::new(space, config.seed)?)),
        SamplerConfig::Tpe => Ok(Box::new(Tpe::new(space, &config.directions, TpeOptions::default()))),
        SamplerConfig::TpeOptuna5(options) => Ok(Box::new(Optuna5::new(space, &config.directions, *options))),
        SamplerConfig::BruteForce => Ok(Box::new(BruteForce::new(space)?)),
        SamplerConfig::NsgaIi => Ok(Box::new(NsgaIi::new(space, &config.directions))),
        SamplerConfig::Qmc => Ok(Box::new(Qmc::new(space, config.seed))),
        SamplerConfig::CmaEs => Ok(Box::new(CmaEs::new(space, single(config)?, config.seed))),
    }
}

/// The direction of a study with one objective.
fn single(config: &StudyConfig) -> Result<Direction, SamplerError> {
    match config.directions[..] {
        [direction] => Ok(direction),
        _ => {
            Err(SamplerError::SeveralObjectives { sampler: config.sampler.name(), objectives: config.directions.len() })
        }
    }
}
