//! Executors: what carries out a benchmark. Each runs it in a child process that may abort, leak or hang.
//!
//! `process` is the child's life, `outcome` decides what its end means, `runner` finds the program, `llama` drives it.

mod llama;
mod logs;
mod outcome;
mod process;
mod runner;
mod streams;
mod tail;

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use fleetune_core::runner::{Described, Device, Event, ProtocolError, Settings};
use fleetune_core::{FailKind, Workload};
use serde::Serialize;
use thiserror::Error;
use tokio::sync::{mpsc, watch};

pub use llama::LlamaExecutor;
pub use logs::{LogFile, LogFolder};
pub(crate) use outcome::says_out_of_memory;
pub use outcome::{Ended, Facts, classify};
pub use process::{Cause, Child, Exit, GRACE, Rung, Transcript, WSL_GRACE, converse};
pub use runner::{ADAPTER, RUNNER, Runner};
pub(crate) use streams::next_line;
pub use tail::Tail;

/// Events that may wait for their reader. A reader that is slower holds up the child's output, not its memory.
pub const EVENT_QUEUE: usize = 64;

/// Carries out benchmarks.
#[async_trait]
pub trait Executor: Send + Sync {
    /// The name in benchmarks, for example `llama-cpp`.
    fn name(&self) -> &'static str;

    /// Everything about the engine that can change a speed, as one line. Cheap to ask again as long as nothing changed.
    async fn fingerprint(&self) -> Result<String, ExecutorError>;

    /// The devices that the engine can use.
    async fn devices(&self) -> Result<Vec<Device>, ExecutorError>;

    /// Names of the settings that the engine takes; empty means all.
    async fn settings(&self) -> Result<Vec<String>, ExecutorError>;

    /// The engine's view of a model.
    async fn describe(&self, model: &Path) -> Result<Described, ExecutorError>;

    /// Runs one benchmark in a fresh process. Events go to `events` in their order; `stop` ends the child early. The
    /// child is gone when this returns, and when the future is dropped.
    ///
    /// Fails when no child could be started, which is not the benchmark's doing.
    async fn run(
        &self,
        bench: &Bench,
        events: mpsc::Sender<Event>,
        stop: watch::Receiver<Option<Stop>>,
    ) -> Result<Run, ExecutorError>;
}

/// One benchmark.
#[derive(Clone, Debug)]
pub struct Bench {
    /// The model file.
    pub model: PathBuf,
    /// What differs from the engine's defaults.
    pub settings: Settings,
    /// What is measured, and how often.
    pub workload: Workload,
    /// Chooses the random tokens.
    pub seed: u64,
    /// From the start of the child to its end.
    pub time_limit: Duration,
    /// Names the log file.
    pub label: String,
}

/// Why a run is ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The pruner has seen enough.
    Pruned,
    /// A person ended the job.
    Cancelled,
    /// Another attempt owns the job.
    Lost,
    /// This agent stops and gives the job back.
    Released,
}

/// Why a run has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The kind.
    pub kind: FailKind,
    /// What, why, what to do.
    pub message: String,
}

impl Failure {
    /// A failure of `kind`, said in `message`.
    pub fn new(kind: FailKind, message: impl Into<String>) -> Self {
        Self { kind, message: fleetune_core::runner::bounded(&message.into()) }
    }
}

/// What is left of a run besides its events.
#[derive(Clone, Debug)]
pub struct Run {
    /// How it ended.
    pub ended: Ended,
    /// Which rung of the ladder ended the child.
    pub stopped_by: Rung,
    /// End of the child's stderr.
    pub stderr_tail: String,
    /// From the start of the child to its end.
    pub wall: Duration,
    /// The complete stderr.
    pub log: Option<LogRecord>,
}

/// Where the complete log of a run lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogRecord {
    /// On this worker.
    pub path: PathBuf,
    /// Bytes in the file.
    pub bytes: u64,
    /// BLAKE3 of the file, hexadecimal.
    pub blake3: String,
}

/// Why an executor cannot answer.
#[derive(Debug, Error)]
pub enum ExecutorError {
    /// The runner is not there.
    #[error(
        "the runner `{RUNNER}` was not found ({looked}); build it with `make setup`, or name it or a `llama-bench` with \
         `--runner PATH`"
    )]
    RunnerMissing {
        /// Where it was looked for.
        looked: String,
    },
    /// The runner could not be started.
    #[error("the runner `{}` could not be started: {source}; is it built for this machine?", path.display())]
    Start {
        /// The runner.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The child's working folder could not be made.
    #[error(
        "no temporary folder can be made in `{}`: {source}; make room there, or set `TMPDIR` to a folder that this \
         user may write to",
        path.display()
    )]
    Folder {
        /// Where.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The runner did not answer as it should.
    #[error("the runner `{}` did not answer: {}", path.display(), failure.message)]
    NoAnswer {
        /// The runner.
        path: PathBuf,
        /// What happened instead.
        failure: Failure,
    },
}

/// What the protocol's reader stumbled over.
#[derive(Debug, Error)]
pub enum Garbage {
    /// A line that is no message.
    #[error(transparent)]
    Line(#[from] ProtocolError),
    /// A measured number that is none.
    #[error("a measured value is not a finite number (in `{0}`)")]
    NonFinite(String),
    /// The pipe broke.
    #[error("the runner's output could not be read: {0}")]
    Io(#[from] std::io::Error),
}
