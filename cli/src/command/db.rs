//! `fleetune db …`: storages as a whole. The one noun that is no client of a coordinator.

use std::path::Path;

use fleetune_coordinator::storage::{Copied, Store, StoreError, transfer};
use serde::Serialize;

use crate::args::{DbVerb, Format, Global};
use crate::config::Config;
use crate::connect::{exists, refused, storage_url};
use crate::error::{CliError, CliResult, Exit};
use crate::render;

#[derive(Serialize)]
struct Migrated {
    schema: i64,
}

#[derive(Serialize)]
struct Examined {
    schema: i64,
    studies: u64,
    trials: u64,
    faults: Vec<String>,
}

#[derive(Serialize)]
struct Rows {
    table: String,
    rows: u64,
}

/// Runs a verb.
pub async fn run(verb: DbVerb, global: &Global, config: &Config, format: Format) -> CliResult<Exit> {
    if let Some(server) = &global.server {
        return Err(CliError::new(Exit::Usage, format!("`--server {server}` makes no sense here"))
            .because("`db` works on a storage itself")
            .hint("name it with `--storage URL`"));
    }
    if let DbVerb::Copy { from, to } = &verb {
        exists(from)?;
        return copied(transfer::copy(from, to).await, to, format);
    }
    let storage = storage_url(config)?;
    let failed = |error: StoreError| refused(&storage, &error);
    match verb {
        DbVerb::Migrate => {
            Store::open(&storage).await.map_err(failed)?.close().await;
            let migrated = Migrated { schema: Store::migrations_known() };
            render::print(format, &migrated, |migrated| format!("the tables are those of schema {}", migrated.schema))?;
        }
        DbVerb::Check => {
            exists(&storage)?;
            let found = transfer::examine(&storage).await.map_err(failed)?;
            let found =
                Examined { schema: found.schema, studies: found.studies, trials: found.trials, faults: found.faults };
            render::print(format, &found, shown)?;
            return Ok(if found.faults.is_empty() { Exit::Done } else { Exit::Unexpected });
        }
        DbVerb::Backup { file } => {
            exists(&storage)?;
            transfer::backup(&storage, &file).await.map_err(failed)?;
            render::say(&format!("everything is in `{}`; `fleetune db restore` writes it back", file.display()));
        }
        DbVerb::Restore { file } => {
            let from = format!("sqlite://{}", file.display());
            if !Path::new(&file).exists() {
                return Err(CliError::new(
                    Exit::NotFoundOrConflict,
                    format!("there is no backup `{}`", file.display()),
                ));
            }
            return copied(transfer::copy(&from, &storage).await, &storage, format);
        }
        DbVerb::Copy { .. } => {}
    }
    Ok(Exit::Done)
}

fn copied(result: Result<Copied, StoreError>, to: &str, format: Format) -> CliResult<Exit> {
    let copied = result.map_err(|error| refused(to, &error))?;
    let rows: Vec<_> = copied.tables.into_iter().map(|(table, rows)| Rows { table, rows }).collect();
    render::print(format, &rows, |rows| {
        let lines = rows.iter().filter(|row| row.rows > 0).map(|row| (row.table.as_str(), row.rows.to_string()));
        let lines: Vec<_> = lines.collect();
        if lines.is_empty() { "there was nothing to copy".to_owned() } else { render::pairs(&lines) }
    })?;
    Ok(Exit::Done)
}

fn shown(found: &Examined) -> String {
    let counted = format!("schema {}, {} studies, {} trials", found.schema, found.studies, found.trials);
    if found.faults.is_empty() {
        return format!("{counted}: everything fits together");
    }
    format!("{counted}\n{}", found.faults.join("\n"))
}
