//! Workers: as stored, as they register, and what they hold.

use std::collections::BTreeMap;

use fleetune_core::selector::Facts;
use fleetune_core::{Attempt, Inventory, LeaseToken, Timestamp, TrialNumber, VisibleModel, WorkerId};

use super::JobKind;

/// A worker as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerRecord {
    /// Its persistent id.
    pub id: WorkerId,
    /// Its name, for people.
    pub name: String,
    /// Labels its operator gave.
    pub labels: BTreeMap<String, String>,
    /// Its machine.
    pub inventory: Inventory,
    /// What it can run, with the engine's fingerprint each: `llama-cpp` → `…`.
    pub executors: BTreeMap<String, String>,
    /// Version of its program.
    pub version: String,
    /// Models it can read.
    pub models: Vec<VisibleModel>,
    /// It takes no new job.
    pub draining: bool,
    /// First registration.
    pub registered_at: Timestamp,
    /// Newest sign of life.
    pub last_seen: Timestamp,
    /// The worker's token that speaks for it; none: any does.
    pub token: Option<i64>,
}

impl WorkerRecord {
    /// Workers of one class measure alike: its label `class`, else what its machine is.
    pub fn device_class(&self) -> String {
        self.labels.get("class").cloned().unwrap_or_else(|| self.inventory.device_class())
    }

    /// What selectors see of it.
    pub fn facts(&self) -> Facts {
        Facts::of(&self.inventory, &self.labels, &self.device_class())
    }
}

/// A worker that registers.
#[derive(Clone, Debug, PartialEq)]
pub struct Registration {
    /// Its persistent id.
    pub id: WorkerId,
    /// Its name.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Its machine.
    pub inventory: Inventory,
    /// What it can run, with the engine's fingerprint each.
    pub executors: BTreeMap<String, String>,
    /// Version of its program.
    pub version: String,
    /// Leases it still holds (running or spooled); its others end at once.
    pub held: Vec<LeaseToken>,
    /// Models it can read.
    pub models: Vec<VisibleModel>,
    /// The worker's token that it came with.
    pub token: Option<i64>,
}

/// A job that a worker holds the lease of.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldJob {
    /// Name of the study.
    pub study: String,
    /// What it is.
    pub kind: JobKind,
    /// The trial, for a trial job.
    pub trial: Option<TrialNumber>,
    /// The fencing number of its lease.
    pub attempt: Attempt,
    /// When the lease ends unless it is renewed. Past: it ran out, and nobody has claimed the job yet.
    pub expires_at: Timestamp,
}

/// What a heartbeat says of one lease.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LeaseStatus {
    /// Renewed until then.
    Renewed(Timestamp),
    /// Another attempt owns the job, or the lease was ended: stop.
    Lost,
    /// The job has ended (a person cancelled it): stop.
    Ended,
}

/// The answer to a heartbeat.
#[derive(Clone, Debug, PartialEq)]
pub struct Heartbeat {
    /// Each lease asked about, in the order asked.
    pub leases: Vec<(LeaseToken, LeaseStatus)>,
    /// The worker takes no new job.
    pub draining: bool,
}
