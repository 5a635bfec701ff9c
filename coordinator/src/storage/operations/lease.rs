//! Renewal and return of leases.

use std::time::Duration;

use async_trait::async_trait;
use fleetune_core::{LeaseToken, Timestamp, WorkerId};

use super::common::{attempt_of, end_lease, holds, lease_lost, need_head, need_job};
use super::{Lane, Operation};
use crate::storage::engine::News;
use crate::storage::error::StoreError;
use crate::storage::record::{AttemptState, Heartbeat, JobState, LeaseStatus};
use crate::storage::rows::Rows;

pub(in crate::storage) struct RenewLeases {
    pub worker: WorkerId,
    pub tokens: Vec<LeaseToken>,
    pub ttl: Duration,
    pub now: Timestamp,
}

#[async_trait]
impl Operation for RenewLeases {
    type Output = Heartbeat;

    const NEWS: News = News::Nobody;

    fn lane(&self) -> Lane {
        Lane::Global
    }

    async fn apply(&self, rows: &mut dyn Rows) -> Result<Heartbeat, StoreError> {
        let unknown = || StoreError::WorkerNotFound(self.worker.to_string());
        let draining = rows.seen(&self.worker, self.now).await?.ok_or_else(unknown)?;
        let mut leases = Vec::with_capacity(self.tokens.len());
        // Jobs are locked in one order, so that two heartbeats do not wait for each other.
        let mut order: Vec<usize> = (0..self.tokens.len()).collect();
        order.sort_by_key(|index| self.tokens[*index].job);
        for index in order {
            let token = self.tokens[index];
            leases.push((index, token, self.renew(rows, token).await?));
        }
        leases.sort_by_key(|(index, ..)| *index);
        Ok(Heartbeat { leases: leases.into_iter().map(|(_, token, status)| (token, status)).collect(), draining })
    }
}

impl RenewLeases {
    async fn renew(&self, rows: &mut dyn Rows, token: LeaseToken) -> Result<LeaseStatus, StoreError> {
        let Some(mut job) = rows.job_for_update(token.job).await? else { return Ok(LeaseStatus::Ended) };
        if job.record.state == JobState::Done {
            return Ok(LeaseStatus::Ended);
        }
        match attempt_of(rows, token).await? {
            Some(attempt) if holds(&job, &attempt) => {
                let expires_at = self.now.plus(self.ttl).max(job.record.expires_at.unwrap_or_default());
                job.record.expires_at = Some(expires_at);
                job.ttl = self.ttl;
                rows.save_job(&job).await?;
                Ok(LeaseStatus::Renewed(expires_at))
            }
            Some(_) | None => Ok(LeaseStatus::Lost),
        }
    }
}

pub(in crate::storage) struct Release {
    pub lane: Lane,
    pub token: LeaseToken,
    pub now: Timestamp,
}

#[async_trait]
impl Operation for Release {
    type Output = ();

    fn lane(&self) -> Lane {
        self.lane
    }

    async fn apply(&self, rows: &mut dyn Rows) -> Result<(), StoreError> {
        let study = rows.study_of_job(self.token.job).await?.ok_or(StoreError::JobNotFound(self.token.job))?;
        need_head(rows, study).await?;
        let mut job = need_job(rows, self.token.job).await?;
        let lost = lease_lost(self.token, job.record.attempt);
        let Some(attempt) = attempt_of(rows, self.token).await? else { return Err(lost) };
        // Given back before, or nothing left to give back.
        if attempt.state == AttemptState::Released || job.record.state == JobState::Done {
            return Ok(());
        }
        if !holds(&job, &attempt) {
            return Err(lost);
        }
        rows.end_attempt(job.record.id, attempt.attempt, AttemptState::Released, self.now).await?;
        end_lease(rows, &mut job, self.now).await
    }
}
