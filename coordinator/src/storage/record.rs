//! What storage hands out and takes in: studies, trials, jobs, leases, attempts and workers as stored.
//!
//! Plain data. The rules about it are in `operations`; rows and columns are known to the back ends alone.

mod access;
mod family;
mod region;
mod tally;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use fleetune_core::study::{Budget, Pin, StudyConfig};
use fleetune_core::{
    Attempt, Distribution, FailKind, JobId, LeaseToken, Params, Revision, Schedule, StudyId, StudyState, Timestamp,
    TrialId, TrialNumber, TrialState, Turn, Value, WorkerId,
};
use serde::{Deserialize, Serialize};

pub use access::*;
pub use family::*;
pub use region::*;
pub use tally::*;
pub use worker::*;

/// A study as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct StudyRecord {
    /// Its id.
    pub id: StudyId,
    /// Unique name.
    pub name: String,
    /// Where it stands.
    pub state: StudyState,
    /// Why it stands there, for people: `target reached`, `trial budget used up`. Empty when there is nothing to say.
    pub reason: String,
    /// Its configuration.
    pub config: StudyConfig,
    /// Its claim to workers.
    pub schedule: Schedule,
    /// When a worker got a job of it last; the beginning of time when none ever did.
    pub served_at: Timestamp,
    /// Whether it has children, or is one.
    pub family: Option<Family>,
    /// Which engine, device class and model its values hold for; none until its first describe job or trial.
    pub pin: Option<Pin>,
    /// What the describe job found, as JSON; none before, and for studies without a model.
    pub description: Option<serde_json::Value>,
    /// What it samples no more, or did not for a while.
    pub exclusions: Vec<StudyExclusion>,
    /// The newest revision.
    pub revision: Revision,
    /// Revision of the newest change to the configuration.
    pub config_revision: Revision,
    /// The number the next trial will get.
    pub next_number: TrialNumber,
    /// The turn the next started trial will get.
    pub next_turn: Turn,
    /// When it was created.
    pub created_at: Timestamp,
    /// What an archived study was before; none for others.
    pub archived_from: Option<StudyState>,
    /// When it was last fetched back from the archive.
    pub unarchived_at: Option<Timestamp>,
}

/// A parameter as stored: its distribution and Optuna's internal representation of its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// The distribution it was drawn from.
    pub distribution: Arc<Distribution>,
    /// The number itself, or the index of the choice. Bits are kept as they are.
    pub internal: f64,
}

/// Parameters by name.
pub type ParamSet = BTreeMap<String, Param>;

/// The values of `params` as people write them. A value outside its distribution (foreign clients may send one) is
/// given as a float.
pub fn external(params: &ParamSet) -> Params {
    params.iter().map(|(name, param)| (name.clone(), outward(&param.distribution, param.internal))).collect()
}

/// A value as people write it.
pub fn outward(distribution: &Distribution, internal: f64) -> Value {
    distribution.from_internal(internal).unwrap_or(Value::Float(internal))
}

/// Where the parameters of a trial come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The sampler.
    Sampled,
    /// The machine's default configuration, or the nearest safe one: the baseline.
    Default,
    /// The engine's own memory-fit proposal.
    EngineFit,
    /// A person's `trial enqueue`.
    Enqueued,
    /// A client that samples itself.
    Client,
}

impl Origin {
    /// Every origin.
    pub const ALL: [Self; 5] = [Self::Sampled, Self::Default, Self::EngineFit, Self::Enqueued, Self::Client];

    /// The name in storage and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sampled => "sampled",
            Self::Default => "default",
            Self::EngineFit => "engine_fit",
            Self::Enqueued => "enqueued",
            Self::Client => "client",
        }
    }

    /// The origin called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|origin| origin.as_str() == name)
    }
}

/// A trial as stored, with the steps of its current attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct TrialRecord {
    /// Its id.
    pub id: TrialId,
    /// The study it belongs to.
    pub study: StudyId,
    /// Its number in the study.
    pub number: TrialNumber,
    /// Where it stands.
    pub state: TrialState,
    /// Where its parameters come from.
    pub origin: Origin,
    /// Parameters a queue entry fixes; empty for a fresh trial.
    pub fixed: Params,
    /// Parameters, complete from `Running` on.
    pub params: ParamSet,
    /// One per objective when COMPLETE (Optuna allows none), at most one when PRUNED, none otherwise.
    pub values: Vec<f64>,
    /// Measured constraint values in the order of the space file; feasible when all are <= 0.
    pub constraints: Vec<f64>,
    /// Why it failed, and the sentence that says more.
    pub fail: Option<(FailKind, String)>,
    /// The job that leases it; none for a held trial and before it was leased.
    pub job: Option<JobId>,
    /// The current attempt of that job; 0 when there is none.
    pub attempt: Attempt,
    /// When it entered `Running`, in the order of the study; none before.
    pub turn: Option<Turn>,
    /// The study's revision up to which events were folded when its parameters were suggested.
    pub seen: Option<Revision>,
    /// Version of the sampler that completed its parameters; empty when none did.
    pub sampler: String,
    /// Revision of its newest change.
    pub revision: Revision,
    /// Revision of its entry into `Running`.
    pub started_revision: Option<Revision>,
    /// Revision of its end.
    pub ended_revision: Option<Revision>,
    /// When its number was given.
    pub created_at: Timestamp,
    /// When it entered `Running`.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Seconds it was measured, waiting for the device not counted; 0 until it ended.
    pub seconds: f64,
    /// Intermediate values of the current attempt by step: repetitions alone, or a client's curve.
    pub steps: Vec<(u32, f64)>,
}

impl TrialRecord {
    /// Whether it runs without a lease: given by Ask, or created by a client.
    pub fn is_held(&self) -> bool {
        self.state == TrialState::Running && self.job.is_none()
    }
}

/// What a worker can lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// Tell what a model file and this machine are.
    Describe,
    /// Run one trial.
    Trial,
    /// Measure several configurations against each other, round by round.
    Comparison,
}

impl JobKind {
    /// The name in storage and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Describe => "describe",
            Self::Trial => "trial",
            Self::Comparison => "comparison",
        }
    }

    /// The kind called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Describe, Self::Trial, Self::Comparison].into_iter().find(|kind| kind.as_str() == name)
    }
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobState {
    /// Not leased yet (describe and comparison jobs only).
    Open,
    /// Leased; the lease may have ended without anybody having claimed it again.
    Leased,
    /// Ended.
    Done,
}

/// A job as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct JobRecord {
    /// Its id.
    pub id: JobId,
    /// The study it belongs to.
    pub study: StudyId,
    /// What is to be done.
    pub kind: JobKind,
    /// Where it stands.
    pub state: JobState,
    /// The trial, for a trial job.
    pub trial: Option<TrialNumber>,
    /// What is to be compared, as JSON, for a comparison job; `null` otherwise.
    pub spec: serde_json::Value,
    /// How it ended, as JSON; `null` before, and for a trial job.
    pub result: serde_json::Value,
    /// The current attempt; 0 before the first.
    pub attempt: Attempt,
    /// Who holds, or last held, the lease.
    pub worker: Option<WorkerId>,
    /// Until when the lease runs; none before the first lease and after the end.
    pub expires_at: Option<Timestamp>,
}

/// The right to write to a leased job.
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    /// Its proof.
    pub token: LeaseToken,
    /// Until when it runs if nothing renews it.
    pub expires_at: Timestamp,
}

/// How one execution of a job went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptState {
    /// Under way, or lost without anybody having noticed yet.
    Open,
    /// Its outcome decided the job.
    Finished,
    /// Given back on drain or Ctrl-C; does not count toward the limit of attempts.
    Released,
    /// The lease ended without a result; a late result is kept here.
    Lost,
}

impl AttemptState {
    /// The name in storage and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Finished => "finished",
            Self::Released => "released",
            Self::Lost => "lost",
        }
    }

    /// The state called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Open, Self::Finished, Self::Released, Self::Lost].into_iter().find(|state| state.as_str() == name)
    }
}

/// One execution of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct AttemptRecord {
    /// The job.
    pub job: JobId,
    /// Its fencing number, from 1.
    pub attempt: Attempt,
    /// Who ran it.
    pub worker: WorkerId,
    /// How it went.
    pub state: AttemptState,
    /// When its lease began.
    pub started_at: Timestamp,
    /// When it ended; none while open.
    pub ended_at: Option<Timestamp>,
    /// What it found: samples, requested and effective settings, engine, device, stderr tail. JSON; `null` without.
    pub detail: serde_json::Value,
}

/// A study to create.
#[derive(Clone, Debug)]
pub struct NewStudy {
    /// Unique name.
    pub name: String,
    /// Makes a retry safe; lives as long as the study.
    pub request_id: String,
    /// `Preparing` (a describe job is created with it) or `Active`.
    pub state: StudyState,
    /// Its configuration.
    pub config: StudyConfig,
    /// Its claim to workers.
    pub schedule: Schedule,
    /// As in [`StudyRecord::family`].
    pub family: Option<Family>,
}

/// Changes to a study; what is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct StudyUpdate {
    /// Only if the study is in this state now.
    pub expected: Option<StudyState>,
    /// New state and the reason for it. `Cancelled` ends running and waiting trials as `cancelled`.
    pub state: Option<(StudyState, String)>,
    /// New budget.
    pub budget: Option<Budget>,
    /// New claim to workers.
    pub schedule: Option<Schedule>,
}

/// What ends `Preparing`, in one transaction.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// What the worker found, as JSON.
    pub description: serde_json::Value,
    /// The configuration with the space and everything else resolved. Its budget does not count: the stored one stays.
    pub config: StudyConfig,
    /// What the study's values will hold for.
    pub pin: Pin,
    /// The first queue entries: the default, the engine's fit.
    pub waiting: Vec<NewWaiting>,
}

/// A queue entry to create.
#[derive(Clone, Debug, PartialEq)]
pub struct NewWaiting {
    /// Parameters it fixes, checked against the space.
    pub fixed: Params,
    /// Why it exists.
    pub origin: Origin,
}

/// Trials that enter `Running` together, at the next turns of the study.
#[derive(Clone, Debug)]
pub struct StartTrials {
    /// The study.
    pub study: StudyId,
    /// Makes a retry safe: the same id gives the same trials.
    pub request_id: String,
    /// Refused with `TurnTaken` unless this is still the study's next turn.
    pub turn: Turn,
    /// Events up to here were folded when the parameters were suggested.
    pub seen: Revision,
    /// Version of the sampler.
    pub sampler: String,
    /// At least one.
    pub entries: Vec<StartEntry>,
    /// Leased to this worker for this long, or held.
    pub lease: Option<(WorkerId, Duration)>,
}

/// One trial that enters `Running`.
#[derive(Clone, Debug)]
pub struct StartEntry {
    /// A WAITING trial, or the study's next number. Refused with `TurnTaken` unless it still is that.
    pub number: TrialNumber,
    /// A queue entry, whose fixed parameters `params` completes; else a fresh trial.
    pub queued: bool,
    /// Its complete parameters.
    pub params: ParamSet,
    /// `Sampled` or `Client`; a queue entry keeps its own.
    pub origin: Origin,
}

/// A started trial.
#[derive(Clone, Debug, PartialEq)]
pub struct Started {
    /// The trial, now RUNNING.
    pub trial: TrialRecord,
    /// Its lease, unless it is held.
    pub lease: Option<Lease>,
}

/// What one coordinator, which knows a study up to a revision, makes of it next.
#[derive(Clone, Debug)]
pub struct Advance {
    /// The study.
    pub study: StudyId,
    /// Nothing happens unless this still is its newest revision.
    pub at: Revision,
    /// Held trials as they are, and how each ends.
    pub ends: Vec<(TrialRecord, TrialEnd)>,
    /// Trials that enter `Running`, by request.
    pub starts: Vec<StartTrials>,
}

/// What became of an [`Advance`].
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// All of it.
    Done(Advanced),
    /// Nothing: the study has moved on, or starts nothing.
    Behind,
    /// Nothing: these requests have started trials before.
    Again(BTreeSet<String>),
}

/// What an [`Advance`] has done.
#[derive(Clone, Debug, PartialEq)]
pub struct Advanced {
    /// The trials that ended, in the order given.
    pub ended: Vec<TrialRecord>,
    /// The trials that were started, by request in the order given.
    pub started: Vec<Vec<Started>>,
    /// The study's newest revision now.
    pub revision: Revision,
}

/// The answer to a claim.
#[derive(Clone, Debug, PartialEq)]
pub enum Claimed {
    /// A job, now leased to the caller.
    Job {
        /// The job.
        job: Box<JobRecord>,
        /// The trial, for a trial job, with the parameters it was started with.
        trial: Option<Box<TrialRecord>>,
        /// The lease.
        lease: Lease,
    },
    /// A lease has ended but is not claimable before this instant; start nothing fresh meanwhile.
    NotBefore(Timestamp),
    /// Nothing to claim.
    Nothing,
}

/// Limits of handing a job out again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LeaseRules {
    /// How long a lease runs without renewal.
    pub ttl: Duration,
    /// Leases that ended by time are claimable only from here on: one TTL after the service began or came back.
    pub not_before: Timestamp,
    /// Attempts after which a trial ends as `worker_lost`; released ones do not count.
    pub max_attempts: u32,
}

/// How a trial ends.
#[derive(Clone, Debug, PartialEq)]
pub struct TrialEnd {
    /// `Complete`, `Pruned` or `Fail`.
    pub state: TrialState,
    /// As in [`TrialRecord::values`].
    pub values: Vec<f64>,
    /// As in [`TrialRecord::constraints`].
    pub constraints: Vec<f64>,
    /// For `Fail`.
    pub fail: Option<(FailKind, String)>,
    /// Seconds it was measured.
    pub seconds: f64,
}

/// Whose attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttributeOwner {
    /// Of a study.
    Study(StudyId),
    /// Of a trial.
    Trial(StudyId, TrialNumber),
}

/// Who writes an attribute. Optuna's two kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AttributeKind {
    /// People and their programs.
    User,
    /// Samplers, pruners and other machinery.
    System,
}

/// Which trials to list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrialFilter {
    /// Only these states; empty: all.
    pub states: Vec<TrialState>,
    /// Only numbers from here on.
    pub from: TrialNumber,
    /// At most this many, at least 1, at most 10,000.
    pub limit: u32,
}
