//! The agent itself: starts, pulls jobs one by one, stops.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fleetune_core::{FailKind, WorkerId};
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::heartbeat::beat;
use super::leases::{Lease, Leases};
use super::machine::usable_gpus;
use super::session::Session;
use super::spool::Spool;
use super::trial::trial_failed;
use super::{AgentConfig, AgentError, AgentEvent, JobEnd, JobKind, Unusable};
use crate::client::{Acquired, BadJob, Client, ClientError, Job, Outcome, Reason, Terms, Work};
use crate::executor::{
    Executor, ExecutorError, Failure, GRACE, LlamaExecutor, LogFolder, Stop, WSL_GRACE, find_runner,
};
use crate::identity::{Identity, random_hex};
use crate::lock::DeviceLocks;
use crate::models::Models;
use crate::probe::{Probe, SystemProbe};
use crate::safety::Rules;

/// Events that a watcher may lag behind.
const EVENTS: usize = 1024;

/// How long the coordinator may keep an Acquire without a job.
const ACQUIRE_WAIT: Duration = Duration::from_secs(20);

/// How long a runner may be away: another one is built elsewhere and put in its place, which takes no time.
const RUNNER_PATIENCE: Duration = Duration::from_secs(30);

/// How long an agent that stops looks for a job that it was given unheard.
const GIVE_BACK_LIMIT: Duration = Duration::from_secs(2);

/// Pauses between tries of what needs the coordinator, and after an Acquire that came back empty at once.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// An agent, ready to run.
pub struct Agent {
    session: Arc<Session>,
    study: Option<String>,
    runner_patience: Duration,
    // Held for as long as the agent lives.
    _identity: Identity,
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent").field("worker", &self.session.worker).finish_non_exhaustive()
    }
}

impl Agent {
    /// Takes an identity, looks at the machine and asks the runner for its engine. Calls nobody over `channel` yet.
    pub async fn new(config: AgentConfig, channel: Channel) -> Result<Self, AgentError> {
        Self::with_probe(config, channel, Arc::new(SystemProbe)).await
    }

    /// The same on a machine that `probe` tells of.
    pub async fn with_probe(config: AgentConfig, channel: Channel, probe: Arc<dyn Probe>) -> Result<Self, AgentError> {
        let runner = find_runner(config.runner.as_deref())?;
        let identity = Identity::take(&config.data_dir)?;
        let looking = probe.clone();
        let mut inventory = tokio::task::spawn_blocking(move || looking.inventory())
            .await
            .map_err(|error| AgentError::Probe(error.to_string()))?;
        let grace = config.grace.unwrap_or(if inventory.wsl.detected { WSL_GRACE } else { GRACE });
        // A second agent in the same folder has its own logs and results.
        let own = config.data_dir.join(&identity.id().0);
        let executor = LlamaExecutor::new(runner).with_grace(grace).with_logs(LogFolder::new(own.join("logs")));
        let engine = executor.fingerprint().await?;
        inventory.gpus = usable_gpus(&inventory.gpus, &executor.devices().await?);
        let name = if config.name.is_empty() { inventory.host.clone() } else { config.name };
        let (events, _) = broadcast::channel(EVENTS);
        let session = Session {
            client: Client::new(channel),
            worker: identity.id().clone(),
            name,
            labels: config.labels,
            inventory,
            executor: Arc::new(executor),
            engine: Mutex::new(engine),
            probe,
            models: Models::new(config.model_dirs, config.allow_any_path),
            rules: Rules::shipped(),
            locks: config.lock_dir.map_or_else(DeviceLocks::of_machine, DeviceLocks::new),
            leases: Leases::default(),
            spool: Spool::new(own.join("spool")),
            events,
            stop: CancellationToken::new(),
            drain: CancellationToken::new(),
            pins: Mutex::new(HashMap::new()),
        };
        let runner_patience = config.runner_patience.unwrap_or(RUNNER_PATIENCE);
        Ok(Self { session: Arc::new(session), study: config.study, runner_patience, _identity: identity })
    }

    /// The same agent for jobs of `study` alone.
    #[must_use]
    pub fn for_study(mut self, study: &str) -> Self {
        self.study = Some(study.to_owned());
        self
    }

    /// Who this worker is.
    pub fn worker(&self) -> &WorkerId {
        &self.session.worker
    }

    /// The engine's fingerprint.
    pub fn engine(&self) -> String {
        self.session.engine()
    }

    /// The machine.
    pub fn inventory(&self) -> &fleetune_core::Inventory {
        &self.session.inventory
    }

    /// Everything that happens from now on. A watcher that lags more than 1,024 events behind misses the oldest.
    pub fn events(&self) -> broadcast::Receiver<AgentEvent> {
        self.session.events.subscribe()
    }

    /// Cancel it, and the agent ends after the job it has.
    pub fn drain(&self) -> CancellationToken {
        self.session.drain.clone()
    }

    /// Works until `stop` is cancelled or the worker was drained. On `stop` the running child is ended and its job
    /// given back. Fails when what every job needs cannot be used; no trial has failed for it.
    pub async fn run(self, stop: CancellationToken) -> Result<(), AgentError> {
        let session = self.session.clone();
        let bound = async {
            stop.cancelled().await;
            session.stop.cancel();
            std::future::pending::<std::convert::Infallible>().await
        };
        tokio::select! {
            done = self.work() => done,
            never = bound => match never {},
        }
    }

    async fn work(&self) -> Result<(), AgentError> {
        let Some(terms) = self.register().await? else { return Ok(()) };
        // Its tasks end when it is dropped.
        let mut tasks = JoinSet::new();
        tasks.spawn(beat(self.session.clone(), terms.heartbeat_every));
        let mut obstacles = None;
        while let Some(job) = self.next_job(&mut obstacles).await? {
            match self.carry_out(job).await {
                Ok(()) => {}
                // It may be on its way to be replaced: asked again before the next job.
                Err(Unusable::Executor(error @ ExecutorError::Start { .. })) => {
                    tracing::warn!(%error, "runner could not be started");
                }
                Err(unusable) => {
                    self.session.deliver_spooled().await;
                    return Err(unusable.into());
                }
            }
        }
        if self.session.drain.is_cancelled() {
            self.session.tell(AgentEvent::Draining);
        }
        self.session.deliver_spooled().await;
        Ok(())
    }

    /// Registers, for as long as it takes; `None` when the agent is to stop before.
    async fn register(&self) -> Result<Option<Terms>, AgentError> {
        let mut pause = FIRST_PAUSE;
        loop {
            let answer = tokio::select! {
                biased;
                () = self.ending() => return Ok(None),
                answer = self.session.register() => answer,
            };
            match answer {
                Ok(terms) => {
                    self.session.deliver_spooled().await;
                    return Ok(Some(terms));
                }
                Err(error) if error.is_transient() => {
                    self.disconnected(&error);
                    self.pause(&mut pause).await;
                }
                Err(error) => return Err(AgentError::Refused(error)),
            }
        }
    }

    /// Waits for a job; `None` when the agent is to stop before there is one. No job is left leased then.
    async fn next_job(&self, told: &mut Option<Vec<String>>) -> Result<Option<Job>, AgentError> {
        let mut unanswered = None;
        let job = self.wait_for_job(told, &mut unanswered).await;
        if let Some(request_id) = unanswered {
            self.give_back(&request_id).await;
        }
        job
    }

    /// Gives back what an Acquire leased whose answer nobody heard: without, the attempt would count as lost.
    async fn give_back(&self, request_id: &str) {
        let session = &self.session;
        let again = async {
            let acquired =
                session.client.acquire(&session.worker, self.study.as_deref(), Duration::ZERO, request_id).await?;
            let jobs = acquired.jobs.iter().map(|job| job.token);
            for token in jobs.chain(acquired.bad.iter().map(|bad| bad.token)) {
                session.release(&session.leases.hold(token)).await;
            }
            Ok::<(), ClientError>(())
        };
        match tokio::time::timeout(GIVE_BACK_LIMIT, again).await {
            Ok(Ok(())) => {}
            // Its lease ends by itself.
            Ok(Err(error)) => tracing::debug!(%error, "unknown whether a job was leased"),
            Err(_) => tracing::debug!("unknown whether a job was leased"),
        }
    }

    /// Waits for a job. `unanswered` is the request of an Acquire that may have leased one unheard.
    async fn wait_for_job(
        &self,
        told: &mut Option<Vec<String>>,
        unanswered: &mut Option<String>,
    ) -> Result<Option<Job>, AgentError> {
        let session = &self.session;
        let mut request_id = random_hex();
        let mut pause = FIRST_PAUSE;
        let mut runner_away = None;
        loop {
            if session.stop.is_cancelled() || session.drain.is_cancelled() {
                return Ok(None);
            }
            if !session.spool.tokens().is_empty() {
                session.deliver_spooled().await;
                if session.spool.is_full() {
                    self.pause(&mut pause).await;
                    continue;
                }
            }
            match session.refresh_engine().await {
                Ok(false) => runner_away = None,
                Ok(true) => {
                    runner_away = None;
                    if self.register().await?.is_none() {
                        return Ok(None);
                    }
                }
                // It may be on its way to be replaced by a newer one.
                Err(error) => {
                    let since = *runner_away.get_or_insert_with(|| {
                        tracing::warn!(%error, "runner does not answer");
                        session.tell(AgentEvent::RunnerMissing { message: error.to_string() });
                        tokio::time::Instant::now()
                    });
                    if since.elapsed() >= self.runner_patience {
                        return Err(error.into());
                    }
                    self.pause(&mut pause).await;
                    continue;
                }
            }
            *unanswered = Some(request_id.clone());
            let answer = tokio::select! {
                biased;
                () = self.ending() => return Ok(None),
                answer = session.client.acquire(&session.worker, self.study.as_deref(), ACQUIRE_WAIT, &request_id) => answer,
            };
            match answer {
                Ok(Acquired { mut jobs, bad, obstacles }) => {
                    *unanswered = None;
                    request_id = random_hex();
                    for bad in bad {
                        self.refuse(bad).await;
                    }
                    if let Some(job) = jobs.pop() {
                        *told = None;
                        return Ok(Some(job));
                    }
                    self.idle(told, obstacles);
                    // The wait is the server's; this only keeps one that does not wait from being flooded.
                    let mut pause = FIRST_PAUSE;
                    self.pause(&mut pause).await;
                }
                Err(error) if error.reason() == Some(Reason::WorkerUnknown) => {
                    if self.register().await?.is_none() {
                        return Ok(None);
                    }
                    self.pause(&mut pause).await;
                }
                // The same request again: its answer may have been lost after a job was leased.
                Err(error) => {
                    self.disconnected(&error);
                    self.pause(&mut pause).await;
                }
            }
        }
    }

    /// Says why there is no job, once for each new reason.
    fn idle(&self, told: &mut Option<Vec<String>>, obstacles: Vec<String>) {
        if told.as_ref() != Some(&obstacles) {
            self.session.tell(AgentEvent::Idle { obstacles: obstacles.clone() });
            *told = Some(obstacles);
        }
    }

    async fn ending(&self) {
        tokio::select! {
            () = self.session.stop.cancelled() => {}
            () = self.session.drain.cancelled() => {}
        }
    }

    async fn pause(&self, pause: &mut Duration) {
        tokio::select! {
            () = self.ending() => {}
            () = tokio::time::sleep(*pause) => {}
        }
        *pause = (*pause * 2).min(LAST_PAUSE);
    }

    fn disconnected(&self, error: &ClientError) {
        tracing::warn!(%error, "coordinator does not answer");
        self.session.disconnected(error);
    }

    /// Ends a job that makes no sense.
    async fn refuse(&self, bad: BadJob) {
        let lease = self.session.leases.hold(bad.token);
        let failure = Failure::new(FailKind::Error, format!("the job cannot be understood: {}", bad.why));
        let outcome = if bad.is_trial { trial_failed(failure, 0.0) } else { Outcome::Failed(failure) };
        self.session.deliver(&lease, &outcome, &fleetune_core::measurement::AttemptDetail::default()).await;
    }

    async fn carry_out(&self, job: Job) -> Result<(), Unusable> {
        let session = &self.session;
        let lease = session.leases.hold(job.token);
        let kind = kind_of(&job);
        tracing::info!(study = %job.study, token = %job.token, "job started");
        session.tell(AgentEvent::JobStarted { study: job.study.clone(), kind: kind.clone() });
        let release = async {
            session.stop.cancelled().await;
            lease.stop(Stop::Released);
            std::future::pending::<std::convert::Infallible>().await
        };
        let done = tokio::select! {
            end = self.dispatch(&lease, &job) => end,
            never = release => match never {},
        };
        let (end, seconds, done) = match done {
            Ok((end, seconds)) => (end, seconds, Ok(())),
            Err(unusable) => {
                session.release(&lease).await;
                (JobEnd::Released, 0.0, Err(unusable))
            }
        };
        tracing::info!(study = %job.study, token = %job.token, ?end, seconds, "job ended");
        session.tell(AgentEvent::JobEnded { study: job.study, kind, end, seconds });
        done
    }

    async fn dispatch(&self, lease: &Lease, job: &Job) -> Result<(JobEnd, f64), Unusable> {
        match &job.work {
            Work::Describe => Ok((self.session.describe(lease, job).await?, 0.0)),
            Work::Trial { number, params } => self.session.trial(lease, job, *number, params).await,
            Work::Comparison { candidates, next, cells_left } => {
                self.session.comparison(lease, job, candidates, next.clone(), *cells_left).await
            }
        }
    }
}

fn kind_of(job: &Job) -> JobKind {
    match &job.work {
        Work::Describe => JobKind::Describe { model: job.benchmark.model.clone() },
        Work::Trial { number, params } => JobKind::Trial { number: *number, params: params.clone() },
        Work::Comparison { candidates, cells_left, .. } => {
            JobKind::Comparison { candidates: candidates.len(), cells_left: *cells_left }
        }
    }
}
