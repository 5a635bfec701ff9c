//! `fleetune study …`.

mod create;
mod export;
pub mod import;
mod watch;

use fleetune_proto::link::Link;
use fleetune_proto::v1::ImportanceMethod;
use serde::Serialize;

use crate::args::{Format, StudyVerb};
use crate::client::Client;
use crate::config::TuneConfig;
use crate::error::{CliError, CliResult, Exit};
use crate::render;
use crate::view::{BestView, FamilyBestView, StudyView, TrialView};

/// Runs a verb.
pub async fn run(
    verb: StudyVerb,
    mut client: Client,
    link: Link,
    config: &TuneConfig,
    format: Format,
) -> CliResult<Exit> {
    match verb {
        StudyVerb::Create(args) => {
            render::print(format, &create::create(&mut client, &args, config).await?, render::study)?;
        }
        StudyVerb::Update { name, changes } => {
            render::print(format, &create::update(&mut client, &name, &changes).await?, render::study)?;
        }
        StudyVerb::Watch { name } => return watch::watch(client, &name, format).await,
        StudyVerb::List { all } => {
            render::print(format, &client.list(all).await?, |studies| render::studies(studies))?;
        }
        StudyVerb::Archive { name } => render::print(format, &client.archive(&name).await?, now)?,
        StudyVerb::Unarchive { name } => render::print(format, &client.unarchive(&name).await?, now)?,
        StudyVerb::Show { name } => render::print(format, &client.show(&name).await?, render::study)?,
        StudyVerb::Best { name, top } => match best_of_each(&mut client, &name, top).await? {
            Some(family) => render::print(format, &family, render::family_best)?,
            None => render::print(format, &client.best(&name, top).await?, render::best)?,
        },
        StudyVerb::Pause { name } => render::print(format, &client.pause(&name).await?, now)?,
        StudyVerb::Resume { name } => render::print(format, &client.resume(&name).await?, now)?,
        StudyVerb::Cancel { name } => render::print(format, &client.cancel(&name).await?, now)?,
        StudyVerb::Delete { name, force } => {
            // A name that is none is an error, though deleting twice would be harmless.
            client.show(&name).await?;
            client.delete(&name, force).await?;
            render::print(format, &Deleted { deleted: name }, |gone| format!("study `{}` deleted", gone.deleted))?;
        }
        StudyVerb::Importances { name, method, objective } => {
            let method = if method == "fanova" { ImportanceMethod::Fanova } else { ImportanceMethod::PedAnova };
            render::print(format, &client.importances(&name, method, objective).await?, render::importances)?;
        }
        StudyVerb::Pareto { name, reference } => {
            render::print(format, &client.pareto_front(&name, reference).await?, render::front)?;
        }
        StudyVerb::Sensitivity { name, trial, objective } => {
            render::print(format, &client.sensitivity(&name, trial, objective).await?, render::sensitivity)?;
        }
        StudyVerb::Verify { name } => {
            let found = client.verify(&name).await?;
            render::print(format, &found, render::verify)?;
            if !found.mismatches.is_empty() {
                return Err(CliError::new(Exit::Unexpected, format!("study `{name}` does not verify"))
                    .because(format!("{} trials differ from what is recomputed", found.mismatches.len())));
            }
        }
        StudyVerb::Export { name, to: Some(file) } => export::export(link, &name, &file, format).await?,
        StudyVerb::Export { name, to: None } => {
            let study = client.show(&name).await?;
            let best = client.best(&name, 1).await?;
            let mut trials = client.trials(&name, &[]).await?;
            for trial in &mut trials {
                *trial = client.trial(&name, trial.number).await?;
            }
            render::print(Format::Json, &Export { study, trials, best }, |_| String::new())?;
        }
        StudyVerb::Import(_) => unreachable!("it is run before there is a connection"),
    }
    Ok(Exit::Done)
}

/// The best of each child; none for a study that is no parent.
async fn best_of_each(client: &mut Client, name: &str, top: u32) -> CliResult<Option<FamilyBestView>> {
    let StudyView { name: study, per, class, children, .. } = client.show(name).await?;
    let Some(per) = per.filter(|_| class.is_none()) else { return Ok(None) };
    let mut classes = Vec::new();
    for child in children {
        classes.push(client.best(&child.name, top).await?);
    }
    Ok(Some(FamilyBestView { study, per, classes }))
}

fn now(study: &StudyView) -> String {
    format!("study `{}` is {}", study.name, study.state)
}

#[derive(Serialize)]
struct Deleted {
    deleted: String,
}

/// A study with everything in it.
#[derive(Serialize)]
struct Export {
    study: StudyView,
    trials: Vec<TrialView>,
    best: BestView,
}
