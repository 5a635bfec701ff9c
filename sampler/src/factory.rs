//! From the configuration of a study to its sampler.

use fleetune_core::study::{SamplerConfig, StudyConfig};

use crate::grid::Grid;
use crate::random::Random;
use crate::seam::Sampler;
use crate::tpe::{Tpe, TpeOptions};

/// Why a study's sampler cannot work on its space.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SamplerError {
    /// The study has no space.
    #[error("the study has no search space to sample from")]
    NoSpace,
    /// Grid search over a continuous range.
    #[error("grid search needs finitely many values, but parameter `{name}` is continuous")]
    ContinuousGrid {
        /// The parameter.
        name: String,
    },
    /// Grid search over 2^62 combinations or more.
    #[error("grid search over more than 10^18 combinations would never end")]
    HugeGrid,
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
            Self::ContinuousGrid { name } => Some(format!("give `{name}` a `step`, or use `--sampler tpe`")),
            Self::HugeGrid => Some("use `--sampler tpe`".to_owned()),
            Self::SeveralObjectives { .. } => Some("use `--sampler random`".to_owned()),
        }
    }
}

/// The sampler of a study, without history.
pub fn build(config: &StudyConfig) -> Result<Box<dyn Sampler>, SamplerError> {
    let space = config.space.as_ref().ok_or(SamplerError::NoSpace)?;
    match &config.sampler {
        SamplerConfig::Random => Ok(Box::new(Random::new(space))),
        SamplerConfig::Grid => Ok(Box::new(Grid::new(space, config.seed)?)),
        SamplerConfig::Tpe => match config.directions[..] {
            [direction] => Ok(Box::new(Tpe::new(space, direction, TpeOptions::default()))),
            _ => Err(SamplerError::SeveralObjectives { sampler: "tpe", objectives: config.directions.len() }),
        },
    }
}
