//! `fleetune region …`.

use clap::{Args, Subcommand};

/// `fleetune region …`.
#[derive(Debug, Subcommand)]
pub enum RegionVerb {
    /// List the configurations that took machines or engines down, and are not run any more
    List(RegionListArgs),
    /// Show an unsafe region: its corner, and what happened at or beyond it
    Show {
        /// Id of the region
        id: i64,
    },
    /// Forget an unsafe region with what happened in it: it is run again
    Delete {
        /// Id of the region
        id: i64,
    },
}

/// `fleetune region list`.
#[derive(Debug, Args)]
#[command(after_help = "\
A configuration becomes the corner of a region when a machine went down under it, when two workers were lost at or \
beyond it, or when the engine crashed twice alike at or beyond it. Nothing at or beyond the corner (as many layers, as \
large a context, batch or number of threads, everything else equal) is run any more on machines of its class with its \
model, in no study but those created with `--ignore-regions`.")]
pub struct RegionListArgs {
    /// Only those of this device class, as `fleetune worker show` names it
    #[arg(long, value_name = "CLASS")]
    pub class: Option<String>,
    /// Only those of the model whose hash begins so
    #[arg(long, value_name = "HASH")]
    pub model: Option<String>,
}
