//! Suggestions over a space that a client brings, for trials that it samples itself otherwise.
//!
//! A guest is a sampler over that space, kept current with what the study's trials say about it. Its suggestions are not
//! recomputed by `verify`: what the trial gets in the end is the client's to say.

use std::collections::BTreeMap;
use std::sync::Arc;

use fleetune_core::study::StudyConfig;
use fleetune_core::{Distribution, Params, Revision, SearchSpace, TrialNumber};
use fleetune_sampler::{Ask, Ended, Event, Running, Sampler};

use super::error::EngineError;
use super::history::History;
use crate::storage::{Param, ParamSet};

/// Distributions by name.
pub type Distributions = BTreeMap<String, Arc<Distribution>>;

/// Ended trials folded before others have a turn.
const EVENTS_AT_ONCE: usize = 64;

/// A sampler over a client's space.
pub struct Guest {
    space: Distributions,
    sampler: Box<dyn Sampler>,
    /// What ended up to here is folded.
    folded: Revision,
}

impl Guest {
    /// The sampler of `config` over `space`.
    pub fn new(config: &StudyConfig, space: Distributions) -> Result<Self, EngineError> {
        let wrong = |error: &dyn std::fmt::Display| EngineError::invalid("distributions", error);
        let mut builder = SearchSpace::builder();
        for (name, distribution) in inner_names(&space).zip(space.values()) {
            builder = builder.parameter(&name, native(distribution)?, None);
        }
        let inner = builder.build().map_err(|error| wrong(&error))?;
        let config = StudyConfig { space: Some(inner), ..config.clone() };
        let sampler = fleetune_sampler::build(&config).map_err(|error| wrong(&error))?;
        Ok(Self { space, sampler, folded: Revision(0) })
    }

    /// Folds what has ended since the last time. Lets others go on in between: the first time that may be all there is.
    pub async fn catch_up(&mut self, history: &History) {
        for (index, (revision, number)) in history.ended_after(self.folded).into_iter().enumerate() {
            self.folded = revision;
            let ended = history.ended_event(number);
            // One that lacks a parameter, or tried what is not in this space, says nothing about it.
            if let Some(params) = self.inward(&ended.params) {
                self.sampler.observe(&Event::Ended(Ended { params, ..ended }));
            }
            if index % EVENTS_AT_ONCE == EVENTS_AT_ONCE - 1 {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Parameters for trial `number`, which has `fixed` already, after what was folded and beside what runs by
    /// `history`.
    pub fn suggest(
        &self,
        history: &History,
        seed: u64,
        number: TrialNumber,
        fixed: &Params,
    ) -> Result<ParamSet, EngineError> {
        let others = history.all_running().into_iter().filter(|other| other.number != number);
        let running: Vec<Running> =
            others.filter_map(|other| Some(Running { params: self.inward(&other.params)?, ..other })).collect();
        let fixed = self.fixed(fixed);
        let ask = Ask { number, fixed: &fixed, running: &running, estimate: None };
        let names: Vec<&str> = self.space.keys().map(String::as_str).collect();
        let mut rng = fleetune_sampler::trial_rng(seed, number, &names);
        let inner = self.sampler.suggest(&ask, &mut rng);
        let inner = inner.map_err(|why| EngineError::invalid("trial", format!("nothing left to try: {why}")))?;
        let mut params = ParamSet::new();
        for (inner_name, (name, distribution)) in inner_names(&self.space).zip(&self.space) {
            let value = inner.get(&inner_name).and_then(|value| distribution.to_internal(value).ok());
            let Some(internal) = value else { continue };
            params.insert(name.clone(), Param { distribution: Arc::clone(distribution), internal });
        }
        Ok(params)
    }

    /// `params` under the names of the sampler, if all of the space are there and within it.
    fn inward(&self, params: &Params) -> Option<Params> {
        let named = inner_names(&self.space).zip(&self.space);
        named
            .map(|(inner_name, (name, distribution))| {
                let value = params.get(name).filter(|value| distribution.contains(value))?;
                Some((inner_name, value.clone()))
            })
            .collect()
    }

    /// As [`Self::inward`], of those that are there.
    fn fixed(&self, params: &Params) -> Params {
        let named = inner_names(&self.space).zip(&self.space);
        named
            .filter_map(|(inner_name, (name, distribution))| {
                Some((inner_name, distribution.coerce(params.get(name)?).ok()?))
            })
            .collect()
    }
}

/// Names for the sampler, in the order of `space`: a client's may be any text, a space's may not.
fn inner_names(space: &Distributions) -> impl Iterator<Item = String> {
    (0..space.len()).map(|index| format!("p{index:05}"))
}

/// `distribution` as one that our samplers take.
fn native(distribution: &Arc<Distribution>) -> Result<Distribution, EngineError> {
    use fleetune_core::distribution::{Choices, IntRange};
    let checked = match &**distribution {
        Distribution::Float(_) => return Ok((**distribution).clone()),
        Distribution::Int(range) => {
            IntRange::new(range.low(), range.high(), range.step(), range.log()).map(Distribution::Int)
        }
        Distribution::Categorical(choices) => Choices::new(choices.as_slice().to_vec()).map(Distribution::Categorical),
    };
    checked.map_err(|error| EngineError::invalid("distributions", error))
}

/// Whether our samplers take `distribution`, and there is something to choose.
pub fn is_searched(distribution: &Arc<Distribution>) -> bool {
    !distribution.is_single() && native(distribution).is_ok()
}
