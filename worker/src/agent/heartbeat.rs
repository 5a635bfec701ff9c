//! Heartbeats: renew the leases, learn what became of them, and notice that the coordinator is back.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::gauge::Gauge;
use super::session::Session;
use crate::client::{LeaseState, Reason};
use crate::executor::Stop;

/// Delivers stored results whenever the coordinator is there, until the task is dropped: the agent itself may be in the
/// middle of a long poll or of a trial.
pub(super) async fn deliver_when_reached(session: Arc<Session>) {
    loop {
        session.reached.notified().await;
        session.deliver_spooled().await;
    }
}

/// Beats until the task is dropped.
pub(super) async fn beat(session: Arc<Session>, every: Duration) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut gauge = Gauge::default();
    loop {
        ticks.tick().await;
        // A stored result keeps its lease too, so that nobody measures again what is measured.
        let mut tokens = session.leases.tokens();
        tokens.extend(session.spool.tokens());
        let gauges = gauge.read(&session.probe).await;
        match session.client.heartbeat(&session.worker, &tokens, gauges.as_ref()).await {
            Ok(pulse) => {
                session.set_away(false);
                session.reached.notify_one();
                for (token, state) in pulse.leases {
                    match state {
                        LeaseState::Renewed => {}
                        LeaseState::Lost => session.leases.stop(&token, Stop::Lost),
                        LeaseState::Cancelled => session.leases.stop(&token, Stop::Cancelled),
                    }
                }
                if pulse.drain && !session.drain.is_cancelled() {
                    session.drained_by_coordinator.store(true, Ordering::Relaxed);
                    session.drain.cancel();
                }
            }
            Err(error) if error.reason() == Some(Reason::WorkerUnknown) => {
                if let Err(error) = session.register().await {
                    tracing::warn!(%error, "registering again failed");
                }
            }
            Err(error) => {
                tracing::debug!(%error, "heartbeat failed");
                session.disconnected(&error);
            }
        }
    }
}
