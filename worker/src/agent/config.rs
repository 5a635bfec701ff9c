//! What an agent is told at its start, and why it may not start.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::client::ClientError;
use crate::executor::ExecutorError;
use crate::identity::IdentityError;
use crate::lock::LockError;
use crate::models::ModelError;

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
    /// Models that the operator of this machine named, as for `tune`: read wherever they lie.
    pub model_files: Vec<PathBuf>,
    /// Only jobs of this study.
    pub study: Option<String>,
    /// Locks of devices; else `FLEETUNE_LOCK_DIR`, else a folder that all users of the machine share.
    pub lock_dir: Option<PathBuf>,
    /// Between SIGTERM and SIGKILL; else 5 s, and 30 s under WSL.
    pub grace: Option<Duration>,
    /// How long a runner may be away, on its way to be replaced, before the agent ends; else 30 s.
    pub runner_patience: Option<Duration>,
    /// How long a call about a job is tried again while the coordinator is away; else 10 s.
    pub coordinator_patience: Option<Duration>,
    /// How long a list of models counts before they are looked for again; else 10 s.
    pub models_every: Option<Duration>,
}

/// Why an agent cannot work.
#[derive(Debug, Error)]
pub enum AgentError {
    /// No identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// What a job needs cannot be used on this machine. No trial has failed for it: the same job can be carried out
    /// after the repair.
    #[error(transparent)]
    Unusable(Unusable),
    /// The coordinator refuses this worker for good.
    #[error("the worker cannot register: {0}")]
    Refused(#[source] ClientError),
    /// The machine could not be looked at.
    #[error("the machine's inventory could not be taken: {0}")]
    Probe(String),
}

impl<E: Into<Unusable>> From<E> for AgentError {
    fn from(error: E) -> Self {
        Self::Unusable(error.into())
    }
}

/// What a job needs and this machine does not give, whatever the job's parameters are.
#[derive(Debug, Error)]
pub enum Unusable {
    /// The runner, or a folder for it to run in.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    /// The locks of the devices.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The model file: gone, unreadable, or another one than before.
    #[error(transparent)]
    Model(#[from] ModelError),
}
