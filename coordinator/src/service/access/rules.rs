//! Which role may make which call: one table.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Duration;

use fleetune_core::Role;
use fleetune_proto::optuna::storage_service_server::SERVICE_NAME as OPTUNA_SERVICE;
use fleetune_proto::v1::admin_service_server::SERVICE_NAME as ADMIN_SERVICE;
use fleetune_proto::v1::fleet_service_server::SERVICE_NAME as FLEET_SERVICE;
use fleetune_proto::v1::study_service_server::SERVICE_NAME as STUDY_SERVICE;
use fleetune_proto::v1::transfer_service_server::SERVICE_NAME as TRANSFER_SERVICE;
use fleetune_proto::v1::worker_service_server::SERVICE_NAME as WORKER_SERVICE;

/// Longest time that a call may take. Storage answers within seconds, or not at all.
const USUAL: Duration = Duration::from_mins(1);

/// The same of calls that compute over a whole study, or wait as long as they are asked to.
const LONG: Duration = Duration::from_mins(15);

/// What a call needs, and what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Who may make it; nobody needs a token where it is open.
    pub who: Who,
    /// Service and method, where the table names it.
    pub call: Option<(&'static str, &'static str)>,
    /// Whether it is recorded as a deed.
    pub is_deed: bool,
    /// How long it may take until its answer, or the first part of it.
    pub limit: Duration,
}

impl Rule {
    /// Whether it is worked on until its answer, instead of waiting for something to happen.
    pub fn works(&self) -> bool {
        self.call.is_some_and(|(_, method)| method != "Acquire")
    }
}

/// Who may make a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Everybody, with a token or without.
    Open,
    /// Holders of a token of any role.
    Any,
    /// Holders of one role, and admins.
    Only(Role),
}

impl Who {
    /// Whether a token of `role` is enough.
    pub fn admits(self, role: Role) -> bool {
        match self {
            Self::Open | Self::Any => true,
            Self::Only(wanted) => role == wanted || role == Role::Admin,
        }
    }
}

const CLIENT: Who = Who::Only(Role::Client);
const WORKER: Who = Who::Only(Role::Worker);
const ADMIN: Who = Who::Only(Role::Admin);

/// Each call, who may make it, whether it is a deed, how long it may take.
#[rustfmt::skip]
const TABLE: [(&str, &str, Who, bool, Duration); 66] = [
    (STUDY_SERVICE, "CreateStudy", CLIENT, true, USUAL),
    (STUDY_SERVICE, "GetStudy", CLIENT, false, USUAL),
    (STUDY_SERVICE, "ListStudies", CLIENT, false, USUAL),
    (STUDY_SERVICE, "UpdateStudy", CLIENT, true, USUAL),
    (STUDY_SERVICE, "PauseStudy", CLIENT, true, USUAL),
    (STUDY_SERVICE, "ResumeStudy", CLIENT, true, USUAL),
    (STUDY_SERVICE, "CancelStudy", CLIENT, true, USUAL),
    (STUDY_SERVICE, "ArchiveStudy", CLIENT, true, LONG),
    (STUDY_SERVICE, "UnarchiveStudy", CLIENT, true, USUAL),
    (STUDY_SERVICE, "DeleteStudy", CLIENT, true, USUAL),
    // What each trial keeps of itself (who, when, what) is no deed: asks and tells come by the thousand.
    (STUDY_SERVICE, "Ask", CLIENT, false, USUAL),
    // Workers report the repetitions of their trials.
    (STUDY_SERVICE, "Report", Who::Any, false, USUAL),
    (STUDY_SERVICE, "Tell", CLIENT, false, USUAL),
    (STUDY_SERVICE, "Suggest", CLIENT, false, USUAL),
    (STUDY_SERVICE, "ShouldPrune", CLIENT, false, USUAL),
    (STUDY_SERVICE, "Enqueue", CLIENT, true, USUAL),
    (STUDY_SERVICE, "CancelTrial", CLIENT, true, USUAL),
    (STUDY_SERVICE, "GetTrial", CLIENT, false, USUAL),
    (STUDY_SERVICE, "ListTrials", CLIENT, false, USUAL),
    (STUDY_SERVICE, "Best", CLIENT, false, USUAL),
    (STUDY_SERVICE, "Importances", CLIENT, false, LONG),
    (STUDY_SERVICE, "ParetoFront", CLIENT, false, LONG),
    (STUDY_SERVICE, "Sensitivity", CLIENT, false, LONG),
    (STUDY_SERVICE, "Watch", CLIENT, false, USUAL),
    (STUDY_SERVICE, "VerifyStudy", CLIENT, false, LONG),
    (WORKER_SERVICE, "Register", WORKER, false, USUAL),
    (WORKER_SERVICE, "Acquire", WORKER, false, LONG),
    (WORKER_SERVICE, "Heartbeat", WORKER, false, USUAL),
    (WORKER_SERVICE, "RecordRound", WORKER, false, USUAL),
    (WORKER_SERVICE, "Finish", WORKER, false, USUAL),
    (WORKER_SERVICE, "Release", WORKER, false, USUAL),
    (WORKER_SERVICE, "Drain", WORKER, true, USUAL),
    (FLEET_SERVICE, "ListWorkers", CLIENT, false, USUAL),
    (FLEET_SERVICE, "GetWorker", CLIENT, false, USUAL),
    (FLEET_SERVICE, "FleetStatus", CLIENT, false, USUAL),
    (FLEET_SERVICE, "ListRegions", CLIENT, false, USUAL),
    (FLEET_SERVICE, "GetRegion", CLIENT, false, USUAL),
    (FLEET_SERVICE, "DeleteRegion", ADMIN, true, USUAL),
    (FLEET_SERVICE, "DrainWorker", ADMIN, true, USUAL),
    (FLEET_SERVICE, "ResumeWorker", ADMIN, true, USUAL),
    (OPTUNA_SERVICE, "CreateNewStudy", CLIENT, true, USUAL),
    (OPTUNA_SERVICE, "DeleteStudy", CLIENT, true, USUAL),
    (OPTUNA_SERVICE, "SetStudyUserAttribute", CLIENT, false, USUAL),
    (OPTUNA_SERVICE, "SetStudySystemAttribute", CLIENT, false, USUAL),
    (OPTUNA_SERVICE, "GetStudyIdFromName", CLIENT, false, USUAL),
    (OPTUNA_SERVICE, "GetStudyNameFromId", CLIENT, false, USUAL),
    (OPTUNA_SERVICE, "GetStudyDirections", CLIENT, false, USUAL),
    (OPTUNA_SERVICE, "GetStudyUserAttributes", CLIENT, false, USUAL),
    (OPTUNA_SERVICE, "GetStudySystemAttributes", CLIENT, false, USUAL),
    (OPTUNA_SERVICE, "GetAllStudies", CLIENT, false, LONG),
    (OPTUNA_SERVICE, "CreateNewTrial", CLIENT, false, USUAL),
    (OPTUNA_SERVICE, "SetTrialParameter", CLIENT, false, USUAL),
    (OPTUNA_SERVICE, "GetTrialIdFromStudyIdTrialNumber", CLIENT, false, USUAL),
    (OPTUNA_SERVICE, "SetTrialStateValues", CLIENT, false, USUAL),
    (OPTUNA_SERVICE, "SetTrialIntermediateValue", CLIENT, false, USUAL),
    (OPTUNA_SERVICE, "SetTrialUserAttribute", CLIENT, false, USUAL),
    (OPTUNA_SERVICE, "SetTrialSystemAttribute", CLIENT, false, USUAL),
    (OPTUNA_SERVICE, "GetTrial", CLIENT, false, USUAL),
    (OPTUNA_SERVICE, "GetTrials", CLIENT, false, LONG),
    // What an import writes is one deed, its last.
    (TRANSFER_SERVICE, "ImportTrials", CLIENT, false, USUAL),
    (TRANSFER_SERVICE, "FinishImport", CLIENT, true, USUAL),
    (TRANSFER_SERVICE, "ExportTrials", CLIENT, false, LONG),
    (ADMIN_SERVICE, "CreateToken", ADMIN, true, USUAL),
    (ADMIN_SERVICE, "ListTokens", ADMIN, false, USUAL),
    (ADMIN_SERVICE, "RevokeToken", ADMIN, true, USUAL),
    (ADMIN_SERVICE, "ListAudit", ADMIN, false, USUAL),
];

/// Calls and pages without a token: what probes and tools need before they know anything.
const OPEN: [&str; 5] =
    ["/grpc.health.v1.Health/", "/grpc.reflection.v1.", "/grpc.reflection.v1alpha.", "/healthz", "/readyz"];

/// The rule of a call by its path, `/package.Service/Method`. What no table names (pages, calls of other protocols)
/// needs the role client.
pub fn rule(path: &str) -> Rule {
    static RULES: LazyLock<HashMap<String, Rule>> = LazyLock::new(|| {
        let rule = |(service, method, who, is_deed, limit)| {
            let rule = Rule { who, call: Some((service, method)), is_deed, limit };
            (format!("/{service}/{method}"), rule)
        };
        TABLE.into_iter().map(rule).collect()
    });
    if let Some(rule) = RULES.get(path) {
        return *rule;
    }
    let is_open = |open: &str| if open.ends_with(['/', '.']) { path.starts_with(open) } else { path == open };
    let who = match path {
        // Whoever scrapes needs no right to change anything, but a token.
        "/metrics" => Who::Any,
        _ if OPEN.into_iter().any(is_open) => Who::Open,
        _ => CLIENT,
    };
    Rule { who, call: None, is_deed: false, limit: LONG }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn every_call_of_the_protocol_has_a_rule() {
        let files = prost_types::FileDescriptorSet::decode(fleetune_proto::DESCRIPTORS).unwrap().file;
        let mut calls = Vec::new();
        for file in files {
            for service in &file.service {
                for method in &service.method {
                    let service = format!("{}.{}", file.package(), service.name());
                    calls.push((service, method.name().to_owned()));
                }
            }
        }
        let listed = |(service, method): &(String, String)| TABLE.iter().any(|row| row.0 == service && row.1 == method);
        let missing: Vec<_> = calls.iter().filter(|call| !listed(call)).collect();
        assert!(missing.is_empty(), "no rule for {missing:?}");
        assert_eq!(TABLE.len(), calls.len(), "a rule for a call that does not exist");
    }

    #[test]
    fn what_no_table_names_needs_a_client() {
        for path in ["/optuna.StorageService/Unknown", "/", "/healthz/x", "/grpc.health.v2.Health/Check"] {
            assert_eq!(rule(path).who, CLIENT, "{path}");
        }
        assert_eq!(rule("/metrics").who, Who::Any);
        for path in ["/healthz", "/grpc.health.v1.Health/Check", "/grpc.reflection.v1.ServerReflection/X"] {
            assert_eq!(rule(path).who, Who::Open, "{path}");
        }
    }
}
