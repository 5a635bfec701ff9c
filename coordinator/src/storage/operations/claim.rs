//! Handing out jobs that wait for a worker.

use async_trait::async_trait;
use fleetune_core::{Attempt, FailKind, JobId, LeaseToken, StudyId, StudyState, Timestamp, WorkerId};

use super::common::{
    abort_trial, at_limit, failure, has_room, holds, lose_attempt, need_head, need_job, need_trial, whole,
};
use super::regions::{lost, went_down};
use super::{Lane, Operation};
use crate::storage::error::StoreError;
use crate::storage::record::{AttemptState, Claimed, JobKind, JobState, Lease, LeaseRules, Started, TrialRecord};
use crate::storage::rows::{AttemptRow, JobRow, Rows, StudyHead};

pub(in crate::storage) struct Claim {
    pub study: StudyId,
    pub worker: WorkerId,
    pub request_id: String,
    pub rules: LeaseRules,
    pub secret: u64,
    pub now: Timestamp,
}

#[async_trait]
impl Operation for Claim {
    type Output = Claimed;

    fn lane(&self) -> Lane {
        Lane::Study(self.study)
    }

    async fn apply(&self, rows: &mut dyn Rows) -> Result<Claimed, StoreError> {
        let mut head = need_head(rows, self.study).await?;
        if let Some(claimed) = self.repeated(rows).await? {
            return Ok(claimed);
        }
        let serves_trials = matches!(head.state, StudyState::Active | StudyState::Paused | StudyState::Confirming);
        let by_time = self.now >= self.rules.not_before;
        let serves_trials = serves_trials && (self.worker.is_client() || has_room(rows, &head, 1, self.now).await?);
        if serves_trials {
            while let Some(id) = rows.ended_lease(self.study, self.now, by_time).await? {
                if let Some(claimed) = self.claim_trial(rows, &mut head, id).await? {
                    return Ok(claimed);
                }
            }
        }
        for kind in [JobKind::Comparison, JobKind::Describe] {
            let serves = match kind {
                JobKind::Comparison => head.state == StudyState::Confirming,
                JobKind::Describe => head.state == StudyState::Preparing,
                JobKind::Trial => false,
            };
            let jobs = if serves { rows.open_jobs(self.study).await? } else { Vec::new() };
            for job in jobs.into_iter().filter(|job| job.record.kind == kind) {
                // Read again under its lock: a heartbeat may have renewed it.
                let job = need_job(rows, job.record.id).await?;
                if job.record.state == JobState::Open || self.has_ended(&job, by_time) {
                    let (job, lease) = self.lease(rows, &mut head, job).await?;
                    rows.save_head(&head).await?;
                    return Ok(Claimed::Job { job: Box::new(job.record), trial: None, lease });
                }
            }
        }
        self.nothing(rows, &head, serves_trials).await
    }
}

impl Claim {
    /// The lease that this very request got before, while it holds.
    async fn repeated(&self, rows: &mut dyn Rows) -> Result<Option<Claimed>, StoreError> {
        let Some((id, attempt)) = rows.claimed_by(&self.request_id).await? else {
            return Ok(None);
        };
        let job = need_job(rows, id).await?;
        let holds = job.record.state == JobState::Leased && job.record.attempt == attempt.attempt && !job.lease_ended;
        let Some(expires_at) = job.record.expires_at.filter(|_| holds && job.record.study == self.study) else {
            return Ok(Some(Claimed::Nothing));
        };
        let trial = match job.record.trial {
            None => None,
            Some(number) => {
                let trial = need_trial(rows, self.study, number).await?;
                Some(Box::new(whole(rows, trial.record).await?))
            }
        };
        let token = LeaseToken { job: id, attempt: attempt.attempt, secret: attempt.secret };
        Ok(Some(Claimed::Job { job: Box::new(job.record), trial, lease: Lease { token, expires_at } }))
    }

    /// Whether the lease of `job` has ended, by a rule or by time.
    fn has_ended(&self, job: &JobRow, by_time: bool) -> bool {
        let ran_out = job.record.expires_at.is_some_and(|expires_at| expires_at <= self.now);
        job.record.state == JobState::Leased && (job.lease_ended || by_time && ran_out)
    }

    /// Hands the trial out, or ends it when it was lost too often; then, and when its lease was renewed meanwhile,
    /// there is nothing to hand out.
    async fn claim_trial(
        &self,
        rows: &mut dyn Rows,
        head: &mut StudyHead,
        id: JobId,
    ) -> Result<Option<Claimed>, StoreError> {
        let job = need_job(rows, id).await?;
        if !self.has_ended(&job, self.now >= self.rules.not_before) {
            return Ok(None);
        }
        let number = job.record.trial.ok_or(StoreError::JobNotFound(id))?;
        let mut trial = need_trial(rows, self.study, number).await?;
        let attempts = rows.attempts(id).await?;
        if let Some(why) = at_limit(&attempts, self.rules.max_attempts) {
            let lost = lost(&attempts);
            abort_trial(rows, head, &mut trial, &failure(FailKind::WorkerLost, &why), self.now).await?;
            went_down(rows, head, &trial.record, &lost, self.now).await?;
            rows.save_head(head).await?;
            return Ok(None);
        }
        let (job, lease) = self.lease(rows, head, job).await?;
        trial.record.attempt = job.record.attempt;
        trial.record.revision = head.bump();
        trial.step_count = 0;
        rows.save_trial(&trial).await?;
        rows.save_head(head).await?;
        let trial: TrialRecord = whole(rows, trial.record).await?;
        Ok(Some(Claimed::Job { job: Box::new(job.record), trial: Some(Box::new(trial)), lease }))
    }

    /// Leases `job` as its next attempt; the caller saves the head.
    async fn lease(
        &self,
        rows: &mut dyn Rows,
        head: &mut StudyHead,
        mut job: JobRow,
    ) -> Result<(JobRow, Lease), StoreError> {
        lose_attempt(rows, &job, self.now).await?;
        if !self.worker.is_client() {
            head.served_at = head.served_at.max(self.now);
        }
        let attempt = Attempt(job.record.attempt.0 + 1);
        let expires_at = self.now.plus(self.rules.ttl);
        job.record.state = JobState::Leased;
        job.record.attempt = attempt;
        job.record.worker = Some(self.worker.clone());
        job.record.expires_at = Some(expires_at);
        job.ttl = self.rules.ttl;
        job.lease_ended = false;
        let row = AttemptRow {
            attempt,
            worker: self.worker.clone(),
            secret: self.secret,
            state: AttemptState::Open,
            has_detail: false,
        };
        rows.insert_attempt(job.record.id, &row, Some(&self.request_id), self.now).await?;
        rows.save_job(&job).await?;
        let token = LeaseToken { job: job.record.id, attempt, secret: self.secret };
        Ok((job, Lease { token, expires_at }))
    }

    /// Whether a lease that ran out waits for the end of a gap in service.
    async fn nothing(&self, rows: &mut dyn Rows, head: &StudyHead, trials: bool) -> Result<Claimed, StoreError> {
        if self.now >= self.rules.not_before {
            return Ok(Claimed::Nothing);
        }
        let mut waits = trials && rows.ended_lease(self.study, self.now, true).await?.is_some();
        if matches!(head.state, StudyState::Preparing | StudyState::Confirming) {
            waits |= rows.open_jobs(self.study).await?.iter().any(|job| self.has_ended(job, true));
        }
        Ok(if waits { Claimed::NotBefore(self.rules.not_before) } else { Claimed::Nothing })
    }
}

/// The trial that a claim with `request` was given, as it is now, with its lease while that holds; nothing when there
/// was no such claim.
pub(in crate::storage) async fn claimed_by(rows: &mut dyn Rows, request: &str) -> Result<Option<Started>, StoreError> {
    let Some((id, attempt)) = rows.claimed_by(request).await? else { return Ok(None) };
    let Some(job) = rows.job(id).await? else { return Ok(None) };
    let Some(number) = job.record.trial else { return Ok(None) };
    let trial = need_trial(rows, job.record.study, number).await?;
    let lease = job.record.expires_at.filter(|_| holds(&job, &attempt)).map(|expires_at| {
        let token = LeaseToken { job: id, attempt: attempt.attempt, secret: attempt.secret };
        Lease { token, expires_at }
    });
    Ok(Some(Started { trial: whole(rows, trial.record).await?, lease }))
}
