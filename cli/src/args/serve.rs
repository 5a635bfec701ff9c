//! `fleetune serve`.

use clap::Args;

/// `fleetune serve`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  fleetune serve --storage postgres://fleetune@db/fleetune --listen 127.0.0.1:7700\n\n\
                  SIGTERM and Ctrl-C stop it: what was acknowledged is kept, workers and clients wait for its return."
)]
pub struct ServeArgs {
    /// Address and port to listen on; port 0 takes a free one [default: 127.0.0.1:7700]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Listen on an address that other machines reach, though everyone who reaches it may do everything
    #[arg(long)]
    pub insecure: bool,
}
