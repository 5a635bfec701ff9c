//! The shapes of `--format json`: stable, documented in docs/json.md, and what tables are drawn from.

mod access;
mod analysis;
mod region;
mod schedule;

use std::collections::BTreeMap;

use fleetune_core::{Params, TrialState};
use serde::Serialize;

pub use access::{AuditView, NewTokenView, TokenView};
pub use analysis::{ChangeView, FrontView, ImportanceView, ImportancesView, OutlookView, SensitivityView};
pub use region::{IncidentView, RegionView};
pub use schedule::{ChildView, FamilyBestView, ScheduleView};

/// A study.
#[derive(Clone, Debug, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "a fact each")]
pub struct StudyView {
    /// Unique name.
    pub name: String,
    /// `preparing`, `active`, `paused`, `confirming`, `finished`, `cancelled`, `failed`, `archived`.
    pub state: String,
    /// Why it stands there; empty when there is nothing to say.
    pub reason: String,
    /// `decode`, `prefill`, `ttft`, `balanced`; none for studies whose clients measure themselves.
    pub metric: Option<String>,
    /// Unit of the values, where it is known.
    pub unit: String,
    /// `minimize` or `maximize`, one per objective.
    pub directions: Vec<String>,
    /// Path or name of the model.
    pub model: Option<String>,
    /// The request that is measured: `prompt`, `gen_tokens`, `repetitions`, `warmup`.
    pub workload: Option<fleetune_core::Workload>,
    /// Settings that are used in every trial.
    pub fixed: Params,
    /// What is searched, in the form of a search space file; null before the model was described.
    pub space: Option<fleetune_core::SearchSpace>,
    /// Time limit of one trial, seconds.
    pub timeout_s: Option<f64>,
    /// Whether the best is compared with the default in fresh processes at the end.
    pub confirm: bool,
    /// Whether the sampler knows what arithmetic says of configurations.
    pub prior: bool,
    /// Whether configurations run that are known to reset the GPU under WSL.
    pub allow_wsl_unsafe: bool,
    /// Names of the earlier studies that the sampler learns from.
    pub warm_start: Vec<String>,
    /// Whether configurations run that lie in an unsafe region.
    pub ignore_regions: bool,
    /// Settings that the person fixed; the others of `fixed` are the machine's defaults.
    pub given: Params,
    /// Sampler.
    pub sampler: String,
    /// Pruner.
    pub pruner: String,
    /// Seed.
    pub seed: u64,
    /// trials, seconds, target; what is null does not limit.
    pub budget: fleetune_core::study::Budget,
    /// Trials by state.
    pub trials: Counts,
    /// Seconds stored in trials.
    pub spent_s: f64,
    /// Its claim to workers.
    pub schedule: ScheduleView,
    /// What tells workers apart, `device` or `label:NAME`; null unless it has children or is one.
    pub per: Option<String>,
    /// Name of the study that it is a child of; only in answers about one study.
    pub parent: Option<String>,
    /// Which workers a child is for; null for other studies.
    pub class: Option<String>,
    /// What became of each class of workers; only in `study show`.
    pub children: Vec<ChildView>,
    /// Workers that are connected; 0 for studies that need none now.
    pub connected_workers: u32,
    /// Those of them that the selector admits.
    pub selected_workers: u32,
    /// `model_hash`, `executor`, `engine`, `device_class`; null before the model was described.
    pub pin: Option<fleetune_core::study::Pin>,
    /// Why the baseline is not the plain default; empty when it is.
    pub baseline_note: String,
    /// Why no worker gets a trial.
    pub obstacles: Vec<String>,
    /// Why workers that are at work get none of its trials while others do.
    pub left_out: Vec<String>,
    /// Microseconds since 1970-01-01T00:00:00Z.
    pub created_at_us: i64,
}

impl StudyView {
    /// Whether its search is over, unless its budget grows.
    pub fn has_ended(&self) -> bool {
        fleetune_core::StudyState::from_name(&self.state).is_some_and(fleetune_core::StudyState::is_ended)
    }
}

/// Trials by state.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Counts {
    /// Queue entries.
    pub waiting: u64,
    /// Running.
    pub running: u64,
    /// Ended with values.
    pub complete: u64,
    /// Stopped early.
    pub pruned: u64,
    /// Failed.
    pub fail: u64,
    /// Of `fail`: skipped before their start.
    pub skipped: u64,
}

impl Counts {
    /// Trials that have ended.
    pub fn ended(&self) -> u64 {
        self.complete + self.pruned + self.fail
    }
}

/// A trial.
#[derive(Clone, Debug, Serialize)]
pub struct TrialView {
    /// Number in the study, from 0.
    pub number: i64,
    /// `waiting`, `running`, `complete`, `pruned`, `fail`.
    pub state: TrialState,
    /// `sampled`, `default`, `engine_fit`, `enqueued`, `client`.
    pub origin: String,
    /// Its parameters.
    pub params: Params,
    /// One per objective when complete, at most one when pruned.
    pub values: Vec<f64>,
    /// Feasible when all are <= 0.
    pub constraints: Vec<f64>,
    /// Why it failed: a kind; null unless it did.
    pub fail_kind: Option<String>,
    /// The sentence that says more.
    pub fail_message: Option<String>,
    /// Intermediate values (step, value) of the current attempt.
    pub steps: Vec<(u32, f64)>,
    /// Executions so far.
    pub attempt: u32,
    /// Seconds measured.
    pub seconds: f64,
    /// Microseconds since 1970-01-01T00:00:00Z; null until it started.
    pub started_at_us: Option<i64>,
    /// Microseconds since 1970-01-01T00:00:00Z; null until it ended.
    pub ended_at_us: Option<i64>,
    /// Order of entry into running.
    pub turn: Option<i64>,
    /// Revision its suggestion was made at.
    pub seen: Option<i64>,
    /// Executions, newest last; only in `trial show` and `study export`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<AttemptView>,
}

/// One execution of a trial.
#[derive(Clone, Debug, Serialize)]
pub struct AttemptView {
    /// From 1.
    pub attempt: u32,
    /// Id of the worker.
    pub worker: String,
    /// `open`, `finished`, `released`, `lost`.
    pub state: String,
    /// Microseconds since 1970-01-01T00:00:00Z.
    pub started_at_us: Option<i64>,
    /// Microseconds since 1970-01-01T00:00:00Z; null while open.
    pub ended_at_us: Option<i64>,
    /// What it observed; null without.
    pub detail: Option<fleetune_core::measurement::AttemptDetail>,
}

/// A trial to be measured by whoever asked.
#[derive(Clone, Debug, Serialize)]
pub struct AskedView {
    /// Number in the study, from 0.
    pub number: i64,
    /// What to measure.
    pub params: Params,
    /// For how long; absent when it was asked for without a lease.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseView>,
}

/// The right to report and tell.
#[derive(Clone, Debug, Serialize)]
pub struct LeaseView {
    /// To be given with each report and tell.
    pub token: String,
    /// When it ends unless something is reported: RFC 3339, UTC.
    pub expires_at: String,
    /// How many got this trial so far, this one included.
    pub attempt: u32,
}

/// What a report is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Go on measuring.
    Continue,
    /// Stop, and tell the trial as pruned.
    Stop,
}

/// The answer to a report.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ReportView {
    /// `continue` or `stop`.
    pub verdict: Verdict,
}

/// A line of `study watch`.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventView<'a> {
    /// The study, as it is now.
    Study(&'a StudyView),
    /// A trial, as it is now.
    Trial(&'a TrialView),
}

/// The answer of a study.
#[derive(Clone, Debug, Serialize)]
pub struct BestView {
    /// Name of the study.
    pub study: String,
    /// Where it stands.
    pub state: String,
    /// `minimize` or `maximize`, one per objective.
    pub directions: Vec<String>,
    /// Unit of the values.
    pub unit: String,
    /// Complete and feasible trials, best first.
    pub trials: Vec<TrialView>,
    /// The default configuration, if it completed.
    pub baseline: Option<TrialView>,
    /// What the comparison in fresh processes said; null until one has ended.
    pub comparison: Option<ComparisonView>,
    /// What to use.
    pub winner: Option<TrialView>,
    /// The winner as a llama-server command line; null without a winner.
    pub llama_server: Option<String>,
    /// What to know before it is used; null when there is nothing to say.
    pub llama_server_note: Option<String>,
}

/// A comparison in fresh processes.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ComparisonView {
    /// Trial number of the challenger.
    pub challenger: Option<i64>,
    /// Trial number of the baseline.
    pub baseline: Option<i64>,
    /// Speed of the challenger over that of the baseline: ratio and 95 % interval; null without a baseline.
    pub gain: Option<GainView>,
    /// The lower end of the interval is above 1.
    pub proven: bool,
    /// Rounds measured.
    pub rounds: u32,
}

/// A gain.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct GainView {
    /// Above 1 is faster.
    pub ratio: f64,
    /// Lower end of the 95 % interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Paired rounds it rests on.
    pub pairs: u32,
}

/// What `study verify` found.
#[derive(Clone, Debug, Serialize)]
pub struct VerifyView {
    /// Trials recomputed.
    pub checked: u64,
    /// Trials that another version, a client or a person made.
    pub skipped: u64,
    /// Trials whose stored parameters differ from the recomputed ones.
    pub mismatches: Vec<MismatchView>,
}

/// A trial that differs.
#[derive(Clone, Debug, Serialize)]
pub struct MismatchView {
    /// Its number.
    pub number: i64,
    /// As stored.
    pub stored: Params,
    /// As computed now.
    pub recomputed: Params,
}

/// A worker.
#[derive(Clone, Debug, Serialize)]
pub struct WorkerView {
    /// 32 hexadecimal digits, drawn on its first start.
    pub id: String,
    /// For people.
    pub name: String,
    /// Heard from within the last lease time.
    pub alive: bool,
    /// It takes no new job.
    pub draining: bool,
    /// What its operator said of it.
    pub labels: BTreeMap<String, String>,
    /// Workers of one class measure alike.
    pub device_class: String,
    /// Executor to engine fingerprint.
    pub executors: BTreeMap<String, String>,
    /// Models it can read: `name`, `path`, `hash`, `bytes`.
    pub models: Vec<fleetune_core::VisibleModel>,
    /// What its machine does now: `load`, `memory_available_bytes`, `devices`; null where the coordinator was not told lately.
    pub gauges: Option<fleetune_core::gauges::Gauges>,
    /// What it holds leases of; only in `worker show`.
    pub jobs: Vec<HeldJobView>,
    /// Its machine.
    pub inventory: fleetune_core::Inventory,
    /// Version of its program.
    pub version: String,
    /// Microseconds since 1970-01-01T00:00:00Z.
    pub registered_at_us: Option<i64>,
    /// Microseconds since 1970-01-01T00:00:00Z.
    pub last_seen_us: Option<i64>,
}

/// A job that a worker holds the lease of.
#[derive(Clone, Debug, Serialize)]
pub struct HeldJobView {
    /// Name of the study.
    pub study: String,
    /// `describe`, `trial`, `comparison`.
    pub kind: String,
    /// Null unless it is a trial.
    pub trial: Option<i64>,
    /// From 1.
    pub attempt: u32,
    /// Microseconds since 1970-01-01T00:00:00Z.
    pub expires_at_us: Option<i64>,
}
