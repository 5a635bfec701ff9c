//! `fleetune study watch`: follows a study to its end, also over a coordinator that goes away and comes back.

use std::time::{Duration, Instant};

use tokio_stream::StreamExt as _;

use crate::args::Format;
use crate::client::{Broken, Change, Client};
use crate::error::{CliError, CliResult, Exit};
use crate::render::watch::Watching;
use crate::render::{self, seconds};
use crate::signals::Signals;
use crate::view::{EventView, StudyView};

/// Before the first attempt to go on.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Before any other.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Prints every change until the study ends.
pub async fn watch(mut client: Client, name: &str, format: Format) -> CliResult<Exit> {
    let study = client.show(name).await?;
    let mut display = match format {
        Format::Table => Display::Lines(Box::new(Watching::new(study))),
        Format::Json => Display::Events { study: String::new() },
    };
    let mut signals = Signals::new()?;
    tokio::select! {
        ended = follow(&mut client, name, &mut display) => ended,
        _ = signals.recv() => Ok(Exit::Interrupted),
    }
}

async fn follow(client: &mut Client, name: &str, display: &mut Display) -> CliResult<Exit> {
    let mut after = 0;
    let mut pause = FIRST_PAUSE;
    let mut away = false;
    let mut last: Option<StudyView> = None;
    loop {
        let began = Instant::now();
        let why = match client.watch_after(name, after).await {
            Err(Broken::Refused(error)) => return Err(error),
            Err(Broken::Away(error)) => error,
            Ok(mut changes) => loop {
                match changes.next().await {
                    Some(Ok((change, revision))) => {
                        if std::mem::take(&mut away) {
                            render::say("the coordinator answers again");
                        }
                        after = revision;
                        if !display.show(&change)? {
                            // Nobody reads any more.
                            return Ok(Exit::Done);
                        }
                        if let Change::Study(study) = change {
                            last = Some(*study);
                        }
                    }
                    Some(Err(Broken::Refused(error))) => return Err(error),
                    Some(Err(Broken::Away(error))) => break error,
                    None => match &last {
                        Some(study) if study.has_ended() => return end(study),
                        _ => break CliError::new(Exit::Unreachable, "the coordinator ended the stream"),
                    },
                }
            },
        };
        away = true;
        if began.elapsed() > LONGEST_PAUSE {
            pause = FIRST_PAUSE;
        }
        let cause = why.causes.first().unwrap_or(&why.what);
        let wait = seconds(pause.as_secs_f64());
        render::say(&format!("the coordinator does not answer ({cause}); trying again in {wait}"));
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn end(study: &StudyView) -> CliResult<Exit> {
    if study.state == "failed" {
        return Err(CliError::new(Exit::TrialFailed, format!("study `{}` failed", study.name)).because(&study.reason));
    }
    Ok(Exit::Done)
}

/// Where changes go.
enum Display {
    /// For people.
    Lines(Box<Watching>),
    /// For programs; with the study as it was printed last, which comes again with every new stream.
    Events { study: String },
}

impl Display {
    /// Prints a change; false when nobody reads.
    fn show(&mut self, change: &Change) -> CliResult<bool> {
        let lines = match (self, change) {
            (Self::Lines(watching), Change::Study(study)) => watching.study(study),
            (Self::Lines(watching), Change::Trial(trial)) => watching.trial(trial),
            (Self::Events { .. }, Change::Trial(trial)) => vec![json(&EventView::Trial(trial))?],
            (Self::Events { study: last }, Change::Study(study)) => {
                let line = json(&EventView::Study(study))?;
                if line == *last {
                    return Ok(true);
                }
                last.clone_from(&line);
                vec![line]
            }
        };
        for line in lines {
            if !render::stream(&line)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn json(event: &EventView) -> CliResult<String> {
    serde_json::to_string(event).map_err(|error| CliError::new(Exit::Unexpected, "failed to write JSON").because(error))
}
