//! What can be typed; a file per noun, and how words are read.

mod db;
mod model;
mod parse;
mod proxy;
mod region;
mod search;
mod serve;
mod study;
mod token;
mod trial;
mod tune;
mod worker;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use db::DbVerb;
pub use model::{EstimateArgs, ModelVerb, SynthArgs};
pub use parse::{parse_days, parse_duration};
pub use proxy::ProxyArgs;
pub use region::RegionVerb;
pub use search::SearchArgs;
pub use serve::ServeArgs;
pub use study::{CreateArgs, ImportArgs, ScheduleArgs, StudyVerb, UpdateArgs};
pub use token::{AuditArgs, TokenCreateArgs, TokenVerb};
pub use trial::{AskArgs, TellArgs, TrialVerb};
pub use tune::TuneArgs;
pub use worker::{WorkerRunArgs, WorkerVerb};

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
    /// The coordinator to talk to, such as `http://127.0.0.1:7700` [default: one in this process]
    #[arg(long, global = true, value_name = "URL", help_heading = "Options of every command")]
    pub server: Option<String>,
    /// Where studies are kept: `sqlite://FILE` or `postgres://USER@HOST/DATABASE` [default: fleetune.db in the data folder]
    #[arg(long, global = true, value_name = "URL", help_heading = "Options of every command")]
    pub storage: Option<String>,
    /// File with the token that the coordinator asks for
    #[arg(long, global = true, value_name = "FILE", help_heading = "Options of every command")]
    pub token_file: Option<PathBuf>,
    /// Authorities (PEM) to trust for https:// [default: the system's]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Options of every command")]
    pub tls_ca: Option<PathBuf>,
    /// Certificate (PEM) to show to the other side
    #[arg(long, global = true, value_name = "FILE", help_heading = "Options of every command")]
    pub tls_cert: Option<PathBuf>,
    /// Key (PEM) of the certificate
    #[arg(long, global = true, value_name = "FILE", help_heading = "Options of every command")]
    pub tls_key: Option<PathBuf>,
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
    /// Run a coordinator that workers and clients on other machines use
    Serve(ServeArgs),
    /// Let Optuna clients of this machine use a coordinator that asks for TLS and a token
    Proxy(ProxyArgs),
    /// Work for a coordinator, and look after its workers
    Worker {
        /// The verb.
        #[command(subcommand)]
        verb: WorkerVerb,
    },
    /// Create, look at and steer studies
    Study {
        /// The verb.
        #[command(subcommand)]
        verb: StudyVerb,
    },
    /// Look at trials, and measure them in scripts
    Trial {
        /// The verb.
        #[command(subcommand)]
        verb: TrialVerb,
    },
    /// Look at what took machines down and is not run any more
    Region {
        /// The verb.
        #[command(subcommand)]
        verb: RegionVerb,
    },
    /// Create, list and revoke the tokens that a coordinator asks for
    Token {
        /// The verb.
        #[command(subcommand)]
        verb: TokenVerb,
    },
    /// Check, back up, restore and copy storages
    Db {
        /// The verb.
        #[command(subcommand)]
        verb: DbVerb,
    },
    /// Show who changed what
    Audit(AuditArgs),
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
    /// Stand between a worker and a program of others: answer a runner's request on stdin
    #[command(hide = true)]
    Adapter {
        /// What sort of program.
        #[command(subcommand)]
        program: AdapterVerb,
    },
    /// Print what makes a shell complete commands and options
    #[command(after_help = "\
Examples:
  fleetune completions bash > ~/.local/share/bash-completion/completions/fleetune
  fleetune completions zsh > ~/.zfunc/_fleetune          # with `fpath+=~/.zfunc` in ~/.zshrc
  fleetune completions fish > ~/.config/fish/completions/fleetune.fish")]
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write a page for each command
    #[command(after_help = "\
Examples:
  fleetune man | man -l -
  fleetune man --output ~/.local/share/man/man1          # then `man fleetune-study-create`")]
    Man {
        /// Folder to write the pages to; it is made if it is not there
        #[arg(long, value_name = "DIR")]
        output: Option<PathBuf>,
    },
}

/// `fleetune adapter …`.
#[derive(Debug, Subcommand)]
pub enum AdapterVerb {
    /// `llama-bench` of any build of llama.cpp
    LlamaBench {
        /// The program
        path: PathBuf,
    },
}

/// `fleetune config …`.
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Print the commented default configuration file
    Default,
    /// Print every setting with where it comes from
    Show,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
