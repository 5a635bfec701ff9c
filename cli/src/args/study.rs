//! `fleetune study …`.

use clap::Subcommand;

/// `fleetune study …`.
#[derive(Debug, Subcommand)]
pub enum StudyVerb {
    /// List all studies
    List,
    /// Show a study: state, budget, machine, progress
    Show {
        /// Name of the study
        name: String,
    },
    /// Show the best configurations, the comparison with the default, and the llama-server command
    Best {
        /// Name of the study
        name: String,
        /// How many to list
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
        top: u32,
    },
    /// Start no more trials; running ones go on
    Pause {
        /// Name of the study
        name: String,
    },
    /// Undo a pause
    Resume {
        /// Name of the study
        name: String,
    },
    /// End a study and its running trials
    Cancel {
        /// Name of the study
        name: String,
    },
    /// Remove a study and everything in it
    Delete {
        /// Name of the study
        name: String,
        /// Even while trials of it run
        #[arg(long)]
        force: bool,
    },
    /// Recompute every suggestion from the stored events
    Verify {
        /// Name of the study
        name: String,
    },
    /// Write a study with all trials and their measurements as JSON to stdout
    Export {
        /// Name of the study
        name: String,
    },
}
