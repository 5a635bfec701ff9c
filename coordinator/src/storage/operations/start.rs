//! Queue entries, and the entry of trials into `Running`.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use fleetune_core::{
    Attempt, JobId, LeaseToken, Params, StudyId, StudyState, Timestamp, TrialId, TrialNumber, TrialState, WorkerId,
};

use super::common::{has_room, holds, need_head, need_study, whole, wrong_state};
use super::regions::lift;
use super::{Lane, Operation};
use crate::storage::engine::News;
use crate::storage::error::StoreError;
use crate::storage::record::{
    AttemptState, JobKind, JobRecord, JobState, Lease, NewWaiting, Origin, StartTrials, Started, StudyExclusion,
    TrialRecord,
};
use crate::storage::rows::{AttemptRow, JobRow, Rows, StudyHead};

pub(in crate::storage) struct Enqueue {
    pub study: StudyId,
    pub request_id: String,
    pub entries: Vec<NewWaiting>,
    /// Whether the quarantine of these configurations ends.
    pub lifts: bool,
    pub now: Timestamp,
}

#[async_trait]
impl Operation for Enqueue {
    type Output = Vec<TrialRecord>;

    const IS_DEED: bool = true;

    fn lane(&self) -> Lane {
        Lane::Study(self.study)
    }

    async fn apply(&self, rows: &mut dyn Rows) -> Result<Vec<TrialRecord>, StoreError> {
        let mut head = need_head(rows, self.study).await?;
        let mut trials = rows.trials_created_by(self.study, &self.request_id).await?;
        if !trials.is_empty() {
            rows.add_steps(&mut trials).await?;
            return Ok(trials);
        }
        if head.is_parent {
            return Err(StoreError::IsParent(head.name));
        }
        if head.state.is_ended() {
            return Err(wrong_state(&head, "take queue entries"));
        }
        if self.lifts {
            let mut exclusions = need_study(rows, self.study).await?.exclusions;
            let wanted = |exclusion: &StudyExclusion| {
                let has = |(name, value): (&String, &fleetune_core::Value), entry: &NewWaiting| {
                    entry.fixed.get(name) == Some(value)
                };
                self.entries.iter().any(|entry| exclusion.settings.iter().all(|setting| has(setting, entry)))
            };
            if lift(head.revision.next(), &mut exclusions, wanted) {
                head.bump();
                rows.save_exclusions(self.study, &exclusions).await?;
            }
        }
        for (index, entry) in (0..).zip(&self.entries) {
            let mut trial = waiting_trial(&mut head, entry, self.now);
            trial.id = rows.insert_trial(&trial, Some((&self.request_id, index)), None).await?;
            trials.push(trial);
        }
        rows.save_head(&head).await?;
        Ok(trials)
    }
}

/// A queue entry with the study's next number and revision.
pub(super) fn waiting_trial(head: &mut StudyHead, entry: &NewWaiting, now: Timestamp) -> TrialRecord {
    let number = head.next_number;
    head.next_number = TrialNumber(number.0 + 1);
    new_trial(head, number, entry.origin, entry.fixed.clone(), now)
}

fn new_trial(head: &mut StudyHead, number: TrialNumber, origin: Origin, fixed: Params, now: Timestamp) -> TrialRecord {
    TrialRecord {
        id: TrialId(0),
        study: head.id,
        number,
        state: TrialState::Waiting,
        origin,
        fixed,
        params: BTreeMap::new(),
        values: Vec::new(),
        constraints: Vec::new(),
        fail: None,
        job: None,
        attempt: Attempt(0),
        turn: None,
        seen: None,
        sampler: String::new(),
        revision: head.bump(),
        started_revision: None,
        ended_revision: None,
        created_at: now,
        started_at: None,
        ended_at: None,
        seconds: 0.0,
        steps: Vec::new(),
    }
}

pub(in crate::storage) struct Start {
    pub trials: StartTrials,
    /// Random bits of a lease token per entry.
    pub secrets: Vec<u64>,
    pub now: Timestamp,
}

#[async_trait]
impl Operation for Start {
    type Output = Vec<Started>;

    const NEWS: News = News::Watchers;

    fn lane(&self) -> Lane {
        Lane::Study(self.trials.study)
    }

    async fn apply(&self, rows: &mut dyn Rows) -> Result<Vec<Started>, StoreError> {
        let start = &self.trials;
        let mut head = need_head(rows, start.study).await?;
        let known = started_by(rows, start.study, &start.request_id).await?;
        if !known.is_empty() {
            return Ok(known);
        }
        if head.state != StudyState::Active {
            return Err(wrong_state(&head, "start a trial"));
        }
        let taken = || StoreError::TurnTaken { turn: start.turn, next: head.next_turn };
        if start.turn != head.next_turn {
            return Err(taken());
        }
        let started = start_trials(rows, &mut head, &[start], std::slice::from_ref(&self.secrets), self.now).await?;
        rows.save_head(&head).await?;
        Ok(started.into_iter().flatten().collect())
    }
}

/// Puts the trials of each request into `Running`, at the study's next turns; the caller saves the head.
///
/// `secrets`: random bits of a lease token for each entry of each request.
///
/// # Errors
/// [`StoreError::TurnTaken`], with nothing written, when an entry is none that could be started now;
/// [`StoreError::AtCapacity`] when workers may not lease so many at once.
pub(super) async fn start_trials(
    rows: &mut dyn Rows,
    head: &mut StudyHead,
    starts: &[&StartTrials],
    secrets: &[Vec<u64>],
    now: Timestamp,
) -> Result<Vec<Vec<Started>>, StoreError> {
    if head.is_parent {
        return Err(StoreError::IsParent(head.name.clone()));
    }
    let for_workers = |start: &&&StartTrials| start.lease.as_ref().is_some_and(|(holder, _)| !holder.is_client());
    let for_workers: usize = starts.iter().filter(for_workers).map(|start| start.entries.len()).sum();
    if let Some(max_parallel) = head.max_parallel
        && !has_room(rows, head, for_workers, now).await?
    {
        return Err(StoreError::AtCapacity { name: head.name.clone(), max_parallel });
    }
    if for_workers > 0 {
        head.served_at = head.served_at.max(now);
    }
    let mut queued = queue_entries(rows, head, starts).await?.into_iter();
    let mut started: Vec<Vec<Started>> = Vec::with_capacity(starts.len());
    for start in starts {
        let mut trials = Vec::with_capacity(start.entries.len());
        for entry in &start.entries {
            let queued = queued.next().flatten();
            let is_queued = queued.is_some();
            let mut trial = queued.unwrap_or_else(|| {
                head.next_number = TrialNumber(entry.number.0 + 1);
                new_trial(head, entry.number, entry.origin, Params::new(), now)
            });
            // A fresh trial has taken its one revision by now.
            let revision = if is_queued { head.bump() } else { trial.revision };
            trial.state = TrialState::Running;
            trial.params.clone_from(&entry.params);
            trial.turn = Some(head.next_turn);
            head.next_turn.0 += 1;
            trial.seen = Some(start.seen);
            trial.sampler.clone_from(&start.sampler);
            trial.revision = revision;
            trial.started_revision = Some(revision);
            trial.started_at = Some(now);
            trials.push(Started { trial, lease: None });
        }
        started.push(trials);
    }

    // All that is fresh at once.
    let mut fresh = Vec::new();
    for (start, trials) in starts.iter().zip(&started) {
        let entries = (0..).zip(start.entries.iter().zip(trials));
        let entries = entries.filter(|(_, (entry, _))| !entry.queued);
        fresh.extend(entries.map(|(index, (_, started))| (&started.trial, (start.request_id.as_str(), index))));
    }
    let mut ids = rows.insert_running(&fresh).await?.into_iter();

    for ((start, trials), secrets) in starts.iter().zip(&mut started).zip(secrets) {
        for (index, (entry, started)) in start.entries.iter().zip(trials).enumerate() {
            if !entry.queued {
                started.trial.id = ids.next().unwrap_or_default();
            }
            if let Some((worker, ttl)) = &start.lease {
                let secret = secrets.get(index).copied().unwrap_or_default();
                started.lease = Some(lease(rows, &mut started.trial, worker, *ttl, secret, now).await?);
            }
            if entry.queued || started.lease.is_some() {
                rows.save_start(&started.trial, Some((start.request_id.as_str(), index as u32))).await?;
            }
        }
    }
    Ok(started)
}

/// For each entry its queue entry; `None` for a fresh trial.
async fn queue_entries(
    rows: &mut dyn Rows,
    head: &StudyHead,
    starts: &[&StartTrials],
) -> Result<Vec<Option<TrialRecord>>, StoreError> {
    let mut next = head.next_number;
    let mut queued: Vec<Option<TrialRecord>> = Vec::new();
    for start in starts {
        let taken = || StoreError::TurnTaken { turn: start.turn, next: head.next_turn };
        for entry in &start.entries {
            if !entry.queued {
                // Another may have queued an entry under this number: its fixed parameters are not in `params`.
                if entry.number != next {
                    return Err(taken());
                }
                next.0 += 1;
                queued.push(None);
                continue;
            }
            let twice = queued.iter().flatten().any(|trial| trial.number == entry.number);
            let trial = rows.trial(head.id, entry.number).await?.map(|trial| trial.record);
            match trial.filter(|trial| trial.state == TrialState::Waiting && !twice) {
                Some(trial) => queued.push(Some(trial)),
                None => return Err(taken()),
            }
        }
    }
    Ok(queued)
}

/// Leases a trial that just started.
async fn lease(
    rows: &mut dyn Rows,
    trial: &mut TrialRecord,
    worker: &WorkerId,
    ttl: Duration,
    secret: u64,
    now: Timestamp,
) -> Result<Lease, StoreError> {
    let attempt = Attempt(1);
    let expires_at = now.plus(ttl);
    let record = JobRecord {
        id: JobId(0),
        study: trial.study,
        kind: JobKind::Trial,
        state: JobState::Leased,
        trial: Some(trial.number),
        spec: serde_json::Value::Null,
        result: serde_json::Value::Null,
        attempt,
        worker: Some(worker.clone()),
        expires_at: Some(expires_at),
    };
    let job = JobRow { record, trial_id: Some(trial.id), ttl, lease_ended: false };
    let id = rows.insert_job(&job, now).await?;
    let row = AttemptRow { attempt, worker: worker.clone(), secret, state: AttemptState::Open, has_detail: false };
    rows.insert_attempt(id, &row, None, now).await?;
    trial.job = Some(id);
    trial.attempt = attempt;
    Ok(Lease { token: LeaseToken { job: id, attempt, secret }, expires_at })
}

/// The answer that the first call with `request` got, with the trials as they are now; nothing when there was none. A
/// lease is among it while the attempt that got it holds it.
pub(in crate::storage) async fn started_by(
    rows: &mut dyn Rows,
    study: StudyId,
    request: &str,
) -> Result<Vec<Started>, StoreError> {
    let mut started = Vec::new();
    for trial in rows.trials_started_by(study, request).await? {
        let lease = match trial.job {
            None => None,
            Some(id) => match (rows.job(id).await?, rows.attempt(id, Attempt(1)).await?) {
                (Some(job), Some(first)) => job.record.expires_at.filter(|_| holds(&job, &first)).map(|expires_at| {
                    let token = LeaseToken { job: id, attempt: first.attempt, secret: first.secret };
                    Lease { token, expires_at }
                }),
                (Some(_) | None, _) => None,
            },
        };
        started.push(Started { trial: whole(rows, trial).await?, lease });
    }
    Ok(started)
}
