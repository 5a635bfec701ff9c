//! WorkerService.

use std::time::Duration;

use fleetune_core::runner::SETTING_NAMES;
use fleetune_core::{Inventory, LeaseToken, Role, VisibleModel, WorkerId};
use fleetune_proto::convert::Invalid;
use fleetune_proto::v1::worker_service_server::WorkerService;
use fleetune_proto::{convert, v1};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::access::Caller;
use super::study::bounded;
use super::{status, view};
use crate::scheduler::{Assignment, Cell, Described, Engine, EngineError, NextRound, Work};
use crate::storage::{LeaseStatus, Registration};

/// Longest JSON text in a message, bytes.
const MAX_JSON: usize = 256 * 1024;

/// Most models that a worker can name.
const MAX_MODELS: usize = 10_000;

/// Most tokens in a message.
const MAX_TOKENS: usize = 1_000;

/// WorkerService over an engine.
pub struct WorkerApi {
    engine: Engine,
    stop: CancellationToken,
}

impl WorkerApi {
    /// Over `engine`; long polls end when `stop` is cancelled.
    pub fn new(engine: Engine, stop: CancellationToken) -> Self {
        Self { engine, stop }
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl WorkerService for WorkerApi {
    async fn register(&self, request: Request<v1::RegisterRequest>) -> Answer<v1::RegisterResponse> {
        let token = own_token(&request);
        let request = request.into_inner();
        let registration = Registration {
            id: WorkerId(request.worker_id),
            name: request.name,
            labels: request.labels,
            inventory: json::<Inventory>("inventory_json", &request.inventory_json)?,
            executors: request.executors,
            version: request.version,
            held: tokens(&request.held)?,
            models: models(request.models)?,
            token,
        };
        self.engine.register(registration).await.map_err(refused)?;
        let options = self.engine.options();
        Ok(Response::new(v1::RegisterResponse {
            lease_ttl_s: options.lease_ttl.as_secs_f64(),
            heartbeat_every_s: options.heartbeat_every.as_secs_f64(),
        }))
    }

    async fn acquire(&self, request: Request<v1::AcquireRequest>) -> Answer<v1::AcquireResponse> {
        let token = own_token(&request);
        let request = request.into_inner();
        let worker = WorkerId(request.worker_id);
        self.engine.check_speaker(token, &worker).await.map_err(refused)?;
        let wait = Duration::try_from_secs_f64(request.wait_s).map_err(|error| wrong("wait_s", error))?;
        let only = (!request.study.is_empty()).then_some(request.study.as_str());
        let acquired = self
            .engine
            .acquire(&worker, &request.request_id, request.max_jobs.max(1), wait, only, &self.stop)
            .await
            .map_err(refused)?;
        let jobs = acquired.assignments.iter().map(job).collect();
        Ok(Response::new(v1::AcquireResponse { jobs, obstacles: acquired.obstacles }))
    }

    async fn heartbeat(&self, request: Request<v1::HeartbeatRequest>) -> Answer<v1::HeartbeatResponse> {
        let token = own_token(&request);
        let request = request.into_inner();
        let worker = WorkerId(request.worker_id);
        self.engine.check_speaker(token, &worker).await.map_err(refused)?;
        let tokens = tokens(&request.tokens)?;
        for lease in &tokens {
            self.engine.check_holder(token, *lease).await.map_err(refused)?;
        }
        let gauges = request.gauges.map(convert::gauges).transpose().map_err(|error| status::invalid(&error))?;
        let beat = self.engine.heartbeat(&worker, &tokens, gauges).await.map_err(refused)?;
        let leases = beat
            .leases
            .iter()
            .map(|(token, lease)| {
                let state = match lease {
                    LeaseStatus::Renewed(_) => v1::LeaseState::Renewed,
                    LeaseStatus::Lost => v1::LeaseState::Lost,
                    LeaseStatus::Ended => v1::LeaseState::Cancelled,
                };
                v1::LeaseVerdict { token: token.to_string(), state: state.into() }
            })
            .collect();
        Ok(Response::new(v1::HeartbeatResponse { leases, drain: beat.draining }))
    }

    async fn record_round(&self, request: Request<v1::RecordRoundRequest>) -> Answer<v1::RecordRoundResponse> {
        let caller = own_token(&request);
        let request = request.into_inner();
        let token = token(&request.lease_token)?;
        self.engine.check_holder(caller, token).await.map_err(refused)?;
        let cells = request.cells.into_iter().map(cell).collect::<Result<_, _>>()?;
        let next = self.engine.record_round(token, request.round, cells).await.map_err(refused)?;
        let cells_left = next.as_ref().map_or(0, |next| next.cells_left);
        Ok(Response::new(v1::RecordRoundResponse { next: next.as_ref().map(round), cells_left }))
    }

    async fn finish(&self, request: Request<v1::FinishRequest>) -> Answer<v1::FinishResponse> {
        use v1::finish_request::Outcome;
        let caller = own_token(&request);
        let request = request.into_inner();
        let token = token(&request.lease_token)?;
        self.engine.check_holder(caller, token).await.map_err(refused)?;
        match request.outcome {
            Some(Outcome::Described(description)) => {
                let described = described(description)?;
                self.engine.finish_describe(token, described).await.map_err(refused)?;
            }
            Some(Outcome::Trial(outcome)) => {
                let state = convert::trial_state(outcome.state).map_err(|error| status::invalid(&error))?;
                let fail = outcome.failure.map(failure).transpose()?;
                let detail = request.detail.unwrap_or_default();
                let detail = convert::detail(detail).map_err(|error| status::invalid(&error))?;
                self.engine.finish_trial(token, state, fail, &detail, outcome.seconds).await.map_err(refused)?;
            }
            Some(Outcome::Failed(failed)) => {
                self.engine.finish_failed(token, bounded(failed.message)).await.map_err(refused)?;
            }
            None => return Err(status::invalid(&Invalid::missing("outcome"))),
        }
        Ok(Response::new(v1::FinishResponse {}))
    }

    async fn release(&self, request: Request<v1::ReleaseRequest>) -> Answer<v1::ReleaseResponse> {
        let caller = own_token(&request);
        let token = token(&request.into_inner().lease_token)?;
        self.engine.check_holder(caller, token).await.map_err(refused)?;
        self.engine.release(token).await.map_err(refused)?;
        Ok(Response::new(v1::ReleaseResponse {}))
    }

    async fn drain(&self, request: Request<v1::DrainRequest>) -> Answer<v1::DrainResponse> {
        let token = own_token(&request);
        let worker = WorkerId(request.into_inner().worker_id);
        self.engine.check_speaker(token, &worker).await.map_err(refused)?;
        crate::storage::audit::about("worker", &worker.0);
        self.engine.set_draining(&worker, true).await.map_err(refused)?;
        Ok(Response::new(v1::DrainResponse {}))
    }
}

/// The worker's token that a call came with; none for an admin's, and where none is asked for.
pub(super) fn own_token<T>(request: &Request<T>) -> Option<i64> {
    let caller = request.extensions().get::<Caller>();
    caller.filter(|caller| caller.role == Role::Worker).map(|caller| caller.token)
}

fn job(assignment: &Assignment) -> v1::Job {
    let work = match &assignment.work {
        Work::Describe => v1::job::Work::Describe(v1::DescribeJob {}),
        Work::Trial(trial) => v1::job::Work::Trial(v1::TrialJob {
            number: trial.number.0,
            params: convert::params_to_wire(&crate::storage::external(&trial.params)),
        }),
        Work::Comparison { spec, next } => v1::job::Work::Comparison(v1::ComparisonJob {
            candidates: spec
                .candidates
                .iter()
                .map(|candidate| v1::Candidate {
                    trial: candidate.trial.0,
                    params: convert::params_to_wire(&candidate.params),
                    baseline: candidate.baseline,
                })
                .collect(),
            next: Some(round(next)),
            cells_left: next.cells_left,
            kind: v1::ComparisonKind::Confirmation.into(),
        }),
    };
    v1::Job {
        lease: Some(view::lease(&assignment.lease)),
        study: assignment.study.clone(),
        benchmark: Some(convert::benchmark_to_wire(&assignment.benchmark)),
        work: Some(work),
        pin: assignment.pin.as_ref().map(convert::pin_to_wire),
        regions: assignment.regions.iter().map(convert::region_to_wire).collect(),
    }
}

fn round(next: &NextRound) -> v1::Round {
    v1::Round { round: next.round, order: next.order.iter().map(|&index| index as u32).collect() }
}

fn cell(wire: v1::Cell) -> Result<Cell, Status> {
    let detail = match wire.detail {
        None => serde_json::Value::Null,
        Some(detail) => {
            let detail = convert::detail(detail).map_err(|error| status::invalid(&error))?;
            serde_json::to_value(detail).map_err(|error| wrong("cells.detail", error))?
        }
    };
    Ok(Cell {
        candidate: wire.candidate as usize,
        value: wire.value,
        failure: wire.failure.map(failure).transpose()?,
        detail,
    })
}

fn failure(wire: v1::Failure) -> Result<(fleetune_core::FailKind, String), Status> {
    let kind = convert::fail_kind(wire.kind).map_err(|error| status::invalid(&error))?;
    Ok((kind, bounded(wire.message)))
}

fn described(wire: v1::Description) -> Result<Described, Status> {
    let invalid = |error: Invalid| status::invalid(&error);
    Ok(Described {
        model: json("model_json", &wire.model_json)?,
        inventory: json("inventory_json", &wire.inventory_json)?,
        pin: convert::pin(wire.pin.ok_or_else(|| invalid(Invalid::missing("pin")))?),
        defaults: convert::params(wire.defaults).map_err(invalid)?,
        baseline_note: bounded(wire.baseline_note),
        engine_fit: convert::params(wire.engine_fit).map_err(invalid)?,
        settings: settings(wire.settings)?,
    })
}

fn settings(names: Vec<String>) -> Result<Vec<String>, Status> {
    match names.iter().find(|name| !SETTING_NAMES.contains(&name.as_str())) {
        Some(unknown) => Err(wrong("settings", format!("`{}` is none", bounded(unknown.clone())))),
        None => Ok(names),
    }
}

fn json<T: DeserializeOwned>(field: &str, text: &str) -> Result<T, Status> {
    if text.len() > MAX_JSON {
        return Err(wrong(field, format!("longer than {MAX_JSON} bytes")));
    }
    serde_json::from_str(text).map_err(|error| wrong(field, error))
}

fn token(text: &str) -> Result<LeaseToken, Status> {
    convert::token(text)
        .and_then(|token| token.ok_or_else(|| Invalid::missing("lease_token")))
        .map_err(|error| status::invalid(&error))
}

fn models(wire: Vec<v1::Model>) -> Result<Vec<VisibleModel>, Status> {
    if wire.len() > MAX_MODELS {
        return Err(wrong("models", format!("more than {MAX_MODELS}")));
    }
    wire.into_iter().map(convert::model).collect::<Result<_, _>>().map_err(|error| status::invalid(&error))
}

fn tokens(texts: &[String]) -> Result<Vec<LeaseToken>, Status> {
    if texts.len() > MAX_TOKENS {
        return Err(wrong("tokens", format!("more than {MAX_TOKENS}")));
    }
    texts.iter().map(|text| token(text)).collect()
}

fn wrong(field: &str, why: impl std::fmt::Display) -> Status {
    status::invalid(&Invalid::new(field, why))
}

#[expect(clippy::needless_pass_by_value, reason = "fits map_err")]
fn refused(error: EngineError) -> Status {
    status::engine(&error)
}
