//! Postgres: any number of coordinators on one server.
//!
//! Mutations of one study run one after the other under the lock of its row, which orders their revisions; those of
//! different studies run side by side.

mod access;
mod drafts;
mod foreign;
mod jobs;
mod notify;
mod regions;
mod stash;
mod studies;
mod trials;
mod workers;

use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use fleetune_core::{Revision, StudyId, Timestamp};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, Postgres as Driver, Transaction};
use tokio::sync::watch;

use super::clock::Clock;
use super::distributions::{DistributionCache, Distributions};
use super::draft::Draft;
use super::engine::{Engine, Heard, News, Written};
use super::error::StoreError;
use super::look::Look;
use super::operations::Lane;
use super::queue::Failed;
use super::rows::Rows;
use notify::Word;
use stash::Stash;

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/postgres");

/// Connections that write, as many that read, and as many for single statements.
const CONNECTIONS: u32 = 8;
/// How long a caller waits for a connection.
const ACQUIRE: Duration = Duration::from_secs(10);
/// How often the offset of the server's clock is measured.
const CLOCK: Duration = Duration::from_mins(1);

/// A database on a server.
pub(super) struct Postgres {
    writers: PgPool,
    readers: PgPool,
    stash: Stash,
    cache: Arc<DistributionCache>,
    clock: Clock,
    word: Word,
}

impl Postgres {
    /// Connects and brings the tables up to date. `shown` is the URL for messages.
    pub async fn open(shown: &str, url: &str) -> Result<Arc<Self>, StoreError> {
        let cannot = |why: String| StoreError::CannotOpen { url: shown.to_owned(), why };
        let options = PgConnectOptions::from_str(url).map_err(|error| cannot(error.to_string()))?;
        let options = options.application_name("fleetune");
        // A pool would try again and again, and say only that it took too long.
        let first = tokio::time::timeout(ACQUIRE, options.connect()).await;
        match first.map_err(|_| cannot("the server does not answer".to_owned()))? {
            Ok(connection) => drop(connection.close().await),
            Err(error) => return Err(cannot(error.to_string())),
        }
        let pool = || PgPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(ACQUIRE);
        let writers = pool().connect_with(options.clone()).await.map_err(|error| cannot(error.to_string()))?;
        let known = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default();
        match MIGRATIONS.run(&writers).await {
            Ok(()) => {}
            Err(MigrateError::VersionMissing(found)) if found > known => {
                return Err(StoreError::SchemaTooNew { found, known });
            }
            Err(error) => return Err(cannot(error.to_string())),
        }
        let word = Word::start(&options)?;
        let stash = Stash::new(options.clone(), CONNECTIONS as usize);
        let readers = pool().connect_lazy_with(options);
        let (now, at) = server_time(&writers).await.map_err(|error| cannot(error.to_string()))?;
        let (cache, clock) = (Arc::default(), Clock::measured(now, at));
        let store = Arc::new(Self { writers, readers, stash, cache, clock, word });
        let watched = Arc::downgrade(&store);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(CLOCK).await;
                let Some(store) = watched.upgrade() else { return };
                // A server that does not answer now is measured next time.
                if let Ok((now, at)) = server_time(&store.writers).await {
                    store.clock.correct(now, at);
                }
            }
        });
        Ok(store)
    }

    fn rows(&self, tx: Transaction<'static, Driver>) -> Box<dyn Rows> {
        Box::new(PostgresRows { tx, distributions: Distributions::new(&self.cache), dirty: false })
    }
}

/// The server's time in microseconds since 1970, and when it was that time here.
async fn server_time(pool: &PgPool) -> Result<(i64, Instant), sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let asked = Instant::now();
    let now = sqlx::query_scalar("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint");
    let now = now.fetch_one(&mut *connection).await?;
    Ok((now, asked + asked.elapsed() / 2))
}

#[async_trait]
impl Engine for Postgres {
    async fn read(&self) -> Result<Box<dyn Rows>, StoreError> {
        let tx = self.readers.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await;
        Ok(self.rows(tx.map_err(database)?))
    }

    async fn write(&self) -> Result<Box<dyn Rows>, StoreError> {
        let tx = self.writers.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED").await;
        Ok(self.rows(tx.map_err(database)?))
    }

    async fn look(&self, study: StudyId, after: Revision) -> Result<Option<Look>, StoreError> {
        self.stash.look(study, after).await.map_err(database)
    }

    async fn write_draft(&self, draft: &Draft) -> Result<Written, Failed> {
        let distributions = Distributions::new(&self.cache);
        let Some(params) = drafts::pack(draft, &distributions).map_err(Failed::Before)? else {
            return Ok(Written::Unknown);
        };
        self.stash.write(draft, params).await
    }

    fn lane(&self, lane: Lane) -> Lane {
        lane
    }

    fn committed(&self, news: News) {
        self.word.changed(news);
    }

    fn others(&self) -> watch::Receiver<Heard> {
        self.word.others()
    }

    fn hears(&self) -> bool {
        self.word.hears()
    }

    async fn close(&self) {
        self.word.close().await;
        self.stash.close().await;
        self.readers.close().await;
        self.writers.close().await;
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// A transaction.
struct PostgresRows {
    tx: Transaction<'static, Driver>,
    distributions: Distributions,
    dirty: bool,
}

#[async_trait]
impl Rows for PostgresRows {
    fn take_dirty(&mut self) -> bool {
        std::mem::take(&mut self.dirty)
    }

    async fn commit(self: Box<Self>) -> Result<(), StoreError> {
        self.tx.commit().await.map_err(database)?;
        self.distributions.publish();
        Ok(())
    }

    async fn rollback(self: Box<Self>) -> Result<(), StoreError> {
        self.tx.rollback().await.map_err(database)
    }
}

/// The error in the domain's words.
#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` calls")]
pub(super) fn database(error: sqlx::Error) -> StoreError {
    let text = error.to_string();
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code).unwrap_or_default();
    match &*code {
        // Serialisation, deadlock, lock not available, too many connections, starting up; and a unique row that
        // another coordinator inserted first: the next try finds it.
        "40001" | "40P01" | "55P03" | "53300" | "57P03" | "23505" => StoreError::Busy(text),
        "53100" => StoreError::Full(text),
        // The class of a file size limit is no more than "internal error".
        _ if text.contains("could not extend file") || text.contains("No space left") => StoreError::Full(text),
        _ if matches!(error, sqlx::Error::PoolTimedOut) => StoreError::Busy(text),
        _ => StoreError::Database(text),
    }
}
