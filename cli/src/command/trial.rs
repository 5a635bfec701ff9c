//! `fleetune trial …`.

use crate::args::{Format, TrialVerb};
use crate::client::Client;
use crate::error::{CliResult, Exit};
use crate::render;

/// Runs a verb.
pub async fn run(verb: TrialVerb, mut client: Client, format: Format) -> CliResult<Exit> {
    match verb {
        TrialVerb::List { study, state } => {
            render::print(format, &client.trials(&study, &state).await?, |trials| render::trials(trials))?;
        }
        TrialVerb::Show { study, number } => {
            render::print(format, &client.trial(&study, number).await?, render::trial)?;
        }
    }
    Ok(Exit::Done)
}
