//! Rows in the domain's types: what the rules read and write within one transaction, and what a back end implements.
//!
//! No rule lives here. A method that changes something is called only within a transaction of [`Engine::write`]; one
//! whose name ends in `for_update` also keeps others from changing the row until the transaction ends.
//!
//! [`Engine::write`]: super::engine::Engine::write

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use fleetune_core::region::Incident;
use fleetune_core::{
    Attempt, JobId, Revision, StudyId, StudyState, Timestamp, TrialId, TrialNumber, TrialState, Turn, WorkerId,
};

use super::error::StoreError;
use super::foreign::ForeignRows;
use super::record::{
    AttemptRecord, AttemptState, AttributeKind, AuditRecord, Deed, JobRecord, NewIncident, NewStudy, NewToken,
    StudyExclusion, StudyRecord, Tally, TokenHash, TokenRecord, TrialRecord, WorkerRecord,
};

/// The part of a study that every mutation of it needs, cheap to read.
#[derive(Clone, Debug)]
pub(super) struct StudyHead {
    pub id: StudyId,
    pub name: String,
    pub state: StudyState,
    pub revision: Revision,
    pub next_number: TrialNumber,
    pub next_turn: Turn,
    pub max_parallel: Option<u32>,
    pub served_at: Timestamp,
    pub is_parent: bool,
}

impl StudyHead {
    /// Takes the next revision.
    pub fn bump(&mut self) -> Revision {
        self.revision = self.revision.next();
        self.revision
    }
}

/// A trial; `record.steps` is empty.
#[derive(Clone, Debug)]
pub(super) struct TrialRow {
    pub record: TrialRecord,
    /// Steps stored for the current attempt.
    pub step_count: u32,
}

/// A job with what its lease needs.
#[derive(Clone, Debug)]
pub(super) struct JobRow {
    pub record: JobRecord,
    pub trial_id: Option<TrialId>,
    /// What a renewal by report adds.
    pub ttl: Duration,
    /// The lease was ended before its time: claimable at once.
    pub lease_ended: bool,
}

/// An attempt without its detail, which may be large.
#[derive(Clone, Debug)]
pub(super) struct AttemptRow {
    pub attempt: Attempt,
    pub worker: WorkerId,
    pub secret: u64,
    pub state: AttemptState,
    pub has_detail: bool,
}

/// The request that made or started a trial, and the trial's place in it.
pub(super) type Request<'a> = Option<(&'a str, u32)>;

type Result<T> = std::result::Result<T, StoreError>;

#[async_trait]
pub(super) trait StudyRows {
    async fn study(&mut self, id: StudyId) -> Result<Option<StudyRecord>>;
    async fn study_by_name(&mut self, name: &str) -> Result<Option<StudyRecord>>;
    async fn study_by_request(&mut self, request_id: &str) -> Result<Option<StudyRecord>>;
    /// With or without archived ones.
    async fn studies(&mut self, after: StudyId, limit: u32, archived: bool) -> Result<Vec<StudyRecord>>;
    /// Those that have not ended.
    async fn open_studies(&mut self, after: StudyId, limit: u32) -> Result<Vec<StudyRecord>>;
    /// The studies that are children of this one, by id.
    async fn children(&mut self, parent: StudyId) -> Result<Vec<StudyRecord>>;
    async fn head_for_update(&mut self, id: StudyId) -> Result<Option<StudyHead>>;
    async fn insert_study(&mut self, new: &NewStudy, now: Timestamp) -> Result<StudyId>;
    /// Writes everything that may change.
    async fn save_study(&mut self, study: &StudyRecord) -> Result<()>;
    /// Writes the counters and when it was served.
    async fn save_head(&mut self, head: &StudyHead) -> Result<()>;
    async fn rename_study(&mut self, id: StudyId, name: &str) -> Result<()>;
    async fn delete_study(&mut self, id: StudyId) -> Result<()>;
    /// Forgets of `count` trials from `from` on what nobody needs who only looks back: the requests that made them,
    /// steps of attempts that brought no result, details of attempts that brought none or failed.
    async fn shed(&mut self, id: StudyId, from: TrialNumber, count: u32) -> Result<()>;
    async fn study_attributes(&mut self, id: StudyId, kind: AttributeKind) -> Result<BTreeMap<String, String>>;
    async fn set_study_attribute(&mut self, id: StudyId, kind: AttributeKind, key: &str, value: &str) -> Result<()>;
}

#[async_trait]
pub(super) trait TrialRows {
    async fn trial(&mut self, study: StudyId, number: TrialNumber) -> Result<Option<TrialRow>>;
    async fn trials_from(&mut self, study: StudyId, from: TrialNumber, limit: u32) -> Result<Vec<TrialRecord>>;
    async fn trials_in_state(
        &mut self,
        study: StudyId,
        state: TrialState,
        from: TrialNumber,
        limit: u32,
    ) -> Result<Vec<TrialRecord>>;
    async fn trials_since(&mut self, study: StudyId, after: Revision, limit: u32) -> Result<Vec<TrialRow>>;
    /// The trials of a study by state and, where they failed, by reason; and the seconds of those that took any.
    async fn tally(&mut self, study: StudyId) -> Result<Tally>;
    /// Fills in the steps of each trial's current attempt.
    async fn add_steps(&mut self, trials: &mut [TrialRecord]) -> Result<()>;
    /// By index within the request.
    async fn trials_created_by(&mut self, study: StudyId, request_id: &str) -> Result<Vec<TrialRecord>>;
    /// Which of `studies` has trials that the request started.
    async fn study_started_by(&mut self, studies: &[StudyId], request_id: &str) -> Result<Option<StudyId>>;
    /// By index within the request.
    async fn trials_started_by(&mut self, study: StudyId, request_id: &str) -> Result<Vec<TrialRecord>>;
    async fn insert_trial(
        &mut self,
        trial: &TrialRecord,
        created_by: Request<'_>,
        started_by: Request<'_>,
    ) -> Result<TrialId>;
    /// Inserts fresh trials that run, each with the request that starts it and its place in that; their ids in the
    /// same order. All have `study`, `seen`, `sampler` and the instant of their start in common.
    async fn insert_running(&mut self, trials: &[(&TrialRecord, (&str, u32))]) -> Result<Vec<TrialId>>;
    /// Which of these requests have started trials.
    async fn known_requests(&mut self, study: StudyId, requests: &[&str]) -> Result<BTreeSet<String>>;
    /// Writes what the end of a held trial sets, for trials that ended at one instant.
    async fn save_ends(&mut self, trials: &[TrialRecord]) -> Result<()>;
    /// Writes what the entry into `Running` sets on a queue entry.
    async fn save_start(&mut self, trial: &TrialRecord, started_by: Request<'_>) -> Result<()>;
    /// Writes what may change afterwards.
    async fn save_trial(&mut self, trial: &TrialRow) -> Result<()>;
    /// The value and verdict stored for a step.
    async fn step(&mut self, trial: TrialId, attempt: Attempt, step: u32) -> Result<Option<(f64, bool)>>;
    async fn insert_step(&mut self, trial: TrialId, attempt: Attempt, step: u32, value: f64, stop: bool) -> Result<()>;
    async fn trial_attributes(&mut self, id: TrialId, kind: AttributeKind) -> Result<BTreeMap<String, String>>;
    async fn set_trial_attribute(&mut self, id: TrialId, kind: AttributeKind, key: &str, value: &str) -> Result<()>;
}

#[async_trait]
pub(super) trait JobRows {
    async fn study_of_job(&mut self, id: JobId) -> Result<Option<StudyId>>;
    async fn job(&mut self, id: JobId) -> Result<Option<JobRow>>;
    async fn job_for_update(&mut self, id: JobId) -> Result<Option<JobRow>>;
    async fn jobs(&mut self, study: StudyId) -> Result<Vec<JobRow>>;
    /// Describe and comparison jobs of the study that have not ended, oldest first.
    async fn open_jobs(&mut self, study: StudyId) -> Result<Vec<JobRow>>;
    /// The oldest trial job of the study whose lease was ended, or (if `by_time`) ran out at or before `now`.
    async fn ended_lease(&mut self, study: StudyId, now: Timestamp, by_time: bool) -> Result<Option<JobId>>;
    /// How many trials of the study are leased and whose lease still runs at `now`.
    async fn live_leases(&mut self, study: StudyId, now: Timestamp) -> Result<u32>;
    /// Trial jobs whose lease ended at or before `before` and that are at their limits, whoever holds them.
    async fn lost_jobs(&mut self, before: Timestamp, max_attempts: u32, limit: u32) -> Result<Vec<(StudyId, JobId)>>;
    /// Jobs whose lease this worker holds, or last held, and that have not ended; by study.
    async fn leases_of(&mut self, worker: &WorkerId) -> Result<Vec<(StudyId, JobId)>>;
    /// `job.record.id` is not looked at.
    async fn insert_job(&mut self, job: &JobRow, now: Timestamp) -> Result<JobId>;
    async fn save_job(&mut self, job: &JobRow) -> Result<()>;
    /// Oldest first.
    async fn attempts(&mut self, job: JobId) -> Result<Vec<AttemptRow>>;
    async fn attempt(&mut self, job: JobId, attempt: Attempt) -> Result<Option<AttemptRow>>;
    async fn attempt_records(&mut self, job: JobId) -> Result<Vec<AttemptRecord>>;
    /// The attempt that `request` claimed, with its job.
    async fn claimed_by(&mut self, request: &str) -> Result<Option<(JobId, AttemptRow)>>;
    /// `claimed_by`: the request that claims it; none for the first attempt of a trial.
    async fn insert_attempt(
        &mut self,
        job: JobId,
        attempt: &AttemptRow,
        claimed_by: Option<&str>,
        now: Timestamp,
    ) -> Result<()>;
    async fn end_attempt(&mut self, job: JobId, attempt: Attempt, state: AttemptState, now: Timestamp) -> Result<()>;
    /// `detail` is JSON.
    async fn save_detail(&mut self, job: JobId, attempt: Attempt, detail: &str) -> Result<()>;
    async fn round(&mut self, job: JobId, round: u32) -> Result<Option<serde_json::Value>>;
    async fn rounds(&mut self, job: JobId) -> Result<Vec<serde_json::Value>>;
    /// `cells` is JSON.
    async fn insert_round(&mut self, job: JobId, round: u32, attempt: Attempt, cells: &str) -> Result<()>;
}

#[async_trait]
pub(super) trait WorkerRows {
    async fn worker(&mut self, id: &WorkerId) -> Result<Option<WorkerRecord>>;
    async fn workers(&mut self, after: &WorkerId, limit: u32) -> Result<Vec<WorkerRecord>>;
    async fn save_worker(&mut self, worker: &WorkerRecord) -> Result<()>;
    /// Notes a sign of life; returns whether the worker drains, `None` when there is no such worker.
    async fn seen(&mut self, id: &WorkerId, now: Timestamp) -> Result<Option<bool>>;
    async fn set_draining(&mut self, id: &WorkerId, draining: bool) -> Result<()>;
}

#[async_trait]
pub(super) trait AccessRows {
    async fn token(&mut self, id: i64) -> Result<Option<TokenRecord>>;
    async fn token_by_hash(&mut self, hash: &TokenHash) -> Result<Option<TokenRecord>>;
    /// The one in force, else the newest of this name.
    async fn token_by_name(&mut self, name: &str) -> Result<Option<TokenRecord>>;
    async fn tokens(&mut self, after: i64, limit: u32) -> Result<Vec<TokenRecord>>;
    async fn insert_token(&mut self, new: &NewToken, now: Timestamp) -> Result<i64>;
    async fn revoke_token(&mut self, id: i64, now: Timestamp) -> Result<()>;
    async fn note_use(&mut self, id: i64, at: Timestamp) -> Result<()>;
    async fn insert_audit(&mut self, deed: &Deed, now: Timestamp) -> Result<()>;
    /// Newest first.
    async fn audit(&mut self, before: i64, subject: Option<&str>, limit: u32) -> Result<Vec<AuditRecord>>;
    /// Removes what is older than `before`, and all but the newest `keep`; how many.
    async fn trim_audit(&mut self, before: Timestamp, keep: u64) -> Result<u64>;
}

#[async_trait]
pub(super) trait RegionRows {
    /// Those of a device class and a model, oldest first.
    async fn incidents(&mut self, device_class: &str, model_hash: &str) -> Result<Vec<Incident>>;
    /// Those of every model of a device class, or all of them; oldest first.
    async fn all_incidents(&mut self, device_class: Option<&str>, limit: u32) -> Result<Vec<Incident>>;
    async fn insert_incident(&mut self, new: &NewIncident) -> Result<i64>;
    async fn refute_incident(&mut self, id: i64) -> Result<()>;
    async fn delete_incident(&mut self, id: i64) -> Result<()>;
    /// Removes that of an execution which came to an end after all; whether there was one.
    async fn forget_incident(&mut self, study: StudyId, trial: TrialNumber, attempt: Attempt) -> Result<bool>;
    /// Removes all but the newest `keep` of a device class and a model.
    async fn trim_incidents(&mut self, device_class: &str, model_hash: &str, keep: u32) -> Result<()>;
    async fn save_exclusions(&mut self, study: StudyId, exclusions: &[StudyExclusion]) -> Result<()>;
    /// Trial jobs that have not ended and that this worker lost after `after`, by study.
    async fn lost_by(&mut self, worker: &WorkerId, after: Timestamp) -> Result<Vec<(StudyId, JobId)>>;
}

/// A transaction. Dropped without [`Rows::commit`], it leaves nothing.
#[async_trait]
pub(super) trait Rows:
    StudyRows + TrialRows + ForeignRows + JobRows + WorkerRows + AccessRows + RegionRows + Send
{
    /// Whether anything was written since this was asked last.
    fn take_dirty(&mut self) -> bool;
    async fn commit(self: Box<Self>) -> Result<()>;
    async fn rollback(self: Box<Self>) -> Result<()>;
}
