//! States of a trial and the kinds of failure.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a trial stands. Optuna's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrialState {
    /// A queue entry with parameters that may be partly fixed.
    Waiting,
    /// Parameters are stored; somebody measures. Leased or held.
    Running,
    /// Ended with its values.
    Complete,
    /// Stopped by the pruner; its value is the last entry of its series.
    Pruned,
    /// Ended without a value; see [`FailKind`].
    Fail,
}

impl TrialState {
    /// Every state, in life-cycle order.
    pub const ALL: [Self; 5] = [Self::Waiting, Self::Running, Self::Complete, Self::Pruned, Self::Fail];

    /// Whether nothing changes any more.
    pub fn is_ended(self) -> bool {
        match self {
            Self::Complete | Self::Pruned | Self::Fail => true,
            Self::Waiting | Self::Running => false,
        }
    }

    /// The name on the wire and in storage.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Pruned => "pruned",
            Self::Fail => "fail",
        }
    }

    /// The state called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

impl fmt::Display for TrialState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a trial failed. Decides whether it is run again and what a sampler may learn from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailKind {
    /// Out of memory, on a device or on the host.
    Oom,
    /// Cannot fit, by the preflight's arithmetic; not started.
    Infeasible,
    /// Skipped by a safety rule; not started.
    UnsafeRegion,
    /// Refused by the engine.
    InvalidConfig,
    /// Took longer than its time limit.
    Timeout,
    /// Died by a signal, an abort, or a non-zero exit that says nothing else.
    Crash,
    /// A measured value was NaN or infinite.
    NonFinite,
    /// The machine went down under it: the worker came back with another boot id.
    HostCrash,
    /// No sign of the worker any more.
    WorkerLost,
    /// Ended by a person.
    Cancelled,
    /// Our own doing, or the environment's: nothing is known about the parameters.
    Error,
}

impl FailKind {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::Oom,
        Self::Infeasible,
        Self::UnsafeRegion,
        Self::InvalidConfig,
        Self::Timeout,
        Self::Crash,
        Self::NonFinite,
        Self::HostCrash,
        Self::WorkerLost,
        Self::Cancelled,
        Self::Error,
    ];

    /// Whether a sampler may hold it against the parameters. For `WorkerLost` only once a second worker was lost,
    /// which is why such a trial is ended with that kind only then or when its attempts are used up.
    pub fn is_evidence(self) -> bool {
        match self {
            Self::Oom
            | Self::Infeasible
            | Self::UnsafeRegion
            | Self::InvalidConfig
            | Self::Timeout
            | Self::Crash
            | Self::NonFinite
            | Self::HostCrash
            | Self::WorkerLost => true,
            Self::Cancelled | Self::Error => false,
        }
    }

    /// Whether the trial ended before anything was run, so that it does not count toward the budget.
    pub fn is_skip(self) -> bool {
        matches!(self, Self::Infeasible | Self::UnsafeRegion)
    }

    /// The name on the wire and in storage.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Oom => "oom",
            Self::Infeasible => "infeasible",
            Self::UnsafeRegion => "unsafe_region",
            Self::InvalidConfig => "invalid_config",
            Self::Timeout => "timeout",
            Self::Crash => "crash",
            Self::NonFinite => "non_finite",
            Self::HostCrash => "host_crash",
            Self::WorkerLost => "worker_lost",
            Self::Cancelled => "cancelled",
            Self::Error => "error",
        }
    }

    /// The kind called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

impl fmt::Display for FailKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_agree_with_serde() {
        for kind in FailKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
            assert_eq!(FailKind::from_name(kind.as_str()), Some(kind));
        }
        for state in TrialState::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
            assert_eq!(TrialState::from_name(state.as_str()), Some(state));
        }
    }
}
