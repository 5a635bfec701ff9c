//! A server as one end of a copy.

use std::collections::BTreeMap;
use std::str::FromStr as _;

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, Row as _, query, query_as, query_scalar,
};

use super::schema::{Kind, Table};
use super::{Cell, Result, Side};
use crate::storage::error::StoreError;
use crate::storage::postgres::database;

/// An open connection, within a transaction.
pub(super) struct PostgresSide {
    connection: PgConnection,
    /// Types of columns, by table and column.
    types: BTreeMap<(String, String), String>,
}

impl PostgresSide {
    pub async fn open(shown: &str, url: &str, writes: bool) -> Result<Self> {
        let cannot = |error: sqlx::Error| StoreError::CannotOpen { url: shown.to_owned(), why: error.to_string() };
        let options = PgConnectOptions::from_str(url).map_err(cannot)?.application_name("fleetune copy");
        let mut connection = options.connect().await.map_err(cannot)?;
        let begin = if writes { "BEGIN" } else { "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" };
        query(begin).execute(&mut connection).await.map_err(database)?;
        let types = query_as::<_, (String, String, String)>(
            "SELECT table_name::text, column_name::text, data_type::text FROM information_schema.columns \
             WHERE table_schema = current_schema()",
        );
        let types = types.fetch_all(&mut connection).await.map_err(database)?;
        let types = types.into_iter().map(|(table, column, kind)| ((table, column), kind)).collect();
        Ok(Self { connection, types })
    }

    fn type_of(&self, table: &Table, column: &str) -> &str {
        self.types.get(&(table.name.clone(), column.to_owned())).map_or("bigint", String::as_str)
    }
}

#[async_trait]
impl Side for PostgresSide {
    async fn versions(&mut self) -> Result<Vec<i64>> {
        let versions = query_scalar("SELECT version FROM _sqlx_migrations ORDER BY version");
        versions.fetch_all(&mut self.connection).await.map_err(database)
    }

    fn rows<'a>(&'a mut self, table: &'a Table) -> BoxStream<'a, Result<Vec<Cell>>> {
        let column = |name: &str, kind| match kind {
            Kind::Integer if self.type_of(table, name) == "boolean" => format!("\"{name}\"::integer::bigint"),
            Kind::Integer => format!("\"{name}\"::bigint"),
            Kind::Float => format!("\"{name}\"::double precision"),
            Kind::Text => format!("\"{name}\"::text"),
            Kind::Bytes => format!("\"{name}\""),
        };
        let columns: Vec<_> = table.columns.iter().map(|each| column(&each.name, each.kind)).collect();
        let sql = format!("SELECT {} FROM \"{}\" ORDER BY 1", columns.join(", "), table.name);
        let rows = query(AssertSqlSafe(sql)).fetch(&mut self.connection);
        rows.map_err(database).and_then(async |row| cells(table, &row)).boxed()
    }

    async fn last_id(&mut self, table: &Table) -> Result<i64> {
        let sequence = query_scalar::<_, String>("SELECT pg_get_serial_sequence($1, 'id')").bind(&table.name);
        let sequence = sequence.fetch_one(&mut self.connection).await.map_err(database)?;
        let sql = format!("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {sequence}");
        query_scalar(AssertSqlSafe(sql)).fetch_one(&mut self.connection).await.map_err(database)
    }

    async fn insert(&mut self, table: &Table, row: Vec<Cell>) -> Result<()> {
        let place = |(index, column): (usize, &super::schema::Column)| {
            let place = index + 1;
            match (column.kind, self.type_of(table, &column.name)) {
                (Kind::Integer, "boolean") => format!("(${place}::bigint <> 0)"),
                (Kind::Integer, other) => format!("CAST(${place}::bigint AS {other})"),
                (Kind::Float | Kind::Text | Kind::Bytes, _) => format!("${place}"),
            }
        };
        let places: Vec<_> = table.columns.iter().enumerate().map(place).collect();
        let sql = format!(
            "INSERT INTO \"{}\" ({}) OVERRIDING SYSTEM VALUE VALUES ({})",
            table.name,
            table.column_list(),
            places.join(", ")
        );
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
        if last == 0 {
            return Ok(());
        }
        let set = query("SELECT setval(pg_get_serial_sequence($1, 'id'), $2)").bind(&table.name).bind(last);
        set.execute(&mut self.connection).await.map(drop).map_err(database)
    }

    async fn finish(mut self: Box<Self>) -> Result<()> {
        query("COMMIT").execute(&mut self.connection).await.map_err(database)?;
        self.connection.close().await.map_err(database)
    }
}

fn cells(table: &Table, row: &PgRow) -> Result<Vec<Cell>> {
    let cell = |(index, kind): (usize, Kind)| match kind {
        Kind::Integer => row.try_get(index).map(Cell::Integer),
        Kind::Float => row.try_get(index).map(Cell::Float),
        Kind::Text => row.try_get(index).map(Cell::Text),
        Kind::Bytes => row.try_get(index).map(Cell::Bytes),
    };
    let kinds = table.columns.iter().map(|column| column.kind).enumerate();
    kinds.map(|place| cell(place).map_err(database)).collect()
}
