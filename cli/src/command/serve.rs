//! `fleetune serve`: the coordinator as a server.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use fleetune_coordinator::scheduler::EngineOptions;
use fleetune_coordinator::{Coordinator, Server, ServerError, TlsFiles};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::args::{Format, Global, ServeArgs, parse_days, parse_duration};
use crate::config::Config;
use crate::connect::{half_a_pair, start_coordinator};
use crate::error::{CliError, CliResult, Exit};
use crate::render;
use crate::signals::Signals;

/// Shortest silence after which a trial may be failed.
const LEAST_SILENCE: Duration = Duration::from_secs(1);

/// What is printed once it listens.
#[derive(Serialize)]
struct Listening {
    listening: String,
    storage: String,
}

/// Serves until Ctrl-C or SIGTERM. A second signal does not wait for calls under way.
pub async fn run(args: &ServeArgs, global: &Global, config: &Config, format: Format) -> CliResult<Exit> {
    if let Some(server) = &global.server {
        return Err(CliError::new(Exit::Usage, format!("`--server {server}` makes no sense here"))
            .because("`serve` is the server")
            .hint("say where to listen with `--listen ADDRESS`, and where studies are kept with `--storage URL`"));
    }
    let listen = args.listen.as_deref().unwrap_or(&config.serve.listen);
    let address = resolve(listen).await?;
    let tls = tls_files(args, config)?;
    let (optuna_silence, archive_after) = (optuna_silence(config)?, archive_after(config)?);
    let exempt = address.ip().is_loopback() || args.insecure;
    if !exempt && tls.is_none() {
        return Err(exposed(
            address,
            "other machines reach this address, and without TLS everybody on the way reads what is said",
        ));
    }
    let mut signals = Signals::new()?;
    let server = Server::bind(address).await.map_err(|error| no_server(&error))?;
    let in_the_clear = tls.is_none();
    let server = match tls {
        Some(files) => server.with_tls(files).map_err(|error| no_server(&error))?,
        None => server,
    };
    let server = server.with_rate_limit(args.rate_limit);
    let stop = CancellationToken::new();
    let options = EngineOptions { optuna_silence, archive_after, ..EngineOptions::default() };
    let coordinator = start_coordinator(config, options, stop.clone()).await?;
    let tokens = coordinator
        .asks_for_tokens()
        .await
        .map_err(|error| CliError::new(Exit::Unreachable, "failed to read the tokens").because(error))?;
    if !exempt && !tokens {
        coordinator.close().await;
        return Err(exposed(
            address,
            "other machines reach this address, and the storage holds no token: whoever reaches it may do everything",
        ));
    }
    let listening = Listening { listening: server.address().to_string(), storage: coordinator.storage().to_owned() };
    match format {
        Format::Table => render::out(&format!("listening on {}", listening.listening))?,
        Format::Json => render::print(format, &listening, |_| String::new())?,
    }
    render::say(&format!("studies are kept in {}", listening.storage));
    if !address.ip().is_loopback() && !tokens {
        render::say("warning: whoever reaches this address may do everything, since the storage holds no token");
    }
    if !address.ip().is_loopback() && in_the_clear {
        render::say("warning: whoever is on the way reads what is said, tokens included, since there is no TLS");
    }
    // Nothing happens where no service manager waits for it.
    notify(sd_notify::NotifyState::Ready);
    if until_stopped(server, &coordinator, &mut signals, &stop).await? == Exit::Done {
        coordinator.close().await;
        return Ok(Exit::Done);
    }
    Ok(Exit::Interrupted)
}

/// Serves until a signal; `Interrupted` when a second one did not let calls finish.
async fn until_stopped(
    server: Server,
    coordinator: &Coordinator,
    signals: &mut Signals,
    stop: &CancellationToken,
) -> CliResult<Exit> {
    let serving = server.serve(coordinator);
    tokio::pin!(serving);
    let served = tokio::select! {
        served = &mut serving => served,
        _ = signals.recv() => {
            render::say("stopping: calls under way are finished");
            notify(sd_notify::NotifyState::Stopping);
            stop.cancel();
            tokio::select! {
                served = &mut serving => served,
                _ = signals.recv() => return Ok(Exit::Interrupted),
            }
        }
    };
    served.map(|()| Exit::Done).map_err(|error| no_server(&error))
}

/// Tells the service manager, where there is one.
pub fn notify(state: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(false, &[state]) {
        render::say(&format!("warning: the service manager cannot be told: {error}"));
    }
}

fn exposed(address: SocketAddr, why: &str) -> CliError {
    CliError::new(Exit::Usage, format!("refused to listen on {address}")).because(why).hint(
        "pass `--tls-cert FILE --tls-key FILE`, and make a token with `fleetune token create NAME --role admin --storage …`; \
         or listen on 127.0.0.1; or add `--insecure` where the network itself keeps others out",
    )
}

/// How long trials of Optuna clients that are gone may be silent, if not for ever.
fn optuna_silence(config: &Config) -> CliResult<Option<Duration>> {
    let text = config.serve.optuna_silence.as_str();
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = |why: String| {
        CliError::new(Exit::Usage, format!("`serve.optuna_silence` is `{text}`"))
            .because(why)
            .hint("set it to a time such as `10min`, or to nothing for never")
    };
    let silence = Duration::from_secs_f64(parse_duration(text).map_err(wrong)?);
    // Shorter ones would end trials between two calls of a client that is well.
    if silence < LEAST_SILENCE {
        return Err(wrong(format!("it must be at least {} s", LEAST_SILENCE.as_secs())));
    }
    Ok(Some(silence))
}

/// How long after their end studies are archived, if ever.
fn archive_after(config: &Config) -> CliResult<Option<Duration>> {
    let text = config.serve.archive_after.as_str();
    if text.is_empty() {
        return Ok(None);
    }
    let age = parse_days(text).map_err(|why| {
        CliError::new(Exit::Usage, format!("`serve.archive_after` is `{text}`"))
            .because(why)
            .hint("set it to a time such as `90d`, or to nothing for never")
    })?;
    Ok(Some(Duration::from_secs_f64(age)))
}

/// The certificates to serve with, where there are any.
fn tls_files(args: &ServeArgs, config: &Config) -> CliResult<Option<TlsFiles>> {
    let set = |text: &str| (!text.is_empty()).then(|| PathBuf::from(text));
    let client_ca = args.tls_client_ca.clone().or_else(|| set(&config.serve.tls_client_ca));
    match (set(&config.tls_cert), set(&config.tls_key)) {
        (Some(cert), Some(key)) => Ok(Some(TlsFiles { cert, key, client_ca })),
        (None, None) if client_ca.is_none() => Ok(None),
        (None, None) => Err(CliError::new(Exit::Usage, "clients are asked for certificates, but there is no TLS")
            .because("`tls_client_ca` is given, and `tls_cert` and `tls_key` are not")
            .hint("pass `--tls-cert FILE` and `--tls-key FILE` as well")),
        _ => Err(half_a_pair()),
    }
}

fn no_server(error: &ServerError) -> CliError {
    let exit = match error {
        ServerError::InUse { .. } => Exit::NotFoundOrConflict,
        ServerError::Bind { .. } | ServerError::Tls(_) => Exit::Usage,
        ServerError::Serve(_) => Exit::Unexpected,
    };
    let cli = CliError::new(exit, "failed to serve").because(error);
    match error {
        ServerError::InUse { .. } => {
            cli.hint("stop the program that listens there, or choose another port with `--listen 127.0.0.1:PORT`")
        }
        ServerError::Bind { .. } => cli.hint("give an address of this machine, such as `--listen 127.0.0.1:7700`"),
        ServerError::Serve(_) | ServerError::Tls(_) => cli,
    }
}

/// The address of `HOST:PORT`.
pub async fn resolve(listen: &str) -> CliResult<SocketAddr> {
    let wrong = |why: String| {
        CliError::new(Exit::Usage, format!("`{listen}` is no address to listen on"))
            .because(why)
            .hint("write HOST:PORT, such as 127.0.0.1:7700")
    };
    let mut found = tokio::net::lookup_host(listen).await.map_err(|error| wrong(error.to_string()))?;
    found.next().ok_or_else(|| wrong("the host has no address".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_for_the_archive_is_a_time_or_nothing() {
        let read = |text: &str| {
            let mut config = Config::default();
            text.clone_into(&mut config.serve.archive_after);
            archive_after(&config)
        };
        assert_eq!(read(""), Ok(None));
        assert_eq!(read("90d"), Ok(Some(Duration::from_hours(90 * 24))));
        let error = read("later").unwrap_err();
        assert!(error.exit == Exit::Usage && error.hint.is_some_and(|hint| hint.contains("90d")));
    }

    #[test]
    fn a_silence_is_a_time_or_nothing() {
        let read = |text: &str| {
            let mut config = Config::default();
            text.clone_into(&mut config.serve.optuna_silence);
            optuna_silence(&config)
        };
        assert_eq!(read(""), Ok(None));
        assert_eq!(read("10min"), Ok(Some(Duration::from_mins(10))));
        for bad in ["soon", "500ms", "-1s"] {
            let error = read(bad).unwrap_err();
            assert_eq!(error.exit, Exit::Usage, "{bad}");
            assert!(error.hint.is_some_and(|hint| hint.contains("10min")), "{bad}");
        }
    }
}
