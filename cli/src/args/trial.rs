//! `fleetune trial …`.

use clap::Subcommand;

use super::parse::parse_state;

/// `fleetune trial …`.
#[derive(Debug, Subcommand)]
pub enum TrialVerb {
    /// List the trials of a study
    List {
        /// Name of the study
        study: String,
        /// Only these states: waiting, running, complete, pruned, fail
        #[arg(long, value_name = "STATE", value_parser = parse_state)]
        state: Vec<fleetune_core::TrialState>,
    },
    /// Show a trial with its executions: samples, effective settings, stderr
    Show {
        /// Name of the study
        study: String,
        /// Number of the trial
        number: i64,
    },
}
