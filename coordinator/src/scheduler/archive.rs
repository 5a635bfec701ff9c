//! Studies that are put away: readable, out of the way, without a place in memory.

use std::time::Duration;

use fleetune_core::{StudyId, Timestamp, TrialNumber};

use super::engine::{Engine, StudySummary};
use super::error::EngineError;
use crate::storage::{Deed, StudyRecord, TrialFilter, audit};

/// Trials of which one write forgets what an archive does not need.
const SHED_AT_ONCE: u32 = 2_000;

/// Studies read at a time.
const PAGE: u32 = 500;

impl Engine {
    /// Puts a study away that has ended, and its children. A repeat goes on where one was interrupted.
    pub async fn archive(&self, name: &str) -> Result<StudySummary, EngineError> {
        let id = self.store.study_by_name(name).await?.id;
        self.put_away(id).await?;
        self.study(name).await
    }

    /// Makes an archived study again what it was.
    pub async fn unarchive(&self, name: &str) -> Result<StudySummary, EngineError> {
        let id = self.store.study_by_name(name).await?.id;
        self.store.unarchive_study(id, self.now()).await?;
        for child in self.store.children(id).await? {
            self.store.unarchive_study(child.id, self.now()).await?;
            self.forget(child.id).await;
        }
        self.forget(id).await;
        self.changed();
        self.study(name).await
    }

    /// Puts away the studies whose end is longer ago than `age`, children with their parent; gives their names.
    pub async fn archive_older_than(&self, age: Duration) -> Result<Vec<String>, EngineError> {
        let before = Timestamp(self.now().0.saturating_sub(i64::try_from(age.as_micros()).unwrap_or(i64::MAX)));
        let mut archived = Vec::new();
        let mut after = StudyId(0);
        loop {
            let page = self.store.studies_at_hand(after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(archived) };
            after = last.id;
            for study in page.into_iter().filter(|study| study.state.is_ended() && study.parent().is_none()) {
                if self.quiet_since(&study).await? < before {
                    let deed = Deed {
                        actor: String::new(),
                        role: None,
                        peer: "local".to_owned(),
                        action: "ArchiveStudy".to_owned(),
                        subject: format!("study {}", study.name),
                    };
                    audit::as_deed(deed, self.put_away(study.id)).await?;
                    archived.push(study.name);
                }
            }
        }
    }

    async fn put_away(&self, id: StudyId) -> Result<(), EngineError> {
        let mut away = vec![self.store.archive_study(id).await?];
        for child in self.store.children(id).await? {
            away.push(self.store.archive_study(child.id).await?);
        }
        self.changed();
        for study in away {
            self.forget(study.id).await;
            let mut from = TrialNumber(0);
            while from < study.next_number {
                self.store.shed(study.id, from, SHED_AT_ONCE).await?;
                from.0 += i64::from(SHED_AT_ONCE);
            }
        }
        Ok(())
    }

    /// When something last happened in a study that has ended, as its last trial and those of its children tell.
    async fn quiet_since(&self, study: &StudyRecord) -> Result<Timestamp, EngineError> {
        let mut quiet = study.created_at.max(study.unarchived_at.unwrap_or_default());
        for study in self.store.children(study.id).await?.iter().chain([study]) {
            let from = TrialNumber(study.next_number.0.saturating_sub(1).max(0));
            let last = self.store.trials(study.id, &TrialFilter { from, limit: 1, ..TrialFilter::default() }).await?;
            let ended = last.first().map(|trial| trial.ended_at.unwrap_or(trial.created_at));
            quiet = quiet.max(ended.unwrap_or_default()).max(study.created_at);
        }
        Ok(quiet)
    }
}
