//! `fleetune worker run`: the agent on a GPU machine.

use std::path::PathBuf;

use fleetune_worker::agent::{Agent, AgentConfig, AgentError};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::args::WorkerRunArgs;
use crate::config::{Config, data_folder};
use crate::connect::connect_patiently;
use crate::error::{CliError, CliResult, Exit};
use crate::render::worker_log::{WorkerLog, say};
use crate::signals::{Signal, Signals};

/// Works until it is drained or stopped.
pub async fn run(args: &WorkerRunArgs, config: &Config) -> CliResult<Exit> {
    let folders = model_folders(args, config)?;
    let mut signals = Signals::new()?;
    let connection = connect_patiently(config).await?;
    let agent = AgentConfig {
        data_dir: data_folder()?.join("worker"),
        name: args.name.clone().unwrap_or_default(),
        labels: args.label.iter().cloned().collect(),
        runner: args.runner.clone().or_else(|| (!config.runner.is_empty()).then(|| config.runner.clone().into())),
        model_dirs: folders,
        ..AgentConfig::default()
    };
    let agent = Agent::new(agent, connection.worker_link()).await.map_err(no_worker)?;
    let mut log = WorkerLog::new();
    say(&format!("worker {} works for {}", agent.worker(), connection.place));
    let (mut events, drain, stop) = (agent.events(), agent.drain(), CancellationToken::new());
    let mut worker = tokio::spawn({
        let stop = stop.clone();
        async move { agent.run(stop).await }
    });
    let mut exit = Exit::Done;
    let ended = loop {
        tokio::select! {
            ended = &mut worker => break ended,
            event = events.recv() => match event {
                Ok(event) => log.event(&event),
                // A slow terminal misses some; the next one says how things stand.
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => break worker.await,
            },
            signal = signals.recv() => match signal {
                Signal::Terminate if !drain.is_cancelled() && !stop.is_cancelled() => {
                    say("SIGTERM: what is measured is finished first; a second signal gives it back");
                    drain.cancel();
                }
                _ if !stop.is_cancelled() => {
                    say("stopping: what is measured is given back");
                    exit = if signal == Signal::Interrupt { Exit::Interrupted } else { exit };
                    stop.cancel();
                }
                _ => {
                    worker.abort();
                    exit = Exit::Interrupted;
                }
            },
        }
    };
    while let Ok(event) = events.try_recv() {
        log.event(&event);
    }
    connection.close().await;
    match ended {
        Ok(Ok(())) => {
            say("the worker has ended");
            Ok(exit)
        }
        Ok(Err(error)) => Err(no_worker(error)),
        Err(error) if error.is_cancelled() => Ok(exit),
        Err(error) => Err(CliError::new(Exit::Unexpected, "the worker had to stop").because(error)),
    }
}

/// The folders that were given, all of which exist.
fn model_folders(args: &WorkerRunArgs, config: &Config) -> CliResult<Vec<PathBuf>> {
    let given = if args.models.is_empty() {
        std::env::split_paths(&config.worker.models).filter(|path| !path.as_os_str().is_empty()).collect()
    } else {
        args.models.clone()
    };
    if given.is_empty() {
        return Err(CliError::new(Exit::Usage, "the worker has no models to measure")
            .because("a worker reads models from the folders that its operator names, and from nowhere else")
            .hint("add `--models DIR`; `fleetune model synth -o DIR/15m.gguf` makes a small model to try with"));
    }
    given
        .into_iter()
        .map(|folder| {
            let what = || format!("the model folder `{}` cannot be read", folder.display());
            let failed = |error: std::io::Error| CliError::new(Exit::NotFoundOrConflict, what()).because(error);
            // Not resolved: studies name models by the path that people use.
            let folder = std::path::absolute(&folder).map_err(failed)?;
            std::fs::read_dir(&folder).map_err(failed)?;
            Ok(folder)
        })
        .collect()
}

fn no_worker(error: AgentError) -> CliError {
    let exit = match &error {
        AgentError::Unusable(_) => Exit::NotFoundOrConflict,
        AgentError::Identity(_) | AgentError::Refused(_) | AgentError::Probe(_) => Exit::Unexpected,
    };
    CliError::new(exit, "the worker cannot work").because(error)
}
