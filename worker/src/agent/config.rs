//! What an agent is told at its start, and why it may not start.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::client::ClientError;
use crate::executor::ExecutorError;
use crate::identity::IdentityError;

/// What an agent is told at its start.
#[derive(Clone, Debug, Default)]
pub struct AgentConfig {
    /// Identity, logs and undelivered results.
    pub data_dir: PathBuf,
    /// For people; empty takes the host's name.
    pub name: String,
    /// For selectors. `class` replaces the device class.
    pub labels: BTreeMap<String, String>,
    /// The runner; else `FLEETUNE_RUNNER`, else beside the running program.
    pub runner: Option<PathBuf>,
    /// Models are read from these folders.
    pub model_dirs: Vec<PathBuf>,
    /// Models are read from any path: for `tune`, where the operator of this machine named it.
    pub allow_any_path: bool,
    /// Only jobs of this study.
    pub study: Option<String>,
    /// Locks of devices; else `FLEETUNE_LOCK_DIR`, else a folder that all users of the machine share.
    pub lock_dir: Option<PathBuf>,
    /// Between SIGTERM and SIGKILL; else 5 s, and 30 s under WSL.
    pub grace: Option<Duration>,
}

/// Why an agent cannot work.
#[derive(Debug, Error)]
pub enum AgentError {
    /// No identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// No engine.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    /// The coordinator refuses this worker for good.
    #[error("the worker cannot register: {0}")]
    Refused(#[source] ClientError),
    /// The machine could not be looked at.
    #[error("the machine's inventory could not be taken: {0}")]
    Probe(String),
}
