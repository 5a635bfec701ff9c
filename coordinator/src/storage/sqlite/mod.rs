//! `SQLite`: one file, one writer connection, a pool of readers.
//!
//! WAL with `synchronous=FULL`: a commit is on disk when it returns. Several processes may share the file; a write
//! transaction takes the lock at its beginning, so that what it read still holds when it writes.

mod access;
mod foreign;
mod jobs;
mod regions;
mod studies;
mod trials;
mod workers;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fleetune_core::{Revision, StudyId, Timestamp};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, Sqlite as Driver, Transaction};
use tokio::sync::watch;

use super::clock::Clock;
use super::distributions::{DistributionCache, Distributions};
use super::engine::{Engine, Heard, News};
use super::error::StoreError;
use super::look::{Look, RawChange};
use super::operations::Lane;
use super::rows::Rows;

pub(super) static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/sqlite");

/// Connections that read at the same time.
const READERS: u32 = 4;
/// How long a statement waits for another process.
const BUSY: Duration = Duration::from_secs(5);
/// Tries to create or upgrade the tables, which another process may be doing just now.
const OPEN_TRIES: u32 = 10;

/// The newest schema version this program knows.
pub(super) fn migrations_known() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default()
}

/// A database file.
pub(super) struct Sqlite {
    writer: SqlitePool,
    readers: SqlitePool,
    cache: Arc<DistributionCache>,
    clock: Clock,
    /// Removed at the end.
    temporary: Option<PathBuf>,
}

impl Sqlite {
    /// Opens `file`, creates it where there is none, brings its tables up to date. `url` is for messages.
    pub async fn open(url: &str, file: &Path, temporary: bool, max_pages: Option<u32>) -> Result<Self, StoreError> {
        let mut tries = 1;
        loop {
            match Self::try_open(url, file, temporary, max_pages).await {
                Err(StoreError::CannotOpen { .. }) if tries < OPEN_TRIES && file.exists() => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    tries += 1;
                }
                result => return result,
            }
        }
    }

    async fn try_open(url: &str, file: &Path, temporary: bool, max_pages: Option<u32>) -> Result<Self, StoreError> {
        let cannot = |why: String| StoreError::CannotOpen { url: url.to_owned(), why };
        let mut options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY)
            .foreign_keys(true)
            .pragma("temp_store", "MEMORY")
            .pragma("cache_size", "-65536")
            .pragma("journal_size_limit", "67108864");
        let readers = options.clone().read_only(true);
        if let Some(pages) = max_pages {
            options = options.pragma("max_page_count", pages.to_string());
        }
        // Its one connection is not replaced.
        let writer = SqlitePoolOptions::new().max_connections(1).idle_timeout(None).max_lifetime(None);
        // Except when SQLite has ended a transaction by itself, as a full disk makes it do: the driver takes it for
        // open ever after.
        let writer = writer.after_release(|connection, _| {
            Box::pin(async move {
                connection.ping().await?;
                Ok(!connection.is_in_transaction())
            })
        });
        let writer = writer.connect_with(options).await.map_err(|error| cannot(error.to_string()))?;
        match MIGRATIONS.run(&writer).await {
            Ok(()) => {}
            Err(MigrateError::VersionMissing(found)) if found > migrations_known() => {
                return Err(StoreError::SchemaTooNew { found, known: migrations_known() });
            }
            Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => {
                return Err(match database(error) {
                    full @ StoreError::Full(_) => full,
                    other => cannot(other.to_string()),
                });
            }
            Err(error) => return Err(cannot(error.to_string())),
        }
        let readers = SqlitePoolOptions::new().max_connections(READERS).connect_lazy_with(readers);
        let temporary = temporary.then(|| file.to_owned());
        Ok(Self { writer, readers, cache: Arc::default(), clock: Clock::system(), temporary })
    }

    fn rows(&self, tx: Transaction<'static, Driver>) -> Box<dyn Rows> {
        Box::new(SqliteRows { tx, distributions: Distributions::new(&self.cache), dirty: false })
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        let Some(file) = &self.temporary else { return };
        for suffix in ["", "-wal", "-shm"] {
            let mut path = file.clone().into_os_string();
            path.push(suffix);
            // Nobody is left who could read it; what cannot be removed stays among the temporary files.
            drop(std::fs::remove_file(path));
        }
    }
}

#[async_trait]
impl Engine for Sqlite {
    async fn read(&self) -> Result<Box<dyn Rows>, StoreError> {
        Ok(self.rows(self.readers.begin().await.map_err(database)?))
    }

    async fn write(&self) -> Result<Box<dyn Rows>, StoreError> {
        Ok(self.rows(self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(database)?))
    }

    async fn look(&self, study: StudyId, after: Revision) -> Result<Option<Look>, StoreError> {
        let rows = sqlx::query_as::<_, RawChange>(
            "SELECT study.revision, config_revision, next_number, next_turn, trial.id AS trial_id, \
             trial.revision AS trial_revision, trial.state IN ('complete', 'pruned', 'fail') AS ended \
             FROM study LEFT JOIN trial ON trial.study_id = study.id AND trial.revision > ?2 WHERE study.id = ?1",
        );
        let rows = rows.bind(study.0).bind(after.0).fetch_all(&self.readers).await.map_err(database)?;
        Ok(Look::of(&rows))
    }

    fn lane(&self, _: Lane) -> Lane {
        Lane::Global
    }

    fn committed(&self, _: News) {}

    fn others(&self) -> watch::Receiver<Heard> {
        watch::Sender::new(Heard::default()).subscribe()
    }

    fn hears(&self) -> bool {
        false
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// A transaction.
struct SqliteRows {
    tx: Transaction<'static, Driver>,
    distributions: Distributions,
    dirty: bool,
}

#[async_trait]
impl Rows for SqliteRows {
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
pub(super) fn database(error: sqlx::Error) -> StoreError {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    let code: u32 = code.and_then(|code| code.parse().ok()).unwrap_or_default();
    // The low byte is the primary code.
    match code & 0xff {
        5 | 6 => StoreError::Busy(error.to_string()),
        13 => StoreError::Full(error.to_string()),
        // A failed write, and a failed growth of the shared memory file: a quota or a limit of file size.
        _ if matches!(code, 778 | 4874) => StoreError::Full(error.to_string()),
        _ => match error {
            sqlx::Error::PoolTimedOut => StoreError::Busy(error.to_string()),
            error => StoreError::Database(error.to_string()),
        },
    }
}
