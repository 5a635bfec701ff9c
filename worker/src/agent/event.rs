//! What an agent does, for whoever watches: a progress line, a log, a test.

use std::time::Duration;

use fleetune_core::runner::Repetition;
use fleetune_core::{Params, TrialNumber, WorkerId};

use crate::executor::Failure;
use crate::lock::Device;

/// Something happened. Events of one job come in order; a watcher that is too slow misses the oldest.
#[derive(Clone, Debug, PartialEq)]
pub enum AgentEvent {
    /// The coordinator knows the worker.
    Registered {
        /// Who.
        worker: WorkerId,
        /// Executor `llama-cpp`'s engine.
        engine: String,
        /// How many it can read.
        models: usize,
    },
    /// The coordinator does not answer; the agent goes on trying.
    Disconnected {
        /// What was seen.
        message: String,
        /// Whether its storage is full: then nothing goes on before somebody makes room.
        storage_full: bool,
    },
    /// There is no job.
    Idle {
        /// Why, where the worker could do something about it; as the coordinator says it.
        obstacles: Vec<String>,
    },
    /// The runner cannot be started or does not answer, perhaps because another one is about to take its place. The
    /// agent takes no job meanwhile, and ends when it stays so.
    RunnerMissing {
        /// What was seen.
        message: String,
    },
    /// The model of a study cannot be read here, or is another one than before. Its job was given back; the agent goes on
    /// with other studies.
    ModelMissing {
        /// The study.
        study: String,
        /// What was seen.
        message: String,
    },
    /// A job begins.
    JobStarted {
        /// Its study.
        study: String,
        /// What it is.
        kind: JobKind,
    },
    /// Another measurement uses a device that this one needs.
    WaitingForDevice {
        /// Which.
        device: Device,
    },
    /// All devices are there.
    DeviceReady {
        /// After this long.
        waited: Duration,
    },
    /// A comparison measures its next cell.
    CellStarted {
        /// The round.
        round: u32,
        /// The trial it re-measures.
        trial: TrialNumber,
        /// Fresh processes to come, at most, this one included.
        cells_left: u32,
    },
    /// A comparison measured a cell.
    CellEnded {
        /// The round.
        round: u32,
        /// The trial it re-measured.
        trial: TrialNumber,
        /// The objective, or why there is none.
        result: Result<f64, Failure>,
    },
    /// The model is being read.
    Loading {
        /// Part that is done, 0 to 1.
        progress: f64,
    },
    /// The model can compute.
    Loaded {
        /// Seconds it took.
        load_s: f64,
    },
    /// A repetition is done.
    Repetition {
        /// What it measured.
        repetition: Repetition,
        /// Its number from 1 and its objective; none for a warm-up.
        step: Option<(u32, f64)>,
        /// Repetitions that will count.
        of: u32,
    },
    /// A job is over.
    JobEnded {
        /// Its study.
        study: String,
        /// What it was.
        kind: JobKind,
        /// How it ended.
        end: JobEnd,
        /// Seconds measured.
        seconds: f64,
    },
    /// The agent takes no new job, and ends after the one it has.
    Draining {
        /// Whether the coordinator said so; else the operator of this machine did.
        by_coordinator: bool,
    },
    /// A result could not be delivered and was stored for later.
    Spooled,
}

/// What a job asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum JobKind {
    /// Model and machine.
    Describe {
        /// As the study names it.
        model: String,
    },
    /// One configuration.
    Trial {
        /// Within the study.
        number: TrialNumber,
        /// Its parameters, without the fixed settings.
        params: Params,
    },
    /// Several configurations, round by round.
    Comparison {
        /// How many.
        candidates: usize,
        /// Fresh processes to come, at most.
        cells_left: u32,
    },
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq)]
pub enum JobEnd {
    /// The model was described.
    Described,
    /// Every repetition was measured.
    Complete {
        /// The last entry of the trial's series: the median of its repetitions.
        value: f64,
    },
    /// The pruner had seen enough.
    Pruned {
        /// As for a complete trial.
        value: f64,
    },
    /// No result.
    Failed(Failure),
    /// The comparison is over.
    Compared,
    /// Given back, because the agent stops or cannot run anything.
    Released,
    /// Another attempt owns it.
    Lost,
    /// A person ended it.
    Cancelled,
}
