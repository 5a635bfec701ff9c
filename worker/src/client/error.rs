//! Why a call failed.

use std::fmt;

use fleetune_proto::convert::Invalid;
use thiserror::Error;
use tonic::{Code, Status};

/// Metadata keys of a refusal.
const REASON: &str = "fleetune-reason";
const HINT: &str = "fleetune-hint";

/// The stable reason of a refusal. Branch on this, never on text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The coordinator does not know this worker: register again.
    WorkerUnknown,
    /// Another attempt owns the job.
    LeaseLost,
    /// The trial has ended.
    TrialEnded,
    /// There is no such study.
    StudyNotFound,
    /// Anything else.
    Other(String),
}

impl Reason {
    fn from_name(name: &str) -> Self {
        match name {
            "WORKER_UNKNOWN" => Self::WorkerUnknown,
            "TRIAL_LEASE_LOST" => Self::LeaseLost,
            "TRIAL_ENDED" => Self::TrialEnded,
            "STUDY_NOT_FOUND" => Self::StudyNotFound,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WorkerUnknown => "WORKER_UNKNOWN",
            Self::LeaseLost => "TRIAL_LEASE_LOST",
            Self::TrialEnded => "TRIAL_ENDED",
            Self::StudyNotFound => "STUDY_NOT_FOUND",
            Self::Other(other) => other,
        })
    }
}

/// Why a call failed.
#[derive(Clone, Debug, Error)]
pub enum ClientError {
    /// The coordinator said no, and why.
    #[error("the coordinator refused ({reason}): {message}{}", hint.as_deref().map(|hint| format!("; {hint}")).unwrap_or_default())]
    Refused {
        /// To branch on.
        reason: Reason,
        /// For people.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// No answer; the same call may work later.
    #[error("the coordinator does not answer: {message}")]
    Unavailable {
        /// What the transport says.
        message: String,
    },
    /// The coordinator or the transport failed for good.
    #[error("the coordinator failed ({code:?}): {message}; do both have the same version?")]
    Failed {
        /// gRPC's code.
        code: Code,
        /// What it says.
        message: String,
    },
    /// An answer that means nothing here.
    #[error("the coordinator's answer cannot be understood: {0}; do both have the same version?")]
    Invalid(#[from] Invalid),
}

impl ClientError {
    /// Whether the same call may work later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// The reason of a refusal.
    pub fn reason(&self) -> Option<&Reason> {
        match self {
            Self::Refused { reason, .. } => Some(reason),
            Self::Unavailable { .. } | Self::Failed { .. } | Self::Invalid(_) => None,
        }
    }
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        let text = |key| status.metadata().get(key).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let message = status.message().to_owned();
        match text(REASON) {
            Some(reason) => Self::Refused { reason: Reason::from_name(&reason), message, hint: text(HINT) },
            None if super::is_transient(status.code()) => {
                let message = if message.is_empty() { format!("{:?}", status.code()) } else { message };
                Self::Unavailable { message }
            }
            None => Self::Failed { code: status.code(), message },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_in_the_metadata_decides() {
        let mut status = Status::failed_precondition("attempt 1 lost its lease");
        status.metadata_mut().insert(REASON, "TRIAL_LEASE_LOST".parse().unwrap());
        let error = ClientError::from(status);
        assert_eq!(error.reason(), Some(&Reason::LeaseLost));
        assert!(!error.is_transient());
        assert!(ClientError::from(Status::unavailable("gone")).is_transient());
        assert!(ClientError::from(Status::cancelled("timeout expired")).is_transient());
        assert!(!ClientError::from(Status::internal("bug")).is_transient());
    }
}
