//! What goes wrong at the edge: a code for programs, three lines for people.

use std::fmt;
use std::process::ExitCode;

use fleetune_proto::reason::{HINT_KEY, REASON_KEY, Reason, decode_hint};

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// Something that should not happen.
    Unexpected,
    /// The command or a file it names makes no sense.
    Usage,
    /// What was named is not there, or is in the way.
    NotFoundOrConflict,
    /// The coordinator or its storage cannot be reached, or does not let us in.
    Unreachable,
    /// No trial gave a result.
    TrialFailed,
    /// Stopped by Ctrl-C; the search can be resumed.
    Interrupted,
}

impl Exit {
    /// The process exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Unexpected => 1,
            Self::Usage => 2,
            Self::NotFoundOrConflict => 3,
            Self::Unreachable => 4,
            Self::TrialFailed => 5,
            // 128 + SIGINT, as shells say it.
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// An error as it is printed: what failed, why, what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CliError {
    /// How the program ends.
    pub exit: Exit,
    /// What failed.
    pub what: String,
    /// Why, outermost first.
    pub causes: Vec<String>,
    /// What to do, where it is known, as something that can be pasted.
    pub hint: Option<String>,
    /// The coordinator's stable reason, where it gave one.
    pub reason: Option<Reason>,
}

/// The result of a command.
pub type CliResult<T> = Result<T, CliError>;

impl CliError {
    /// An error without causes or hint.
    pub fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), causes: Vec::new(), hint: None, reason: None }
    }

    /// Adds why.
    #[must_use]
    pub fn because(mut self, cause: impl fmt::Display) -> Self {
        self.causes.push(cause.to_string());
        self
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says what was attempted when `status` came back.
    pub fn from_status(what: impl Into<String>, status: &tonic::Status) -> Self {
        let text = |key: &str| status.metadata().get(key).and_then(|value| value.to_str().ok());
        let reason = text(REASON_KEY).and_then(Reason::from_text);
        let exit = match reason {
            Some(Reason::InvalidArgument | Reason::NonFinite | Reason::Unimplemented | Reason::NoSpace) => Exit::Usage,
            Some(
                Reason::StudyNotFound
                | Reason::StudyExists
                | Reason::StudyPreparing
                | Reason::StudyFinished
                | Reason::StudyState
                | Reason::TrialNotFound
                | Reason::TrialState
                | Reason::TrialEnded
                | Reason::TrialLeased
                | Reason::TrialLeaseLost
                | Reason::JobNotFound
                | Reason::WorkerUnknown
                | Reason::SpaceExhausted
                | Reason::TooFewTrials
                | Reason::Contended
                | Reason::TokenExists
                | Reason::TokenNotFound
                | Reason::RegionNotFound,
            ) => Exit::NotFoundOrConflict,
            Some(
                Reason::StorageFull
                | Reason::Storage
                | Reason::Stopping
                | Reason::Overloaded
                | Reason::Unauthenticated
                | Reason::PermissionDenied,
            ) => Exit::Unreachable,
            // What was made on this side tells of a connection that broke.
            None if status.code() == tonic::Code::Unavailable || std::error::Error::source(status).is_some() => {
                Exit::Unreachable
            }
            None => Exit::Unexpected,
        };
        Self {
            exit,
            what: what.into(),
            causes: vec![status.message().to_owned()],
            hint: text(HINT_KEY).map(decode_hint),
            reason,
        }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.what)?;
        for cause in &self.causes {
            write!(f, "\n  caused by: {cause}")?;
        }
        match &self.hint {
            Some(hint) => write!(f, "\n\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_reads_what_why_and_what_to_do() {
        let error = CliError::new(Exit::Usage, "failed to create study `q4-decode`")
            .because("parameter `n_batch`: range starts at 0, but a logarithmic range must start above 0")
            .hint("set `low = 1`, or drop `log = true`");
        assert_eq!(
            error.to_string(),
            "error: failed to create study `q4-decode`\n  caused by: parameter `n_batch`: range starts at 0, but a \
             logarithmic range must start above 0\n\nhint: set `low = 1`, or drop `log = true`"
        );
    }
}
