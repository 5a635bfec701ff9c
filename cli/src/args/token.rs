//! `fleetune token …` and `fleetune audit`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use fleetune_core::Role;

use super::parse::{parse_days, parse_role};

/// `fleetune token …`.
#[derive(Debug, Subcommand)]
pub enum TokenVerb {
    /// Create a token and print it, once: only its hash is stored
    Create(TokenCreateArgs),
    /// List the tokens, revoked and expired ones too
    List,
    /// Make a token worthless at once
    #[command(
        after_help = "Example:\n  fleetune token revoke ci --server https://coordinator:7700 --token-file admin.token"
    )]
    Revoke {
        /// Name or id of the token
        token: String,
    },
}

/// `fleetune token create`.
#[derive(Debug, Args)]
#[command(after_help = "\
The first token is created over the storage itself; from then on the coordinator asks every caller for one. Roles: \
admin may do everything, client works with studies and trials, worker takes jobs and reports them.

Examples:
  fleetune token create boss --role admin --storage postgres://fleetune@db/fleetune --output admin.token
  fleetune token create gpu-1 --role worker --server https://coordinator:7700 --token-file admin.token")]
pub struct TokenCreateArgs {
    /// Name of the token, such as who or what it is for
    pub name: String,
    /// What its holder may do: admin, client or worker
    #[arg(long, value_name = "ROLE", value_parser = parse_role)]
    pub role: Role,
    /// Make it worthless after this time, such as `90d` or `12h` [default: never]
    #[arg(long, value_name = "TIME", value_parser = parse_days)]
    pub expires_in: Option<f64>,
    /// Write it to a new file that only you can read, instead of printing it
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `fleetune audit`.
#[derive(Debug, Args)]
#[command(after_help = "\
Newest first. Recorded are creation, change and removal of studies, queued and cancelled trials, workers that are \
drained or resumed, and tokens; what was asked and told stands in the trials themselves.

Example:
  fleetune audit --study llama --limit 20")]
pub struct AuditArgs {
    /// Only what concerns this study
    #[arg(long, value_name = "NAME")]
    pub study: Option<String>,
    /// How many entries
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
}
