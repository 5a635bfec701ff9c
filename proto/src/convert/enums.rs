//! Enums, one pair of functions each. A new variant in the domain does not compile until it has a wire form.

use fleetune_core::{Direction, FailKind, Objective, Role, StudyState, TrialState};

use super::Invalid;
use crate::v1;

macro_rules! enum_gate {
    ($domain:ty, $wire:ty, $field:literal, $from:ident, $to:ident, { $($d:ident <=> $w:ident),+ $(,)? }) => {
        /// Checks and converts from the wire's number.
        pub fn $from(wire: i32) -> Result<$domain, Invalid> {
            match <$wire>::try_from(wire) {
                $(Ok(<$wire>::$w) => Ok(<$domain>::$d),)+
                Ok(<$wire>::Unspecified) => Err(Invalid::missing($field)),
                Err(_) => Err(Invalid::new($field, format!("{wire} is none of its values"))),
            }
        }

        /// Converts to the wire.
        pub fn $to(domain: $domain) -> $wire {
            match domain {
                $(<$domain>::$d => <$wire>::$w,)+
            }
        }
    };
}

enum_gate!(Direction, v1::Direction, "direction", direction, direction_to_wire, {
    Minimize <=> Minimize, Maximize <=> Maximize,
});
enum_gate!(StudyState, v1::StudyState, "state", study_state, study_state_to_wire, {
    Preparing <=> Preparing, Active <=> Active, Paused <=> Paused, Confirming <=> Confirming, Finished <=> Finished,
    Cancelled <=> Cancelled, Failed <=> Failed, Archived <=> Archived,
});
enum_gate!(TrialState, v1::TrialState, "state", trial_state, trial_state_to_wire, {
    Waiting <=> Waiting, Running <=> Running, Complete <=> Complete, Pruned <=> Pruned, Fail <=> Fail,
});
enum_gate!(FailKind, v1::FailKind, "failure.kind", fail_kind, fail_kind_to_wire, {
    Oom <=> Oom, Infeasible <=> Infeasible, UnsafeRegion <=> UnsafeRegion, InvalidConfig <=> InvalidConfig,
    Timeout <=> Timeout, Crash <=> Crash, NonFinite <=> NonFinite, HostCrash <=> HostCrash,
    WorkerLost <=> WorkerLost, Cancelled <=> Cancelled, Error <=> Error,
});
enum_gate!(Objective, v1::Objective, "objective", objective, objective_to_wire, {
    Decode <=> Decode, Prefill <=> Prefill, Ttft <=> Ttft, Balanced <=> Balanced,
});
enum_gate!(Role, v1::Role, "role", role, role_to_wire, {
    Admin <=> Admin, Client <=> Client, Worker <=> Worker,
});
