//! `fleetune serve`.

use std::path::PathBuf;

use clap::Args;

/// `fleetune serve`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  fleetune serve --storage postgres://fleetune@db/fleetune --listen 127.0.0.1:7700\n  \
                  fleetune serve --listen 0.0.0.0:7700 --tls-cert server.crt --tls-key server.key\n\n\
                  An address that other machines reach needs TLS and a token in the storage (`fleetune token create`).\n\n\
                  SIGTERM and Ctrl-C stop it: what was acknowledged is kept, workers and clients wait for its return."
)]
pub struct ServeArgs {
    /// Address and port to listen on; port 0 takes a free one [default: 127.0.0.1:7700]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Authorities (PEM) of clients, which must then show a certificate that one of them signed
    #[arg(long, value_name = "FILE")]
    pub tls_client_ca: Option<PathBuf>,
    /// Calls that one caller (a token, or an address without) may make in a second; 0 for any number
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub rate_limit: u32,
    /// Listen on an address that other machines reach without TLS, or without a token that anybody would need
    #[arg(long)]
    pub insecure: bool,
}
