//! `fleetune db …`.

use std::path::PathBuf;

use clap::Subcommand;

/// `fleetune db …`.
#[derive(Debug, Subcommand)]
pub enum DbVerb {
    /// Create the tables, or bring them up to date; every other command does so too
    Migrate,
    /// Read everything and say what does not fit together; exit code 1 when something does not
    Check,
    /// Write everything into a new SQLite file, while coordinators work; it is a storage of its own
    #[command(
        after_help = "Example:\n  fleetune db backup /backups/fleetune-2026-11-21.db --storage postgres://fleetune@db/fleetune"
    )]
    Backup {
        /// The file, which must not be there yet
        file: PathBuf,
    },
    /// Write a backup into an empty storage
    #[command(
        after_help = "Example:\n  fleetune db restore /backups/fleetune-2026-11-21.db --storage postgres://fleetune@db/empty"
    )]
    Restore {
        /// The file that `db backup` wrote
        file: PathBuf,
    },
    /// Copy everything from one storage into another one that is empty, be it of the other kind
    #[command(
        after_help = "Example:\n  fleetune db copy sqlite:///home/me/fleetune.db postgres://fleetune@db/fleetune"
    )]
    Copy {
        /// Storage to read; coordinators may work on it, and what they write from now on is not copied
        from: String,
        /// Storage to write, which is made where it is not there
        to: String,
    },
}
