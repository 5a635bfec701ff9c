//! `fleetune completions`.

use clap::CommandFactory as _;

use crate::args::Cli;
use crate::error::{CliError, CliResult, Exit};
use crate::render;

/// Prints the script for `shell`.
pub fn run(shell: clap_complete::Shell) -> CliResult<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "fleetune", &mut script);
    let script = String::from_utf8(script)
        .map_err(|error| CliError::new(Exit::Unexpected, "the script is no text").because(error))?;
    render::out(&script)?;
    Ok(Exit::Done)
}
