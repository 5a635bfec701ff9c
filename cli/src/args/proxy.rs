//! `fleetune proxy`.

use clap::Args;

/// `fleetune proxy`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  fleetune proxy --server https://coordinator:7700 --token-file ann.token\n\n\
                  Optuna's `GrpcStorageProxy()` finds it where it listens by default.\n\n\
                  Every user of this machine may then do what the token may; other machines do not reach it.")]
pub struct ProxyArgs {
    /// Loopback address and port to listen on, in the clear; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:13000")]
    pub listen: String,
}
