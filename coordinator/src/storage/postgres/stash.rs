//! Connections for single statements that come often.
//!
//! A pool asks a connection twice per use whether it is there. Here one that was used a moment ago counts as there.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use fleetune_core::{Revision, StudyId};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::ACQUIRE;
use crate::storage::look::{Look, RawChange};

/// How long a connection counts as there without being asked.
const FRESH: Duration = Duration::from_millis(200);
/// How long a connection is kept unused.
const IDLE: Duration = Duration::from_mins(10);

/// The connections.
pub(super) struct Stash {
    options: PgConnectOptions,
    /// The ones used last are at the end.
    idle: Mutex<Vec<(PgConnection, Instant)>>,
    places: Semaphore,
}

/// A connection in use. Only what is given back is used again: one that was dropped in the middle of a statement is not.
pub(super) struct Borrowed<'a> {
    pub connection: PgConnection,
    stash: &'a Stash,
    _place: SemaphorePermit<'a>,
}

impl Stash {
    /// Of at most `connections`.
    pub fn new(options: PgConnectOptions, connections: usize) -> Self {
        Self { options, idle: Mutex::default(), places: Semaphore::new(connections) }
    }

    pub async fn borrow(&self) -> Result<Borrowed<'_>, sqlx::Error> {
        let borrowed = tokio::time::timeout(ACQUIRE, async {
            let place = self.places.acquire().await.map_err(|_| sqlx::Error::PoolClosed)?;
            let connection = self.connection().await?;
            Ok(Borrowed { connection, stash: self, _place: place })
        });
        borrowed.await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    async fn connection(&self) -> Result<PgConnection, sqlx::Error> {
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some((mut connection, since)) = idle else { return self.options.connect().await };
            // One that is gone is thrown away.
            if since.elapsed() < FRESH || connection.ping().await.is_ok() {
                return Ok(connection);
            }
        }
    }

    /// What of `study` has changed after `after`.
    pub async fn look(&self, study: StudyId, after: Revision) -> Result<Option<Look>, sqlx::Error> {
        let mut borrowed = self.borrow().await?;
        let rows = sqlx::query_as::<_, RawChange>(
            "SELECT study.revision, config_revision, next_number, next_turn, trial.id AS trial_id, \
             trial.revision AS trial_revision, trial.state IN ('complete', 'pruned', 'fail') AS ended \
             FROM study LEFT JOIN trial ON trial.study_id = study.id AND trial.revision > $2 WHERE study.id = $1",
        );
        let rows = rows.bind(study.0).bind(after.0).fetch_all(&mut borrowed.connection).await?;
        borrowed.give_back();
        Ok(Look::of(&rows))
    }

    /// Lets go of all.
    pub async fn close(&self) {
        self.places.close();
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        for (connection, _) in idle {
            // It is gone either way.
            drop(connection.close().await);
        }
    }
}

impl Borrowed<'_> {
    /// Keeps the connection for the next one: its statement has ended.
    pub fn give_back(self) {
        let now = Instant::now();
        let mut idle = self.stash.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // Those used least are at the front.
        let old = idle.iter().take_while(|(_, since)| now.duration_since(*since) > IDLE).count();
        idle.drain(..old);
        if !self.stash.places.is_closed() {
            idle.push((self.connection, now));
        }
    }
}
