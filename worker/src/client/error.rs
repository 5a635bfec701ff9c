//! Why a call failed.

use std::time::Duration;

use fleetune_proto::convert::Invalid;
use fleetune_proto::reason::{HINT_KEY, REASON_KEY, Reason, decode_hint};
use fleetune_proto::retry::retry_after;
use thiserror::Error;
use tonic::{Code, Status};

/// Why a call failed.
#[derive(Clone, Debug, Error)]
pub enum ClientError {
    /// The coordinator said no, and why.
    #[error(
        "the coordinator refused ({}): {message}{}",
        reason.as_str(),
        hint.as_deref().map(|hint| format!("; {hint}")).unwrap_or_default()
    )]
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
        /// Whether its storage cannot grow, which passes only when somebody makes room.
        storage_full: bool,
        /// When the coordinator wants to be asked again, where it says so.
        retry_after: Option<Duration>,
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

    /// How long to wait before the next try, where the coordinator says so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => *retry_after,
            Self::Refused { .. } | Self::Failed { .. } | Self::Invalid(_) => None,
        }
    }

    /// Whether the coordinator has no room for what it was told.
    pub fn is_storage_full(&self) -> bool {
        matches!(self, Self::Unavailable { storage_full: true, .. })
    }

    /// Whether the coordinator no longer takes anything for the job: it belongs to another attempt, is over, or is gone
    /// with its study.
    pub fn is_lost(&self) -> bool {
        matches!(
            self.reason(),
            Some(Reason::TrialLeaseLost | Reason::TrialEnded | Reason::JobNotFound | Reason::StudyNotFound)
        )
    }

    /// The reason of a refusal.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Refused { reason, .. } => Some(*reason),
            Self::Unavailable { .. } | Self::Failed { .. } | Self::Invalid(_) => None,
        }
    }
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        let text = |key| status.metadata().get(key).and_then(|value| value.to_str().ok());
        let message =
            if status.message().is_empty() { format!("{:?}", status.code()) } else { status.message().to_owned() };
        let reason = text(REASON_KEY).and_then(Reason::from_text);
        let passes = match status.code() {
            // A database that is away is a reason too, but one that passes.
            Code::Unavailable | Code::Aborted | Code::ResourceExhausted => true,
            // tonic says CANCELLED for its own time-outs, and UNKNOWN for some broken connections.
            Code::Cancelled | Code::DeadlineExceeded | Code::Unknown => reason.is_none(),
            // Made on this side: a connection that broke in the middle of a call can be INTERNAL too.
            _ => reason.is_none() && std::error::Error::source(&status).is_some(),
        };
        match reason {
            _ if passes => {
                let retry_after = retry_after(&status);
                Self::Unavailable { message, storage_full: reason == Some(Reason::StorageFull), retry_after }
            }
            Some(reason) => Self::Refused { reason, message, hint: text(HINT_KEY).map(decode_hint) },
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
        status.metadata_mut().insert(REASON_KEY, "TRIAL_LEASE_LOST".parse().unwrap());
        let error = ClientError::from(status);
        assert_eq!(error.reason(), Some(Reason::TrialLeaseLost));
        assert!(!error.is_transient() && error.is_lost());
        let mut status = Status::unavailable("the database failed");
        status.metadata_mut().insert(REASON_KEY, "STORAGE".parse().unwrap());
        assert!(ClientError::from(status).is_transient());
        for reason in ["STUDY_NOT_FOUND", "JOB_NOT_FOUND", "TRIAL_ENDED"] {
            let mut status = Status::not_found("gone");
            status.metadata_mut().insert(REASON_KEY, reason.parse().unwrap());
            assert!(ClientError::from(status).is_lost(), "{reason}");
        }
        assert!(ClientError::from(Status::unavailable("gone")).is_transient());
        assert!(ClientError::from(Status::cancelled("timeout expired")).is_transient());
        assert!(!ClientError::from(Status::internal("bug")).is_transient());
        // What a server leaves that goes away in the middle of a call.
        let mut broken = Status::internal("h2 protocol error");
        broken.set_source(std::sync::Arc::new(std::io::Error::other("connection closed")));
        assert!(ClientError::from(broken).is_transient());
    }
}
