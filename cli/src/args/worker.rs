//! `fleetune worker …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::parse::parse_label;

/// `fleetune worker …`.
#[derive(Debug, Subcommand)]
pub enum WorkerVerb {
    /// Work for a coordinator on this machine: measure what studies ask for, until it is stopped
    Run(Box<WorkerRunArgs>),
    /// List the workers that a coordinator knows
    List,
    /// Show a worker: machine, engine, models, what it does now
    Show {
        /// Name or id of the worker
        worker: String,
    },
    /// Let a worker finish what it measures and take nothing new, also after a restart
    Drain {
        /// Name or id of the worker
        worker: String,
    },
    /// Let a drained worker take jobs again
    Resume {
        /// Name or id of the worker
        worker: String,
    },
}

/// `fleetune worker run`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  fleetune worker run --server http://coordinator:7700 --models /srv/models --label rack=7\n\n\
                  SIGTERM lets it finish the trial it measures; Ctrl-C, or a second signal, gives the trial back at once."
)]
pub struct WorkerRunArgs {
    /// Folder of models (GGUF files) that studies may use; may be repeated
    #[arg(long, value_name = "DIR")]
    pub models: Vec<PathBuf>,
    /// A label, such as `rack=7`; `class=NAME` says which machines are alike; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_label)]
    pub label: Vec<(String, String)>,
    /// Name of the worker [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The program that holds llama.cpp: a `fleetune-runner`, or the `llama-bench` of any build [default:
    /// `fleetune-runner` beside this program]
    #[arg(long, value_name = "PATH")]
    pub runner: Option<PathBuf>,
}
