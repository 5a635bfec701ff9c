//! `fleetune study import`: out of Optuna's databases.

use std::time::SystemTime;

use fleetune_coordinator::storage::FAIL_REASON;
use fleetune_core::{Timestamp, TrialState};
use fleetune_rdb::{RdbError, Reader, Study, Trial};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::args::{Format, ImportArgs};
use crate::client::{Transfer, request_id};
use crate::config::Config;
use crate::connect::connect;
use crate::error::{CliError, CliResult, Exit};
use crate::render;
use crate::signals::Signals;

/// Longest part of a study's name that its name until it is whole shows, characters.
const SHOWN: usize = 100;

/// A study that is copied.
struct Chosen {
    study: Study,
    /// What it is called here.
    name: String,
}

/// A study that an import that fails takes back.
struct Begun {
    /// What it is called until all of them are whole.
    for_now: String,
    /// Not known while it is created.
    id: Option<i64>,
}

impl Begun {
    async fn remove(&self, transfer: &mut Transfer) -> CliResult<()> {
        let found = match self.id {
            None => transfer.find(&self.for_now).await?,
            known => known,
        };
        match found {
            Some(id) => transfer.remove(id).await,
            None => Ok(()),
        }
    }
}

#[derive(Serialize)]
struct Imported {
    study: String,
    name: String,
    directions: Vec<String>,
    waiting: u64,
    /// They are copied as failed.
    running: u64,
    complete: u64,
    pruned: u64,
    fail: u64,
}

/// Runs the verb.
pub async fn run(args: &ImportArgs, config: &Config, format: Format) -> CliResult<Exit> {
    let mut reader = Reader::open(&args.source).await.map_err(refused("failed to open the source"))?;
    let place = reader.place().to_owned();
    let what = format!("failed to import `{place}`");
    let studies = reader.studies().await.map_err(refused(&what))?;
    let chosen = choose(studies, args, &place)?;
    if !args.dry_run {
        let connection = connect(config).await?;
        let imported = import(&mut reader, Transfer::new(connection.link()), &chosen, &what).await;
        connection.close().await;
        imported?;
    }
    reader.close().await;
    let imported: Vec<_> = chosen.iter().map(Imported::of).collect();
    render::print(format, &imported, |imported| table(imported, args.dry_run))?;
    Ok(Exit::Done)
}

/// The studies that are asked for, by id.
fn choose(studies: Vec<Study>, args: &ImportArgs, place: &str) -> CliResult<Vec<Chosen>> {
    if let Some(missing) = args.studies.iter().find(|name| !studies.iter().any(|study| study.name == **name)) {
        return Err(CliError::new(Exit::NotFoundOrConflict, format!("`{place}` has no study `{missing}`"))
            .hint("`--dry-run` without `--study` lists its studies"));
    }
    let wanted = |study: &Study| args.studies.is_empty() || args.studies.contains(&study.name);
    let studies: Vec<Study> = studies.into_iter().filter(wanted).collect();
    if args.name.is_some() && studies.len() != 1 {
        return Err(CliError::new(Exit::Usage, "`--as` names a single study")
            .because(format!("{} studies are asked for", studies.len()))
            .hint("choose one with `--study NAME`"));
    }
    let name = |study: &Study| args.name.clone().unwrap_or_else(|| study.name.clone());
    Ok(studies.into_iter().map(|study| Chosen { name: name(&study), study }).collect())
}

/// Copies all of `chosen`, or nothing.
async fn import(reader: &mut Reader, mut transfer: Transfer, chosen: &[Chosen], what: &str) -> CliResult<()> {
    for Chosen { name, .. } in chosen {
        if transfer.find(name).await?.is_some() {
            return Err(CliError::new(Exit::NotFoundOrConflict, what)
                .because(format!("there is a study `{name}` already"))
                .hint("import it with `--study NAME --as ANOTHER`, or delete the present one"));
        }
    }
    let mut signals = Signals::new()?;
    let mut created = Vec::new();
    let copied = tokio::select! {
        copied = copy(reader, &mut transfer, chosen, &mut created, what) => copied,
        _ = signals.recv() => Err(CliError::new(Exit::Interrupted, "the import was stopped")),
    };
    let Err(error) = copied else { return Ok(()) };
    let mut error = error;
    for begun in created {
        if let Err(left) = begun.remove(&mut transfer).await {
            let cause = left.causes.into_iter().next().unwrap_or(left.what);
            let name = begun.for_now;
            error = error.because(format!("`{name}` is left behind, which `fleetune study delete` removes: {cause}"));
        }
    }
    Err(error)
}

/// Copies; notes down before what it creates.
async fn copy(
    reader: &mut Reader,
    transfer: &mut Transfer,
    chosen: &[Chosen],
    created: &mut Vec<Begun>,
    what: &str,
) -> CliResult<()> {
    let bar = bar(chosen.iter().map(|chosen| chosen.study.trials()).sum());
    let mut ids = Vec::with_capacity(chosen.len());
    for Chosen { study, .. } in chosen {
        let shown: String = study.name.chars().take(SHOWN).collect();
        let for_now = format!("import of {shown}, not whole yet ({})", request_id("import"));
        created.push(Begun { for_now: for_now.clone(), id: None });
        let id = transfer.create(&for_now, study).await?;
        if let Some(begun) = created.last_mut() {
            begun.id = Some(id);
        }
        ids.push(id);
        transfer.set_attributes(id, study).await?;
        let mut trials = Reader::trials(study);
        let mut page = reader.page(&mut trials).await.map_err(refused(what))?;
        while !page.is_empty() {
            let count = page.len() as u64;
            page.iter_mut().for_each(leave);
            let (added, next) = tokio::join!(transfer.add(id, &study.name, page), reader.page(&mut trials));
            added?;
            page = next.map_err(refused(what))?;
            bar.inc(count);
        }
    }
    for (id, Chosen { name, .. }) in ids.into_iter().zip(chosen) {
        transfer.finish(id, name).await?;
    }
    bar.finish_and_clear();
    Ok(())
}

/// A trial that runs has failed in a copy: whoever runs it goes on with the original. How long it took counts nothing.
pub fn leave(trial: &mut Trial) {
    if trial.state == TrialState::Running {
        let now = || Timestamp(SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_micros() as i64));
        trial.state = TrialState::Fail;
        trial.ended_at = trial.started_at.or_else(|| Some(now()));
        trial.system_attributes.insert(FAIL_REASON.to_owned(), "\"it was RUNNING when it was copied\"".to_owned());
    }
}

/// Trials that are copied, on stderr where that is a terminal.
pub fn bar(trials: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(trials), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} trials, {per_sec}, ETA {eta}") {
        bar.set_style(style);
    }
    bar
}

/// An error of an Optuna database for people.
pub fn refused(what: impl Into<String>) -> impl FnOnce(RdbError) -> CliError {
    let what = what.into();
    move |error| {
        let exit = match &error {
            RdbError::NoFile(_) | RdbError::Exists(_) => Exit::NotFoundOrConflict,
            error if error.is_usage() => Exit::Usage,
            _ => Exit::Unreachable,
        };
        let cli = CliError::new(exit, what).because(&error);
        match error.hint() {
            Some(hint) => cli.hint(hint),
            None => cli,
        }
    }
}

impl Imported {
    fn of(Chosen { study, name }: &Chosen) -> Self {
        let count = |state| study.counts.get(&state).copied().unwrap_or_default();
        Self {
            study: study.name.clone(),
            name: name.clone(),
            directions: study.directions.iter().map(ToString::to_string).collect(),
            waiting: count(TrialState::Waiting),
            running: count(TrialState::Running),
            complete: count(TrialState::Complete),
            pruned: count(TrialState::Pruned),
            fail: count(TrialState::Fail),
        }
    }
}

fn table(imported: &[Imported], dry_run: bool) -> String {
    if imported.is_empty() {
        return "there are no studies in it".to_owned();
    }
    let head = ["study", "directions", "waiting", "running", "complete", "pruned", "fail"];
    let row = |study: &Imported| {
        let counts = [study.waiting, study.running, study.complete, study.pruned, study.fail];
        let mut row = vec![study.name.clone(), study.directions.join(", ")];
        row.extend(counts.map(|count| count.to_string()));
        row
    };
    let mut text = render::table(&head, &head[2..], imported.iter().map(row).collect());
    let running: u64 = imported.iter().map(|study| study.running).sum();
    if running > 0 && !dry_run {
        text.push_str(&format!("\n{running} trials that were RUNNING are FAIL here: their programs go on elsewhere"));
    }
    text
}
