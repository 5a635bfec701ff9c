//! The door to storage: every method in the domain's words, atomic, and durable when it returns.
//!
//! A mutation becomes an operation (the rules) that waits in a lane until a transaction takes it with all others that
//! wait (the queue). A read is one snapshot. Which database lies behind is known to `open` alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fleetune_core::{JobId, LeaseToken, Revision, StudyId, StudyState, Timestamp, TrialNumber, WorkerId};
use tokio::sync::watch;

use super::engine::Engine;
use super::error::StoreError;
use super::operations::{
    CancelTrial, Claim, CreateComparison, CreateStudy, DeleteStudy, Drain, Enqueue, FailPreparation, FailWaiting,
    Finish, FinishComparison, Lane, Operation, Prepare, Reap, RecordRound, Register, Release, RenewLeases, Report,
    SetAttribute, Start, UpdateStudy, claimed_by, started_by,
};
use super::queue::Queue;
use super::record::{
    AttemptRecord, AttributeKind, AttributeOwner, Claimed, Heartbeat, HeldJob, JobRecord, LeaseRules, NewStudy,
    NewWaiting, Prepared, Registration, StartTrials, Started, StudyRecord, StudyUpdate, TrialEnd, TrialFilter,
    TrialRecord, WorkerRecord,
};
use super::rows::Rows;
use super::url::StorageUrl;

/// Rows of one page, at most.
pub const PAGE: u32 = 10_000;

/// Durable home of studies, trials, jobs and workers. Cloning shares it.
///
/// Contract, checked on every back end by `tests/storage.rs`: each method is atomic, and durable when it returns; a
/// trial that has ended never changes its values again. `now` comes from [`Store::now`]; no other method reads a
/// clock. A caller that goes away does not stop a write that waits already.
#[derive(Clone)]
pub struct Store {
    engine: Arc<dyn Engine>,
    queue: Arc<Queue>,
    url: Arc<str>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the database at `url`, creates its tables or brings them up to date.
    ///
    /// `sqlite:///abs/path.db`, `sqlite://relative.db`, `sqlite::memory:` (a file that is gone afterwards), or
    /// `postgres://user@host/database`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`StoreError::CannotOpen`], and [`StoreError::SchemaTooNew`] for the database of a newer program.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let url = StorageUrl::parse(url)?;
        let engine = url.open().await?;
        let queue = Arc::new(Queue::new(Arc::clone(&engine)));
        Ok(Self { engine, queue, url: url.shown().into() })
    }

    /// The URL it was opened with, a password replaced.
    pub fn describe_url(&self) -> &str {
        &self.url
    }

    /// The database's clock, by the offset measured last. Never runs backwards within a process.
    pub fn now(&self) -> Timestamp {
        self.engine.now()
    }

    /// Changes when other processes changed something, or may have: a hint to look. Heartbeats are no change. Where
    /// nobody tells (`SQLite`), its sender is gone.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.engine.others()
    }

    /// Whether [`Self::changes`] tells now; else others' changes are found by polling alone.
    pub fn hears_of_changes(&self) -> bool {
        self.engine.hears()
    }

    /// Waits for what is queued, then lets go of the database. Later calls fail. Without it the end of the process
    /// does as well: what was answered is durable.
    pub async fn close(&self) {
        self.queue.close().await;
        self.engine.close().await;
    }

    /// Succeeds when the database answers a small read.
    pub async fn check(&self) -> Result<(), StoreError> {
        self.read().await?.worker(&WorkerId(String::new())).await.map(|_| ())
    }

    /// The newest schema version this program knows.
    pub fn migrations_known() -> i64 {
        super::sqlite::migrations_known()
    }

    pub(super) async fn read(&self) -> Result<Box<dyn Rows>, StoreError> {
        self.engine.read().await
    }

    pub(super) async fn run<O: Operation>(&self, operation: O) -> Result<O::Output, StoreError> {
        self.queue.run(operation).await
    }

    /// The lane of the study a token's job belongs to.
    async fn lane_of(&self, token: LeaseToken) -> Result<Lane, StoreError> {
        let study = self.read().await?.study_of_job(token.job).await?;
        study.map(Lane::Study).ok_or(StoreError::JobNotFound(token.job))
    }

    /// The study.
    pub async fn study(&self, id: StudyId) -> Result<StudyRecord, StoreError> {
        let study = self.read().await?.study(id).await?;
        study.ok_or_else(|| StoreError::StudyNotFound(id.to_string()))
    }

    /// The study called `name`.
    pub async fn study_by_name(&self, name: &str) -> Result<StudyRecord, StoreError> {
        let study = self.read().await?.study_by_name(name).await?;
        study.ok_or_else(|| StoreError::StudyNotFound(name.to_owned()))
    }

    /// At most `limit` studies with ids above `after`, by id.
    pub async fn studies(&self, after: StudyId, limit: u32) -> Result<Vec<StudyRecord>, StoreError> {
        self.read().await?.studies(after, limit.min(PAGE)).await
    }

    /// A trial, with the steps of its current attempt.
    pub async fn trial(&self, study: StudyId, number: TrialNumber) -> Result<TrialRecord, StoreError> {
        let mut rows = self.read().await?;
        let trial = rows.trial(study, number).await?.ok_or(StoreError::TrialNotFound { study, number })?;
        with_steps(&mut *rows, trial.record).await
    }

    /// The trials that `filter` names, by number, with their steps.
    pub async fn trials(&self, study: StudyId, filter: &TrialFilter) -> Result<Vec<TrialRecord>, StoreError> {
        let limit = filter.limit.clamp(1, PAGE);
        let mut rows = self.read().await?;
        let mut trials = Vec::new();
        if filter.states.is_empty() {
            trials = rows.trials_from(study, filter.from, limit).await?;
        } else {
            for state in &filter.states {
                trials.append(&mut rows.trials_in_state(study, *state, filter.from, limit).await?);
            }
            trials.sort_by_key(|trial| trial.number);
            trials.dedup_by_key(|trial| trial.number);
            trials.truncate(limit as usize);
        }
        rows.add_steps(&mut trials).await?;
        Ok(trials)
    }

    /// At most `limit` trials changed after revision `after`, by revision, with their steps. What a history catches
    /// up with: every later change has a higher revision.
    pub async fn trials_since(
        &self,
        study: StudyId,
        after: Revision,
        limit: u32,
    ) -> Result<Vec<TrialRecord>, StoreError> {
        let mut rows = self.read().await?;
        let mut trials = rows.trials_since(study, after, limit.clamp(1, PAGE)).await?;
        rows.add_steps(&mut trials).await?;
        Ok(trials)
    }

    /// A job.
    pub async fn job(&self, id: JobId) -> Result<JobRecord, StoreError> {
        let job = self.read().await?.job(id).await?;
        job.map(|job| job.record).ok_or(StoreError::JobNotFound(id))
    }

    /// The jobs of a study, by id.
    pub async fn jobs(&self, study: StudyId) -> Result<Vec<JobRecord>, StoreError> {
        Ok(self.read().await?.jobs(study).await?.into_iter().map(|job| job.record).collect())
    }

    /// The executions of a job, oldest first.
    pub async fn attempts(&self, job: JobId) -> Result<Vec<AttemptRecord>, StoreError> {
        self.read().await?.attempt_records(job).await
    }

    /// The rounds measured for a comparison job, in their order.
    pub async fn rounds(&self, job: JobId) -> Result<Vec<serde_json::Value>, StoreError> {
        self.read().await?.rounds(job).await
    }

    /// A worker.
    pub async fn worker(&self, id: &WorkerId) -> Result<WorkerRecord, StoreError> {
        let worker = self.read().await?.worker(id).await?;
        worker.ok_or_else(|| StoreError::WorkerNotFound(id.to_string()))
    }

    /// At most `limit` workers with ids above `after`, by id.
    pub async fn workers(&self, after: &WorkerId, limit: u32) -> Result<Vec<WorkerRecord>, StoreError> {
        self.read().await?.workers(after, limit.min(PAGE)).await
    }

    /// What the worker holds leases of, by study.
    pub async fn held_by(&self, worker: &WorkerId) -> Result<Vec<HeldJob>, StoreError> {
        let mut rows = self.read().await?;
        let mut held = Vec::new();
        for (study, id) in rows.leases_of(worker).await? {
            let (Some(study), Some(job)) = (rows.study(study).await?, rows.job(id).await?) else { continue };
            let JobRecord { kind, trial, attempt, expires_at, .. } = job.record;
            if let Some(expires_at) = expires_at.filter(|_| !job.lease_ended) {
                held.push(HeldJob { study: study.name, kind, trial, attempt, expires_at });
            }
        }
        Ok(held)
    }

    /// The attributes of one kind, byte for byte as they were set.
    pub async fn attributes(
        &self,
        owner: AttributeOwner,
        kind: AttributeKind,
    ) -> Result<BTreeMap<String, String>, StoreError> {
        let mut rows = self.read().await?;
        match owner {
            AttributeOwner::Study(study) => {
                rows.study(study).await?.ok_or_else(|| StoreError::StudyNotFound(study.to_string()))?;
                rows.study_attributes(study, kind).await
            }
            AttributeOwner::Trial(study, number) => {
                let trial = rows.trial(study, number).await?.ok_or(StoreError::TrialNotFound { study, number })?;
                rows.trial_attributes(trial.record.id, kind).await
            }
        }
    }

    /// Creates a study, with its describe job when it starts as `Preparing`. The same `request_id` again gives the
    /// same study.
    pub async fn create_study(&self, new: NewStudy, now: Timestamp) -> Result<StudyRecord, StoreError> {
        self.run(CreateStudy { new, now }).await
    }

    /// Changes state or budget. A study that is in the wanted state already stays as it is.
    ///
    /// `Cancelled` ends its waiting and running trials as `cancelled`, and `Failed` ends them as `error`; jobs that
    /// the new state does not serve are closed.
    pub async fn update_study(
        &self,
        study: StudyId,
        update: StudyUpdate,
        now: Timestamp,
    ) -> Result<StudyRecord, StoreError> {
        self.run(UpdateStudy { study, update, now }).await
    }

    /// Removes a study with everything in it. Succeeds when there is none.
    pub async fn delete_study(&self, study: StudyId) -> Result<(), StoreError> {
        self.run(DeleteStudy { study }).await
    }

    /// Ends `Preparing` by the result of the describe job that `token` leases.
    pub async fn prepare(
        &self,
        token: LeaseToken,
        prepared: Prepared,
        detail: serde_json::Value,
        now: Timestamp,
    ) -> Result<StudyRecord, StoreError> {
        let lane = self.lane_of(token).await?;
        self.run(Prepare { lane, token, prepared, detail, now }).await
    }

    /// Ends `Preparing` because the model could not be described: the study becomes `Failed` with `message`.
    pub async fn fail_preparation(
        &self,
        token: LeaseToken,
        message: String,
        detail: serde_json::Value,
        now: Timestamp,
    ) -> Result<StudyRecord, StoreError> {
        let lane = self.lane_of(token).await?;
        self.run(FailPreparation { lane, token, message, detail, now }).await
    }

    /// Adds queue entries. The same `request_id` again gives the same trials.
    pub async fn enqueue(
        &self,
        study: StudyId,
        request_id: String,
        entries: Vec<NewWaiting>,
        now: Timestamp,
    ) -> Result<Vec<TrialRecord>, StoreError> {
        self.run(Enqueue { study, request_id, entries, now }).await
    }

    /// Puts trials into `Running` at the study's next turns. The same `request_id` again gives the same trials.
    ///
    /// # Errors
    /// [`StoreError::TurnTaken`] when another trial was started or numbered first, [`StoreError::WrongStudyState`]
    /// unless the study is `Active`.
    pub async fn start(&self, start: StartTrials, now: Timestamp) -> Result<Vec<Started>, StoreError> {
        let secrets = start.entries.iter().map(|_| secret()).collect::<Result<_, _>>()?;
        self.run(Start { trials: start, secrets, now }).await
    }

    /// What [`Self::start`] gave for `request_id`, with the trials as they are now and without a lease that is lost or
    /// over; nothing when it started none.
    pub async fn started_by(&self, study: StudyId, request_id: &str) -> Result<Vec<Started>, StoreError> {
        let mut rows = self.read().await?;
        started_by(&mut *rows, study, request_id).await
    }

    /// The study a job of which `request_id` leased, be it by a claim or by a start in one of `studies`, and whether
    /// that lease still holds or not.
    pub async fn leased_by(&self, request_id: &str, studies: &[StudyId]) -> Result<Option<StudyId>, StoreError> {
        let mut rows = self.read().await?;
        if let Some((job, _)) = rows.claimed_by(request_id).await? {
            return rows.study_of_job(job).await;
        }
        for &study in studies {
            if !rows.trials_started_by(study, request_id).await?.is_empty() {
                return Ok(Some(study));
            }
        }
        Ok(None)
    }

    /// Hands out a job of `study`: a trial whose lease ended, else its comparison, else its describe job. Claiming
    /// raises the attempt.
    ///
    /// The same `request_id` again gives the same lease while it holds, and nothing afterwards.
    ///
    /// A trial that was lost by two different workers or `max_attempts` times ends as `worker_lost` instead.
    pub async fn claim(
        &self,
        study: StudyId,
        worker: &WorkerId,
        request_id: &str,
        rules: LeaseRules,
        now: Timestamp,
    ) -> Result<Claimed, StoreError> {
        let (worker, request_id) = (worker.clone(), request_id.to_owned());
        self.run(Claim { study, worker, request_id, rules, secret: secret()?, now }).await
    }

    /// The trial that [`Self::claim`] gave for `request_id`, as it is now, and without a lease that is lost or over;
    /// nothing when it gave none.
    pub async fn claimed_by(&self, request_id: &str) -> Result<Option<Started>, StoreError> {
        let mut rows = self.read().await?;
        claimed_by(&mut *rows, request_id).await
    }

    /// Renews leases and notes a sign of life. Sets no revision.
    pub async fn heartbeat(
        &self,
        worker: &WorkerId,
        tokens: &[LeaseToken],
        ttl: Duration,
        now: Timestamp,
    ) -> Result<Heartbeat, StoreError> {
        self.run(RenewLeases { worker: worker.clone(), tokens: tokens.to_vec(), ttl, now }).await
    }

    /// Stores an intermediate value of the current attempt with its verdict; returns the verdict that counts, which is
    /// that of the first report of the step. Renews the lease.
    #[expect(clippy::too_many_arguments, reason = "a step is these facts, and nothing else groups them")]
    pub async fn report(
        &self,
        study: StudyId,
        number: TrialNumber,
        token: Option<LeaseToken>,
        step: u32,
        value: f64,
        stop: bool,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.run(Report { study, number, token, step, value, stop, now }).await
    }

    /// Ends a trial. The identical call again succeeds.
    ///
    /// # Errors
    /// [`StoreError::TrialEnded`] when it ended otherwise; [`StoreError::TrialLeased`] without the token that it
    /// needs; [`StoreError::LeaseLost`] when a newer attempt owns it. In both cases of a token that came too late
    /// `detail` is kept in the record of its attempt.
    pub async fn finish(
        &self,
        study: StudyId,
        number: TrialNumber,
        token: Option<LeaseToken>,
        end: TrialEnd,
        detail: serde_json::Value,
        now: Timestamp,
    ) -> Result<TrialRecord, StoreError> {
        // Two results: what was refused may still have left its detail in a record, which must be committed.
        self.run(Finish { study, number, token, end, detail, now }).await?
    }

    /// Gives a lease back: the attempt does not count, the job is claimable at once.
    pub async fn release(&self, token: LeaseToken, now: Timestamp) -> Result<(), StoreError> {
        let lane = self.lane_of(token).await?;
        self.run(Release { lane, token, now }).await
    }

    /// Ends a waiting or running trial as `cancelled`, whoever holds it.
    pub async fn cancel_trial(
        &self,
        study: StudyId,
        number: TrialNumber,
        now: Timestamp,
    ) -> Result<TrialRecord, StoreError> {
        self.run(CancelTrial { study, number, now }).await
    }

    /// Ends a queue entry as `error` before its start. The identical call again succeeds.
    pub async fn fail_waiting(
        &self,
        study: StudyId,
        number: TrialNumber,
        message: String,
        now: Timestamp,
    ) -> Result<TrialRecord, StoreError> {
        self.run(FailWaiting { study, number, message, now }).await
    }

    /// Registers a worker, or its return.
    ///
    /// Its leases that it does not name end at once. With another boot id its trials that are open or lost, but for
    /// those it names, end as `host_crash`.
    pub async fn register(&self, registration: Registration, now: Timestamp) -> Result<WorkerRecord, StoreError> {
        self.run(Register { registration, now }).await
    }

    /// Makes a worker take no new job, or take jobs again.
    pub async fn drain_worker(&self, worker: &WorkerId, draining: bool) -> Result<WorkerRecord, StoreError> {
        self.run(Drain { worker: worker.clone(), draining }).await
    }

    /// Puts an `Active` study into `Confirming` with a comparison job. A study that is confirming already and has an
    /// open comparison keeps that one.
    pub async fn create_comparison(
        &self,
        study: StudyId,
        spec: serde_json::Value,
        reason: String,
        now: Timestamp,
    ) -> Result<JobRecord, StoreError> {
        self.run(CreateComparison { study, spec, reason, now }).await
    }

    /// Stores one whole round of a comparison. The same round with the same cells again succeeds.
    pub async fn record_round(
        &self,
        token: LeaseToken,
        round: u32,
        cells: serde_json::Value,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let lane = self.lane_of(token).await?;
        self.run(RecordRound { lane, token, round, cells, now }).await
    }

    /// Ends a comparison, and with it `Confirming`: the study becomes `next`, which is `Finished`, or `Active` when its
    /// search goes on.
    pub async fn finish_comparison(
        &self,
        token: LeaseToken,
        result: serde_json::Value,
        detail: serde_json::Value,
        next: StudyState,
        now: Timestamp,
    ) -> Result<StudyRecord, StoreError> {
        let lane = self.lane_of(token).await?;
        self.run(FinishComparison { lane, token, result, detail, next, now }).await
    }

    /// Ends trials that nobody may run again: those at their limits one TTL after their lease ended. At most 64 at a
    /// time; returns which.
    pub async fn reap(&self, rules: LeaseRules, now: Timestamp) -> Result<Vec<(StudyId, TrialNumber)>, StoreError> {
        self.run(Reap { rules, now }).await
    }

    /// Sets an attribute, kept byte for byte. One of a trial takes a revision.
    pub async fn set_attribute(
        &self,
        owner: AttributeOwner,
        kind: AttributeKind,
        key: String,
        value: String,
    ) -> Result<(), StoreError> {
        self.run(SetAttribute { owner, kind, key, value }).await
    }
}

async fn with_steps(rows: &mut dyn Rows, trial: TrialRecord) -> Result<TrialRecord, StoreError> {
    let mut trials = [trial];
    rows.add_steps(&mut trials).await?;
    let [trial] = trials;
    Ok(trial)
}

/// Random bits of a lease token.
pub(super) fn secret() -> Result<u64, StoreError> {
    use rand::TryRng;
    rand::rngs::SysRng.try_next_u64().map_err(|error| StoreError::Database(format!("no random numbers: {error}")))
}
