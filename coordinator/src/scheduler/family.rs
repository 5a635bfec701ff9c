//! States of studies, set by hand; and families: a parent that has a child for each class of workers.
//!
//! A parent has no trials and no job. What is done to it is done to its children, after it: who sees a child that is
//! behind sees its parent, and gives it no worker.

use fleetune_core::StudyState;
use fleetune_core::schedule::Per;
use fleetune_core::study::StudyConfig;

use super::best::Best;
use super::board::Offer;
use super::engine::{Engine, StudySummary};
use super::error::EngineError;
use super::obstacle::without_class;
use crate::storage::{Family, StoreError, StudyRecord, StudyUpdate, Tally, TrialCounts, WorkerRecord};

/// Longest name of a parent, characters: those of its children are longer.
const MAX_PARENT_NAME: usize = 90;

/// Refuses a family that cannot be.
pub(super) fn check(name: &str, per: Option<&Per>, config: &StudyConfig) -> Result<(), EngineError> {
    if per.is_none() {
        return Ok(());
    }
    if config.benchmark.is_none() {
        return Err(EngineError::invalid("per", "the study has no model, so there are no workers to tell apart"));
    }
    if name.chars().count() > MAX_PARENT_NAME {
        let why = format!("must have at most {MAX_PARENT_NAME} characters, since children are named after it");
        return Err(EngineError::invalid("study name", why));
    }
    Ok(())
}

/// What became of a worker that a parent may have a child for.
pub(super) enum Adoption {
    /// The child was made.
    Made(Box<StudyRecord>),
    /// It is there, or cannot be now.
    Nothing,
    /// There is none, for this reason.
    Refused(String),
}

/// A child with what its parent shows of it.
#[derive(Clone, Debug)]
pub struct Child {
    /// The study.
    pub summary: StudySummary,
    /// Its best trial, and what to use.
    pub best: Best,
}

impl Engine {
    /// A parent's children, by id.
    pub async fn children(&self, parent: &StudyRecord) -> Result<Vec<Child>, EngineError> {
        let mut children = Vec::new();
        if parent.is_parent() {
            for child in self.store.children(parent.id).await? {
                let best = self.best(&child.name, 1).await?;
                children.push(Child { summary: self.summary(child, super::engine::STAFF_AGE).await?, best });
            }
        }
        Ok(children)
    }

    /// Makes the child of the parent on offer for `worker`, unless it is there.
    pub(super) async fn adopt(&self, offer: &Offer, worker: &WorkerRecord) -> Result<Adoption, EngineError> {
        let parent = &offer.study;
        let Some(class) = parent.family.as_ref().and_then(|family| family.class_of(worker)) else {
            return Ok(Adoption::Refused(without_class(parent, worker)));
        };
        if offer.is_settled(&class) {
            return Ok(Adoption::Nothing);
        }
        let is_known = |child: &StudyRecord| child.family.as_ref().and_then(Family::class) == Some(class.as_str());
        // One that has ended is on no board.
        if self.store.children(parent.id).await?.iter().any(is_known) {
            offer.settle(class);
            return Ok(Adoption::Nothing);
        }
        match self.store.create_child(parent.id, class, self.now()).await {
            Ok(child) => {
                self.changed();
                Ok(Adoption::Made(Box::new(child)))
            }
            Err(error @ StoreError::TooLarge { .. }) => Ok(Adoption::Refused(error.to_string())),
            // Changed under way: the next look sees its new state.
            Err(StoreError::WrongStudyState { .. } | StoreError::StudyNotFound(_)) => Ok(Adoption::Nothing),
            Err(error) => Err(error.into()),
        }
    }

    /// What a study and its children have done.
    pub(super) async fn family_tally(&self, record: &StudyRecord) -> Result<Tally, EngineError> {
        let mut tally = self.store.tally(record.id).await?;
        let children = if record.is_parent() { self.store.children(record.id).await? } else { Vec::new() };
        for child in children {
            let Tally { counts, spent_s } = self.store.tally(child.id).await?;
            let TrialCounts { waiting, running, complete, pruned, fail, skipped } = counts;
            tally.spent_s += spent_s;
            tally.counts.waiting += waiting;
            tally.counts.running += running;
            tally.counts.complete += complete;
            tally.counts.pruned += pruned;
            tally.counts.fail += fail;
            tally.counts.skipped += skipped;
        }
        Ok(tally)
    }

    /// Starts no more trials; running ones go on.
    pub async fn pause(&self, name: &str) -> Result<StudySummary, EngineError> {
        self.set_state(name, None, StudyState::Paused, "paused").await
    }

    /// Undoes a pause, and nothing else: a study that has ended needs a larger budget.
    pub async fn resume(&self, name: &str) -> Result<StudySummary, EngineError> {
        self.set_state(name, Some(StudyState::Paused), StudyState::Active, "").await
    }

    /// Ends a study with its waiting and running trials.
    pub async fn cancel(&self, name: &str) -> Result<StudySummary, EngineError> {
        self.set_state(name, None, StudyState::Cancelled, "").await
    }

    async fn set_state(
        &self,
        name: &str,
        expected: Option<StudyState>,
        state: StudyState,
        reason: &str,
    ) -> Result<StudySummary, EngineError> {
        let record = self.store.study_by_name(name).await?;
        let update = StudyUpdate { expected, state: Some((state, reason.to_owned())), ..StudyUpdate::default() };
        self.store.update_study(record.id, update.clone(), self.now()).await?;
        let mut set = vec![record.id];
        // After it, so that none is added meanwhile.
        for child in self.store.children(record.id).await? {
            match self.store.update_study(child.id, update.clone(), self.now()).await {
                Ok(_) => set.push(child.id),
                // It has ended, or is at what cannot be paused: no worker gets anything of it while its parent is.
                Err(StoreError::WrongStudyState { .. } | StoreError::StudyNotFound(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.changed();
        for id in set {
            // A study whose search was over when it was paused goes on to its end now.
            self.conclude(id).await?;
        }
        self.study(name).await
    }

    /// Removes a study and its children; one with running trials only with `force`.
    pub async fn delete_study(&self, name: &str, force: bool) -> Result<(), EngineError> {
        let record = self.store.study_by_name(name).await?;
        let running = self.family_tally(&record).await?.counts.running;
        if running > 0 && !force {
            return Err(EngineError::StillRunning { name: name.to_owned(), running });
        }
        let children = self.store.children(record.id).await?;
        self.store.delete_study(record.id).await?;
        for id in children.iter().map(|child| child.id).chain([record.id]) {
            self.forget(id).await;
        }
        self.changed();
        Ok(())
    }
}
