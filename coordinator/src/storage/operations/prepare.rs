//! The end of `Preparing`: the result of a describe job.

use async_trait::async_trait;
use fleetune_core::study::StudyConfig;
use fleetune_core::{LeaseToken, StudyState, Timestamp};
use serde_json::Value;

use super::common::{
    attempt_of, close_unserved, detail_text, finish_job, holds, lease_lost, need_head, need_job, need_study, plain,
    wrong_state,
};
use super::regions::copy_regions;
use super::start::waiting_trial;
use super::{Lane, Operation};
use crate::storage::error::StoreError;
use crate::storage::record::{AttemptState, JobKind, Prepared, StudyRecord};
use crate::storage::rows::{JobRow, Rows, StudyHead};

pub(in crate::storage) struct Prepare {
    pub lane: Lane,
    pub token: LeaseToken,
    pub prepared: Prepared,
    pub detail: Value,
    pub now: Timestamp,
}

#[async_trait]
impl Operation for Prepare {
    type Output = StudyRecord;

    fn lane(&self) -> Lane {
        self.lane
    }

    async fn apply(&self, rows: &mut dyn Rows) -> Result<StudyRecord, StoreError> {
        let detail = detail_text(&self.detail)?;
        let Fenced::Holder(mut head, mut job, mut study) = fence(rows, self.token, "become active").await? else {
            return repeated(rows, self.token, true).await;
        };
        let Prepared { description, config, pin, waiting } = &self.prepared;
        study.state = StudyState::Active;
        study.reason = String::new();
        study.description = Some(description.clone());
        // The budget may have been changed since `config` was resolved.
        let budget = study.config.budget;
        study.config = StudyConfig { budget, ..config.clone() };
        study.pin = Some(pin.clone());
        study.config_revision = head.bump();
        for entry in waiting {
            let trial = waiting_trial(&mut head, entry, self.now);
            rows.insert_trial(&trial, None, None).await?;
        }
        study.revision = head.revision;
        study.next_number = head.next_number;
        finish_job(rows, &mut job, detail.as_deref(), self.now).await?;
        rows.save_study(&study).await?;
        // The first trial heeds them already.
        copy_regions(rows, head.revision, &mut study).await?;
        Ok(*study)
    }
}

pub(in crate::storage) struct FailPreparation {
    pub lane: Lane,
    pub token: LeaseToken,
    pub message: String,
    pub detail: Value,
    pub now: Timestamp,
}

#[async_trait]
impl Operation for FailPreparation {
    type Output = StudyRecord;

    fn lane(&self) -> Lane {
        self.lane
    }

    async fn apply(&self, rows: &mut dyn Rows) -> Result<StudyRecord, StoreError> {
        let detail = detail_text(&self.detail)?;
        let Fenced::Holder(mut head, mut job, mut study) = fence(rows, self.token, "become failed").await? else {
            return repeated(rows, self.token, false).await;
        };
        study.state = StudyState::Failed;
        study.reason = plain(&self.message);
        study.revision = head.bump();
        finish_job(rows, &mut job, detail.as_deref(), self.now).await?;
        close_unserved(rows, study.id, study.state, self.now).await?;
        rows.save_study(&study).await?;
        Ok(*study)
    }
}

/// What a token of a describe job is worth.
enum Fenced {
    /// It holds the lease of a study that is being prepared.
    Holder(StudyHead, Box<JobRow>, Box<StudyRecord>),
    /// Its attempt ended the job before: the call is a repeat.
    Repeat,
}

async fn fence(rows: &mut dyn Rows, token: LeaseToken, what: &str) -> Result<Fenced, StoreError> {
    let study = rows.study_of_job(token.job).await?.ok_or(StoreError::JobNotFound(token.job))?;
    let head = need_head(rows, study).await?;
    let job = need_job(rows, token.job).await?;
    let attempt = attempt_of(rows, token).await?.ok_or_else(|| lease_lost(token, job.record.attempt))?;
    if job.record.kind != JobKind::Describe {
        return Err(StoreError::JobNotFound(token.job));
    }
    if attempt.state == AttemptState::Finished {
        return Ok(Fenced::Repeat);
    }
    if !holds(&job, &attempt) {
        return Err(lease_lost(token, job.record.attempt));
    }
    if head.state != StudyState::Preparing {
        return Err(wrong_state(&head, what));
    }
    let study = need_study(rows, study).await?;
    Ok(Fenced::Holder(head, Box::new(job), Box::new(study)))
}

/// The answer to a repeat, if the first call said the same.
async fn repeated(rows: &mut dyn Rows, token: LeaseToken, described: bool) -> Result<StudyRecord, StoreError> {
    let study = rows.study_of_job(token.job).await?.ok_or(StoreError::JobNotFound(token.job))?;
    let study = need_study(rows, study).await?;
    if study.description.is_some() == described { Ok(study) } else { Err(StoreError::JobEnded(token.job)) }
}
