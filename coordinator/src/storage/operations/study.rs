//! Creation, changes and removal of studies.

use std::time::Duration;

use async_trait::async_trait;
use fleetune_core::{Attempt, FailKind, JobId, StudyId, StudyState, Timestamp, TrialNumber, TrialState};

use super::common::{abort_trial, close_unserved, failure, need_open_head, need_study, plain, wrong_state};
use super::{Lane, Operation};
use crate::storage::error::StoreError;
use crate::storage::record::{JobKind, JobRecord, JobState, NewStudy, StudyRecord, StudyUpdate};
use crate::storage::rows::{JobRow, Rows, StudyHead};

/// Trials read at a time when a study ends.
const PAGE: u32 = 1_000;

pub(in crate::storage) struct CreateStudy {
    pub new: NewStudy,
    pub now: Timestamp,
}

#[async_trait]
impl Operation for CreateStudy {
    type Output = StudyRecord;

    const IS_DEED: bool = true;

    fn lane(&self) -> Lane {
        Lane::Global
    }

    async fn apply(&self, rows: &mut dyn Rows) -> Result<StudyRecord, StoreError> {
        // First the name: the same request may be under way at another coordinator, and who sees its name sees it.
        let is_taken = rows.study_by_name(&self.new.name).await?.is_some();
        if let Some(study) = rows.study_by_request(&self.new.request_id).await? {
            return Ok(study);
        }
        if is_taken {
            return Err(StoreError::NameTaken(self.new.name.clone()));
        }
        let id = rows.insert_study(&self.new, self.now).await?;
        if self.new.state == StudyState::Preparing {
            rows.insert_job(&open_job(id, JobKind::Describe, serde_json::Value::Null), self.now).await?;
        }
        need_study(rows, id).await
    }
}

/// A describe or comparison job that nobody has leased yet.
pub(super) fn open_job(study: StudyId, kind: JobKind, spec: serde_json::Value) -> JobRow {
    let record = JobRecord {
        id: JobId(0),
        study,
        kind,
        state: JobState::Open,
        trial: None,
        spec,
        result: serde_json::Value::Null,
        attempt: Attempt(0),
        worker: None,
        expires_at: None,
    };
    JobRow { record, trial_id: None, ttl: Duration::ZERO, lease_ended: false }
}

pub(in crate::storage) struct UpdateStudy {
    pub study: StudyId,
    pub update: StudyUpdate,
    pub now: Timestamp,
}

#[async_trait]
impl Operation for UpdateStudy {
    type Output = StudyRecord;

    const IS_DEED: bool = true;

    fn lane(&self) -> Lane {
        Lane::Study(self.study)
    }

    async fn apply(&self, rows: &mut dyn Rows) -> Result<StudyRecord, StoreError> {
        let mut head = need_open_head(rows, self.study).await?;
        let mut study = need_study(rows, self.study).await?;
        let state = self.update.state.as_ref().filter(|(state, _)| *state != study.state);
        let budget = self.update.budget.filter(|budget| *budget != study.config.budget);
        let schedule = self.update.schedule.as_ref().filter(|schedule| **schedule != study.schedule);
        if state.is_none() && budget.is_none() && schedule.is_none() {
            return self.unchanged(study, &head);
        }
        let wanted = state.map_or_else(|| "be changed".to_owned(), |(state, _)| format!("become {state}"));
        let unexpected = self.update.expected.is_some_and(|expected| expected != study.state);
        if unexpected || state.is_some_and(|(state, _)| !study.state.may_become(*state)) {
            return Err(wrong_state(&head, &wanted));
        }
        if let Some((state, reason)) = state {
            study.state = *state;
            study.reason = plain(reason);
            head.bump();
            close_unserved(rows, study.id, study.state, self.now).await?;
            match state {
                StudyState::Cancelled => {
                    self.end_trials(rows, &mut head, FailKind::Cancelled, "the study was cancelled").await?;
                }
                StudyState::Failed => self.end_trials(rows, &mut head, FailKind::Error, "the study failed").await?,
                StudyState::Preparing
                | StudyState::Active
                | StudyState::Paused
                | StudyState::Confirming
                | StudyState::Finished
                | StudyState::Archived => {}
            }
        }
        if let Some(budget) = budget {
            study.config.budget = budget;
            study.config_revision = head.bump();
        }
        if let Some(schedule) = schedule {
            study.schedule = schedule.clone();
            head.bump();
        }
        study.revision = head.revision;
        rows.save_study(&study).await?;
        Ok(study)
    }
}

impl UpdateStudy {
    /// The answer when everything is as wanted already: a repeat, or an expectation that does not hold.
    fn unchanged(&self, study: StudyRecord, head: &StudyHead) -> Result<StudyRecord, StoreError> {
        let StudyUpdate { state, budget, schedule, .. } = &self.update;
        let repeat = state.is_some() || budget.is_some() || schedule.is_some();
        match self.update.expected {
            Some(expected) if !repeat && expected != study.state => Err(wrong_state(head, "be changed")),
            Some(_) | None => Ok(study),
        }
    }

    async fn end_trials(
        &self,
        rows: &mut dyn Rows,
        head: &mut StudyHead,
        kind: FailKind,
        message: &str,
    ) -> Result<(), StoreError> {
        let end = failure(kind, message);
        for state in [TrialState::Waiting, TrialState::Running] {
            loop {
                let page = rows.trials_in_state(self.study, state, TrialNumber(0), PAGE).await?;
                for trial in &page {
                    if let Some(mut trial) = rows.trial(self.study, trial.number).await? {
                        abort_trial(rows, head, &mut trial, &end, self.now).await?;
                    }
                }
                if page.is_empty() {
                    break;
                }
            }
        }
        Ok(())
    }
}

pub(in crate::storage) struct DeleteStudy {
    pub study: StudyId,
}

#[async_trait]
impl Operation for DeleteStudy {
    type Output = ();

    const IS_DEED: bool = true;

    fn lane(&self) -> Lane {
        Lane::Study(self.study)
    }

    async fn apply(&self, rows: &mut dyn Rows) -> Result<(), StoreError> {
        rows.delete_study(self.study).await
    }
}
