//! The leases that the agent holds, and the way to end the work on one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fleetune_core::LeaseToken;
use tokio::sync::watch;

use crate::executor::Stop;

type Held = BTreeMap<LeaseToken, watch::Sender<Option<Stop>>>;

/// All leases that are held.
#[derive(Clone, Debug, Default)]
pub(super) struct Leases {
    held: Arc<Mutex<Held>>,
}

/// One held lease; let go when dropped.
#[derive(Debug)]
pub(super) struct Lease {
    leases: Leases,
    token: LeaseToken,
    stop: watch::Sender<Option<Stop>>,
}

impl Leases {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds the lease of `token`.
    pub(super) fn hold(&self, token: LeaseToken) -> Lease {
        let stop = watch::Sender::new(None);
        self.lock().insert(token, stop.clone());
        Lease { leases: self.clone(), token, stop }
    }

    /// All tokens.
    pub(super) fn tokens(&self) -> Vec<LeaseToken> {
        self.lock().keys().copied().collect()
    }

    /// Ends the work on `token`, unless it was ended before.
    pub(super) fn stop(&self, token: &LeaseToken, stop: Stop) {
        if let Some(sender) = self.lock().get(token) {
            set(sender, stop);
        }
    }
}

/// The first reason stays.
pub(super) fn set(sender: &watch::Sender<Option<Stop>>, stop: Stop) {
    sender.send_if_modified(|current| {
        let first = current.is_none();
        if first {
            *current = Some(stop);
        }
        first
    });
}

impl Lease {
    pub(super) fn token(&self) -> &LeaseToken {
        &self.token
    }

    /// Ends the work, unless it was ended before.
    pub(super) fn stop(&self, stop: Stop) {
        set(&self.stop, stop);
    }

    /// Why the work is to end, if it is.
    pub(super) fn is_stopped(&self) -> Option<Stop> {
        *self.stop.borrow()
    }

    /// Resolves when the work is to end.
    pub(super) async fn stopped(&self) -> Stop {
        let mut receiver = self.stop.subscribe();
        let told = receiver.wait_for(Option::is_some).await.ok().and_then(|stop| *stop);
        match told {
            Some(stop) => stop,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.leases.lock().remove(&self.token);
    }
}
