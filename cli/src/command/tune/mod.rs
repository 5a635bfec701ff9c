//! `fleetune tune`: coordinator and worker in one process, from a model file to a command line.

pub mod options;
mod rules;
mod study;

use fleetune_worker::agent::{Agent, AgentConfig, AgentError, AgentEvent};
use fleetune_worker::executor::Runner;
use tokio::sync::broadcast;
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;

use crate::args::{Format, TuneArgs};
use crate::client::{Change, Client, llama_server};
use crate::config::{Config, data_folder};
use crate::connect::connect;
use crate::error::{CliError, CliResult, Exit};
use crate::render;
use crate::render::progress::Progress;
use crate::signals::Signals;
use crate::view::{StudyView, TrialView};

use options::Options;

/// Runs a search to its end, or until Ctrl-C.
pub async fn run(args: &TuneArgs, config: &Config, format: Format) -> CliResult<Exit> {
    let options = Options::resolve(options::absolute(&args.model)?, &args.search, &config.tune)?;
    let model = super::model::inspect(&options.model)?;
    let connection = connect(config).await?;
    let runner = runner(args, config)?;
    let options = Options { executor: runner.executor(), ..options };
    let agent = Agent::new(agent_config(&runner, &options)?, connection.worker_link()).await.map_err(no_worker)?;
    let mut client = Client::new(connection.link());
    let name = match &args.study {
        Some(name) => name.clone(),
        None => study::default_name(&options, &model.hash, &agent.engine(), &agent.inventory().device_class()),
    };
    let study = study::open(&mut client, &name, &options, &model.hash, args.fresh).await?;
    if study.state == "finished" {
        render::say(&format!(
            "study `{name}` is complete ({} trials, {}); `--trials N` searches on, `--fresh` begins anew",
            study.trials.ended(),
            study.reason
        ));
    } else {
        announce(&study, &connection.place);
        if search(&mut client, agent.for_study(&name), &study).await? == Exit::Interrupted {
            render::say(&format!("stopped; nothing is lost. Go on with:\n  {}", same_command()));
            return Ok(Exit::Interrupted);
        }
    }
    let exit = conclude(&mut client, &name, &options, format).await;
    connection.close().await;
    exit
}

fn runner(args: &TuneArgs, config: &Config) -> CliResult<Runner> {
    let configured = (!config.runner.is_empty()).then(|| config.runner.clone().into());
    Runner::find(args.runner.clone().or(configured).as_deref()).map_err(|error| no_worker(error.into()))
}

fn agent_config(runner: &Runner, options: &Options) -> CliResult<AgentConfig> {
    Ok(AgentConfig {
        data_dir: data_folder()?.join("worker"),
        runner: Some(runner.path().to_owned()),
        model_files: vec![options.model.clone()],
        ..AgentConfig::default()
    })
}

fn no_worker(error: AgentError) -> CliError {
    let exit = match &error {
        AgentError::Unusable(_) => Exit::NotFoundOrConflict,
        AgentError::Identity(_) | AgentError::Refused(_) | AgentError::Probe(_) => Exit::Unexpected,
    };
    CliError::new(exit, "the worker cannot work")
        .because(error)
        .hint("run the same command again when that is mended; nothing that was measured is lost")
}

fn announce(study: &StudyView, storage: &str) {
    let begun = match study.trials.ended() {
        0 => "begins".to_owned(),
        1 => "goes on after 1 trial".to_owned(),
        ended => format!("goes on after {ended} trials"),
    };
    render::say(&format!("study `{}` {begun}; it is kept in {storage}", study.name));
}

/// Works until the study has ended; `Interrupted` when a signal came first.
async fn search(client: &mut Client, agent: Agent, study: &StudyView) -> CliResult<Exit> {
    let mut changes = client.watch(&study.name).await?;
    let mut events = agent.events();
    let mut progress = Progress::new(study.clone());
    let old = study.trials.ended();
    let mut signals = Signals::new()?;
    let stop = CancellationToken::new();
    let mut worker = tokio::spawn({
        let stop = stop.clone();
        async move { agent.run(stop).await }
    });
    let mut seen = 0;
    let end = loop {
        tokio::select! {
            change = changes.next() => match change {
                Some(Ok(Change::Study(now))) => {
                    let failed = now.state == "failed";
                    let reason = now.reason.clone();
                    progress.study(*now);
                    if failed {
                        break Err(CliError::new(Exit::NotFoundOrConflict, format!("study `{}` cannot be searched", study.name)).because(reason));
                    }
                }
                Some(Ok(Change::Trial(trial))) => {
                    // The first page tells of the past: what has ended before this run is not news.
                    let quiet = seen < old && trial.ended_at_us.is_some();
                    seen += u64::from(quiet);
                    progress.trial(&trial, quiet);
                }
                Some(Err(error)) => break Err(error),
                None => break Ok(Exit::Done),
            },
            event = events.recv() => match event {
                Ok(AgentEvent::Disconnected { message, storage_full: true }) => break Err(full(&study.name, message)),
                Ok(AgentEvent::Idle { obstacles }) if !obstacles.is_empty() => break Err(mismatch(&study.name, obstacles)),
                Ok(event) => progress.agent(&event),
                // A slow terminal misses some; the next one says how things stand.
                Err(broadcast::error::RecvError::Lagged(_) | broadcast::error::RecvError::Closed) => {}
            },
            ended = &mut worker => {
                progress.finish();
                return match ended {
                    Ok(Ok(())) => Ok(Exit::Interrupted),
                    Ok(Err(error)) => Err(no_worker(error)),
                    Err(error) => Err(CliError::new(Exit::Unexpected, "the worker had to stop").because(error)),
                };
            },
            _ = signals.recv() => {
                progress.say("  stopping: the trial under way is given back");
                break Ok(Exit::Interrupted);
            },
        }
    };
    stop.cancel();
    // The child is ended and its lease given back before this program leaves; a second Ctrl-C does not wait.
    tokio::select! {
        _ = &mut worker => {}
        _ = signals.recv() => worker.abort(),
    }
    progress.finish();
    end
}

fn mismatch(name: &str, obstacles: Vec<String>) -> CliError {
    CliError {
        exit: Exit::NotFoundOrConflict,
        what: format!("study `{name}` cannot go on with this engine on this machine"),
        causes: obstacles,
        hint: Some(
            "use the engine and machine it began with, or begin anew with `--fresh` or another `--study`".to_owned(),
        ),
        reason: None,
    }
}

fn full(name: &str, message: String) -> CliError {
    CliError::new(Exit::Unreachable, format!("study `{name}` cannot go on, because its storage is full"))
        .because(message)
        .hint("free some space and run the same command again; nothing that was stored is lost")
}

async fn conclude(client: &mut Client, name: &str, options: &Options, format: Format) -> CliResult<Exit> {
    let study = client.show(name).await?;
    let mut best = client.best(name, 5).await?;
    if let Some(winner) = &best.winner {
        // The study may know the same file by a path of another day or machine.
        best.llama_server = Some(llama_server(&options.model.display().to_string(), &study, &winner.params)?);
    }
    if best.trials.is_empty() {
        if let Some(error) = nothing_feasible(client, &study).await? {
            return Err(error);
        }
        let first = client.trials(name, &[fleetune_core::TrialState::Fail]).await?.into_iter().next();
        let error = CliError::new(Exit::TrialFailed, format!("no trial of study `{name}` gave a result"));
        return Err(match first {
            Some(trial) => error
                .because(format!(
                    "trial {} failed as {}: {}",
                    trial.number,
                    trial.fail_kind.unwrap_or_default(),
                    trial.fail_message.unwrap_or_default()
                ))
                .hint(format!("look at it with `fleetune trial show {name} {}`", trial.number)),
            None => error.because(format!("it is {}", study.state)),
        });
    }
    render::print(format, &best, render::best)?;
    if study.state != "finished" {
        // Somebody else ended it: what stands above is what there is, not the answer.
        let ended = study.trials.ended();
        let error =
            CliError::new(Exit::NotFoundOrConflict, format!("study `{name}` was {} after {ended} trials", study.state));
        return Err(error.hint("begin anew with `--fresh`, or choose another `--study`"));
    }
    Ok(Exit::Done)
}

/// What to say of a study whose completed trials all break a constraint; none when there are no completed ones.
async fn nothing_feasible(client: &mut Client, study: &StudyView) -> CliResult<Option<CliError>> {
    let complete = client.trials(&study.name, &[fleetune_core::TrialState::Complete]).await?;
    let violation = |trial: &TrialView| trial.constraints.iter().map(|value| value.max(0.0)).sum::<f64>();
    let Some(nearest) = complete.iter().min_by(|a, b| violation(a).total_cmp(&violation(b))) else {
        return Ok(None);
    };
    let names = study.space.iter().flat_map(fleetune_core::SearchSpace::constraints);
    let broken = names.zip(&nearest.constraints).filter(|(_, value)| **value > 0.0);
    let broken: Vec<String> =
        broken.map(|(constraint, value)| format!("`{}` by {}", constraint.name(), render::number(*value))).collect();
    let error =
        CliError::new(Exit::TrialFailed, format!("no trial of study `{}` satisfies its constraints", study.name));
    Ok(Some(
        error
            .because(format!("trial {} comes nearest; it breaks {}", nearest.number, broken.join(" and ")))
            .hint("loosen the constraint, or search longer with a larger `--trials`"),
    ))
}

/// The command line that goes on where this process stopped, as a shell reads it back: a `--fresh` would begin anew.
fn same_command() -> String {
    let words = std::env::args().filter(|word| word != "--fresh");
    words.map(|word| crate::client::quoted(&word)).collect::<Vec<_>>().join(" ")
}
