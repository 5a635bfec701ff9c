//! Suggestions and verdicts for trials of programs that sample and report elsewhere.

use fleetune_core::study::PrunerConfig;
use fleetune_core::{Params, TrialNumber};
use fleetune_sampler::pruner::Pruner;
use fleetune_sampler::{Ask, Running};

use super::{LiveStudy, suggest};
use crate::scheduler::error::EngineError;
use crate::scheduler::guest::{self, Distributions, Guest};
use crate::storage::{ParamSet, TrialRecord, external};

/// Samplers over spaces of clients, at most: conditional parameters have one each.
const MAX_GUESTS: usize = 64;

impl LiveStudy {
    /// Parameters for a trial that exists, over `space`; over that of the study where it has one and none is given, else
    /// over what its ended trials have in common. Nothing when there is no such thing yet.
    pub async fn suggest_for(
        &mut self,
        trial: &TrialRecord,
        mut space: Distributions,
    ) -> Result<ParamSet, EngineError> {
        let mut fixed = trial.fixed.clone();
        fixed.extend(external(&trial.params));
        if space.is_empty() && self.sampler.is_some() {
            return self.suggest_own(trial.number, &fixed);
        }
        if space.is_empty() {
            space = self.history.common();
            space.retain(|_, distribution| guest::is_searched(distribution));
        }
        if space.is_empty() {
            return Ok(ParamSet::new());
        }
        let mut guest = match self.guests.iter().position(|(known, _)| *known == space) {
            Some(index) => self.guests.remove(index),
            None => (space.clone(), Guest::new(&self.record.config, space)?),
        };
        guest.1.catch_up(&self.history).await;
        let suggested = guest.1.suggest(&self.history, self.record.config.seed, trial.number, &fixed);
        if self.guests.len() >= MAX_GUESTS {
            self.guests.remove(0);
        }
        self.guests.push(guest);
        suggested
    }

    /// Over the space of the study, around those of `fixed` that it has.
    fn suggest_own(&self, number: TrialNumber, fixed: &Params) -> Result<ParamSet, EngineError> {
        let name = || self.record.name.clone();
        let sampler = self.sampler.as_ref().ok_or_else(|| EngineError::NoSpace(name()))?;
        let running: Vec<Running> = self.history.running().into_iter().filter(|other| other.number != number).collect();
        let fixed = fixed.iter().filter(|(name, _)| self.distributions.contains_key(*name));
        let fixed = fixed.map(|(name, value)| (name.clone(), value.clone())).collect();
        let ask = Ask { number, fixed: &fixed, running: &running, estimate: self.advice() };
        let suggested = suggest(sampler.as_ref(), self.record.config.seed, &ask);
        self.pack(&suggested.map_err(|why| EngineError::SpaceExhausted { name: name(), why })?)
    }

    /// Whether a trial should stop by the steps it has, by `pruner` or the study's own.
    pub fn judge(&self, trial: &TrialRecord, pruner: Option<&PrunerConfig>) -> bool {
        let Some(&(step, value)) = trial.steps.last() else { return false };
        let Some(config) = pruner else { return self.should_stop(trial.number, &trial.steps, step, value) };
        let [direction] = self.record.config.directions[..] else { return false };
        let pruner: Box<dyn Pruner> = fleetune_sampler::build_pruner(config, direction);
        self.stops(pruner.as_ref(), trial.number, &trial.steps)
    }
}
