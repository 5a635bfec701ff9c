//! `fleetune man`.

use std::path::Path;

use clap::CommandFactory as _;

use crate::args::Cli;
use crate::error::{CliError, CliResult, Exit};
use crate::render;

/// Prints the main page, or writes every page into `folder`.
pub fn run(folder: Option<&Path>) -> CliResult<Exit> {
    let Some(folder) = folder else {
        let mut page = Vec::new();
        let written = clap_mangen::Man::new(Cli::command()).render(&mut page);
        written.map_err(|error| CliError::new(Exit::Unexpected, "failed to write the page").because(error))?;
        render::out(&String::from_utf8_lossy(&page))?;
        return Ok(Exit::Done);
    };
    let written = std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(Cli::command(), folder));
    written.map_err(|error| {
        CliError::new(Exit::NotFoundOrConflict, format!("failed to write the pages to `{}`", folder.display()))
            .because(error)
    })?;
    render::say(&format!("the pages are in {}", folder.display()));
    Ok(Exit::Done)
}
