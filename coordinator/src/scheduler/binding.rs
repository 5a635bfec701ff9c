//! Which token speaks for which worker: the one that it registered with.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use fleetune_core::{LeaseToken, WorkerId};

use super::engine::Engine;
use super::error::EngineError;
use crate::storage::StoreError;

/// Workers whose tokens are kept in memory.
const MAX_KNOWN: usize = 10_000;

/// Tokens that were found to speak for a worker. What is wrong here is right in storage: only a match spares a look.
#[derive(Clone, Default)]
pub(super) struct Bindings(Arc<Mutex<HashMap<WorkerId, i64>>>);

impl Bindings {
    fn knows(&self, worker: &WorkerId, token: i64) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(worker) == Some(&token)
    }

    fn learn(&self, worker: &WorkerId, token: i64) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(worker.clone(), token);
    }
}

impl Engine {
    /// Refuses a call about `worker` that came with the worker's token `token` of another.
    pub async fn check_speaker(&self, token: Option<i64>, worker: &WorkerId) -> Result<(), EngineError> {
        let Some(token) = token.filter(|token| !self.bindings.knows(worker, *token)) else { return Ok(()) };
        let worker = self.store.worker(worker).await?;
        match worker.token {
            Some(own) if own != token => Err(StoreError::AnotherToken(worker.name).into()),
            Some(_) => {
                self.bindings.learn(&worker.id, token);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Refuses a call about a lease of a worker for which the worker's token `token` does not speak. A forged lease is not
    /// refused here.
    pub async fn check_holder(&self, token: Option<i64>, lease: LeaseToken) -> Result<(), EngineError> {
        if token.is_none() {
            return Ok(());
        }
        // Not whoever holds the job now: a late result is its own worker's still.
        let attempts = self.store.attempts(lease.job).await?;
        let Some(attempt) = attempts.into_iter().find(|attempt| attempt.attempt == lease.attempt) else {
            return Ok(());
        };
        if attempt.worker.is_client() {
            return Err(StoreError::AnotherToken(attempt.worker.0).into());
        }
        self.check_speaker(token, &attempt.worker).await
    }
}
