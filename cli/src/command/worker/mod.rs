//! `fleetune worker …`.

mod run;

use crate::args::{Format, WorkerVerb};
use crate::client::Fleet;
use crate::config::Config;
use crate::connect::connect_to_existing;
use crate::error::{CliResult, Exit};
use crate::render;
use crate::view::WorkerView;

/// Runs a verb.
pub async fn run(verb: WorkerVerb, config: &Config, format: Format) -> CliResult<Exit> {
    let verb = match verb {
        WorkerVerb::Run(args) => return run::run(&args, config).await,
        other => other,
    };
    let connection = connect_to_existing(config).await?;
    let done = look_after(verb, Fleet::new(connection.link()), format).await;
    connection.close().await;
    done
}

async fn look_after(verb: WorkerVerb, mut fleet: Fleet, format: Format) -> CliResult<Exit> {
    match verb {
        WorkerVerb::Run(_) => {}
        WorkerVerb::List => render::print(format, &fleet.workers().await?, |workers| render::workers(workers))?,
        WorkerVerb::Show { worker } => render::print(format, &fleet.worker(&worker).await?, render::worker)?,
        WorkerVerb::Drain { worker } => render::print(format, &fleet.drain(&worker).await?, |worker| {
            let doing = if worker.alive { "finishes what it measures and takes nothing new" } else { "is not at work" };
            let name = &worker.name;
            format!("worker `{name}` is draining: it {doing}; `fleetune worker resume {name}` undoes this")
        })?,
        WorkerVerb::Resume { worker } => render::print(format, &fleet.resume(&worker).await?, now_takes_jobs)?,
    }
    Ok(Exit::Done)
}

fn now_takes_jobs(worker: &WorkerView) -> String {
    let then = if worker.alive { "" } else { " as soon as it is started again" };
    format!("worker `{}` takes jobs{then}", worker.name)
}
