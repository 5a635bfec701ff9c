//! A connection to either kind of database, which only reads.

use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::time::Duration;

use fleetune_core::url::redacted;
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::sqlite::{SqliteConnectOptions, SqliteRow};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, Row as _, SqliteConnection, query};

use crate::error::{RdbError, database};

/// How long a statement waits for a writer.
const BUSY: Duration = Duration::from_secs(5);

type Result<T> = std::result::Result<T, RdbError>;

/// An open database.
pub enum Connection {
    /// A file.
    Sqlite(SqliteConnection),
    /// A server.
    Postgres(PgConnection),
}

/// A row of either.
pub enum Row {
    /// Of a file.
    Sqlite(SqliteRow),
    /// Of a server.
    Postgres(PgRow),
}

impl Connection {
    /// Opens `source`, a file or a URL of Optuna's kind; with it how it is called, a password left out.
    pub async fn open(source: &str) -> Result<(Self, String)> {
        match source.split_once("://") {
            // SQLAlchemy names a driver behind the database.
            Some((scheme, rest)) if matches!(scheme.split('+').next(), Some("postgres" | "postgresql")) => {
                Self::server(source, &format!("postgres://{rest}")).await
            }
            Some((scheme, rest)) if scheme.split('+').next() == Some("sqlite") => Self::file(&path(rest)).await,
            Some(_) => Err(RdbError::NoSource(redacted(source))),
            None => Self::file(Path::new(source)).await,
        }
    }

    async fn file(file: &Path) -> Result<(Self, String)> {
        let place = file.display().to_string();
        if !file.is_file() {
            return Err(RdbError::NoFile(place));
        }
        let options = SqliteConnectOptions::new().filename(file).read_only(true).busy_timeout(BUSY);
        let cannot = |error: sqlx::Error| match database(error) {
            RdbError::Database(why) => RdbError::CannotOpen { place: format!("`{place}`"), why },
            other => other,
        };
        let mut connection = options.connect().await.map_err(cannot)?;
        // A file is opened without a look at it.
        let looked = query("SELECT count(*) FROM sqlite_master").execute(&mut connection).await;
        match looked {
            Ok(_) => Ok((Self::Sqlite(connection), place)),
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("26") => {
                Err(RdbError::NoDatabase(place))
            }
            Err(error) => Err(cannot(error)),
        }
    }

    async fn server(source: &str, url: &str) -> Result<(Self, String)> {
        let place = redacted(source);
        let cannot = |error: sqlx::Error| RdbError::CannotOpen { place: format!("`{place}`"), why: error.to_string() };
        let options = PgConnectOptions::from_str(url).map_err(cannot)?;
        let options = options.options([("DateStyle", "ISO"), ("default_transaction_read_only", "on")]);
        let connection = options.connect().await.map_err(cannot)?;
        Ok((Self::Postgres(connection), place))
    }

    /// Begins to read one state of the database. A file stays locked to writers until [`Self::end`].
    pub async fn begin(&mut self) -> Result<()> {
        match self {
            Self::Sqlite(connection) => query("BEGIN").execute(connection).await.map(drop),
            Self::Postgres(connection) => {
                query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").execute(connection).await.map(drop)
            }
        }
        .map_err(database)
    }

    /// Ends what [`Self::begin`] began.
    pub async fn end(&mut self) -> Result<()> {
        match self {
            Self::Sqlite(connection) => query("ROLLBACK").execute(connection).await.map(drop),
            Self::Postgres(connection) => query("ROLLBACK").execute(connection).await.map(drop),
        }
        .map_err(database)
    }

    /// The rows of a statement that both databases understand, with `numbers` for `$1` and so on.
    pub async fn rows(&mut self, sql: &'static str, numbers: &[i64]) -> Result<Vec<Row>> {
        match self {
            Self::Sqlite(connection) => {
                let query = numbers.iter().fold(query(sql), |query, &number| query.bind(number));
                let rows = query.fetch_all(connection).await.map_err(database)?;
                Ok(rows.into_iter().map(Row::Sqlite).collect())
            }
            Self::Postgres(connection) => {
                let query = numbers.iter().fold(query(sql), |query, &number| query.bind(number));
                let rows = query.fetch_all(connection).await.map_err(database)?;
                Ok(rows.into_iter().map(Row::Postgres).collect())
            }
        }
    }

    /// Whether there is a table of this name.
    pub async fn has_table(&mut self, name: &str) -> Result<bool> {
        let found = match self {
            Self::Sqlite(connection) => {
                let query = query("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?1").bind(name);
                query.fetch_optional(connection).await.map_err(database)?.is_some()
            }
            Self::Postgres(connection) => {
                let query = query("SELECT 1 WHERE to_regclass($1) IS NOT NULL").bind(name);
                query.fetch_optional(connection).await.map_err(database)?.is_some()
            }
        };
        Ok(found)
    }

    /// Closes it.
    pub async fn close(self) {
        // Nothing was written that could be lost.
        drop(match self {
            Self::Sqlite(connection) => connection.close().await,
            Self::Postgres(connection) => connection.close().await,
        });
    }
}

impl Row {
    /// An integer; `CAST(… AS BIGINT)` or a column that is `INTEGER`.
    pub fn integer(&self, index: usize) -> std::result::Result<Option<i64>, String> {
        match self {
            Self::Sqlite(row) => row.try_get(index).map_err(why),
            Self::Postgres(row) => match row.try_get::<Option<i32>, _>(index) {
                Ok(number) => Ok(number.map(i64::from)),
                Err(_) => row.try_get(index).map_err(why),
            },
        }
    }

    /// A float.
    pub fn float(&self, index: usize) -> std::result::Result<Option<f64>, String> {
        match self {
            Self::Sqlite(row) => row.try_get(index).map_err(why),
            Self::Postgres(row) => row.try_get(index).map_err(why),
        }
    }

    /// A text.
    pub fn text(&self, index: usize) -> std::result::Result<Option<String>, String> {
        match self {
            Self::Sqlite(row) => row.try_get(index).map_err(why),
            Self::Postgres(row) => row.try_get(index).map_err(why),
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "fits map_err")]
fn why(error: sqlx::Error) -> String {
    error.to_string()
}

/// The file of what follows `sqlite://`: Optuna's form has one `/` more than the path. With three of them in all an
/// absolute path is meant where only that is there.
fn path(rest: &str) -> PathBuf {
    let rest = rest.split('?').next().unwrap_or(rest);
    let Some(relative) = rest.strip_prefix('/') else { return rest.into() };
    let (relative, absolute) = (PathBuf::from(relative), PathBuf::from(rest));
    if !relative.exists() && absolute.exists() { absolute } else { relative }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_files_are_sqlalchemys() {
        assert_eq!(path("/optuna.db"), Path::new("optuna.db"));
        assert_eq!(path("//no/such/optuna.db?timeout=1"), Path::new("/no/such/optuna.db"));
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(path(&file.path().display().to_string()), file.path());
    }
}
