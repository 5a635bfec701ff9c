//! `fleetune study export --to FILE`: into a database that Optuna opens.

use std::path::Path;

use fleetune_proto::link::Link;
use fleetune_rdb::Writer;
use serde::Serialize;

use super::import::{bar, leave, refused};
use crate::args::Format;
use crate::client::{Client, Transfer};
use crate::error::{CliError, CliResult, Exit};
use crate::render;
use crate::signals::Signals;

#[derive(Serialize)]
struct Exported {
    study: String,
    file: String,
    trials: u64,
}

/// Writes study `name` into the new file `file`.
pub async fn export(link: Link, name: &str, file: &Path, format: Format) -> CliResult<()> {
    let mut signals = Signals::new()?;
    let counts = Client::new(link.clone()).show(name).await?.trials;
    let total = counts.ended() + counts.waiting + counts.running;
    let trials = tokio::select! {
        written = write(Transfer::new(link), name, total, file) => written?,
        _ = signals.recv() => return Err(CliError::new(Exit::Interrupted, "the export was stopped")),
    };
    let exported = Exported { study: name.to_owned(), file: file.display().to_string(), trials };
    render::print(format, &exported, |exported| {
        format!("{} trials of study `{}` are in `{}`", exported.trials, exported.study, exported.file)
    })
}

async fn write(mut transfer: Transfer, name: &str, total: u64, file: &Path) -> CliResult<u64> {
    let failed = || refused(format!("failed to export study `{name}`"));
    let study = transfer.study(name).await?;
    let mut writer = Writer::create(file).await.map_err(failed())?;
    let id = writer.study(&study).await.map_err(failed())?;
    let mut trials = transfer.trials(&study).await?;
    let bar = bar(total);
    let mut count = 0;
    loop {
        let page = trials.next().await?;
        if page.is_empty() {
            break;
        }
        for mut trial in page {
            leave(&mut trial);
            writer.trial(id, &trial).await.map_err(failed())?;
            count += 1;
        }
        bar.set_position(count);
    }
    writer.finish().await.map_err(failed())?;
    bar.finish_and_clear();
    Ok(count)
}
