//! What all parts of a running agent share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fleetune_core::measurement::AttemptDetail;
use fleetune_core::{FailKind, Inventory, VisibleModel, WorkerId};
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;

use super::AgentEvent;
use super::leases::{Lease, Leases};
use super::spool::Spool;
use crate::client::{Client, ClientError, Outcome, Registration, Terms};
use crate::executor::{Executor, Failure, Stop};
use crate::lock::DeviceLocks;
use crate::models::Models;
use crate::probe::Probe;
use crate::safety::Rules;

/// How long a call about a lease is tried again while the agent works, and while it stops.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
const STOP_PATIENCE: Duration = Duration::from_secs(2);

pub(super) struct Session {
    pub(super) client: Client,
    pub(super) worker: WorkerId,
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) inventory: Inventory,
    pub(super) executor: Arc<dyn Executor>,
    /// The engine as it was registered.
    pub(super) engine: Mutex<String>,
    pub(super) probe: Arc<dyn Probe>,
    pub(super) models: Models,
    pub(super) models_every: Duration,
    pub(super) visible: Mutex<Visible>,
    pub(super) rules: Rules,
    pub(super) locks: DeviceLocks,
    pub(super) leases: Leases,
    pub(super) spool: Spool,
    pub(super) events: broadcast::Sender<AgentEvent>,
    /// Stop now.
    pub(super) stop: CancellationToken,
    /// Stop after the current job.
    pub(super) drain: CancellationToken,
    /// Whether the drain is the coordinator's wish.
    pub(super) drained_by_coordinator: AtomicBool,
    pub(super) patience: Duration,
    /// A report found nobody, and no heartbeat has found anybody since.
    pub(super) away: AtomicBool,
    /// The coordinator answered a heartbeat.
    pub(super) reached: Notify,
    /// Held by whoever delivers what is spooled.
    pub(super) delivering: tokio::sync::Mutex<()>,
}

/// The models as they were registered.
#[derive(Debug, Default)]
pub(super) struct Visible {
    models: Vec<VisibleModel>,
    /// When they were looked for; none when they have to be looked for again.
    at: Option<tokio::time::Instant>,
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    Done,
    /// Another attempt owns the job, or it ended: the coordinator keeps the data as a record.
    Lost,
    /// For later.
    Spooled,
}

impl Session {
    /// Tells whoever watches.
    pub(super) fn tell(&self, event: AgentEvent) {
        // Nobody has to watch.
        let _ = self.events.send(event);
    }

    /// Tells whoever watches that a call failed which will be made again.
    pub(super) fn disconnected(&self, error: &ClientError) {
        let message = match error {
            // Said by the event itself.
            ClientError::Unavailable { message, .. } => message.clone(),
            other => other.to_string(),
        };
        self.tell(AgentEvent::Disconnected { message, storage_full: error.is_storage_full() });
    }

    pub(super) fn engine(&self) -> String {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What decides whether two machines are alike.
    pub(super) fn device_class(&self) -> String {
        self.labels.get("class").cloned().unwrap_or_else(|| self.inventory.device_class())
    }

    /// Registers, naming every lease that is held or spooled.
    pub(super) async fn register(&self) -> Result<Terms, ClientError> {
        let mut held = self.leases.tokens();
        held.extend(self.spool.tokens());
        held.sort();
        held.dedup();
        let engine = self.engine();
        let registration = Registration {
            worker: self.worker.clone(),
            name: self.name.clone(),
            labels: self.labels.clone(),
            inventory: self.inventory.clone(),
            executors: BTreeMap::from([(self.executor.name().to_owned(), engine.clone())]),
            held,
            models: self.visible.lock().unwrap_or_else(PoisonError::into_inner).models.clone(),
        };
        let terms = self.client.register(&registration).await?;
        let models = registration.models.len();
        self.tell(AgentEvent::Registered { worker: self.worker.clone(), engine, models });
        Ok(terms)
    }

    /// Looks whether the runner was exchanged; true when the engine is another one now.
    pub(super) async fn refresh_engine(&self) -> Result<bool, crate::executor::ExecutorError> {
        let now = self.executor.fingerprint().await?;
        let mut engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = *engine != now;
        *engine = now;
        Ok(changed)
    }

    /// Looks for models, unless that was done a moment ago; true when there are others now.
    pub(super) async fn refresh_models(&self) -> bool {
        let visible = || self.visible.lock().unwrap_or_else(PoisonError::into_inner);
        if visible().at.is_some_and(|at| at.elapsed() < self.models_every) {
            return false;
        }
        let models = self.models.clone();
        // None when the agent ends.
        let Ok(Some(now)) = tokio::task::spawn_blocking(move || models.scan()).await else { return false };
        let mut visible = visible();
        visible.at = Some(tokio::time::Instant::now());
        let changed = visible.models != now;
        if changed {
            tracing::info!(models = now.len(), "models found");
            visible.models = now;
        }
        changed
    }

    /// Has the models looked for before the next job.
    pub(super) fn doubt_models(&self) {
        self.visible.lock().unwrap_or_else(PoisonError::into_inner).at = None;
    }

    /// Whether a report would only wait for a coordinator that is not there.
    pub(super) fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    pub(super) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    /// How long a call is tried again now.
    pub(super) fn patience(&self) -> Duration {
        if self.stop.is_cancelled() { STOP_PATIENCE.min(self.patience) } else { self.patience }
    }

    /// Ends a job; stores the result for later when the coordinator is away.
    pub(super) async fn deliver(&self, lease: &Lease, outcome: &Outcome, detail: &AttemptDetail) -> Delivery {
        let token = lease.token();
        let patience = self.patience();
        match self.client.finish(token, outcome, detail, patience).await {
            Ok(()) => Delivery::Done,
            Err(error) if error.is_lost() => {
                tracing::info!(%token, %error, "result came too late");
                Delivery::Lost
            }
            Err(error) if error.is_transient() => self.spool_result(token, outcome, detail, &error),
            Err(error) => {
                // Without an end the job would be run again for ever; say what can be said.
                tracing::warn!(%token, %error, "result was refused");
                let why = format!("the worker's result was refused: {error}");
                let failure = Failure::new(FailKind::Error, why);
                let outcome = match outcome {
                    Outcome::Trial { seconds, .. } => Outcome::Trial {
                        state: fleetune_core::TrialState::Fail,
                        failure: Some(failure),
                        seconds: *seconds,
                    },
                    Outcome::Described(_) | Outcome::Failed(_) => Outcome::Failed(failure),
                };
                match self.client.finish(token, &outcome, &AttemptDetail::default(), patience).await {
                    Ok(()) => Delivery::Done,
                    Err(error) if error.is_lost() => Delivery::Lost,
                    Err(error) => {
                        tracing::error!(%token, %error, "job could not be ended");
                        Delivery::Lost
                    }
                }
            }
        }
    }

    fn spool_result(
        &self,
        token: &fleetune_core::LeaseToken,
        outcome: &Outcome,
        detail: &AttemptDetail,
        error: &ClientError,
    ) -> Delivery {
        match self.spool.put(token, &Client::encode_finish(token, outcome, detail)) {
            Ok(()) => {
                tracing::warn!(%token, %error, "result is stored for later");
                self.tell(AgentEvent::Spooled);
                if error.is_storage_full() {
                    // The next calls may find room, yet no result does.
                    self.disconnected(error);
                }
                Delivery::Spooled
            }
            Err(full) => {
                tracing::error!(%token, %error, %full, "result is lost");
                Delivery::Lost
            }
        }
    }

    /// Delivers what earlier could not be. Stops at the first result that still cannot.
    pub(super) async fn deliver_spooled(&self) {
        let _delivering = self.delivering.lock().await;
        for token in self.spool.tokens() {
            let Ok(encoded) = self.spool.get(&token) else { continue };
            // Tried once, since there are later times; an agent that stops does not wait long for them either.
            let patience = if self.stop.is_cancelled() { STOP_PATIENCE } else { Duration::ZERO };
            match self.client.finish_encoded(&encoded, patience).await {
                Ok(()) => tracing::info!(%token, "stored result is delivered"),
                Err(error) if error.is_transient() => return,
                Err(error) => tracing::warn!(%token, %error, "stored result was refused"),
            }
            self.spool.remove(&token);
        }
    }

    /// Gives a job back.
    pub(super) async fn release(&self, lease: &Lease) {
        if let Err(error) = self.client.release(lease.token(), STOP_PATIENCE).await {
            // Its lease ends by itself.
            tracing::warn!(token = %lease.token(), %error, "job could not be given back");
        }
    }

    /// What follows from the end of a job from outside.
    pub(super) async fn abandon(&self, lease: &Lease, stop: Stop) -> super::JobEnd {
        match stop {
            Stop::Released => {
                self.release(lease).await;
                super::JobEnd::Released
            }
            Stop::Cancelled => super::JobEnd::Cancelled,
            // Pruning ends a run, never a job; a job that ends so was taken by somebody else.
            Stop::Lost | Stop::Pruned => super::JobEnd::Lost,
        }
    }
}
