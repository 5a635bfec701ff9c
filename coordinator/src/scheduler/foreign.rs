//! What clients of Optuna's protocol do: they sample themselves and write one fact at a time.
//!
//! Such a study has no search space; its trials are seen by everybody else as any other.

use std::sync::Arc;

use fleetune_core::study::{Budget, PrunerConfig, SamplerConfig, StudyConfig};
use fleetune_core::{Direction, Params, Schedule, SearchSpace, StudyId, StudyState, TrialId, TrialNumber, TrialState};
use rand::TryRng as _;

use super::engine::Engine;
use super::error::EngineError;
use super::guest::Distributions;
use crate::storage::{
    Attribute, AttributeKind, AttributeOwner, Meaning, NewStudy, NewTrial, Param, ParamSet, StoreError, StudyRecord,
    TrialMark, TrialRecord, WholeTrial,
};

/// Longest name of a study, bytes. An index of Postgres takes no longer ones.
const MAX_NAME: usize = 2_000;

/// Studies read at a time.
const PAGE: u32 = 1_000;

/// How times are written for clients of Optuna's protocol. Both forms are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OptunaTimes {
    /// `2026-11-21 05:27:54.752916`, in the time zone of this process: what every client reads.
    #[default]
    Local,
    /// `2026-11-21T05:27:54.752916+00:00`: what clients newer than 5.0.0 read too.
    Iso,
}

type Result<T> = std::result::Result<T, EngineError>;

impl Engine {
    /// Creates a study without a space. Any name will do that both databases take.
    pub async fn create_foreign_study(&self, name: String, directions: Vec<Direction>) -> Result<StudyId> {
        check_name("study_name", &name)?;
        if directions.is_empty() {
            return Err(EngineError::invalid("directions", "must be at least one"));
        }
        let config = StudyConfig {
            directions,
            space: None,
            sampler: SamplerConfig::Auto,
            pruner: PrunerConfig::None,
            budget: Budget::default(),
            planned_trials: None,
            seed: random()?,
            benchmark: None,
            earlier: Vec::new(),
        };
        // The protocol has no ids of requests.
        let request_id = format!("optuna-{:016x}{:016x}", random()?, random()?);
        let new = NewStudy {
            name,
            request_id,
            state: StudyState::Active,
            config,
            schedule: Schedule::default(),
            family: None,
        };
        let study = self.store.create_study(new, self.now()).await?;
        self.noted();
        Ok(study.id)
    }

    /// Removes a study, whatever runs in it.
    pub async fn delete_foreign_study(&self, id: StudyId) -> Result<()> {
        self.store.study(id).await?;
        self.store.delete_study(id).await?;
        self.forget(id).await;
        self.noted();
        Ok(())
    }

    /// A study as stored.
    pub async fn study_record(&self, id: StudyId) -> Result<StudyRecord> {
        Ok(self.store.study(id).await?)
    }

    /// The id of a study.
    pub async fn study_id(&self, name: &str) -> Result<StudyId> {
        Ok(self.store.study_by_name(name).await?.id)
    }

    /// Every study that is not archived, by id, with its attributes.
    pub async fn studies_with_attributes(&self) -> Result<Vec<(StudyRecord, Vec<Attribute>)>> {
        let mut studies = Vec::new();
        loop {
            let after = studies.last().map_or(StudyId(0), |(study, _): &(StudyRecord, _)| study.id);
            let page = self.store.studies_at_hand(after, PAGE).await?;
            let full = page.len() as u32 >= PAGE;
            studies.extend(page.into_iter().map(|study| (study, Vec::new())));
            if !full {
                break;
            }
        }
        for (id, attribute) in self.store.study_attributes_of_all().await? {
            if let Ok(index) = studies.binary_search_by_key(&id, |(study, _)| study.id) {
                studies[index].1.push(attribute);
            }
        }
        Ok(studies)
    }

    /// The attributes of one kind of a study.
    pub async fn study_attributes(&self, id: StudyId, kind: AttributeKind) -> Result<Vec<(String, String)>> {
        let attributes = self.store.attributes(AttributeOwner::Study(id), kind).await?;
        Ok(attributes.into_iter().collect())
    }

    /// Sets an attribute of a study.
    pub async fn set_study_attribute(&self, id: StudyId, (kind, key, value): Attribute) -> Result<()> {
        self.store.set_attribute(AttributeOwner::Study(id), kind, key, value).await?;
        self.noted();
        Ok(())
    }

    /// The study and number of a trial.
    pub async fn place_of(&self, id: TrialId) -> Result<(StudyId, TrialNumber)> {
        Ok(self.store.place_of(id).await?)
    }

    /// The id of a trial.
    pub async fn trial_id(&self, study: StudyId, number: TrialNumber) -> Result<TrialId> {
        self.store.study(study).await?;
        Ok(self.store.trial(study, number).await?.id)
    }

    /// What there is of the trials of a study with ids above `above`, and of those named.
    pub async fn marks(&self, study: StudyId, above: TrialId, named: &[i64]) -> Result<Vec<TrialMark>> {
        Ok(self.store.marks(study, above, named).await?)
    }

    /// What there is of the trial of a study with this id.
    pub async fn mark(&self, study: StudyId, id: TrialId) -> Result<TrialMark> {
        Ok(self.store.mark(study, id).await?)
    }

    /// Those of these trials of a study that need not be read.
    pub fn remembered(&self, study: StudyId, ids: &[TrialId]) -> Vec<Arc<WholeTrial>> {
        self.store.remembered(study, ids)
    }

    /// The trials with these ids, as far as there are any, by id.
    pub async fn whole_trials(&self, ids: &[i64]) -> Result<Vec<WholeTrial>> {
        Ok(self.store.whole_trials(ids).await?)
    }

    /// Adds a trial; without one that starts now.
    pub async fn add_trial(&self, study: StudyId, new: Option<NewTrial>) -> Result<TrialRecord> {
        let now = self.now();
        let mut new = new.unwrap_or_else(|| NewTrial::running(now));
        if !new.fixed.is_empty() {
            new.fixed = self.in_space(study, new.fixed).await?;
        }
        let ended = new.state.is_ended();
        let trial = self.store.add_trial(study, new, now).await?;
        self.noted();
        if ended {
            self.conclude_foreign(study).await?;
        }
        Ok(trial)
    }

    /// Adds trials from number `first` on; gives the study's next number.
    pub async fn import_trials(
        &self,
        study: StudyId,
        first: TrialNumber,
        mut trials: Vec<NewTrial>,
    ) -> Result<TrialNumber> {
        if trials.iter().any(|trial| !trial.fixed.is_empty())
            && let Some(space) = self.store.study(study).await?.config.space
        {
            for trial in &mut trials {
                trial.fixed = typed(&space, std::mem::take(&mut trial.fixed));
            }
        }
        let next = self.store.add_trials(study, first, trials, self.now()).await?;
        self.noted();
        self.conclude_foreign(study).await?;
        Ok(next)
    }

    /// Gives a study that was imported its name.
    pub async fn finish_import(&self, study: StudyId, name: String) -> Result<()> {
        check_name("name", &name)?;
        self.store.name_study(study, name).await?;
        self.forget(study).await;
        self.noted();
        Ok(())
    }

    /// Sets a parameter of a trial.
    pub async fn set_parameter(&self, study: StudyId, id: TrialId, name: String, param: Param) -> Result<()> {
        self.store.set_parameter(study, id, name, param).await?;
        self.noted();
        Ok(())
    }

    /// Puts a trial into a state; whether it was this call that did.
    pub async fn set_trial_state(
        &self,
        study: StudyId,
        id: TrialId,
        state: TrialState,
        values: Vec<f64>,
    ) -> Result<bool> {
        let (did, may_be_over) = self.store.set_state(study, id, state, values, self.now()).await?;
        if did {
            self.noted();
        }
        if may_be_over {
            self.conclude(study).await?;
        }
        Ok(did)
    }

    /// Sets a step of a trial.
    pub async fn set_step(&self, study: StudyId, id: TrialId, step: u32, value: f64) -> Result<()> {
        self.store.set_step(study, id, step, value).await?;
        self.noted();
        Ok(())
    }

    /// Sets an attribute of a trial, with what it means.
    pub async fn set_trial_attribute(
        &self,
        study: StudyId,
        id: TrialId,
        attribute: Attribute,
        mut meaning: Meaning,
    ) -> Result<()> {
        if let Meaning::Fixed(fixed) = meaning {
            meaning = Meaning::Fixed(self.in_space(study, fixed).await?);
        }
        self.store.set_own_attribute(study, id, attribute, meaning).await?;
        self.noted();
        Ok(())
    }

    /// Parameters for a trial that exists. `space`: what to suggest from; empty: what the study itself says.
    pub async fn suggest(&self, name: &str, number: TrialNumber, space: Distributions) -> Result<ParamSet> {
        let record = self.store.study_by_name(name).await?;
        let trial = self.store.trial(record.id, number).await?;
        if trial.state.is_ended() {
            let (number, state) = (trial.number, trial.state);
            return Err(StoreError::WrongTrialState { number, state, what: "get suggestions".to_owned() }.into());
        }
        let desk = self.desk(record.id).await?;
        let mut live = desk.live().lock().await;
        live.catch_up().await?;
        live.suggest_for(&trial, space).await
    }

    /// Whether a trial should stop by the steps it has, by `pruner` or the study's own.
    pub async fn should_prune(&self, name: &str, number: TrialNumber, pruner: Option<&PrunerConfig>) -> Result<bool> {
        let record = self.store.study_by_name(name).await?;
        let trial = self.store.trial(record.id, number).await?;
        let desk = self.desk(record.id).await?;
        let mut live = desk.live().lock().await;
        live.catch_up().await?;
        Ok(live.judge(&trial, pruner))
    }

    /// Fixed parameters in the types of the study's space, where they are such as it has.
    async fn in_space(&self, study: StudyId, fixed: Params) -> Result<Params> {
        Ok(match self.store.study(study).await?.config.space {
            Some(space) => typed(&space, fixed),
            None => fixed,
        })
    }

    /// Ends a search that is over; one without a budget never is.
    async fn conclude_foreign(&self, study: StudyId) -> Result<()> {
        match self.store.study(study).await {
            Ok(record) if record.config.budget != Budget::default() => self.conclude(study).await,
            Ok(_) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Fixed parameters in the types of `space`, where they are such as it has.
fn typed(space: &SearchSpace, fixed: Params) -> Params {
    space.check_fixed(&fixed).unwrap_or(fixed)
}

fn check_name(field: &str, name: &str) -> Result<()> {
    if name.len() > MAX_NAME || name.contains('\0') {
        return Err(EngineError::invalid(field, format!("must have at most {MAX_NAME} bytes, none of them zero")));
    }
    Ok(())
}

fn random() -> Result<u64> {
    let failed = |error| StoreError::Database(format!("no random numbers: {error}"));
    Ok(rand::rngs::SysRng.try_next_u64().map_err(failed)?)
}
