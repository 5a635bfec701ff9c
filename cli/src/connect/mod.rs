//! From the configuration to a channel: to a server, or to a coordinator within this process over a storage.

mod secure;

use std::path::Path;
use std::time::Duration;

use fleetune_coordinator::Coordinator;
use fleetune_coordinator::scheduler::{EngineOptions, OptunaTimes};
use fleetune_coordinator::storage::StoreError;
use fleetune_coordinator::transport;
use fleetune_proto::link::{Credentials, Link};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use crate::config::{Config, data_folder};
use crate::error::{CliError, CliResult, Exit};
use crate::render;

pub use secure::{credentials as read_credentials, half_a_pair};

/// How long a server may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How long a verb makes a call again that the coordinator refused for the moment.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the end of a coordinator in this process may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);
/// How often a silent server is asked for a sign of life, and how long it may take to give it.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The way to a coordinator.
pub struct Connection {
    channel: Channel,
    credentials: Option<Credentials>,
    /// Where the studies are, for people: a password is left out.
    pub place: String,
    /// The coordinator in this process, unless it is a server.
    local: Option<Coordinator>,
}

impl Connection {
    /// For clients: they wait for a coordinator that is busy.
    pub fn link(&self) -> Link {
        self.worker_link().patient(PATIENCE)
    }

    /// For a worker, which knows for itself what to repeat, and for how long.
    pub fn worker_link(&self) -> Link {
        Link::new(self.channel.clone(), self.credentials.clone())
    }

    /// Lets a coordinator in this process tell others of what changed, and ends it. What was acknowledged is durable
    /// without.
    pub async fn close(self) {
        if let Some(coordinator) = self.local {
            // A database that is away does not hold up the end.
            let _ = tokio::time::timeout(CLOSE_LIMIT, coordinator.close()).await;
        }
    }
}

/// Reaches the server, or opens the storage, which is made where there is none.
pub async fn connect(config: &Config) -> CliResult<Connection> {
    if config.server.is_empty() { open(config).await } else { dial(config).await }
}

/// The same for verbs that only look and steer: they make no database.
pub async fn connect_to_existing(config: &Config) -> CliResult<Connection> {
    if config.server.is_empty() {
        exists(&storage_url(config)?)?;
    }
    connect(config).await
}

/// The same for a worker: it starts while its server is away, and waits for it.
pub async fn connect_patiently(config: &Config) -> CliResult<Connection> {
    if config.server.is_empty() {
        return open(config).await;
    }
    let (endpoint, place) = endpoint(config)?;
    let credentials = credentials(config, &endpoint)?;
    Ok(Connection { channel: endpoint.connect_lazy(), credentials, place, local: None })
}

async fn open(config: &Config) -> CliResult<Connection> {
    let stop = CancellationToken::new();
    let coordinator = start_coordinator(config, EngineOptions::default(), stop.clone()).await?;
    let place = coordinator.storage().to_owned();
    let channel = transport::in_process(coordinator.routes(), stop).await.map_err(|error| {
        CliError::new(Exit::Unexpected, "failed to reach the coordinator in this process").because(error)
    })?;
    Ok(Connection { channel, credentials: None, place, local: Some(coordinator) })
}

/// A coordinator over the configured storage, with these `options`; it works until `stop` is cancelled.
pub async fn start_coordinator(
    config: &Config,
    options: EngineOptions,
    stop: CancellationToken,
) -> CliResult<Coordinator> {
    let storage = storage_url(config)?;
    let optuna_times = match config.serve.optuna_times.as_str() {
        "local" => OptunaTimes::Local,
        "iso" => OptunaTimes::Iso,
        other => {
            return Err(CliError::new(Exit::Usage, format!("`serve.optuna_times` is `{other}`"))
                .because("it is none of its values")
                .hint("set it to `local` or `iso`"));
        }
    };
    Coordinator::start(&storage, EngineOptions { optuna_times, ..options }, stop)
        .await
        .map_err(|error| refused(&storage, &error))
}

async fn dial(config: &Config) -> CliResult<Connection> {
    let (endpoint, place) = endpoint(config)?;
    let credentials = credentials(config, &endpoint)?;
    let channel = endpoint.connect().await.map_err(|error| unreachable(&place, &innermost(&error)))?;
    Ok(Connection { channel, credentials, place, local: None })
}

fn unreachable(place: &str, why: &str) -> CliError {
    let error = CliError::new(Exit::Unreachable, format!("failed to reach the coordinator at {place}")).because(why);
    if why.contains("UnknownIssuer") {
        return error.hint("`--tls-ca FILE` names the authority that signed the server's certificate");
    }
    if why.contains("CertificateRequired") {
        return error.hint("the server asks for a certificate: pass `--tls-cert FILE --tls-key FILE`");
    }
    // A server in the clear does not answer in TLS, nor the other way round.
    if why.contains("InvalidContentType") {
        return error.hint("the server speaks no TLS: write http:// instead of https://");
    }
    error.hint("`fleetune serve` starts one; `--server URL` names another, `--storage URL` needs none")
}

/// The token of every call, with a word of warning where others can read it on its way.
pub fn credentials(config: &Config, endpoint: &Endpoint) -> CliResult<Option<Credentials>> {
    let credentials = secure::credentials(config)?;
    let uri = endpoint.uri();
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let stays_here = host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    if credentials.is_some() && uri.scheme_str() == Some("http") && !stays_here {
        render::say(&format!("warning: the token crosses the network to {host} in the clear; use https:// instead"));
    }
    Ok(credentials)
}

/// The endpoint of the configured server, and its URL for people.
pub fn endpoint(config: &Config) -> CliResult<(Endpoint, String)> {
    let server = config.server.as_str();
    let wrong = |why: String| {
        CliError::new(Exit::Usage, format!("`{server}` is no address of a coordinator"))
            .because(why)
            .hint("write https://HOST:PORT, or http://HOST:PORT for one in the clear, such as http://127.0.0.1:7700")
    };
    let url = if server.contains("://") { server.to_owned() } else { format!("http://{server}") };
    match url.split_once("://") {
        Some(("http" | "https", rest)) if !rest.trim_end_matches('/').is_empty() => {}
        _ => return Err(wrong("it is no http:// or https:// URL with a host".to_owned())),
    }
    let endpoint = Endpoint::from_shared(url.clone()).map_err(|error| wrong(innermost(&error)))?;
    let host_and_port = endpoint.uri().authority().map_or("", |authority| authority.as_str());
    let after_host = host_and_port.rsplit_once(']').map_or(host_and_port, |(_, rest)| rest);
    if after_host.contains(':') && endpoint.uri().port_u16().is_none() {
        return Err(wrong("its port is no number".to_owned()));
    }
    let has_path = !endpoint.uri().path().trim_end_matches('/').is_empty();
    if has_path || endpoint.uri().query().is_some() {
        return Err(wrong("it has a path".to_owned()));
    }
    let endpoint = if url.starts_with("https://") {
        endpoint.tls_config(secure::tls(config)?).map_err(|error| {
            CliError::new(Exit::Usage, "the certificates cannot be used")
                .because(innermost(&error))
                .hint("`--tls-ca FILE` names the authorities to trust instead of the system's")
        })?
    } else {
        endpoint
    };
    let endpoint = endpoint
        .connect_timeout(CONNECT_LIMIT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true);
    Ok((endpoint, url))
}

/// What really happened: the outer errors say no more than that something did.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Refuses a storage that would have to be made.
pub fn exists(storage: &str) -> CliResult<()> {
    let path = storage.strip_prefix("sqlite://").map(|rest| rest.split('?').next().unwrap_or(rest));
    match path {
        Some(path) if !path.is_empty() && !Path::new(path).exists() => {
            Err(CliError::new(Exit::NotFoundOrConflict, format!("there are no studies in `{path}`"))
                .because("the file does not exist")
                .hint("`fleetune tune MODEL` makes it; studies that are kept elsewhere are found with `--storage URL`"))
        }
        _ => Ok(()),
    }
}

/// The configured storage, else the default one, whose folder is made.
pub fn storage_url(config: &Config) -> CliResult<String> {
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

/// Why a storage cannot be opened.
pub fn refused(url: &str, error: &StoreError) -> CliError {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(server: &str) -> Config {
        Config { server: server.to_owned(), ..Config::default() }
    }

    #[test]
    fn a_server_is_named_by_url_or_host_and_port() {
        for (given, url) in [
            ("http://127.0.0.1:7700", "http://127.0.0.1:7700"),
            ("127.0.0.1:7700", "http://127.0.0.1:7700"),
            ("gpu-1:7700/", "http://gpu-1:7700/"),
            ("http://[::1]:7700", "http://[::1]:7700"),
            ("https://gpu-1:7700", "https://gpu-1:7700"),
        ] {
            assert_eq!(endpoint(&at(given)).unwrap().1, url, "{given}");
        }
        for bad in ["", "http://", "https://", "ftp://a", "a b:1", "http://a:1/x", "http://a:b"] {
            assert_eq!(endpoint(&at(bad)).map(drop).unwrap_err().exit, Exit::Usage, "{bad}");
        }
    }
}
