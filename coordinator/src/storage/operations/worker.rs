//! Workers that register, come back, or shall take nothing more.

use async_trait::async_trait;
use fleetune_core::{FailKind, LeaseToken, StudyId, Timestamp, WorkerId};

use super::common::{abort_trial, attempt_of, end_lease, failure, lose_attempt, need_trial, plain};
use super::regions::went_down;
use super::{Lane, Operation};
use crate::storage::error::StoreError;
use crate::storage::record::{AttemptState, JobState, Registration, WorkerRecord};
use crate::storage::rows::{AttemptRow, JobRow, Rows, StudyHead};

pub(in crate::storage) struct Register {
    pub registration: Registration,
    pub now: Timestamp,
}

#[async_trait]
impl Operation for Register {
    type Output = WorkerRecord;

    fn lane(&self) -> Lane {
        Lane::Global
    }

    async fn apply(&self, rows: &mut dyn Rows) -> Result<WorkerRecord, StoreError> {
        let new = &self.registration;
        let known = rows.worker(&new.id).await?;
        if let (Some(token), Some(known)) = (new.token, &known) {
            self.check_token(rows, token, known).await?;
        }
        let old_boot = known.as_ref().map_or("", |worker| worker.inventory.boot_id.as_str());
        let boot = new.inventory.boot_id.as_str();
        // A system that does not tell its boots is never said to have crashed.
        let crashed = !old_boot.is_empty() && !boot.is_empty() && old_boot != boot;

        let mut held = Vec::with_capacity(new.held.len());
        for token in &new.held {
            if attempt_of(rows, *token).await?.is_some() {
                held.push(*token);
            }
        }
        let mut head: Option<StudyHead> = None;
        let mut leases = rows.leases_of(&new.id).await?;
        let mut lost = Vec::new();
        if let Some(known) = known.as_ref().filter(|_| crashed) {
            // What it lost after its last sign of life it lost with its machine.
            lost = rows.lost_by(&new.id, known.last_seen).await?;
            leases.extend(lost.iter().filter(|lease| !leases.contains(lease)).copied().collect::<Vec<_>>());
        }
        // By study: they are locked in one order everywhere.
        leases.sort_unstable();
        for (study, id) in leases {
            if !lock(rows, &mut head, study).await? {
                continue;
            }
            let Some(job) = rows.job_for_update(id).await? else { continue };
            let is_leased = job.record.state == JobState::Leased;
            let is_ours = is_leased && job.record.worker.as_ref() == Some(&new.id);
            if is_leased
                && (is_ours || lost.contains(&(study, id)))
                // A result of an older execution is one, too.
                && !held.iter().any(|token| if is_ours { names(*token, &job) } else { token.job == id })
                && let Some(head) = &mut head
            {
                self.give_up(rows, head, job, crashed).await?;
            }
        }

        let worker = WorkerRecord {
            id: new.id.clone(),
            name: plain(&new.name),
            labels: new.labels.clone(),
            inventory: new.inventory.clone(),
            executors: new.executors.clone(),
            version: plain(&new.version),
            models: new.models.clone(),
            draining: known.as_ref().is_some_and(|known| known.draining),
            registered_at: known.as_ref().map_or(self.now, |known| known.registered_at),
            last_seen: self.now,
            token: new.token,
        };
        rows.save_worker(&worker).await?;
        Ok(worker)
    }
}

/// Locks the study unless `head` is it already; says whether there is one.
async fn lock(rows: &mut dyn Rows, head: &mut Option<StudyHead>, study: StudyId) -> Result<bool, StoreError> {
    if head.as_ref().is_none_or(|head| head.id != study) {
        *head = rows.head_for_update(study).await?;
    }
    Ok(head.is_some())
}

fn names(token: LeaseToken, job: &JobRow) -> bool {
    token.job == job.record.id && token.attempt == job.record.attempt
}

impl Register {
    /// A worker gets another token when its own is in force no more, from an admin, or never.
    async fn check_token(&self, rows: &mut dyn Rows, token: i64, known: &WorkerRecord) -> Result<(), StoreError> {
        let Some(own) = known.token.filter(|own| *own != token) else { return Ok(()) };
        match rows.token(own).await?.filter(|own| own.is_in_force(self.now)) {
            Some(_) => Err(StoreError::AnotherToken(known.name.clone())),
            None => Ok(()),
        }
    }

    /// What becomes of a job that the worker no longer runs.
    async fn give_up(
        &self,
        rows: &mut dyn Rows,
        head: &mut StudyHead,
        mut job: JobRow,
        crashed: bool,
    ) -> Result<(), StoreError> {
        let current = rows.attempt(job.record.id, job.record.attempt).await?;
        let is_own = |current: &AttemptRow| current.worker == self.registration.id;
        let released = current.filter(is_own).is_some_and(|current| current.state == AttemptState::Released);
        if let Some(number) = job.record.trial.filter(|_| crashed && !released) {
            let mut attempts = super::regions::lost(&rows.attempts(job.record.id).await?);
            attempts.retain(|(_, worker)| *worker == self.registration.id);
            let newest = attempts.split_off(attempts.len().saturating_sub(1));
            let mut trial = need_trial(rows, head.id, number).await?;
            let end = failure(FailKind::HostCrash, "its machine went down and was started again");
            abort_trial(rows, head, &mut trial, &end, self.now).await?;
            went_down(rows, head, &trial.record, &newest, self.now).await?;
            return rows.save_head(head).await;
        }
        if job.lease_ended {
            return Ok(());
        }
        lose_attempt(rows, &job, self.now).await?;
        end_lease(rows, &mut job, self.now).await
    }
}

pub(in crate::storage) struct Drain {
    pub worker: WorkerId,
    pub draining: bool,
}

#[async_trait]
impl Operation for Drain {
    type Output = WorkerRecord;

    const IS_DEED: bool = true;

    fn lane(&self) -> Lane {
        Lane::Global
    }

    async fn apply(&self, rows: &mut dyn Rows) -> Result<WorkerRecord, StoreError> {
        let unknown = || StoreError::WorkerNotFound(self.worker.to_string());
        let mut worker = rows.worker(&self.worker).await?.ok_or_else(unknown)?;
        worker.draining = self.draining;
        rows.set_draining(&self.worker, self.draining).await?;
        Ok(worker)
    }
}
