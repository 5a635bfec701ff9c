//! `fleetune proxy`: a door for clients that know neither TLS nor tokens, such as Optuna's.

use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::serve::{notify, resolve};
use crate::args::{Format, ProxyArgs};
use crate::client::proxy::{self, Pass, Target};
use crate::config::Config;
use crate::connect::{credentials, endpoint};
use crate::error::{CliError, CliResult, Exit};
use crate::render;
use crate::signals::Signals;

/// How often the file of the token is read again; at once when the coordinator refuses the token.
const REREAD: Duration = Duration::from_secs(1);
/// How long calls under way have to finish after the stop.
const GRACE: Duration = Duration::from_secs(10);

/// Passes calls on until Ctrl-C or SIGTERM. A second signal does not wait for calls under way.
pub async fn run(args: &ProxyArgs, config: &Config, format: Format) -> CliResult<Exit> {
    if config.server.is_empty() {
        return Err(CliError::new(Exit::Usage, "there is no server to pass calls on to")
            .because("a proxy keeps no studies itself")
            .hint("name it with `--server https://HOST:PORT`"));
    }
    let address = resolve(&args.listen).await?;
    if !address.ip().is_loopback() {
        return Err(CliError::new(Exit::Usage, format!("refused to listen on {address}"))
            .because("other machines reach this address, and whoever reaches a proxy may do what its token may")
            .hint("listen on 127.0.0.1, and run a proxy on every machine that needs one"));
    }
    let (endpoint, place) = endpoint(config)?;
    let pass = Pass::default();
    pass.set(credentials(config, &endpoint)?);
    let mut signals = Signals::new()?;
    let failed = |error: std::io::Error| {
        CliError::new(Exit::NotFoundOrConflict, format!("failed to listen on {address}"))
            .because(error)
            .hint("choose another port with `--listen 127.0.0.1:PORT`")
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?.to_string();
    match format {
        Format::Table => render::out(&format!("listening on {address}"))?,
        Format::Json => {
            let shown = serde_json::json!({"listening": address, "server": place});
            render::print(format, &shown, |_| String::new())?;
        }
    }
    render::say(&format!("calls go to {place}"));
    notify(sd_notify::NotifyState::Ready);

    let stop = CancellationToken::new();
    if !config.token_file.is_empty() {
        tokio::spawn(stop.clone().run_until_cancelled_owned(follow(config.clone(), pass.clone())));
    }
    let serving = proxy::serve(listener, Target { endpoint, place, pass }, stop.clone());
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
                () = tokio::time::sleep(GRACE) => {
                    render::say(&format!("calls that did not finish within {} s were cut", GRACE.as_secs()));
                    Ok(())
                }
            }
        }
    };
    served.map(|()| Exit::Done).map_err(|error| CliError::new(Exit::Unexpected, "failed to serve").because(error))
}

/// Takes a token that was replaced into use. While its file cannot be read, the old one stays.
async fn follow(config: Config, pass: Pass) {
    let mut told = None;
    loop {
        tokio::select! {
            () = pass.refused() => {}
            () = tokio::time::sleep(REREAD) => {}
        }
        let config = config.clone();
        let read = tokio::task::spawn_blocking(move || crate::connect::read_credentials(&config)).await;
        match read {
            Ok(Ok(credentials)) => {
                told = None;
                pass.set(credentials);
            }
            Ok(Err(error)) => {
                let error = error.to_string();
                if told.as_ref() != Some(&error) {
                    render::say(&format!("warning: the token stays as it was\n{error}"));
                    told = Some(error);
                }
            }
            Err(_) => {}
        }
    }
}
