//! Drives a runner, the child that holds llama.cpp, by its line protocol.

use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use fleetune_core::FailKind;
use fleetune_core::runner::{Described, Device, Engine, Event, Request};
use tokio::sync::{mpsc, watch};

use super::process::{self, Child, GRACE};
use super::{
    Bench, EVENT_QUEUE, Ended, Executor, ExecutorError, Facts, Failure, LogFolder, Run, Runner, Stop, classify,
};

/// Opening the drivers of a slow machine takes seconds.
const INFO_LIMIT: Duration = Duration::from_mins(2);
/// A description loads no weights, but its file may lie on a slow disk.
const DESCRIBE_LIMIT: Duration = Duration::from_mins(5);

/// The executors `llama-cpp` and `llama-bench`.
#[derive(Debug)]
pub struct LlamaExecutor {
    runner: Runner,
    grace: Duration,
    logs: Option<LogFolder>,
    known: Mutex<Option<Known>>,
}

/// The runner's answer, and the state of the file that gave it.
#[derive(Clone, Debug)]
struct Known {
    file: (u64, Option<SystemTime>),
    engine: Engine,
    devices: Vec<Device>,
    settings: Vec<String>,
}

impl LlamaExecutor {
    /// Drives `runner`.
    pub fn new(runner: Runner) -> Self {
        Self { runner, grace: GRACE, logs: None, known: Mutex::new(None) }
    }

    /// The same with another time between SIGTERM and SIGKILL.
    #[must_use]
    pub fn with_grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    /// The same with complete logs in `logs`.
    #[must_use]
    pub fn with_logs(self, logs: LogFolder) -> Self {
        Self { logs: Some(logs), ..self }
    }

    async fn info(&self) -> Result<Known, ExecutorError> {
        let start = |source| ExecutorError::Start { path: self.runner.path().to_owned(), source };
        let metadata = std::fs::metadata(self.runner.path()).map_err(start)?;
        let file = (metadata.len(), metadata.modified().ok());
        {
            let known = self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if let Some(known) = known.as_ref().filter(|known| known.file == file) {
                return Ok(known.clone());
            }
        }
        let Event::Info { engine, devices, settings } = self.ask(&Request::Info, INFO_LIMIT, None).await? else {
            return Err(self.wrong_answer());
        };
        let known = Known { file, engine, devices, settings };
        *self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(known.clone());
        Ok(known)
    }

    /// One request with one answer.
    async fn ask(&self, request: &Request, limit: Duration, label: Option<&str>) -> Result<Event, ExecutorError> {
        let (_keep, stop) = watch::channel(None);
        let (events, mut answers) = mpsc::channel(EVENT_QUEUE);
        let drain = async { while answers.recv().await.is_some() {} };
        let (transcript, ()) = tokio::join!(process::converse(self.child(request, limit, label), events, stop), drain);
        let transcript = transcript?;
        let ended = classify(&Facts {
            cause: &transcript.cause,
            exit: transcript.exit,
            last: transcript.last.as_ref(),
            stderr: &transcript.stderr_tail,
            time_limit: limit,
        });
        match (ended, transcript.last) {
            (Ended::Failed(failure), _) => {
                Err(ExecutorError::NoAnswer { path: self.runner.path().to_owned(), failure })
            }
            (Ended::Done | Ended::Stopped(_), Some(event)) => Ok(event),
            (Ended::Done | Ended::Stopped(_), None) => Err(self.wrong_answer()),
        }
    }

    fn wrong_answer(&self) -> ExecutorError {
        let failure = Failure::new(FailKind::Error, "it answered something else; is it of this version?");
        ExecutorError::NoAnswer { path: self.runner.path().to_owned(), failure }
    }

    fn child(&self, request: &Request, time_limit: Duration, label: Option<&str>) -> Child {
        let (program, arguments) = self.runner.command();
        Child {
            program,
            arguments,
            request: request.to_line(),
            time_limit,
            grace: self.grace,
            // Without a log the run is as good, its record only shorter.
            log: label.zip(self.logs.as_ref()).and_then(|(label, logs)| logs.start(label).ok()),
        }
    }
}

#[async_trait]
impl Executor for LlamaExecutor {
    fn name(&self) -> &'static str {
        self.runner.executor()
    }

    async fn fingerprint(&self) -> Result<String, ExecutorError> {
        Ok(self.info().await?.engine.fingerprint())
    }

    async fn devices(&self) -> Result<Vec<Device>, ExecutorError> {
        Ok(self.info().await?.devices)
    }

    async fn settings(&self) -> Result<Vec<String>, ExecutorError> {
        Ok(self.info().await?.settings)
    }

    async fn describe(&self, model: &Path) -> Result<Described, ExecutorError> {
        let request = Request::Describe { model: model.to_string_lossy().into_owned(), n_ctx: None };
        match self.ask(&request, DESCRIBE_LIMIT, Some("describe")).await? {
            Event::Described(described) => Ok(described),
            _ => Err(self.wrong_answer()),
        }
    }

    async fn run(
        &self,
        bench: &Bench,
        events: mpsc::Sender<Event>,
        stop: watch::Receiver<Option<Stop>>,
    ) -> Result<Run, ExecutorError> {
        let request = Request::Bench {
            model: bench.model.to_string_lossy().into_owned(),
            settings: bench.settings.clone(),
            workload: bench.workload,
            seed: bench.seed,
        };
        let child = self.child(&request, bench.time_limit, Some(&bench.label));
        let transcript = process::converse(child, events, stop).await.inspect_err(|_| {
            // What it said before no longer tells whether it can be used.
            *self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = None;
        })?;
        Ok(Run {
            ended: classify(&Facts {
                cause: &transcript.cause,
                exit: transcript.exit,
                last: transcript.last.as_ref(),
                stderr: &transcript.stderr_tail,
                time_limit: bench.time_limit,
            }),
            stopped_by: transcript.stopped_by,
            stderr_tail: transcript.stderr_tail,
            wall: transcript.wall,
            log: transcript.log,
        })
    }
}
