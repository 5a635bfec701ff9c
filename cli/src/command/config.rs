//! `fleetune config …`.

use serde::Serialize;

use crate::args::{ConfigVerb, Format};
use crate::config::{DEFAULT_FILE, Loaded};
use crate::error::{CliResult, Exit};
use crate::render;

/// An empty value is easily overlooked.
fn shown(value: &str) -> &str {
    if value.is_empty() { "\"\"" } else { value }
}

#[derive(Serialize)]
struct Setting<'a> {
    key: &'a str,
    value: &'a str,
    origin: String,
}

/// Runs a verb.
pub fn run(verb: &ConfigVerb, loaded: &Loaded, format: Format) -> CliResult<Exit> {
    match verb {
        ConfigVerb::Default => render::out(DEFAULT_FILE)?,
        ConfigVerb::Show => {
            let settings: Vec<_> = loaded
                .origins
                .iter()
                .map(|(key, value, origin)| Setting { key, value, origin: origin.to_string() })
                .collect();
            render::print(format, &settings, |settings| {
                let lines = settings.iter().map(|set| format!("{} = {}  # {}", set.key, shown(set.value), set.origin));
                lines.collect::<Vec<_>>().join("\n")
            })?;
        }
    }
    Ok(Exit::Done)
}
