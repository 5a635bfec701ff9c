//! `fleetune model …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use fleetune_core::runner::KvType;
use fleetune_model::fit::DEFAULT_MARGIN_MIB;

use super::parse::{parse_kv_type, parse_mib};

/// `fleetune model …`.
#[derive(Debug, Subcommand)]
pub enum ModelVerb {
    /// Write a model with random weights: real in shape and speed, not in what it says
    #[command(after_help = "Example:\n  fleetune model synth --arch llama --size 15m --quant q4_0 -o 15m.gguf")]
    Synth(SynthArgs),
    /// Show what the header of a model file says
    #[command(visible_alias = "inspect")]
    Show {
        /// The model, a GGUF file
        file: PathBuf,
    },
    /// Show how many layers, which context and which KV cache fit into memory, before anything is loaded
    #[command(after_help = "Example:\n  fleetune model estimate model.gguf --vram 12GiB --ctx 16384")]
    Estimate(EstimateArgs),
}

/// `fleetune model estimate`.
#[derive(Debug, Args)]
pub struct EstimateArgs {
    /// The model, a GGUF file
    pub file: PathBuf,
    /// Tokens of context [default: several up to the model's own]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    pub ctx: Option<u32>,
    /// Type of the KV cache [default: `f16`, `q8_0` and `q4_0` are compared]
    #[arg(long, value_name = "TYPE", value_parser = parse_kv_type)]
    pub kv: Option<KvType>,
    /// Layers on GPUs [default: as many as fit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1 << 16))]
    pub ngl: Option<u32>,
    /// Physical batch, tokens [default: the engine's]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    pub ubatch: Option<u32>,
    /// Memory of a GPU, as in `12GiB`; once for each GPU [default: this machine's GPUs]
    #[arg(long, value_name = "SIZE", value_parser = parse_mib)]
    pub vram: Vec<u64>,
    /// Memory of the machine, as in `32GiB` [default: this machine's]
    #[arg(long, value_name = "SIZE", value_parser = parse_mib)]
    pub ram: Option<u64>,
    /// Memory that stays free on each GPU
    #[arg(long, value_name = "SIZE", default_value_t = DEFAULT_MARGIN_MIB, value_parser = parse_mib)]
    pub margin: u64,
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
