//! `fleetune model …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `fleetune model …`.
#[derive(Debug, Subcommand)]
pub enum ModelVerb {
    /// Write a model with random weights: real in shape and speed, not in what it says
    #[command(after_help = "Example:\n  fleetune model synth --arch llama --size 15m --quant q4_0 -o 15m.gguf")]
    Synth(SynthArgs),
    /// Show what the header of a model file says
    Show {
        /// The model, a GGUF file
        file: PathBuf,
    },
}

/// `fleetune model synth`.
#[derive(Debug, Args)]
pub struct SynthArgs {
    /// Architecture; `llama` is the one of this version
    #[arg(long, default_value = "llama", value_name = "NAME")]
    pub arch: String,
    /// Size: `tiny`, `15m` or `110m`
    #[arg(long, default_value = "15m", value_name = "SIZE")]
    pub size: String,
    /// Quantisation: `q4_0`, `q8_0` or `f16`
    #[arg(long, default_value = "q4_0", value_name = "TYPE")]
    pub quant: String,
    /// Seed of the weights
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub seed: u64,
    /// File to write
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
}
