//! Comparison jobs: the confirmation at the end of a search.

use async_trait::async_trait;
use fleetune_core::{LeaseToken, StudyId, StudyState, Timestamp};
use serde_json::Value;

use super::common::{
    attempt_of, detail_text, finish_job, holds, kept, lease_lost, need_head, need_job, need_study, plain, wrong_state,
};
use super::study::open_job;
use super::{Lane, Operation};
use crate::storage::error::StoreError;
use crate::storage::record::{AttemptState, JobKind, JobRecord, StudyRecord};
use crate::storage::rows::{AttemptRow, JobRow, Rows};

pub(in crate::storage) struct CreateComparison {
    pub study: StudyId,
    pub spec: Value,
    pub reason: String,
    pub now: Timestamp,
}

#[async_trait]
impl Operation for CreateComparison {
    type Output = JobRecord;

    fn lane(&self) -> Lane {
        Lane::Study(self.study)
    }

    async fn apply(&self, rows: &mut dyn Rows) -> Result<JobRecord, StoreError> {
        let mut head = need_head(rows, self.study).await?;
        match head.state {
            StudyState::Active => {
                let mut study = need_study(rows, self.study).await?;
                study.state = StudyState::Confirming;
                study.reason = plain(&self.reason);
                study.revision = head.bump();
                rows.save_study(&study).await?;
            }
            StudyState::Confirming => {
                let open = rows.open_jobs(self.study).await?;
                if let Some(job) = open.into_iter().find(|job| job.record.kind == JobKind::Comparison) {
                    return Ok(job.record);
                }
            }
            StudyState::Preparing
            | StudyState::Paused
            | StudyState::Finished
            | StudyState::Cancelled
            | StudyState::Failed
            | StudyState::Archived => return Err(wrong_state(&head, "become confirming")),
        }
        let mut job = open_job(self.study, JobKind::Comparison, self.spec.clone());
        job.record.id = rows.insert_job(&job, self.now).await?;
        Ok(job.record)
    }
}

/// The comparison job of a token, and the attempt the token was given for.
async fn need_comparison(rows: &mut dyn Rows, token: LeaseToken) -> Result<(JobRow, AttemptRow), StoreError> {
    let study = rows.study_of_job(token.job).await?.ok_or(StoreError::JobNotFound(token.job))?;
    need_head(rows, study).await?;
    let job = need_job(rows, token.job).await?;
    if job.record.kind != JobKind::Comparison {
        return Err(StoreError::JobNotFound(token.job));
    }
    let attempt = attempt_of(rows, token).await?.ok_or_else(|| lease_lost(token, job.record.attempt))?;
    Ok((job, attempt))
}

pub(in crate::storage) struct RecordRound {
    pub lane: Lane,
    pub token: LeaseToken,
    pub round: u32,
    pub cells: Value,
    pub now: Timestamp,
}

#[async_trait]
impl Operation for RecordRound {
    type Output = ();

    fn lane(&self) -> Lane {
        self.lane
    }

    async fn apply(&self, rows: &mut dyn Rows) -> Result<(), StoreError> {
        let (mut job, attempt) = need_comparison(rows, self.token).await?;
        if let Some(stored) = rows.round(self.token.job, self.round).await? {
            let taken = StoreError::RoundTaken { job: self.token.job, round: self.round };
            return if stored == kept(&self.cells) { Ok(()) } else { Err(taken) };
        }
        if !holds(&job, &attempt) {
            return Err(lease_lost(self.token, job.record.attempt));
        }
        let cells = detail_text(&self.cells)?.unwrap_or_else(|| "null".to_owned());
        job.record.expires_at = job.record.expires_at.max(Some(self.now.plus(job.ttl)));
        rows.save_job(&job).await?;
        rows.insert_round(self.token.job, self.round, attempt.attempt, &cells).await
    }
}

pub(in crate::storage) struct FinishComparison {
    pub lane: Lane,
    pub token: LeaseToken,
    pub result: Value,
    pub detail: Value,
    pub next: StudyState,
    pub now: Timestamp,
}

#[async_trait]
impl Operation for FinishComparison {
    type Output = StudyRecord;

    fn lane(&self) -> Lane {
        self.lane
    }

    async fn apply(&self, rows: &mut dyn Rows) -> Result<StudyRecord, StoreError> {
        let detail = detail_text(&self.detail)?;
        let (mut job, attempt) = need_comparison(rows, self.token).await?;
        let mut study = need_study(rows, job.record.study).await?;
        if attempt.state == AttemptState::Finished {
            let same = job.record.result == self.result;
            return if same { Ok(study) } else { Err(StoreError::JobEnded(self.token.job)) };
        }
        if !holds(&job, &attempt) {
            return Err(lease_lost(self.token, job.record.attempt));
        }
        if study.state == StudyState::Confirming {
            let goes_on = self.next == StudyState::Active;
            study.state = if goes_on { StudyState::Active } else { StudyState::Finished };
            if goes_on {
                study.reason = String::new();
            }
        }
        study.revision = study.revision.next();
        job.record.result = self.result.clone();
        finish_job(rows, &mut job, detail.as_deref(), self.now).await?;
        rows.save_study(&study).await?;
        Ok(study)
    }
}
