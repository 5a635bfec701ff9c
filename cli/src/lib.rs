//! The `fleetune` program: parses, wires the roles together, renders. Every verb is a gRPC client of a coordinator.

mod args;
mod client;
mod command;
mod config;
mod connect;
mod error;
mod render;
mod signals;
mod view;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{Parser as _, ValueEnum as _};

use args::{Cli, Command, Format};
use client::{Admin, Client};
use connect::{connect, connect_to_existing};
use error::{CliError, CliResult, Exit};

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    log(default_log(&cli.command));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(run(cli));
            // A lock held in a blocking call must not keep a finished program.
            runtime.shutdown_background();
            result
        }
        Err(error) => Err(CliError::new(Exit::Unexpected, "failed to start").because(error)),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(error) => {
            render::say(&error.to_string());
            error.exit.into()
        }
    }
}

/// Logs to stderr: what `FLEETUNE_LOG` says, as lines for people, or as JSON where `FLEETUNE_LOG_FORMAT` is `json`.
fn log(default: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("FLEETUNE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    let lines = tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter);
    if std::env::var("FLEETUNE_LOG_FORMAT").is_ok_and(|format| format == "json") {
        lines.json().init();
    } else {
        lines.with_ansi(std::io::stderr().is_terminal()).init();
    }
}

/// What is logged when `FLEETUNE_LOG` does not say: a server has nothing else to show what it does.
fn default_log(command: &Command) -> &'static str {
    match command {
        Command::Serve(_) => "warn,fleetune_coordinator=info",
        _ => "error",
    }
}

async fn run(cli: Cli) -> CliResult<Exit> {
    // These need no configuration; the first helps where the present one cannot be read.
    match &cli.command {
        Command::Config { verb: args::ConfigVerb::Default } => {
            return render::out(config::DEFAULT_FILE).map(|()| Exit::Done);
        }
        Command::Completions { shell } => return command::completions::run(*shell),
        Command::Man { output } => return command::man::run(output.as_deref()),
        Command::Adapter { program: args::AdapterVerb::LlamaBench { path } } => {
            let answered = fleetune_worker::adapter::llama_bench(path).await;
            return Ok(if answered { Exit::Done } else { Exit::Unexpected });
        }
        _ => {}
    }
    let loaded = config::load(&cli.global)?;
    let config = loaded.config.clone();
    let format = Format::from_str(&config.format, true).map_err(|_| {
        CliError::new(Exit::Usage, format!("there is no format `{}`", config.format)).hint("use table or json")
    })?;
    match cli.command {
        Command::Tune(args) => command::tune::run(&args, &config, format).await,
        Command::Serve(args) => command::serve::run(&args, &cli.global, &config, format).await,
        Command::Proxy(args) => command::proxy::run(&args, &config, format).await,
        Command::Worker { verb } => command::worker::run(verb, &config, format).await,
        // What is imported is looked at before a storage is made for it.
        Command::Study { verb: args::StudyVerb::Import(args) } => {
            command::study::import::run(&args, &config, format).await
        }
        Command::Study { verb } => {
            let creates = matches!(verb, args::StudyVerb::Create(_));
            let connection = if creates { connect(&config).await? } else { connect_to_existing(&config).await? };
            let client = Client::new(connection.link());
            let done = command::study::run(verb, client, connection.link(), &config.tune, format).await;
            connection.close().await;
            done
        }
        Command::Trial { verb } => {
            let connection = connect_to_existing(&config).await?;
            let done = command::trial::run(verb, Client::new(connection.link()), format).await;
            connection.close().await;
            done
        }
        Command::Region { verb } => {
            let connection = connect_to_existing(&config).await?;
            let done = command::region::run(verb, client::Fleet::new(connection.link()), format).await;
            connection.close().await;
            done
        }
        Command::Token { verb } => {
            let creates = matches!(verb, args::TokenVerb::Create(_));
            let connection = if creates { connect(&config).await? } else { connect_to_existing(&config).await? };
            let done = command::token::run(verb, Admin::new(connection.link()), format).await;
            connection.close().await;
            done
        }
        Command::Db { verb } => command::db::run(verb, &cli.global, &config, format).await,
        Command::Audit(args) => {
            let connection = connect_to_existing(&config).await?;
            let done = command::token::audit(&args, Admin::new(connection.link()), format).await;
            connection.close().await;
            done
        }
        Command::Model { verb } => command::model::run(verb, format),
        Command::Config { verb } => command::config::run(&verb, &loaded, format),
        Command::Adapter { .. } | Command::Completions { .. } | Command::Man { .. } => Ok(Exit::Done),
    }
}
