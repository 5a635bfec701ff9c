//! Why a database cannot be read or written.

/// Why a database cannot be read or written. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RdbError {
    /// Neither a file nor a URL that is known.
    #[error("`{0}` is neither a file nor the URL of a database that is read")]
    NoSource(String),
    /// The file is missing.
    #[error("there is no file `{0}`")]
    NoFile(String),
    /// The file is something else.
    #[error("`{0}` is no SQLite database")]
    NoDatabase(String),
    /// The database holds something else.
    #[error("`{0}` is a database, but none of Optuna's: it lacks the table `{1}`")]
    NotOptunas(String, &'static str),
    /// The tables are of an older Optuna.
    #[error("the tables are those of Optuna's schema `{0}`, which is too old")]
    TooOld(String),
    /// The tables are of an Optuna that this program does not know.
    #[error("the tables are those of Optuna's schema `{0}`, which this program does not know")]
    Unknown(String),
    /// Somebody writes for too long.
    #[error("another program has locked the database: {0}")]
    Locked(String),
    /// Rows that no Optuna leaves behind.
    #[error("{what} cannot be read: {why}")]
    Unreadable {
        /// Which, such as a trial of a study.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// A trial that no call can carry.
    #[error("trial {number} of study `{study}` has {mib} MiB of attributes and values; a trial may have {limit_mib}")]
    TooLarge {
        /// The study.
        study: String,
        /// The trial.
        number: i64,
        /// What it has.
        mib: i64,
        /// What it may have.
        limit_mib: i64,
    },
    /// Trials came or went.
    #[error("study `{0}` was changed or deleted while it was read")]
    Changed(String),
    /// The file is there already.
    #[error("there is a file `{0}` already")]
    Exists(String),
    /// A fact that Optuna's tables have no room for.
    #[error("trial {number} {why}, for which Optuna's tables have no form")]
    NoForm {
        /// The trial.
        number: i64,
        /// What it has.
        why: String,
    },
    /// A file cannot be written.
    #[error("`{file}` cannot be written: {why}")]
    CannotWrite {
        /// The file.
        file: String,
        /// The system's words.
        why: String,
    },
    /// The database cannot be reached.
    #[error("cannot open {place}: {why}")]
    CannotOpen {
        /// The database, a password left out.
        place: String,
        /// The database's words.
        why: String,
    },
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(String),
}

impl RdbError {
    /// What to do, where it is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoSource(_) => Some(
                "a source is a file such as `optuna.db`, `sqlite:///optuna.db` or `postgresql://USER@HOST/DATABASE`; of \
                 other storages `optuna.copy_study` makes such a file",
            ),
            Self::NoDatabase(_) => {
                Some("of other storages, such as a journal, `optuna.copy_study` makes a SQLite file")
            }
            Self::TooOld(_) => {
                Some("`optuna storage upgrade --storage URL` of a newer Optuna brings a copy of it up to date")
            }
            Self::Unknown(_) => {
                Some("a newer fleetune may read it; `optuna.copy_study` of Optuna 5 makes one that is read")
            }
            Self::Locked(_) => Some("try again, or import a copy of the file"),
            Self::Changed(_) => Some("try again; what was read is not kept"),
            Self::Exists(_) => Some("name a file that is not there yet"),
            Self::NoFile(_)
            | Self::NotOptunas(..)
            | Self::Unreadable { .. }
            | Self::TooLarge { .. }
            | Self::NoForm { .. }
            | Self::CannotWrite { .. }
            | Self::CannotOpen { .. }
            | Self::Database(_) => None,
        }
    }

    /// Whether the command makes no sense, rather than the database failing.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::NoSource(_) | Self::NoForm { .. } | Self::TooLarge { .. } | Self::Unreadable { .. } => true,
            Self::NoFile(_)
            | Self::NoDatabase(_)
            | Self::NotOptunas(..)
            | Self::TooOld(_)
            | Self::Unknown(_)
            | Self::Locked(_)
            | Self::Changed(_)
            | Self::Exists(_)
            | Self::CannotWrite { .. }
            | Self::CannotOpen { .. }
            | Self::Database(_) => false,
        }
    }
}

/// The error in the words of this room.
#[expect(clippy::needless_pass_by_value, reason = "fits map_err")]
pub(crate) fn database(error: sqlx::Error) -> RdbError {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    let code = code.and_then(|code| code.parse::<u32>().ok()).unwrap_or_default();
    // SQLITE_BUSY and SQLITE_LOCKED; the low byte is the primary code. Those of Postgres have five digits.
    match code & 0xff {
        5 | 6 if code < 10_000 => RdbError::Locked(error.to_string()),
        _ => RdbError::Database(error.to_string()),
    }
}
