//! From a storage URL to a connection: every verb is a gRPC client of a coordinator in this process.

use std::path::Path;

use fleetune_coordinator::Coordinator;
use fleetune_coordinator::scheduler::EngineOptions;
use fleetune_coordinator::storage::StoreError;
use fleetune_coordinator::transport;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::config::{Config, data_folder};
use crate::error::{CliError, CliResult, Exit};

/// A coordinator in this process and the way to it.
pub struct Connection {
    /// For clients and for the worker.
    pub channel: Channel,
    /// Where the studies are, for people: a password is left out.
    pub storage: String,
    /// Ends the coordinator's streams and background task.
    pub stop: CancellationToken,
}

/// Opens storage and starts a coordinator over it.
pub async fn connect(config: &Config) -> CliResult<Connection> {
    let storage = storage_url(config)?;
    let stop = CancellationToken::new();
    let coordinator = Coordinator::start(&storage, EngineOptions::default(), stop.clone())
        .await
        .map_err(|error| refused(&storage, &error))?;
    let storage = coordinator.storage().to_owned();
    let channel = transport::in_process(coordinator.routes(), stop.clone()).await.map_err(|error| {
        CliError::new(Exit::Unexpected, "failed to reach the coordinator in this process").because(error)
    })?;
    Ok(Connection { channel, storage, stop })
}

/// The same for verbs that only look and steer: they make no database.
pub async fn connect_to_existing(config: &Config) -> CliResult<Connection> {
    let storage = storage_url(config)?;
    let path = storage.strip_prefix("sqlite://").map(|rest| rest.split('?').next().unwrap_or(rest));
    match path {
        Some(path) if !path.is_empty() && !Path::new(path).exists() => {
            Err(CliError::new(Exit::NotFoundOrConflict, format!("there are no studies in `{path}`"))
                .because("the file does not exist")
                .hint("`fleetune tune MODEL` makes it; studies that are kept elsewhere are found with `--storage URL`"))
        }
        _ => connect(config).await,
    }
}

fn storage_url(config: &Config) -> CliResult<String> {
    if !config.storage.is_empty() {
        return Ok(config.storage.clone());
    }
    let folder = data_folder()?;
    std::fs::create_dir_all(&folder).map_err(|error| {
        CliError::new(Exit::Unreachable, format!("failed to create the data folder `{}`", folder.display()))
            .because(error)
            .hint("pass `--storage sqlite:///path/to/fleetune.db`")
    })?;
    Ok(format!("sqlite://{}", folder.join("fleetune.db").display()))
}

fn refused(url: &str, error: &StoreError) -> CliError {
    let known = ["sqlite:", "postgres:", "postgresql:"].iter().any(|scheme| url.starts_with(scheme));
    let exit = if known { Exit::Unreachable } else { Exit::Usage };
    let cli = CliError::new(exit, "failed to open the storage").because(error);
    match error {
        StoreError::SchemaTooNew { .. } => {
            cli.hint("use the newer program, or another database with `--storage sqlite:///path/to/fleetune.db`")
        }
        StoreError::CannotOpen { .. } => {
            cli.hint("a storage is `sqlite:///path/to/fleetune.db` or `postgres://user@host/database`")
        }
        StoreError::Full(_) => cli.hint("free some space and run the same command again"),
        _ => cli,
    }
}
