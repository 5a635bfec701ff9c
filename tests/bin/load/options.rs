//! What can be asked for.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Measure how many ask and tell pairs a coordinator serves, and how long they take.
///
/// Without options all combinations are measured, which takes about five minutes. Databases lie in `$TMPDIR`: set it to
/// a folder on the disk that is to be measured, never to one in memory.
#[derive(Debug, Parser)]
#[command(name = "fleetune-load", max_term_width = 110)]
pub struct Options {
    /// Databases to measure, comma-separated
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Storage::Sqlite, Storage::Postgres])]
    pub storage: Vec<Storage>,
    /// Samplers to measure, comma-separated
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Sampler::Random, Sampler::Tpe])]
    pub sampler: Vec<Sampler>,
    /// Clients that ask and tell side by side, each on a connection of its own; comma-separated
    #[arg(long, value_delimiter = ',', value_name = "N", default_values_t = [1, 8, 64],
        value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub clients: Vec<u32>,
    /// Length of a repetition in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0, value_parser = seconds)]
    pub seconds: f64,
    /// Repetitions of each combination
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub repetitions: u32,
    /// Measure Optuna's own gRPC server on the same Postgres as well; `make bench ARGS=--rival` installs it
    #[arg(long)]
    pub rival: bool,
    /// Ask and tell pairs a second, of all clients together; 0: as many as they can
    #[arg(long, value_name = "PAIRS", default_value_t = 0.0, value_parser = rate)]
    pub rate: f64,
    /// Simulated workers beside the clients, each with the lease of a trial that lasts 30 s, and a heartbeat every 5 s
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=10_000))]
    pub workers: u32,
    /// Instead: let one study grow to these numbers of trials, and measure opening, asks and lists at each
    #[arg(long, value_delimiter = ',', value_name = "TRIALS", conflicts_with_all = ["clients", "workers", "rival"],
        value_parser = clap::value_parser!(i64).range(200..=10_000_000))]
    pub growth: Vec<i64>,
    /// Instead: measure programs of Optuna's, each client a process, on this server and on Optuna's own; `make bench-optuna`
    /// installs it
    #[arg(long, conflicts_with_all = ["growth", "workers", "rival", "rate", "format"])]
    pub optuna: bool,
    /// Trials of the studies that clients of `--optuna` read, comma-separated; asks are timed in the first
    #[arg(long, value_delimiter = ',', value_name = "TRIALS", requires = "optuna", default_values_t = [10_000, 100_000],
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub sizes: Vec<u32>,
    /// How results are printed
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub format: Output,
    /// The program that serves [default: `fleetune` beside this program]
    #[arg(long, value_name = "PATH")]
    pub program: Option<PathBuf>,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "give pairs a second, such as 200".to_owned())?;
    if (0.0..=1e6).contains(&rate) { Ok(rate) } else { Err("give 0 to 1000000".to_owned()) }
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "give seconds, such as 5".to_owned())?;
    if (0.1..=3_600.0).contains(&seconds) { Ok(seconds) } else { Err("give 0.1 to 3600".to_owned()) }
}

/// Where studies are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Storage {
    /// A file.
    Sqlite,
    /// A private cluster that waits for the disk, as Postgres does by default.
    Postgres,
}

impl Storage {
    /// As it is called in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }
}

/// How parameters are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sampler {
    /// Costs next to nothing: shows transport and storage.
    Random,
    /// Thinks longer as the study grows.
    Tpe,
}

impl Sampler {
    /// As it is called on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Tpe => "tpe",
        }
    }
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Tables in Markdown.
    Table,
    /// One JSON document.
    Json,
}
