//! Steps and ends of running trials.

use async_trait::async_trait;
use fleetune_core::{Attempt, FailKind, JobId, LeaseToken, StudyId, Timestamp, TrialNumber, TrialState};
use serde_json::Value;

use super::common::{
    abort_trial, attempt_of, detail_text, end_trial, failure, finish_job, holds, keep_detail, lease_lost, need_head,
    need_job, need_trial, whole, wrong_trial_state,
};
use super::regions::{survived, went_down};
use super::{Lane, Operation};
use crate::storage::engine::News;
use crate::storage::error::StoreError;
use crate::storage::record::{TrialEnd, TrialRecord};
use crate::storage::rows::{AttemptRow, JobRow, Rows, StudyHead, TrialRow};

/// Most steps of one attempt.
const STEPS: u32 = 100_000;

/// Says what a write to the running trial needs and has: the job to write to, `None` for a held trial.
async fn fence(
    rows: &mut dyn Rows,
    trial: &TrialRecord,
    token: Option<LeaseToken>,
) -> Result<Option<JobRow>, StoreError> {
    match (trial.job, token) {
        (None, None) => Ok(None),
        (None, Some(token)) => Err(lease_lost(token, Attempt(0))),
        (Some(_), None) => Err(StoreError::TrialLeased { number: trial.number }),
        (Some(id), Some(token)) => {
            let job = need_job(rows, id).await?;
            match own_attempt(rows, id, token).await? {
                Some(attempt) if holds(&job, &attempt) => Ok(Some(job)),
                Some(_) | None => Err(lease_lost(token, job.record.attempt)),
            }
        }
    }
}

/// The attempt of this job that `token` was given for.
async fn own_attempt(rows: &mut dyn Rows, job: JobId, token: LeaseToken) -> Result<Option<AttemptRow>, StoreError> {
    if token.job == job { attempt_of(rows, token).await } else { Ok(None) }
}

pub(in crate::storage) struct Report {
    pub study: StudyId,
    pub number: TrialNumber,
    pub token: Option<LeaseToken>,
    pub step: u32,
    pub value: f64,
    pub stop: bool,
    pub now: Timestamp,
}

#[async_trait]
impl Operation for Report {
    type Output = bool;

    const NEWS: News = News::Watchers;

    fn lane(&self) -> Lane {
        Lane::Study(self.study)
    }

    async fn apply(&self, rows: &mut dyn Rows) -> Result<bool, StoreError> {
        let mut head = need_head(rows, self.study).await?;
        let mut trial = need_trial(rows, self.study, self.number).await?;
        let stored = rows.step(trial.record.id, trial.record.attempt, self.step).await?;
        match trial.record.state {
            TrialState::Running => {}
            TrialState::Waiting => return Err(wrong_trial_state(&trial.record, "take a report")),
            TrialState::Complete | TrialState::Pruned | TrialState::Fail => {
                let refused = || wrong_trial_state(&trial.record, "take a report");
                return stored.map(|(_, stop)| stop).ok_or_else(refused);
            }
        }
        let job = fence(rows, &trial.record, self.token).await?;
        if stored.is_none() && trial.step_count >= STEPS {
            return Err(StoreError::TooLarge { what: "the number of reported steps".to_owned(), limit: STEPS.into() });
        }
        if let Some(mut job) = job {
            job.record.expires_at = job.record.expires_at.max(Some(self.now.plus(job.ttl)));
            rows.save_job(&job).await?;
        }
        if let Some((_, stop)) = stored {
            return Ok(stop);
        }
        rows.insert_step(trial.record.id, trial.record.attempt, self.step, self.value, self.stop).await?;
        trial.step_count += 1;
        trial.record.revision = head.bump();
        rows.save_trial(&trial).await?;
        rows.save_head(&head).await?;
        Ok(self.stop)
    }
}

pub(in crate::storage) struct Finish {
    pub study: StudyId,
    pub number: TrialNumber,
    pub token: Option<LeaseToken>,
    pub end: TrialEnd,
    pub detail: Value,
    pub now: Timestamp,
}

#[async_trait]
impl Operation for Finish {
    /// The inner error is a refusal whose detail was kept all the same.
    type Output = Result<TrialRecord, StoreError>;

    /// What else comes of it, a comparison or an end, is told for itself.
    const NEWS: News = News::Watchers;

    fn lane(&self) -> Lane {
        Lane::Study(self.study)
    }

    async fn apply(&self, rows: &mut dyn Rows) -> Result<Self::Output, StoreError> {
        let detail = detail_text(&self.detail)?;
        let mut head = need_head(rows, self.study).await?;
        let mut trial = need_trial(rows, self.study, self.number).await?;
        match trial.record.state {
            TrialState::Running if self.end.state.is_ended() => {}
            TrialState::Running | TrialState::Waiting => {
                return Err(wrong_trial_state(&trial.record, &format!("end as {}", self.end.state)));
            }
            TrialState::Complete | TrialState::Pruned | TrialState::Fail => {
                if is_same(&trial.record, &self.end) {
                    // Another attempt may have ended it just so; what this one saw is its own.
                    self.keep(rows, &trial.record, detail.as_deref()).await?;
                    return Ok(Ok(whole(rows, trial.record).await?));
                }
                return self.too_late(rows, &mut head, &trial, detail.as_deref()).await;
            }
        }
        match fence(rows, &trial.record, self.token).await {
            Ok(job) => {
                let mut attempt = Vec::new();
                if let Some(mut job) = job {
                    finish_job(rows, &mut job, detail.as_deref(), self.now).await?;
                    attempt.extend(job.record.worker.map(|worker| (job.record.attempt, worker)));
                }
                end_trial(rows, &mut head, &mut trial, &self.end, self.now).await?;
                let crashed = self.end.fail.as_ref().is_some_and(|(kind, _)| *kind == FailKind::Crash);
                if crashed && !attempt.is_empty() {
                    went_down(rows, &head, &trial.record, &attempt, self.now).await?;
                }
                rows.save_head(&head).await?;
                Ok(Ok(whole(rows, trial.record).await?))
            }
            Err(StoreError::LeaseLost { .. }) => self.too_late(rows, &mut head, &trial, detail.as_deref()).await,
            Err(error) => Err(error),
        }
    }
}

impl Finish {
    /// Refuses, but keeps the detail in the record of the attempt that brought it.
    async fn too_late(
        &self,
        rows: &mut dyn Rows,
        head: &mut StudyHead,
        trial: &TrialRow,
        detail: Option<&str>,
    ) -> Result<Result<TrialRecord, StoreError>, StoreError> {
        let trial = &trial.record;
        let mut refusal = StoreError::TrialEnded { number: trial.number, state: trial.state };
        if let Some(token) = self.token
            && (!trial.state.is_ended() || token.attempt < trial.attempt)
        {
            refusal = lease_lost(token, trial.attempt);
        }
        self.keep(rows, trial, detail).await?;
        if matches!(self.end.state, TrialState::Complete | TrialState::Pruned)
            && let (Some(job), Some(token)) = (trial.job, self.token)
            && own_attempt(rows, job, token).await?.is_some()
        {
            survived(rows, head, trial, token.attempt).await?;
        }
        Ok(Err(refusal))
    }

    /// Keeps the first detail of the attempt that brings it.
    async fn keep(&self, rows: &mut dyn Rows, trial: &TrialRecord, detail: Option<&str>) -> Result<(), StoreError> {
        let (Some(job), Some(token)) = (trial.job, self.token) else { return Ok(()) };
        match own_attempt(rows, job, token).await? {
            Some(attempt) => keep_detail(rows, job, &attempt, detail).await,
            None => Ok(()),
        }
    }
}

/// Whether the trial ended just so. Not compared: duration and message, which a repeat may measure and word anew.
fn is_same(trial: &TrialRecord, end: &TrialEnd) -> bool {
    let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    let kind = |fail: &Option<(FailKind, String)>| fail.as_ref().map(|(kind, _)| *kind);
    trial.state == end.state
        && bits(&trial.values) == bits(&end.values)
        && bits(&trial.constraints) == bits(&end.constraints)
        && (end.state != TrialState::Fail || kind(&trial.fail) == kind(&end.fail))
}

pub(in crate::storage) struct CancelTrial {
    pub study: StudyId,
    pub number: TrialNumber,
    pub now: Timestamp,
}

#[async_trait]
impl Operation for CancelTrial {
    type Output = TrialRecord;

    const IS_DEED: bool = true;

    fn lane(&self) -> Lane {
        Lane::Study(self.study)
    }

    async fn apply(&self, rows: &mut dyn Rows) -> Result<TrialRecord, StoreError> {
        let mut head = need_head(rows, self.study).await?;
        let mut trial = need_trial(rows, self.study, self.number).await?;
        if trial.record.state.is_ended() {
            return match &trial.record.fail {
                Some((FailKind::Cancelled, _)) => whole(rows, trial.record).await,
                Some(_) | None => {
                    Err(StoreError::TrialEnded { number: trial.record.number, state: trial.record.state })
                }
            };
        }
        let end = failure(FailKind::Cancelled, "it was cancelled");
        abort_trial(rows, &mut head, &mut trial, &end, self.now).await?;
        rows.save_head(&head).await?;
        whole(rows, trial.record).await
    }
}

pub(in crate::storage) struct FailWaiting {
    pub study: StudyId,
    pub number: TrialNumber,
    pub kind: FailKind,
    pub message: String,
    pub now: Timestamp,
}

#[async_trait]
impl Operation for FailWaiting {
    type Output = TrialRecord;

    fn lane(&self) -> Lane {
        Lane::Study(self.study)
    }

    async fn apply(&self, rows: &mut dyn Rows) -> Result<TrialRecord, StoreError> {
        let mut head = need_head(rows, self.study).await?;
        let mut trial = need_trial(rows, self.study, self.number).await?;
        let end = failure(self.kind, &self.message);
        match trial.record.state {
            TrialState::Waiting => {}
            TrialState::Fail if is_same(&trial.record, &end) => return whole(rows, trial.record).await,
            TrialState::Running | TrialState::Complete | TrialState::Pruned | TrialState::Fail => {
                return Err(wrong_trial_state(&trial.record, "end before its start"));
            }
        }
        end_trial(rows, &mut head, &mut trial, &end, self.now).await?;
        rows.save_head(&head).await?;
        whole(rows, trial.record).await
    }
}
