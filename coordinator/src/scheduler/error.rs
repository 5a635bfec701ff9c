//! Why the scheduler refused, in the domain's words. `service::status` gives each a code and a stable reason.

use fleetune_core::{StudyState, TrialNumber};

use crate::storage::StoreError;

/// Why a use case failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EngineError {
    /// Storage refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The request means nothing: what, why, and what to do where that is known.
    #[error("{what}: {why}")]
    Invalid {
        /// The field or parameter.
        what: String,
        /// Why it cannot be.
        why: String,
        /// What to do.
        hint: Option<String>,
    },
    /// The study waits for its model to be described.
    #[error("study `{0}` is being prepared: no worker has described its model yet")]
    Preparing(String),
    /// Budget used up, or stopped by a rule.
    #[error("study `{name}` starts no more trials: {why}")]
    Finished {
        /// The study.
        name: String,
        /// `trial budget used up`, for example.
        why: String,
    },
    /// The study is paused, cancelled or the like.
    #[error("study `{name}` is {state} and starts no trial")]
    NotActive {
        /// The study.
        name: String,
        /// Where it stands.
        state: StudyState,
    },
    /// Trials of a study that was to be removed are running.
    #[error("study `{name}` has running trials ({running})")]
    StillRunning {
        /// The study.
        name: String,
        /// How many.
        running: u64,
    },
    /// Nothing is left to propose.
    #[error("study `{name}` has nothing left to try: {why}")]
    SpaceExhausted {
        /// The study.
        name: String,
        /// The sampler's words.
        why: String,
    },
    /// The study's clients sample themselves.
    #[error("study `{0}` has no search space, so nothing can be suggested")]
    NoSpace(String),
    /// Too few trials have completed for an analysis.
    #[error("study `{name}`: {why}")]
    TooFewTrials {
        /// The study.
        name: String,
        /// How many there are and are needed.
        why: fleetune_sampler::analysis::TooFew,
    },
    /// A measured value is NaN or infinite.
    #[error("trial {number}: {value} is not a finite number")]
    NonFinite {
        /// The trial.
        number: TrialNumber,
        /// What was sent.
        value: f64,
    },
    /// A repeated ask: nothing that it was given is its caller's any more.
    #[error("what this request was given in study `{0}` has ended or belongs to another by now")]
    Spent(String),
    /// The coordinator stops while the call waits.
    #[error("the coordinator is stopping; the call may be repeated")]
    Stopping,
    /// Too many conflicts with other coordinators in a row.
    #[error("study `{0}` is being changed by others all the time; try again")]
    Contended(String),
    /// The sampler cannot be built from the study's configuration.
    #[error("study `{name}`: {why}")]
    Sampler {
        /// The study.
        name: String,
        /// The sampler's words.
        why: String,
    },
}

impl EngineError {
    /// The complaint `why` about `what`.
    pub fn invalid(what: impl Into<String>, why: impl std::fmt::Display) -> Self {
        Self::Invalid { what: what.into(), why: why.to_string(), hint: None }
    }
}
