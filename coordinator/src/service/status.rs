//! The one place that builds a Status: a code, a sentence, a stable reason and a hint.

use std::time::Duration;

use fleetune_core::StudyState;
use fleetune_proto::convert::Invalid;
use fleetune_proto::reason::{HINT_KEY, REASON_KEY, Reason};
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::access::{Caller, Rule, Who};
use crate::scheduler::EngineError;
use crate::storage::StoreError;

/// When to ask again where the database is away, or the process ends and another one may serve soon.
const AWAY: Duration = Duration::from_millis(500);

/// A Status with its reason and hint in the metadata.
fn build(code: Code, reason: Reason, message: String, hint: Option<&str>) -> Status {
    let mut status = Status::new(code, message);
    status.metadata_mut().insert(REASON_KEY, MetadataValue::from_static(reason.as_str()));
    if let Some(hint) = hint {
        // Hints hold user text; header values are visible ASCII, so everything goes percent-encoded.
        if let Ok(value) = MetadataValue::try_from(fleetune_proto::reason::encode_hint(hint)) {
            status.metadata_mut().insert(HINT_KEY, value);
        }
    }
    status
}

/// The Status of a message that means nothing.
pub fn invalid(error: &Invalid) -> Status {
    build(Code::InvalidArgument, Reason::InvalidArgument, error.to_string(), error.hint.as_deref())
}

/// The Status of a call without a token in force.
pub fn unauthenticated(why: &str) -> Status {
    let hint = "pass a token with `--token-file FILE`, `FLEETUNE_TOKEN_FILE` or `FLEETUNE_TOKEN`; an admin makes one \
                with `fleetune token create NAME --role ROLE`";
    build(Code::Unauthenticated, Reason::Unauthenticated, why.to_owned(), Some(hint))
}

/// The Status of a call that the token's role does not allow.
pub fn forbidden(caller: &Caller, rule: Rule, path: &str) -> Status {
    let method = path.rsplit('/').next().unwrap_or(path);
    let needed = match rule.who {
        Who::Only(role) => role.as_str(),
        Who::Open | Who::Any => "other",
    };
    let message = format!("the token `{}` has the role {}, but `{method}` needs {needed}", caller.name, caller.role);
    build(Code::PermissionDenied, Reason::PermissionDenied, message, None)
}

/// The Status of a call that comes too early or finds no room.
pub fn overloaded(why: &str, retry_after: Duration) -> Status {
    let hint = format!("repeat the call after {} ms or more", retry_after.as_millis().max(1));
    passing(Code::ResourceExhausted, Reason::Overloaded, why.to_owned(), Some(&hint), retry_after)
}

/// The Status of a call that may be repeated after a time, with that time (`google.rpc.RetryInfo`).
fn passing(code: Code, reason: Reason, message: String, hint: Option<&str>, retry_after: Duration) -> Status {
    let status = build(code, reason, message.clone(), hint);
    let mut details = ErrorDetails::new();
    details.set_retry_info(Some(retry_after));
    Status::with_error_details_and_metadata(code, message, details, status.metadata().clone())
}

/// The Status of a call while nobody knows which tokens are in force.
pub fn unchecked() -> Status {
    let message = "the tokens in force are not known, since the database does not answer; the call may be repeated";
    passing(Code::Unavailable, Reason::Storage, message.to_owned(), None, AWAY)
}

/// The Status of what the engine refused.
pub fn engine(error: &EngineError) -> Status {
    let message = error.to_string();
    let precondition =
        |reason, hint: Option<String>| build(Code::FailedPrecondition, reason, message.clone(), hint.as_deref());
    match error {
        EngineError::Store(error) => store(error),
        EngineError::Invalid { hint, .. } => {
            build(Code::InvalidArgument, Reason::InvalidArgument, message, hint.as_deref())
        }
        EngineError::Preparing(_) => precondition(Reason::StudyPreparing, None),
        EngineError::Finished { name, .. } => precondition(
            Reason::StudyFinished,
            Some(format!("a larger budget wakes it: `fleetune tune … --study {name} --trials N`")),
        ),
        EngineError::StillRunning { name, .. } => precondition(
            Reason::StudyState,
            Some(format!("cancel it first (`fleetune study cancel {name}`), or delete with `--force`")),
        ),
        EngineError::NotActive { name, state } => precondition(Reason::StudyState, archived(name, *state)),
        EngineError::SpaceExhausted { .. } => precondition(Reason::SpaceExhausted, None),
        EngineError::TooFewTrials { .. } => precondition(Reason::TooFewTrials, None),
        EngineError::NoSpace(_) => precondition(Reason::NoSpace, None),
        EngineError::NonFinite { number, .. } => build(
            Code::InvalidArgument,
            Reason::NonFinite,
            message,
            Some(&format!("tell trial {number} as failed: `--fail non_finite`")),
        ),
        EngineError::Spent(_) => {
            precondition(Reason::TrialLeaseLost, Some("ask again with a new `request_id`".to_owned()))
        }
        EngineError::Stopping => passing(Code::Unavailable, Reason::Stopping, message, None, AWAY),
        EngineError::Contended(_) => build(Code::Aborted, Reason::Contended, message, None),
        EngineError::Sampler { .. } => build(Code::InvalidArgument, Reason::InvalidArgument, message, None),
    }
}

/// What to do where the study is in the way only because it was put away.
fn archived(name: &str, state: StudyState) -> Option<String> {
    (state == StudyState::Archived).then(|| format!("fetch it back first: `fleetune study unarchive {name}`"))
}

fn store(error: &StoreError) -> Status {
    let message = error.to_string();
    let (code, reason) = match error {
        StoreError::StudyNotFound(_) => (Code::NotFound, Reason::StudyNotFound),
        StoreError::TrialNotFound { .. } | StoreError::NoTrialOfId(_) => (Code::NotFound, Reason::TrialNotFound),
        StoreError::JobNotFound(_) => (Code::NotFound, Reason::JobNotFound),
        StoreError::WorkerNotFound(_) => (Code::NotFound, Reason::WorkerUnknown),
        StoreError::AnotherToken(_) => (Code::PermissionDenied, Reason::PermissionDenied),
        StoreError::TokenNotFound(_) => (Code::NotFound, Reason::TokenNotFound),
        StoreError::RegionNotFound(_) => (Code::NotFound, Reason::RegionNotFound),
        StoreError::TokenNameTaken(_) => (Code::AlreadyExists, Reason::TokenExists),
        StoreError::NameTaken(_) => (Code::AlreadyExists, Reason::StudyExists),
        StoreError::WrongStudyState { .. } | StoreError::AtCapacity { .. } | StoreError::IsParent(_) => {
            (Code::FailedPrecondition, Reason::StudyState)
        }
        StoreError::WrongTrialState { .. } => (Code::FailedPrecondition, Reason::TrialState),
        StoreError::TrialLeased { .. } => (Code::FailedPrecondition, Reason::TrialLeased),
        StoreError::LeaseLost { .. } => (Code::FailedPrecondition, Reason::TrialLeaseLost),
        StoreError::TurnTaken { .. } => (Code::Aborted, Reason::Contended),
        StoreError::Full(_) => (Code::ResourceExhausted, Reason::StorageFull),
        StoreError::SchemaTooNew { .. } | StoreError::CannotOpen { .. } => (Code::Internal, Reason::Storage),
        StoreError::Corrupt { .. } => (Code::DataLoss, Reason::Storage),
        StoreError::Database(_) | StoreError::Busy(_) => (Code::Unavailable, Reason::Storage),
        StoreError::TrialEnded { .. } | StoreError::JobEnded(_) | StoreError::RoundTaken { .. } => {
            (Code::FailedPrecondition, Reason::TrialEnded)
        }
        StoreError::TooLarge { .. } | StoreError::Incompatible { .. } => {
            (Code::InvalidArgument, Reason::InvalidArgument)
        }
    };
    let (remedy, fetch);
    let hint = match error {
        StoreError::Full(_) => Some("free some space and run the same command again; nothing acknowledged was lost"),
        StoreError::AnotherToken(_) => {
            Some("call with the token that it registered with; once that one is revoked it may register with another")
        }
        StoreError::IsParent(name) => {
            remedy = format!("name one of those that `fleetune study show {name}` lists");
            Some(remedy.as_str())
        }
        StoreError::TokenNameTaken(name) => {
            remedy = format!("revoke it first (`fleetune token revoke {name}`), or take another name");
            Some(remedy.as_str())
        }
        StoreError::WrongStudyState { name, state, .. } => {
            fetch = archived(name, *state);
            fetch.as_deref()
        }
        _ => None,
    };
    match code {
        // The database's own words stay on this side.
        Code::Unavailable => {
            tracing::error!(%error, "storage failed");
            passing(code, reason, "the database failed; the call may be repeated".to_owned(), hint, AWAY)
        }
        _ => build(code, reason, message, hint),
    }
}
