//! Unsafe regions.

use fleetune_core::Params;
use serde::Serialize;

/// An unsafe region.
#[derive(Clone, Debug, Serialize)]
pub struct RegionView {
    /// Its id.
    pub id: i64,
    /// Of the machines for which it holds.
    pub device_class: String,
    /// The model for which it holds.
    pub model_hash: String,
    /// Its corner: nothing at or beyond it is run.
    pub settings: Params,
    /// Why, in a sentence.
    pub why: String,
    /// What happened at or beyond it, oldest first.
    pub evidence: Vec<IncidentView>,
}

/// Something that went down under a configuration.
#[derive(Clone, Debug, Serialize)]
pub struct IncidentView {
    /// `worker_lost`, `host_crash` or `crash`.
    pub kind: String,
    /// Id of the worker.
    pub worker: String,
    /// Name of the study.
    pub study: String,
    /// Number of the trial.
    pub trial: i64,
    /// Its execution, from 1.
    pub attempt: u32,
    /// Microseconds since 1970-01-01T00:00:00Z.
    pub at_us: Option<i64>,
    /// The configuration.
    pub settings: Params,
    /// What was said of it.
    pub message: String,
}
