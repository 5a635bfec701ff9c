//! Between the worker's words and the messages of the protocol.

use std::time::Duration;

use fleetune_core::{LeaseToken, TrialNumber, runner};
use fleetune_proto::convert::{self, Invalid};
use fleetune_proto::v1;
use prost::Message;

use super::{
    Acquired, BadJob, Candidate, Cell, ClientError, Description, Job, LeaseState, Outcome, Pulse, Registration, Round,
    Terms, Work,
};
use crate::executor::Failure;

pub(super) fn register(registration: &Registration) -> v1::RegisterRequest {
    v1::RegisterRequest {
        worker_id: registration.worker.0.clone(),
        name: registration.name.clone(),
        labels: registration.labels.clone(),
        inventory_json: json(&registration.inventory),
        executors: registration.executors.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        held: registration.held.iter().map(ToString::to_string).collect(),
        models: registration.models.iter().map(convert::model_to_wire).collect(),
    }
}

/// Numbers and text only: nothing in it can fail to become JSON.
fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Bounds keep a strange answer from stopping heartbeats or flooding the coordinator with them.
pub(super) fn terms(answer: &v1::RegisterResponse) -> Terms {
    let seconds = |seconds: f64, otherwise: f64, low: f64, high: f64| {
        Duration::from_secs_f64(if seconds > 0.0 { seconds.clamp(low, high) } else { otherwise })
    };
    let lease_ttl = seconds(answer.lease_ttl_s, 30.0, 0.1, 3600.0);
    let heartbeat_every = seconds(answer.heartbeat_every_s, 5.0, 0.01, 1200.0);
    Terms { lease_ttl, heartbeat_every: heartbeat_every.min(lease_ttl / 2) }
}

pub(super) fn acquired(answer: v1::AcquireResponse) -> Result<Acquired, ClientError> {
    let mut acquired = Acquired { obstacles: answer.obstacles, ..Acquired::default() };
    for job in answer.jobs {
        let lease = job.lease.as_ref().ok_or_else(|| Invalid::missing("jobs.lease"))?;
        let token = token(&lease.token)?;
        let is_trial = matches!(job.work, Some(v1::job::Work::Trial(_)));
        match self::job(token, job) {
            Ok(job) => acquired.jobs.push(job),
            Err(invalid) => acquired.bad.push(BadJob { token, is_trial, why: invalid.to_string() }),
        }
    }
    Ok(acquired)
}

fn token(text: &str) -> Result<LeaseToken, Invalid> {
    convert::token(text)?.ok_or_else(|| Invalid::missing("lease.token"))
}

fn job(token: LeaseToken, wire: v1::Job) -> Result<Job, Invalid> {
    let benchmark = convert::benchmark(wire.benchmark.ok_or_else(|| Invalid::missing("jobs.benchmark"))?)?;
    let work = match wire.work.ok_or_else(|| Invalid::missing("jobs.work"))? {
        v1::job::Work::Describe(v1::DescribeJob {}) => Work::Describe,
        v1::job::Work::Trial(trial) => {
            Work::Trial { number: TrialNumber(trial.number), params: convert::params(trial.params)? }
        }
        v1::job::Work::Comparison(comparison) => {
            let candidates = comparison.candidates.into_iter().map(candidate).collect::<Result<Vec<_>, _>>()?;
            let next = comparison.next.map(round);
            if let Some(next) = &next {
                check_round(next, candidates.len())?;
            }
            Work::Comparison { candidates, next, cells_left: comparison.cells_left }
        }
    };
    let regions = wire.regions.into_iter().map(convert::region).collect::<Result<_, _>>()?;
    Ok(Job { token, study: wire.study, benchmark, pin: wire.pin.map(convert::pin), work, regions })
}

/// A round may name only candidates that there are.
fn check_round(round: &Round, candidates: usize) -> Result<(), Invalid> {
    match round.order.iter().find(|index| **index >= candidates) {
        Some(index) => Err(Invalid::new("round.order", format!("{index} is none of the {candidates} candidates"))),
        None => Ok(()),
    }
}

fn candidate(wire: v1::Candidate) -> Result<Candidate, Invalid> {
    let params = convert::params(wire.params)?;
    Ok(Candidate { trial: TrialNumber(wire.trial), params, baseline: wire.baseline })
}

pub(super) fn round(wire: v1::Round) -> Round {
    Round { round: wire.round, order: wire.order.into_iter().map(|index| index as usize).collect() }
}

pub(super) fn round_to_wire(token: &LeaseToken, round: u32, cells: &[Cell]) -> v1::RecordRoundRequest {
    let cells = cells.iter().map(|cell| v1::Cell {
        candidate: u32::try_from(cell.candidate).unwrap_or(u32::MAX),
        value: cell.result.as_ref().ok().copied(),
        failure: cell.result.as_ref().err().map(failure),
        detail: Some(convert::detail_to_wire(&cell.detail)),
    });
    v1::RecordRoundRequest { lease_token: token.to_string(), round, cells: cells.collect() }
}

pub(super) fn pulse(answer: v1::HeartbeatResponse) -> Result<Pulse, ClientError> {
    let mut pulse = Pulse { leases: Vec::with_capacity(answer.leases.len()), drain: answer.drain };
    for verdict in answer.leases {
        let state = match verdict.state() {
            v1::LeaseState::Lost => LeaseState::Lost,
            v1::LeaseState::Cancelled => LeaseState::Cancelled,
            v1::LeaseState::Renewed | v1::LeaseState::Unspecified => LeaseState::Renewed,
        };
        pulse.leases.push((token(&verdict.token)?, state));
    }
    Ok(pulse)
}

fn failure(failure: &Failure) -> v1::Failure {
    v1::Failure { kind: convert::fail_kind_to_wire(failure.kind).into(), message: runner::bounded(&failure.message) }
}

pub(super) fn finish(
    token: &LeaseToken,
    outcome: &Outcome,
    detail: &fleetune_core::measurement::AttemptDetail,
) -> v1::FinishRequest {
    use v1::finish_request::Outcome as Wire;
    let outcome = match outcome {
        Outcome::Described(description) => Wire::Described(self::description(description)),
        Outcome::Trial { state, failure, seconds } => Wire::Trial(v1::TrialOutcome {
            state: convert::trial_state_to_wire(*state).into(),
            failure: failure.as_ref().map(self::failure),
            seconds: *seconds,
        }),
        Outcome::Failed(failure) => Wire::Failed(self::failure(failure)),
    };
    v1::FinishRequest {
        lease_token: token.to_string(),
        outcome: Some(outcome),
        detail: Some(convert::detail_to_wire(detail)),
    }
}

fn description(description: &Description) -> v1::Description {
    v1::Description {
        model_json: json(&description.model),
        inventory_json: json(&description.inventory),
        pin: Some(convert::pin_to_wire(&description.pin)),
        defaults: convert::params_to_wire(&description.defaults),
        baseline_note: description.baseline_note.clone().unwrap_or_default(),
        engine_fit: description.engine_fit.as_ref().map(convert::params_to_wire).unwrap_or_default(),
        settings: description.settings.clone(),
    }
}

pub(super) fn encode_finish(request: &v1::FinishRequest) -> Vec<u8> {
    request.encode_to_vec()
}

pub(super) fn decode_finish(encoded: &[u8]) -> Result<v1::FinishRequest, ClientError> {
    v1::FinishRequest::decode(encoded).map_err(|error| Invalid::new("spooled finish", error).into())
}

#[cfg(test)]
mod tests {
    use fleetune_core::FailKind;

    use super::*;

    #[test]
    fn strange_terms_are_bounded() {
        let terms = |lease_ttl_s, heartbeat_every_s| terms(&v1::RegisterResponse { lease_ttl_s, heartbeat_every_s });
        let expected = Terms { lease_ttl: Duration::from_secs(30), heartbeat_every: Duration::from_secs(5) };
        assert_eq!(terms(30.0, 5.0), expected);
        assert_eq!(terms(0.0, 0.0), expected);
        assert_eq!(terms(f64::NAN, f64::NAN), expected);
        assert_eq!(terms(4.0, 60.0).heartbeat_every, Duration::from_secs(2));
    }

    #[test]
    fn job_without_sense_is_set_aside_with_its_token() {
        let lease = v1::Lease { token: "1.1.00000000000000ff".into(), expires_at: None, attempt: 1 };
        let trial = v1::TrialJob { number: 3, params: std::collections::BTreeMap::new() };
        let job = v1::Job {
            lease: Some(lease),
            study: "s".into(),
            work: Some(v1::job::Work::Trial(trial)),
            ..v1::Job::default()
        };
        let acquired = acquired(v1::AcquireResponse { jobs: vec![job], obstacles: Vec::new() }).unwrap();
        assert!(acquired.jobs.is_empty());
        assert!(acquired.bad[0].is_trial && acquired.bad[0].why.contains("benchmark"), "{acquired:?}");
    }

    #[test]
    fn spooled_finish_survives_its_bytes() {
        let outcome = Outcome::Failed(Failure::new(FailKind::Error, "no file"));
        let token = "7.2.00000000000000aa".parse().unwrap();
        let request = finish(&token, &outcome, &fleetune_core::measurement::AttemptDetail::default());
        assert_eq!(decode_finish(&encode_finish(&request)).unwrap(), request);
        assert!(decode_finish(b"\xff\xff\xff").is_err());
    }
}
