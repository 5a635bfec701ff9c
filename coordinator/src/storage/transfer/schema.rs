//! The tables, as this program's own migrations make them: both databases have the same ones.

use sqlx::{AssertSqlSafe, Connection as _, Row as _, SqliteConnection, query};

use crate::storage::error::StoreError;
use crate::storage::sqlite::{MIGRATIONS, database};

/// A table and its columns.
pub(super) struct Table {
    pub name: String,
    pub columns: Vec<Column>,
    /// Ids are given out by the database, and never twice.
    pub counts_ids: bool,
}

/// A column with the kind of its values.
pub(super) struct Column {
    pub name: String,
    pub kind: Kind,
}

#[derive(Clone, Copy)]
pub(super) enum Kind {
    Integer,
    Float,
    Text,
    Bytes,
}

impl Table {
    /// Column names, quoted, separated by commas.
    pub fn column_list(&self) -> String {
        let names: Vec<_> = self.columns.iter().map(|column| format!("\"{}\"", column.name)).collect();
        names.join(", ")
    }
}

/// Versions of all migrations of this program, sorted.
pub(super) fn versions() -> Vec<i64> {
    let mut versions: Vec<_> = MIGRATIONS.iter().map(|migration| migration.version).collect();
    versions.sort_unstable();
    versions
}

/// Every table, each after those that it refers to.
pub(super) async fn tables() -> Result<Vec<Table>, StoreError> {
    let mut model = SqliteConnection::connect("sqlite::memory:").await.map_err(database)?;
    MIGRATIONS.run(&mut model).await.map_err(|error| StoreError::Database(error.to_string()))?;
    let listed = query(
        "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' AND name NOT LIKE '\\_sqlx%' \
         ESCAPE '\\' ORDER BY name",
    );
    let mut waiting = Vec::new();
    for row in listed.fetch_all(&mut model).await.map_err(database)? {
        let (name, sql): (String, String) = (row.get(0), row.get(1));
        let mut columns = Vec::new();
        for row in pragma(&mut model, "table_info", &name).await? {
            let declared: String = row.get("type");
            let kind = match declared.as_str() {
                "INTEGER" => Kind::Integer,
                "REAL" => Kind::Float,
                "TEXT" => Kind::Text,
                _ => Kind::Bytes,
            };
            columns.push(Column { name: row.get("name"), kind });
        }
        let refers_to: Vec<String> =
            pragma(&mut model, "foreign_key_list", &name).await?.iter().map(|row| row.get("table")).collect();
        waiting.push((Table { name, columns, counts_ids: sql.contains("AUTOINCREMENT") }, refers_to));
    }
    let mut ordered: Vec<Table> = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        let ready = |(table, refers_to): &(Table, Vec<String>)| {
            refers_to.iter().all(|other| *other == table.name || ordered.iter().any(|done| done.name == *other))
        };
        let Some(index) = waiting.iter().position(ready) else {
            return Err(StoreError::Database("tables refer to each other in a circle".to_owned()));
        };
        let (table, _) = waiting.remove(index);
        ordered.push(table);
    }
    Ok(ordered)
}

async fn pragma(
    connection: &mut SqliteConnection,
    pragma: &str,
    table: &str,
) -> Result<Vec<sqlx::sqlite::SqliteRow>, StoreError> {
    // Names are those of our own migrations.
    let sql = AssertSqlSafe(format!("PRAGMA {pragma}(\"{table}\")"));
    query(sql).fetch_all(connection).await.map_err(database)
}
