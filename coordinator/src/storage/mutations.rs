//! What changes something: each method one operation, durable when it returns.

use std::time::Duration;

use fleetune_core::{FailKind, LeaseToken, StudyId, StudyState, Timestamp, TrialNumber, WorkerId};

use super::audit::{self, Audited};
use super::error::StoreError;
use super::operations::{
    AdvanceStudy, Archive, CancelTrial, Claim, CreateChild, CreateComparison, CreateStudy, DeleteStudy, Drain, Enqueue,
    FailPreparation, FailWaiting, Finish, FinishComparison, Lane, Operation, Prepare, Reap, RecordRound, Register,
    Release, RenewLeases, Report, SetAttribute, Shed, Start, Unarchive, UpdateStudy,
};
use super::record::{
    Advance, AttributeKind, AttributeOwner, Claimed, Heartbeat, JobRecord, LeaseRules, NewStudy, NewWaiting, Prepared,
    Registration, StartTrials, Started, Step, StudyRecord, StudyUpdate, TrialEnd, TrialRecord, WorkerRecord,
};
use super::store::{Store, secret};

impl Store {
    pub(super) async fn run<O: Operation>(&self, operation: O) -> Result<O::Output, StoreError> {
        match audit::unrecorded().filter(|_| O::IS_DEED) {
            None => self.queue.run(operation).await,
            Some(deed) => self.queue.run(Audited { operation, deed, now: self.now() }).await,
        }
    }

    /// The lane of the study a token's job belongs to.
    async fn lane_of(&self, token: LeaseToken) -> Result<Lane, StoreError> {
        let study = self.read().await?.study_of_job(token.job).await?;
        study.map(Lane::Study).ok_or(StoreError::JobNotFound(token.job))
    }

    /// Creates a study, with its describe job when it starts as `Preparing`. The same `request_id` again gives the
    /// same study.
    pub async fn create_study(&self, new: NewStudy, now: Timestamp) -> Result<StudyRecord, StoreError> {
        self.run(CreateStudy { new, now }).await
    }

    /// The child of `parent` for workers of `class`, made `Preparing` with the configuration of its parent where there is
    /// none yet.
    ///
    /// # Errors
    /// [`StoreError::WrongStudyState`] unless the parent is `Active`, [`StoreError::TooLarge`] beyond 64 children.
    pub async fn create_child(
        &self,
        parent: StudyId,
        class: String,
        now: Timestamp,
    ) -> Result<StudyRecord, StoreError> {
        self.run(CreateChild { parent, class, now }).await
    }

    /// Changes state, budget or schedule. A study that is in the wanted state already stays as it is.
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

    /// Puts a study away that has ended. From then on nothing of it changes; only [`Self::delete_study`] and
    /// [`Self::unarchive_study`] are open to it.
    ///
    /// # Errors
    /// [`StoreError::WrongStudyState`] while it has not ended.
    pub async fn archive_study(&self, study: StudyId) -> Result<StudyRecord, StoreError> {
        self.run(Archive { study }).await
    }

    /// Makes an archived study again what it was; others stay as they are.
    pub async fn unarchive_study(&self, study: StudyId, now: Timestamp) -> Result<StudyRecord, StoreError> {
        self.run(Unarchive { study, now }).await
    }

    /// Forgets for good, of `count` trials of an archived study from `from` on, what nobody needs who only looks back:
    /// the requests that made and started them, steps of attempts that brought no result, and details (samples, the end
    /// of stderr) of attempts that brought none or failed. Does nothing to other studies, and nothing the second time.
    pub async fn shed(&self, study: StudyId, from: TrialNumber, count: u32) -> Result<(), StoreError> {
        self.run(Shed { study, from, count }).await
    }

    /// Removes a study with everything in it, its children too. Succeeds when there is none.
    pub async fn delete_study(&self, study: StudyId) -> Result<(), StoreError> {
        self.run(DeleteStudy { study }).await?;
        self.queue.shelves().forget(study);
        Ok(())
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
        self.run(Enqueue { study, request_id, entries, lifts: false, now }).await
    }

    /// As [`Self::enqueue`], and ends the quarantine of each of these configurations.
    pub async fn enqueue_out_of_quarantine(
        &self,
        study: StudyId,
        request_id: String,
        entries: Vec<NewWaiting>,
        now: Timestamp,
    ) -> Result<Vec<TrialRecord>, StoreError> {
        self.run(Enqueue { study, request_id, entries, lifts: true, now }).await
    }

    /// Puts trials into `Running` at the study's next turns. The same `request_id` again gives the same trials.
    ///
    /// # Errors
    /// [`StoreError::TurnTaken`] when another trial was started or numbered first, [`StoreError::WrongStudyState`]
    /// unless the study is `Active`, [`StoreError::AtCapacity`] when workers lease as many of its trials as they may.
    pub async fn start(&self, start: StartTrials, now: Timestamp) -> Result<Vec<Started>, StoreError> {
        let secrets = start.entries.iter().map(|_| secret()).collect::<Result<_, _>>()?;
        self.run(Start { trials: start, secrets, now }).await
    }

    /// Ends held trials and starts others, all at once, while `advance.at` is the study's newest revision.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn advance(&self, advance: Advance, now: Timestamp) -> Result<Step, StoreError> {
        let secrets = |start: &StartTrials| start.entries.iter().map(|_| secret()).collect::<Result<Vec<_>, _>>();
        let leased = |start: &StartTrials| if start.lease.is_some() { secrets(start) } else { Ok(Vec::new()) };
        let secrets = advance.starts.iter().map(leased).collect::<Result<_, _>>()?;
        self.run(AdvanceStudy { advance, secrets, now }).await
    }

    /// Hands out a job of `study`: a trial whose lease ended, else its comparison, else its describe job. Claiming
    /// raises the attempt.
    ///
    /// The same `request_id` again gives the same lease while it holds, and nothing afterwards.
    ///
    /// No trial is handed out while workers lease as many as they may at once.
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

    /// Ends a queue entry as `kind` before its start. The identical call again succeeds.
    pub async fn fail_waiting(
        &self,
        study: StudyId,
        number: TrialNumber,
        kind: FailKind,
        message: String,
        now: Timestamp,
    ) -> Result<TrialRecord, StoreError> {
        self.run(FailWaiting { study, number, kind, message, now }).await
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
