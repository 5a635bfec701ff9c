//! Whole databases: from one to another of either kind, into a file, and a look at everything in one.
//!
//! A copy reads one snapshot and writes one transaction. Rows go over as they are, ids included; what they mean is not
//! looked at here, but by [`examine`].

mod postgres;
mod schema;
mod sqlite;

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use fleetune_core::{StudyId, TrialNumber};
use futures::TryStreamExt as _;
use futures::stream::BoxStream;

use self::postgres::PostgresSide;
use self::schema::Table;
use self::sqlite::SqliteSide;
use super::error::StoreError;
use super::record::TrialFilter;
use super::store::{PAGE, Store};
use super::url::{Place, StorageUrl};

type Result<T> = std::result::Result<T, StoreError>;

/// What a copy holds: rows by table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Name and number of rows, in the order they were written.
    pub tables: Vec<(String, u64)>,
}

/// What was found in a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examined {
    /// The newest schema version, which is this program's.
    pub schema: i64,
    /// Studies.
    pub studies: u64,
    /// Trials.
    pub trials: u64,
    /// What is wrong, a sentence each.
    pub faults: Vec<String>,
}

/// A value as both databases know it.
enum Cell {
    Integer(Option<i64>),
    Float(Option<f64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
}

/// One end of a copy, within a transaction.
#[async_trait]
trait Side: Send {
    /// Versions of the migrations in it, sorted.
    async fn versions(&mut self) -> Result<Vec<i64>>;
    /// Every row of a table.
    fn rows<'a>(&'a mut self, table: &'a Table) -> BoxStream<'a, Result<Vec<Cell>>>;
    /// The last id that was given out.
    async fn last_id(&mut self, table: &Table) -> Result<i64>;
    async fn insert(&mut self, table: &Table, row: Vec<Cell>) -> Result<()>;
    async fn set_last_id(&mut self, table: &Table, last: i64) -> Result<()>;
    /// Commits, and waits until the connection is closed: a file is whole only then, its write-ahead log is part of it.
    async fn finish(self: Box<Self>) -> Result<()>;
}

async fn side(url: &StorageUrl, writes: bool) -> Result<Box<dyn Side>> {
    Ok(match url.place() {
        Place::File(file) => Box::new(SqliteSide::open(url.shown(), file, writes).await?),
        Place::Server(server) => Box::new(PostgresSide::open(url.shown(), server, writes).await?),
    })
}

fn cannot(url: &StorageUrl, why: impl Into<String>) -> StoreError {
    StoreError::CannotOpen { url: url.shown().to_owned(), why: why.into() }
}

/// Copies everything in `from` into `to`, which is made where it is not there, and must be empty.
///
/// `from` may be in use: one snapshot of it is copied.
pub async fn copy(from: &str, to: &str) -> Result<Copied> {
    let (from, to) = (StorageUrl::parse(from)?, StorageUrl::parse(to)?);
    let tables = schema::tables().await?;
    let mut source = side(&from, false).await?;
    if source.versions().await? != schema::versions() {
        return Err(cannot(&from, "its schema is not this program's; `fleetune db migrate` brings it up to date"));
    }
    to.open().await?.close().await;
    let mut target = side(&to, true).await?;
    for table in &tables {
        if target.rows(table).try_next().await?.is_some() {
            return Err(cannot(&to, "it holds something already; a copy needs an empty database"));
        }
    }
    let mut copied = Vec::with_capacity(tables.len());
    for table in &tables {
        let mut count = 0;
        let mut rows = source.rows(table);
        while let Some(row) = rows.try_next().await? {
            target.insert(table, row).await?;
            count += 1;
        }
        drop(rows);
        if table.counts_ids {
            target.set_last_id(table, source.last_id(table).await?).await?;
        }
        copied.push((table.name.clone(), count));
    }
    target.finish().await?;
    Ok(Copied { tables: copied })
}

/// Writes everything in `from` into a new `SQLite` file, which is a storage of its own. `from` may be in use.
pub async fn backup(from: &str, file: &Path) -> Result<()> {
    let url = StorageUrl::parse(from)?;
    let partial = file.with_extension("partial");
    let target = format!("sqlite://{}", partial.display());
    let failed = |why: String| StoreError::CannotOpen { url: format!("sqlite://{}", file.display()), why };
    if file.exists() || partial.exists() {
        return Err(failed("there is such a file already".to_owned()));
    }
    let written = match url.place() {
        Place::File(source) => sqlite::vacuum_into(url.shown(), source, &partial).await,
        Place::Server(_) => copy(from, &target).await.map(drop),
    };
    let kept = match written {
        Ok(()) => keep(&partial, file).map_err(|error| failed(error.to_string())),
        Err(error) => Err(error),
    };
    if kept.is_err() {
        for suffix in ["", "-wal", "-shm"] {
            // Half a backup is worth nothing; what cannot be removed keeps its other name.
            drop(std::fs::remove_file(beside(&partial, suffix)));
        }
    }
    kept
}

/// The file that `SQLite` keeps beside `file`.
fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut path = file.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Gives a whole file its name, on disk.
fn keep(partial: &Path, file: &Path) -> std::io::Result<()> {
    if beside(partial, "-wal").exists() {
        return Err(std::io::Error::other("its write-ahead log is still in use"));
    }
    std::fs::File::open(partial)?.sync_all()?;
    std::fs::rename(partial, file)?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(folder)?.sync_all()
}

/// Reads everything and says what does not fit together. Brings the schema up to date first, as every opening does.
pub async fn examine(url: &str) -> Result<Examined> {
    let parsed = StorageUrl::parse(url)?;
    let store = Store::open(url).await?;
    let mut faults = match parsed.place() {
        Place::File(file) => sqlite::faults(parsed.shown(), file).await?,
        Place::Server(_) => Vec::new(),
    };
    let (mut studies, mut trials) = (0, 0);
    let mut after = StudyId(0);
    loop {
        let page = store.studies(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.id;
        for study in &page {
            studies += 1;
            trials += read_trials(&store, study.id, study.next_number, &study.name, &mut faults).await;
        }
    }
    store.close().await;
    Ok(Examined { schema: Store::migrations_known(), studies, trials, faults })
}

/// Reads every trial of a study; how many.
async fn read_trials(store: &Store, study: StudyId, next: TrialNumber, name: &str, faults: &mut Vec<String>) -> u64 {
    let mut expected = TrialNumber(0);
    loop {
        let filter = TrialFilter { from: expected, limit: 1_000, states: Vec::new() };
        let page = match store.trials(study, &filter).await {
            Ok(page) => page,
            Err(error) => {
                faults.push(format!("study `{name}`: trials from {expected} cannot be read: {error}"));
                return expected.0.unsigned_abs();
            }
        };
        if page.is_empty() {
            break;
        }
        for trial in page {
            if trial.number != expected {
                faults.push(format!("study `{name}`: trial {expected} is missing"));
            }
            expected = TrialNumber(trial.number.0 + 1);
        }
    }
    if expected != next {
        faults.push(format!("study `{name}`: its next number is {next}, but it has {expected} trials"));
    }
    expected.0.unsigned_abs()
}
