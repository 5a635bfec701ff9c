//! The one door to gRPC: calls in the domain's words, retried where that is safe, refused with a reason.
//!
//! Generated types end here. Which address is dialled, with which TLS, is the business of whoever makes the channel.

mod error;
mod wire;

use std::collections::BTreeMap;
use std::time::Duration;

use fleetune_core::gauges::Gauges;
use fleetune_core::measurement::AttemptDetail;
use fleetune_core::region::UnsafeRegion;
use fleetune_core::study::{Benchmark, Pin};
use fleetune_core::{Inventory, LeaseToken, Params, TrialNumber, TrialState, VisibleModel, WorkerId};
use fleetune_proto::link::Link;
use fleetune_proto::retry::Backoff;
use fleetune_proto::v1::study_service_client::StudyServiceClient;
use fleetune_proto::v1::worker_service_client::WorkerServiceClient;
use fleetune_proto::{convert, v1};
use tonic::{Request, Response, Status};

use crate::executor::Failure;

pub use error::ClientError;
pub use fleetune_proto::reason::Reason;

/// Longest answer to one call, over the time the server may wait by request.
const CALL_LIMIT: Duration = Duration::from_secs(20);

/// What even the last try of a call gets.
const SHORTEST_CALL: Duration = Duration::from_secs(1);

/// What a worker says of itself.
#[derive(Clone, Debug)]
pub struct Registration {
    /// Who.
    pub worker: WorkerId,
    /// For people.
    pub name: String,
    /// For selectors.
    pub labels: BTreeMap<String, String>,
    /// Its machine.
    pub inventory: Inventory,
    /// Executor to engine fingerprint.
    pub executors: BTreeMap<String, String>,
    /// Leases it still holds, running or spooled.
    pub held: Vec<LeaseToken>,
    /// Models it can read now.
    pub models: Vec<VisibleModel>,
}

/// How long leases live.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// From one heartbeat to the end of a lease.
    pub lease_ttl: Duration,
    /// Between heartbeats.
    pub heartbeat_every: Duration,
}

/// A leased job.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// The right to write to it.
    pub token: LeaseToken,
    /// The study's name.
    pub study: String,
    /// What is run.
    pub benchmark: Benchmark,
    /// What the study's values hold for; none for a describe job.
    pub pin: Option<Pin>,
    /// What is to be done.
    pub work: Work,
    /// Where machines like this one went down.
    pub regions: Vec<UnsafeRegion>,
}

/// A leased job that makes no sense.
#[derive(Clone, Debug, PartialEq)]
pub struct BadJob {
    /// The right to give it back.
    pub token: LeaseToken,
    /// Whether it is a trial.
    pub is_trial: bool,
    /// What is wrong with it.
    pub why: String,
}

/// What a job asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// Model and machine.
    Describe,
    /// One configuration.
    Trial {
        /// Within the study.
        number: TrialNumber,
        /// Its parameters; the benchmark's fixed settings are not among them.
        params: Params,
    },
    /// Several configurations, round by round.
    Comparison {
        /// The configurations.
        candidates: Vec<Candidate>,
        /// The round to measure; none is left when unset.
        next: Option<Round>,
        /// Fresh processes to come, at most.
        cells_left: u32,
    },
}

/// A configuration of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The trial it comes from.
    pub trial: TrialNumber,
    /// Its parameters.
    pub params: Params,
    /// Whether it is what the others are compared with.
    pub baseline: bool,
}

/// Cells to measure, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// Its number.
    pub round: u32,
    /// Indices into the candidates.
    pub order: Vec<usize>,
}

/// One configuration measured once.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// Index into the candidates.
    pub candidate: usize,
    /// The objective, or why there is none.
    pub result: Result<f64, Failure>,
    /// What was observed.
    pub detail: AttemptDetail,
}

/// What a model and the machine are.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// `fleetune_model::ModelMetadata` as JSON.
    pub model: serde_json::Value,
    /// The machine.
    pub inventory: Inventory,
    /// What the study's values will hold for.
    pub pin: Pin,
    /// Of every setting; the baseline.
    pub defaults: Params,
    /// Why the baseline is not the plain default, where it is not.
    pub baseline_note: Option<String>,
    /// What the engine itself proposes.
    pub engine_fit: Option<Params>,
    /// The settings that the engine takes; empty means all.
    pub settings: Vec<String>,
}

/// The end of a job.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Of a describe job.
    Described(Box<Description>),
    /// Of a trial.
    Trial {
        /// Complete, pruned or failed.
        state: TrialState,
        /// Why it failed.
        failure: Option<Failure>,
        /// Seconds measured.
        seconds: f64,
    },
    /// A describe or comparison job that cannot be done.
    Failed(Failure),
}

/// What the server makes of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Continue,
    /// The pruner has seen enough.
    Stop,
}

/// What became of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseState {
    /// It lives on.
    Renewed,
    /// Another attempt owns the job.
    Lost,
    /// A person ended the job.
    Cancelled,
}

/// The answer to a heartbeat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pulse {
    /// Of every lease that was named.
    pub leases: Vec<(LeaseToken, LeaseState)>,
    /// Take nothing new.
    pub drain: bool,
}

/// What came of an Acquire.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Acquired {
    /// Jobs to do.
    pub jobs: Vec<Job>,
    /// Jobs to give back.
    pub bad: Vec<BadJob>,
    /// Why there is nothing, where the worker could do something about it.
    pub obstacles: Vec<String>,
}

/// A coordinator, as a worker sees it.
#[derive(Clone, Debug)]
pub struct Client {
    workers: WorkerServiceClient<Link>,
    studies: StudyServiceClient<Link>,
}

impl Client {
    /// Over `link`. Messages up to 64 MiB are read.
    pub fn new(link: impl Into<Link>) -> Self {
        const LIMIT: usize = 64 << 20;
        let link = link.into();
        Self {
            workers: WorkerServiceClient::new(link.clone()).max_decoding_message_size(LIMIT),
            studies: StudyServiceClient::new(link).max_decoding_message_size(LIMIT),
        }
    }

    /// Says who the worker is. Tried once.
    pub async fn register(&self, registration: &Registration) -> Result<Terms, ClientError> {
        let request = wire::register(registration);
        let answer = once(CALL_LIMIT, request, |request| {
            let mut workers = self.workers.clone();
            async move { workers.register(request).await }
        })
        .await?;
        Ok(wire::terms(&answer))
    }

    /// Leases at most one job, waiting up to `wait` for it. Tried once; `request_id` makes a repeat safe.
    pub async fn acquire(
        &self,
        worker: &WorkerId,
        study: Option<&str>,
        wait: Duration,
        request_id: &str,
    ) -> Result<Acquired, ClientError> {
        let request = v1::AcquireRequest {
            worker_id: worker.0.clone(),
            max_jobs: 1,
            wait_s: wait.as_secs_f64(),
            study: study.unwrap_or_default().to_owned(),
            request_id: request_id.to_owned(),
        };
        let answer = once(wait + CALL_LIMIT, request, |request| {
            let mut workers = self.workers.clone();
            async move { workers.acquire(request).await }
        })
        .await?;
        wire::acquired(answer)
    }

    /// Renews leases. Tried once: the next heartbeat is near.
    pub async fn heartbeat(
        &self,
        worker: &WorkerId,
        tokens: &[LeaseToken],
        gauges: Option<&Gauges>,
    ) -> Result<Pulse, ClientError> {
        let request = v1::HeartbeatRequest {
            worker_id: worker.0.clone(),
            tokens: tokens.iter().map(ToString::to_string).collect(),
            gauges: gauges.map(convert::gauges_to_wire),
        };
        let answer = once(CALL_LIMIT, request, |request| {
            let mut workers = self.workers.clone();
            async move { workers.heartbeat(request).await }
        })
        .await?;
        wire::pulse(answer)
    }

    /// Stores the objective of one repetition; tried again for up to `patience`.
    pub async fn report(
        &self,
        token: &LeaseToken,
        study: &str,
        number: TrialNumber,
        step: u32,
        value: f64,
        patience: Duration,
    ) -> Result<Verdict, ClientError> {
        let request = v1::ReportRequest {
            study: study.to_owned(),
            number: number.0,
            step,
            value,
            lease_token: token.to_string(),
        };
        let answer = retried(patience, request, |request| {
            let mut studies = self.studies.clone();
            async move { studies.report(request).await }
        })
        .await?;
        match answer.verdict() {
            v1::Verdict::Stop => Ok(Verdict::Stop),
            v1::Verdict::Continue | v1::Verdict::Unspecified => Ok(Verdict::Continue),
        }
    }

    /// Stores a whole round and gets the next one; tried again for up to `patience`.
    pub async fn record_round(
        &self,
        token: &LeaseToken,
        round: u32,
        cells: &[Cell],
        patience: Duration,
    ) -> Result<(Option<Round>, u32), ClientError> {
        let request = wire::round_to_wire(token, round, cells);
        let answer = retried(patience, request, |request| {
            let mut workers = self.workers.clone();
            async move { workers.record_round(request).await }
        })
        .await?;
        Ok((answer.next.map(wire::round), answer.cells_left))
    }

    /// Ends a job; tried again for up to `patience`.
    pub async fn finish(
        &self,
        token: &LeaseToken,
        outcome: &Outcome,
        detail: &AttemptDetail,
        patience: Duration,
    ) -> Result<(), ClientError> {
        self.deliver(wire::finish(token, outcome, detail), patience).await
    }

    /// Ends a job by what [`Client::encode_finish`] gave.
    pub async fn finish_encoded(&self, encoded: &[u8], patience: Duration) -> Result<(), ClientError> {
        self.deliver(wire::decode_finish(encoded)?, patience).await
    }

    /// A finish in a form that can be stored and delivered later.
    pub fn encode_finish(token: &LeaseToken, outcome: &Outcome, detail: &AttemptDetail) -> Vec<u8> {
        wire::encode_finish(&wire::finish(token, outcome, detail))
    }

    async fn deliver(&self, request: v1::FinishRequest, patience: Duration) -> Result<(), ClientError> {
        retried(patience, request, |request| {
            let mut workers = self.workers.clone();
            async move { workers.finish(request).await }
        })
        .await
        .map(|_| ())
    }

    /// Gives a job back unfinished; tried again for up to `patience`.
    pub async fn release(&self, token: &LeaseToken, patience: Duration) -> Result<(), ClientError> {
        let request = v1::ReleaseRequest { lease_token: token.to_string() };
        retried(patience, request, |request| {
            let mut workers = self.workers.clone();
            async move { workers.release(request).await }
        })
        .await
        .map(|_| ())
    }
}

/// Calls once. Whatever the transport does, there is an answer within `limit`.
async fn once<Q, A, F>(limit: Duration, request: Q, call: impl FnOnce(Request<Q>) -> F) -> Result<A, ClientError>
where
    F: Future<Output = Result<Response<A>, Status>>,
{
    let mut request = Request::new(request);
    request.set_timeout(limit);
    // A call that waits for its connection is not yet under the transport's own limit.
    match tokio::time::timeout(limit, call(request)).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(Status::deadline_exceeded(format!("no answer within {limit:.0?}")).into()),
    }
}

/// Calls until there is an answer, a refusal, or `patience` is over. Only for what may be repeated.
async fn retried<Q: Clone, A, F>(
    patience: Duration,
    request: Q,
    mut call: impl FnMut(Request<Q>) -> F,
) -> Result<A, ClientError>
where
    F: Future<Output = Result<Response<A>, Status>>,
{
    let start = tokio::time::Instant::now();
    let mut backoff = Backoff::new(patience);
    loop {
        // Without patience there is one call, of the usual length.
        let left = patience.saturating_sub(start.elapsed());
        let limit = if patience.is_zero() { CALL_LIMIT } else { left.clamp(SHORTEST_CALL, CALL_LIMIT) };
        match once(limit, request.clone(), &mut call).await {
            // A full storage does not get room within seconds.
            Err(error) if error.is_transient() && !error.is_storage_full() => {
                let Some(wait) = backoff.next(error.retry_after(), start.elapsed()) else { return Err(error) };
                tracing::debug!(%error, "call will be tried again");
                tokio::time::sleep(wait).await;
            }
            answer => return answer,
        }
    }
}
