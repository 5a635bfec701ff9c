//! The coordinator as a whole: an engine over storage, and what runs beside it.

use std::time::{Duration, Instant};

use crate::scheduler::{Engine, EngineError, EngineOptions};
use crate::service::access::{Gate, Tokens};
use crate::storage::{Store, StoreError};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

/// How often leases that nobody may claim any more are looked for.
const REAP_EVERY: Duration = Duration::from_secs(15);

/// How often the record of deeds is looked through for old entries.
const TRIM_EVERY: Duration = Duration::from_hours(1);
/// How long deeds are kept, and how many of them.
const AUDIT_AGE: Duration = Duration::from_hours(400 * 24);
const AUDIT_ENTRIES: u64 = 1_000_000;

/// A running coordinator: an engine over storage, with its background task.
pub struct Coordinator {
    engine: Engine,
    tokens: Tokens,
    stop: CancellationToken,
}

impl Coordinator {
    /// Opens `storage` (`sqlite://FILE` or `postgres://…`), migrates it where needed, and begins to serve. Streams and
    /// the background task end when `stop` is cancelled.
    pub async fn start(storage: &str, options: EngineOptions, stop: CancellationToken) -> Result<Self, StoreError> {
        let engine = Engine::new(Store::open(storage).await?, options);
        tokio::spawn(reap(engine.clone(), stop.clone()));
        tokio::spawn(engine.clone().fail_silent_trials(stop.clone()));
        let tokens = Tokens::new(engine.clone());
        Ok(Self { engine, tokens, stop })
    }

    /// Where its studies are kept, a password left out.
    pub fn storage(&self) -> &str {
        self.engine.storage()
    }

    /// The fleetune.v1 services, for this process alone: no token is asked for.
    pub fn routes(&self) -> Routes {
        let routes = crate::service::routes(&self.engine, &self.tokens, &self.stop);
        crate::service::behind(Gate::open(), routes.into_axum_router())
    }

    /// Whether calls from elsewhere need a token: they do as soon as storage holds one, be it revoked.
    pub async fn asks_for_tokens(&self) -> Result<bool, EngineError> {
        self.tokens.refresh().await
    }

    /// Stops, waits for writes that are queued, and lets go of the storage.
    pub async fn close(self) {
        self.stop.cancel();
        self.engine.close().await;
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.stop
    }
}

/// Puts old studies away.
async fn archive(engine: &Engine, age: Duration) {
    match engine.archive_older_than(age).await {
        Ok(archived) => {
            for study in archived {
                tracing::info!(%study, "study archived");
            }
        }
        Err(error) => tracing::warn!(%error, "could not archive old studies"),
    }
}

async fn reap(engine: Engine, stop: CancellationToken) {
    let mut trimmed = None::<Instant>;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(REAP_EVERY) => {}
        }
        if let Err(error) = engine.reap().await {
            tracing::warn!(%error, "could not look for lost trials");
        }
        if trimmed.is_none_or(|at| at.elapsed() > TRIM_EVERY) {
            trimmed = Some(Instant::now());
            if let Err(error) = engine.trim_audit(AUDIT_AGE, AUDIT_ENTRIES).await {
                tracing::warn!(%error, "could not forget old entries of the audit log");
            }
            if let Some(age) = engine.options().archive_after {
                archive(&engine, age).await;
            }
        }
    }
}
