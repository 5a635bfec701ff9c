//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use fleetune_core::{Objective, Value};

/// Find the fastest safe llama.cpp settings for a model on this machine.
#[derive(Debug, Parser)]
#[command(name = "fleetune", version, max_term_width = 110, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
}

/// Options of every command.
#[derive(Debug, Args)]
pub struct Global {
    /// Where studies are kept: `sqlite://FILE` or `postgres://USER@HOST/DATABASE` [default: fleetune.db in the data folder]
    #[arg(long, global = true, value_name = "URL", help_heading = "Options of every command")]
    pub storage: Option<String>,
    /// How results are printed
    #[arg(long, global = true, value_enum, value_name = "FORMAT", help_heading = "Options of every command")]
    pub format: Option<Format>,
    /// Configuration file [default: `$FLEETUNE_CONFIG`, else config.toml in the configuration folder]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Options of every command")]
    pub config: Option<PathBuf>,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs; stable.
    Json,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Find the fastest settings for a model on this machine; run it again to resume
    Tune(Box<TuneArgs>),
    /// Look at and steer studies
    Study {
        /// The verb.
        #[command(subcommand)]
        verb: StudyVerb,
    },
    /// Look at trials
    Trial {
        /// The verb.
        #[command(subcommand)]
        verb: TrialVerb,
    },
    /// Make and inspect model files
    Model {
        /// The verb.
        #[command(subcommand)]
        verb: ModelVerb,
    },
    /// Show the configuration
    Config {
        /// The verb.
        #[command(subcommand)]
        verb: ConfigVerb,
    },
}

/// `fleetune tune`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  fleetune tune llama-3.1-8b-q4_k_m.gguf --trials 40 --metric balanced")]
pub struct TuneArgs {
    /// The model, a GGUF file
    pub model: PathBuf,
    /// How many configurations to try; a larger number resumes a finished search [default: 30]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub trials: Option<u32>,
    /// Stop searching after this much time in trials, such as `10m`; the comparison at the end comes on top
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub time: Option<f64>,
    /// What to optimise: decode, prefill, ttft or balanced (time of the whole request) [default: decode]
    #[arg(long, value_name = "METRIC", value_parser = parse_objective)]
    pub metric: Option<Objective>,
    /// Tokens of the prompt [default: 512]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    pub prompt: Option<u32>,
    /// Tokens to generate [default: 128]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    pub r#gen: Option<u32>,
    /// Repetitions of each configuration [default: 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub reps: Option<u32>,
    /// Search space file (TOML or JSON) instead of what matters on this machine
    #[arg(long, value_name = "FILE")]
    pub space: Option<PathBuf>,
    /// Fix a setting, such as `n_ctx=4096`; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_setting)]
    pub set: Vec<(String, Value)>,
    /// Sampler: random, grid or tpe [default: tpe]
    #[arg(long, value_name = "NAME")]
    pub sampler: Option<String>,
    /// Pruner: none, median or threshold [default: median]
    #[arg(long, value_name = "NAME")]
    pub pruner: Option<String>,
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
    /// Name of the study [default: model, workload, settings and machine in short]
    #[arg(long, value_name = "NAME")]
    pub study: Option<String>,
    /// Time limit of one configuration, such as `120s`, waiting for the device not counted [default: 5m]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub timeout_per_trial: Option<f64>,
    /// Forget what this study has measured and begin anew
    #[arg(long)]
    pub fresh: bool,
    /// Do not compare the best with the default in fresh processes at the end
    #[arg(long)]
    pub no_confirm: bool,
    /// Run configurations that are known to reset the GPU under WSL
    #[arg(long)]
    pub allow_wsl_unsafe: bool,
    /// The program that holds llama.cpp [default: `fleetune-runner` beside this program]
    #[arg(long, value_name = "PATH")]
    pub runner: Option<PathBuf>,
}

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

/// `fleetune config …`.
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Print the commented default configuration file
    Default,
    /// Print every setting with where it comes from
    Show,
}

/// Seconds of `90`, `30s`, `10m`, `2h`, `500ms`.
pub fn parse_duration(text: &str) -> Result<f64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        unit => return Err(format!("`{unit}` is no unit of time; use ms, s, m or h, as in `90s` or `10m`")),
    };
    let number: f64 = digits.parse().map_err(|_| format!("`{text}` is no time; write `90s` or `10m`"))?;
    let seconds = number * factor;
    if seconds.is_finite() && seconds > 0.0 && seconds <= 1.0e9 {
        Ok(seconds)
    } else {
        Err(format!("`{text}` is outside what a time may be: above 0, at most 10^9 seconds"))
    }
}

fn parse_objective(text: &str) -> Result<Objective, String> {
    let names = || Objective::ALL.map(Objective::as_str).join(", ");
    Objective::from_name(text).ok_or_else(|| format!("there is no metric `{text}`; use one of {}", names()))
}

fn parse_state(text: &str) -> Result<fleetune_core::TrialState, String> {
    let names = || fleetune_core::TrialState::ALL.map(fleetune_core::TrialState::as_str).join(", ");
    fleetune_core::TrialState::from_name(text)
        .ok_or_else(|| format!("there is no state `{text}`; use one of {}", names()))
}

fn parse_setting(text: &str) -> Result<(String, Value), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok((name.to_owned(), Value::from_cli(value))),
        _ => Err(format!("`{text}` is no setting; write NAME=VALUE, as in `n_ctx=4096`")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_read_as_people_write_them() {
        assert_eq!(parse_duration("90"), Ok(90.0));
        assert_eq!(parse_duration("1.5m"), Ok(90.0));
        assert_eq!(parse_duration("500ms"), Ok(0.5));
        for bad in ["", "m", "-1s", "1d", "0s", "1e300h", "nan"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
