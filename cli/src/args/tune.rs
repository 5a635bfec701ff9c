//! `fleetune tune`.

use std::path::PathBuf;

use clap::Args;

use super::search::SearchArgs;

/// `fleetune tune`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  fleetune tune llama-3.1-8b-q4_k_m.gguf --trials 40 --metric balanced")]
pub struct TuneArgs {
    /// The model, a GGUF file
    pub model: PathBuf,
    /// What is searched, how and for how long.
    #[command(flatten)]
    pub search: SearchArgs,
    /// Name of the study [default: model, workload, settings and machine in short]
    #[arg(long, value_name = "NAME")]
    pub study: Option<String>,
    /// Forget what this study has measured and begin anew
    #[arg(long)]
    pub fresh: bool,
    /// The program that holds llama.cpp: a `fleetune-runner`, or the `llama-bench` of any build [default:
    /// `fleetune-runner` beside this program]
    #[arg(long, value_name = "PATH")]
    pub runner: Option<PathBuf>,
}
