//! The agent itself: starts, pulls jobs one by one, stops.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fleetune_core::WorkerId;
use fleetune_proto::link::Link;
use tokio::sync::{Notify, broadcast};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::heartbeat::{beat, deliver_when_reached};
use super::leases::{Lease, Leases};
use super::machine::usable_gpus;
use super::session::{PATIENCE, Session, Visible};
use super::setbacks::Setbacks;
use super::spool::Spool;
use super::{AgentConfig, AgentError, AgentEvent, JobEnd, JobKind, Unusable};
use crate::client::{Client, Job, Work};
use crate::executor::{Executor, ExecutorError, GRACE, LlamaExecutor, LogFolder, Runner, Stop, WSL_GRACE};
use crate::identity::Identity;
use crate::lock::DeviceLocks;
use crate::models::Models;
use crate::probe::{Probe, SystemProbe};
use crate::safety::Rules;

/// Events that a watcher may lag behind.
const EVENTS: usize = 1024;

/// How long a runner may be away: another one is built elsewhere and put in its place, which takes no time.
const RUNNER_PATIENCE: Duration = Duration::from_secs(30);

/// How long a list of models counts.
const MODELS_EVERY: Duration = Duration::from_secs(10);

/// An agent, ready to run.
pub struct Agent {
    pub(super) session: Arc<Session>,
    pub(super) study: Option<String>,
    pub(super) runner_patience: Duration,
    // Held for as long as the agent lives.
    _identity: Identity,
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent").field("worker", &self.session.worker).finish_non_exhaustive()
    }
}

impl Agent {
    /// Takes an identity, looks at the machine and asks the runner for its engine. Calls nobody over `link` yet.
    pub async fn new(config: AgentConfig, link: impl Into<Link>) -> Result<Self, AgentError> {
        Self::with_probe(config, link, Arc::new(SystemProbe)).await
    }

    /// The same on a machine that `probe` tells of.
    pub async fn with_probe(
        config: AgentConfig,
        link: impl Into<Link>,
        probe: Arc<dyn Probe>,
    ) -> Result<Self, AgentError> {
        let runner = Runner::find(config.runner.as_deref())?;
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
            client: Client::new(link),
            worker: identity.id().clone(),
            name,
            labels: config.labels,
            inventory,
            executor: Arc::new(executor),
            engine: Mutex::new(engine),
            probe,
            models: Models::new(config.model_dirs, config.model_files),
            models_every: config.models_every.unwrap_or(MODELS_EVERY),
            visible: Mutex::new(Visible::default()),
            rules: Rules::shipped(),
            locks: config.lock_dir.map_or_else(DeviceLocks::of_machine, DeviceLocks::new),
            leases: Leases::default(),
            spool: Spool::new(own.join("spool")),
            events,
            stop: CancellationToken::new(),
            drain: CancellationToken::new(),
            drained_by_coordinator: AtomicBool::new(false),
            patience: config.coordinator_patience.unwrap_or(PATIENCE),
            away: AtomicBool::new(false),
            reached: Notify::new(),
            delivering: tokio::sync::Mutex::new(()),
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
        // A search for models in a large folder must not outlive the agent.
        let _given_up = session.models.given_up().drop_guard();
        let told = AtomicBool::new(false);
        let tell = || {
            if !told.swap(true, Ordering::Relaxed) {
                let by_coordinator = session.drained_by_coordinator.load(Ordering::Relaxed);
                session.tell(AgentEvent::Draining { by_coordinator });
            }
        };
        let stopped = async {
            stop.cancelled().await;
            session.models.given_up().cancel();
            session.stop.cancel();
            std::future::pending::<std::convert::Infallible>().await
        };
        let drained = async {
            session.drain.cancelled().await;
            tell();
            std::future::pending::<std::convert::Infallible>().await
        };
        let done = tokio::select! {
            done = self.work() => done,
            never = stopped => match never {},
            never = drained => match never {},
        };
        // It may have ended before that was heard.
        if session.drain.is_cancelled() {
            tell();
        }
        done
    }

    async fn work(&self) -> Result<(), AgentError> {
        tokio::select! {
            biased;
            () = self.ending() => return Ok(()),
            _ = self.session.refresh_models() => {}
        }
        let Some(terms) = self.register().await? else { return Ok(()) };
        // Its tasks end when it is dropped.
        let mut tasks = JoinSet::new();
        tasks.spawn(beat(self.session.clone(), terms.heartbeat_every));
        tasks.spawn(deliver_when_reached(self.session.clone()));
        let mut obstacles = None;
        let mut setbacks = Setbacks::default();
        while let Some(job) = self.next_job(&mut obstacles).await? {
            let study = job.study.clone();
            match self.carry_out(job).await {
                Ok(()) => setbacks = Setbacks::default(),
                // The search for its model was given up.
                Err(Unusable::Model(_)) if self.session.stop.is_cancelled() => {}
                // It may be on its way to be replaced: asked again before the next job.
                Err(Unusable::Executor(error @ ExecutorError::Start { .. })) => {
                    tracing::warn!(%error, "runner could not be started");
                    if setbacks.is_hopeless(self.runner_patience) {
                        return self.give_up(error.into()).await;
                    }
                    setbacks.start.wait(self).await;
                }
                // Another worker may have it, and this one may have what other studies need.
                Err(Unusable::Model(error)) if self.study.is_none() => {
                    tracing::warn!(%study, %error, "model is missing");
                    self.session.tell(AgentEvent::ModelMissing { study, message: error.to_string() });
                    self.session.doubt_models();
                    setbacks.model.wait(self).await;
                }
                Err(unusable) => return self.give_up(unusable).await,
            }
        }
        // Nothing else is to be in its way.
        drop(tasks);
        self.session.deliver_spooled().await;
        Ok(())
    }

    async fn give_up(&self, unusable: Unusable) -> Result<(), AgentError> {
        self.session.deliver_spooled().await;
        Err(unusable.into())
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
