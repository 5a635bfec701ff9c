//! What is searched, how and for how long: shared by `tune` and `study create`.

use std::path::PathBuf;

use clap::Args;
use fleetune_core::{Objective, Value};

use super::parse::{parse_duration, parse_objective, parse_setting};

/// Options of a search. Those that say how a model is measured need the argument `model` of the command.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "a flag each")]
pub struct SearchArgs {
    /// How many configurations to try; a larger number resumes a finished search [default: 30]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub trials: Option<u32>,
    /// Stop searching after this much time in trials, such as `10m`; the comparison at the end comes on top
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub time: Option<f64>,
    /// What to optimise: decode, prefill, ttft or balanced (time of the whole request) [default: decode]
    #[arg(long, requires = "model", value_name = "METRIC", value_parser = parse_objective)]
    pub metric: Option<Objective>,
    /// Tokens of the prompt [default: 512]
    #[arg(long, requires = "model", value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    pub prompt: Option<u32>,
    /// Tokens to generate [default: 128]
    #[arg(long, requires = "model", value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    pub r#gen: Option<u32>,
    /// Repetitions of each configuration [default: 5]
    #[arg(long, requires = "model", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub reps: Option<u32>,
    /// Search space file (TOML or JSON) instead of what matters on the machine
    #[arg(long, value_name = "FILE")]
    pub space: Option<PathBuf>,
    /// Fix a setting, such as `n_ctx=4096`; may be repeated
    #[arg(long, requires = "model", value_name = "NAME=VALUE", value_parser = parse_setting)]
    pub set: Vec<(String, Value)>,
    /// Sampler: auto, tpe, tpe-optuna5, random, grid, qmc, brute-force, cma-es or nsga-ii [default: auto]
    #[arg(long, value_name = "NAME")]
    pub sampler: Option<String>,
    /// Option of the sampler, by Optuna's name: `--sampler tpe-optuna5 --sampler-option group=true`; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_setting)]
    pub sampler_option: Vec<(String, Value)>,
    /// Pruner: none, racing, median, percentile, successive-halving, hyperband, threshold, patient or wilcoxon
    /// [default: racing]
    #[arg(long, value_name = "NAME")]
    pub pruner: Option<String>,
    /// Option of the pruner: `--pruner patient --pruner-option patience=2 --pruner-option wrapped=median`; may be
    /// repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_setting)]
    pub pruner_option: Vec<(String, Value)>,
    /// With `--pruner threshold`: stop a trial whose metric is below this
    #[arg(long, value_name = "VALUE", allow_negative_numbers = true)]
    pub prune_below: Option<f64>,
    /// With `--pruner threshold`: stop a trial whose metric is above this
    #[arg(long, value_name = "VALUE", allow_negative_numbers = true)]
    pub prune_above: Option<f64>,
    /// Stop as soon as the metric is this good
    #[arg(long, value_name = "VALUE", allow_negative_numbers = true)]
    pub target: Option<f64>,
    /// Seed of everything drawn at random [default: 0]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Time limit of one configuration, such as `120s`, waiting for the device not counted [default: 5m]
    #[arg(long, requires = "model", value_name = "TIME", value_parser = parse_duration)]
    pub timeout_per_trial: Option<f64>,
    /// Do not compare the best with the default in fresh processes at the end
    #[arg(long, requires = "model")]
    pub no_confirm: bool,
    /// Search without what arithmetic says of memory, speed and equal settings beforehand, for comparison
    #[arg(long)]
    pub no_prior: bool,
    /// Begin with what an earlier study found, of this model or another one; may be repeated
    #[arg(long, value_name = "STUDY")]
    pub warm_start: Vec<String>,
    /// Run configurations that are known to reset the GPU under WSL
    #[arg(long, requires = "model")]
    pub allow_wsl_unsafe: bool,
    /// Run configurations at or beyond one that took machines like this one down (`fleetune region list`)
    #[arg(long, requires = "model")]
    pub ignore_regions: bool,
}
