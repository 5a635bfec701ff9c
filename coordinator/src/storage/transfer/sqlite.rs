//! A file as one end of a copy.

use std::path::Path;

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use sqlx::sqlite::{SqliteConnectOptions, SqliteRow, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _, SqliteConnection, query, query_scalar};

use super::schema::{Kind, Table};
use super::{Cell, Result, Side};
use crate::storage::error::StoreError;
use crate::storage::sqlite::database;

/// An open file, within a transaction.
pub(super) struct SqliteSide {
    connection: SqliteConnection,
}

async fn connect(shown: &str, file: &Path) -> Result<SqliteConnection> {
    let options = SqliteConnectOptions::new().filename(file).synchronous(SqliteSynchronous::Full).foreign_keys(true);
    let cannot = |error: sqlx::Error| StoreError::CannotOpen { url: shown.to_owned(), why: error.to_string() };
    options.connect().await.map_err(cannot)
}

impl SqliteSide {
    pub async fn open(shown: &str, file: &Path, writes: bool) -> Result<Self> {
        let mut connection = connect(shown, file).await?;
        let begin = if writes { "BEGIN IMMEDIATE" } else { "BEGIN" };
        query(begin).execute(&mut connection).await.map_err(database)?;
        Ok(Self { connection })
    }
}

#[async_trait]
impl Side for SqliteSide {
    async fn versions(&mut self) -> Result<Vec<i64>> {
        let versions = query_scalar("SELECT version FROM _sqlx_migrations ORDER BY version");
        versions.fetch_all(&mut self.connection).await.map_err(database)
    }

    fn rows<'a>(&'a mut self, table: &'a Table) -> BoxStream<'a, Result<Vec<Cell>>> {
        let sql = format!("SELECT {} FROM \"{}\" ORDER BY 1", table.column_list(), table.name);
        let rows = query(AssertSqlSafe(sql)).fetch(&mut self.connection);
        rows.map_err(database).and_then(async |row| cells(table, &row)).boxed()
    }

    async fn last_id(&mut self, table: &Table) -> Result<i64> {
        let last = query_scalar("SELECT seq FROM sqlite_sequence WHERE name = ?1").bind(&table.name);
        Ok(last.fetch_optional(&mut self.connection).await.map_err(database)?.unwrap_or(0))
    }

    async fn insert(&mut self, table: &Table, row: Vec<Cell>) -> Result<()> {
        let places: Vec<_> = (1..=row.len()).map(|place| format!("?{place}")).collect();
        let sql = format!("INSERT INTO \"{}\" ({}) VALUES ({})", table.name, table.column_list(), places.join(", "));
        let mut insert = query(AssertSqlSafe(sql));
        for cell in row {
            insert = match cell {
                Cell::Integer(value) => insert.bind(value),
                Cell::Float(value) => insert.bind(value),
                Cell::Text(value) => insert.bind(value),
                Cell::Bytes(value) => insert.bind(value),
            };
        }
        insert.execute(&mut self.connection).await.map(drop).map_err(database)
    }

    async fn set_last_id(&mut self, table: &Table, last: i64) -> Result<()> {
        // The rows that were inserted have set it, unless there were none.
        let update =
            query("UPDATE sqlite_sequence SET seq = max(seq, ?2) WHERE name = ?1").bind(&table.name).bind(last);
        if update.execute(&mut self.connection).await.map_err(database)?.rows_affected() > 0 {
            return Ok(());
        }
        let insert = query("INSERT INTO sqlite_sequence (name, seq) VALUES (?1, ?2)").bind(&table.name).bind(last);
        insert.execute(&mut self.connection).await.map(drop).map_err(database)
    }

    async fn finish(mut self: Box<Self>) -> Result<()> {
        query("COMMIT").execute(&mut self.connection).await.map_err(database)?;
        self.connection.close().await.map_err(database)
    }
}

fn cells(table: &Table, row: &SqliteRow) -> Result<Vec<Cell>> {
    let cell = |(index, kind): (usize, Kind)| match kind {
        Kind::Integer => row.try_get(index).map(Cell::Integer),
        Kind::Float => row.try_get(index).map(Cell::Float),
        Kind::Text => row.try_get(index).map(Cell::Text),
        Kind::Bytes => row.try_get(index).map(Cell::Bytes),
    };
    let kinds = table.columns.iter().map(|column| column.kind).enumerate();
    kinds.map(|place| cell(place).map_err(database)).collect()
}

/// Writes a snapshot of `file` into the new file `target`.
pub(super) async fn vacuum_into(shown: &str, file: &Path, target: &Path) -> Result<()> {
    let mut connection = connect(shown, file).await?;
    let target = target.display().to_string();
    query("VACUUM INTO ?1").bind(target).execute(&mut connection).await.map(drop).map_err(database)
}

/// What `SQLite` itself finds wrong with `file`.
pub(super) async fn faults(shown: &str, file: &Path) -> Result<Vec<String>> {
    let mut connection = connect(shown, file).await?;
    let found: Vec<String> =
        query_scalar("PRAGMA integrity_check").fetch_all(&mut connection).await.map_err(database)?;
    let mut faults: Vec<String> = found.into_iter().filter(|line| line != "ok").collect();
    for row in query("PRAGMA foreign_key_check").fetch_all(&mut connection).await.map_err(database)? {
        let (table, parent): (String, String) = (row.get("table"), row.get("parent"));
        faults.push(format!("a row of `{table}` refers to one of `{parent}` that is not there"));
    }
    Ok(faults)
}
