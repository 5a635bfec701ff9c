//! How results look: tables for people, JSON for programs.

mod access;
mod analysis;
mod best;
pub mod progress;
mod region;
mod search;
mod shell;
mod study;
mod table;
mod trial;
pub mod watch;
mod worker;
pub mod worker_log;

use std::io::Write as _;

use serde::Serialize;

pub use access::{deeds, tokens};
pub use analysis::{front, importances, sensitivity};
pub use best::{best, family_best};
pub use region::{region, regions};
pub use shell::{asked, check_variable, for_eval};
pub use study::{studies, study, verify};
pub use table::{number, pairs, seconds, table};
pub use trial::{outcome, trial, trials};
pub use worker::{worker, workers};

use crate::args::Format;
use crate::error::{CliError, CliResult, Exit};

/// Prints `value` in the wanted form.
pub fn print<T: Serialize>(format: Format, value: &T, table: impl FnOnce(&T) -> String) -> CliResult<()> {
    let text = match format {
        Format::Table => table(value),
        Format::Json => serde_json::to_string_pretty(value)
            .map_err(|error| CliError::new(Exit::Unexpected, "failed to write JSON").because(error))?,
    };
    out(&text)
}

/// Prints a text and a newline to stdout. A reader that went away (`| head`) is no error.
pub fn out(text: &str) -> CliResult<()> {
    stream(text.trim_end()).map(|_| ())
}

/// Prints one of many lines to stdout; false when the reader went away.
pub fn stream(line: &str) -> CliResult<bool> {
    let mut stdout = std::io::stdout().lock();
    match writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(CliError::new(Exit::Unexpected, "failed to write to stdout").because(error)),
    }
}

/// Prints a line for people to stderr.
pub fn say(text: &str) {
    // Nobody may be listening; there is nothing better to do about it.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
