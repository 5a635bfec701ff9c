//! Simulated workers: each on a connection of its own, with the lease of a trial that it pretends to measure.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fleetune_core::Inventory;
use fleetune_model::ModelMetadata;
use fleetune_proto::v1::finish_request::Outcome;
use fleetune_proto::v1::job::Work;
use fleetune_proto::v1::study_service_client::StudyServiceClient;
use fleetune_proto::v1::worker_service_client::WorkerServiceClient;
use fleetune_proto::v1::{
    AcquireRequest, AttemptDetail, Benchmark, CreateStudyRequest, Description, Direction, FinishRequest,
    HeartbeatRequest, Job, MetricSamples, Model, Objective, Pin, RegisterRequest, StudyConfig, TrialOutcome,
    TrialState, Workload,
};
use tokio::task::JoinSet;
use tonic::Status;
use tonic::transport::Channel;

use crate::client::channel;
use crate::latency::{Latencies, Quantiles};

/// As workers do by default.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long a simulated measurement takes.
const TRIAL: Duration = Duration::from_secs(30);
/// One waiting call of a worker.
const WAIT_S: f64 = 50.0;
/// How long the fleet may take until every worker has a trial.
const READY: Duration = Duration::from_mins(2);

const EXECUTOR: &str = "llama-cpp";
const ENGINE: &str = "simulated";
const HASH: &str = "00112233445566778899";

/// Workers at work. They end when this is dropped.
pub struct Fleet {
    seen: Arc<Seen>,
    _workers: JoinSet<()>,
}

#[derive(Debug)]
struct Seen {
    at_work: AtomicU32,
    counts: AtomicBool,
    heartbeats: Mutex<Latencies>,
    errors: Mutex<Vec<String>>,
}

impl Fleet {
    /// Connects `count` workers to the server at `address`, and waits until each has a trial.
    pub async fn start(address: &str, count: u32) -> Result<Self, String> {
        let mut studies = StudyServiceClient::new(channel(address).await?);
        let request = CreateStudyRequest {
            request_id: "fleet".to_owned(),
            name: "fleet".to_owned(),
            config: Some(StudyConfig {
                directions: vec![Direction::Maximize.into()],
                sampler: Some(fleetune_proto::v1::Sampler { name: "random".to_owned(), ..Default::default() }),
                benchmark: Some(benchmark()),
                ..StudyConfig::default()
            }),
            ..CreateStudyRequest::default()
        };
        studies.create_study(request).await.map_err(|status| format!("the fleet's study was refused: {status}"))?;
        let seen = Arc::new(Seen {
            at_work: AtomicU32::new(0),
            counts: AtomicBool::new(false),
            heartbeats: Mutex::new(Latencies::new()),
            errors: Mutex::default(),
        });
        let mut workers = JoinSet::new();
        for number in 0..count {
            let service = WorkerServiceClient::new(channel(address).await?);
            let worker = Worker { id: format!("{number:032x}"), service, seen: Arc::clone(&seen) };
            workers.spawn(worker.work(number));
        }
        let deadline = Instant::now() + READY;
        while seen.at_work.load(Ordering::Relaxed) < count {
            if let Some(why) = seen.errors.lock().expect("nobody panics with it").first() {
                return Err(format!("a worker gave up: {why}"));
            }
            if Instant::now() > deadline {
                let there = seen.at_work.load(Ordering::Relaxed);
                return Err(format!("only {there} of {count} workers have a trial after {READY:?}"));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        seen.counts.store(true, Ordering::Relaxed);
        Ok(Self { seen, _workers: workers })
    }

    /// How long heartbeats took since all were at work, and why workers gave up.
    pub fn report(&self) -> (Quantiles, Vec<String>) {
        let heartbeats = self.seen.heartbeats.lock().expect("nobody panics with it").quantiles();
        (heartbeats, self.seen.errors.lock().expect("nobody panics with it").clone())
    }
}

struct Worker {
    id: String,
    service: WorkerServiceClient<Channel>,
    seen: Arc<Seen>,
}

impl Worker {
    async fn work(mut self, number: u32) {
        if let Err(status) = self.run(number).await {
            self.seen.errors.lock().expect("nobody panics with it").push(status.to_string());
        }
    }

    async fn run(&mut self, number: u32) -> Result<(), Status> {
        self.service.register(registration(&self.id)).await?;
        let mut asked = 0;
        let mut has_worked = false;
        loop {
            asked += 1;
            let request = AcquireRequest {
                worker_id: self.id.clone(),
                request_id: format!("{}-{asked}", self.id),
                wait_s: WAIT_S,
                ..AcquireRequest::default()
            };
            // A worker that waits gives signs of life, too.
            let mut waiting = self.service.clone();
            let acquire = waiting.acquire(request);
            let acquired = tokio::select! {
                acquired = acquire => acquired?,
                Err(status) = self.beat(Vec::new(), None) => return Err(status),
            };
            let Some(job) = acquired.into_inner().jobs.pop() else { continue };
            if matches!(job.work, Some(Work::Trial(_))) {
                if !has_worked {
                    self.seen.at_work.fetch_add(1, Ordering::Relaxed);
                    has_worked = true;
                }
                // Spread, so that the fleet does not end its trials all at once.
                let spread = TRIAL.mul_f64(f64::from(number.wrapping_mul(2_654_435_761) >> 16) / f64::from(u16::MAX));
                let end = Instant::now() + if asked == 1 { spread } else { TRIAL };
                self.beat(vec![token(&job)], Some(end)).await?;
            }
            self.finish(&job).await?;
        }
    }

    /// Heartbeats until `end`, or for ever.
    async fn beat(&self, tokens: Vec<String>, end: Option<Instant>) -> Result<(), Status> {
        let mut service = self.service.clone();
        loop {
            let pause = end.map_or(HEARTBEAT, |end| end.saturating_duration_since(Instant::now()).min(HEARTBEAT));
            tokio::time::sleep(pause).await;
            if end.is_some_and(|end| Instant::now() >= end) {
                return Ok(());
            }
            let start = Instant::now();
            service
                .heartbeat(HeartbeatRequest { worker_id: self.id.clone(), tokens: tokens.clone(), gauges: None })
                .await?;
            if self.seen.counts.load(Ordering::Relaxed) {
                self.seen.heartbeats.lock().expect("nobody panics with it").record(start.elapsed());
            }
        }
    }

    async fn finish(&mut self, job: &Job) -> Result<(), Status> {
        let outcome = match job.work {
            Some(Work::Describe(_)) => Outcome::Described(description()),
            Some(Work::Trial(_)) => Outcome::Trial(TrialOutcome {
                state: TrialState::Complete.into(),
                failure: None,
                seconds: TRIAL.as_secs_f64(),
            }),
            Some(Work::Comparison(_)) | None => return Err(Status::internal("a job of no kind that there should be")),
        };
        let samples = MetricSamples { metric: "decode_tok_s".to_owned(), values: vec![10.0, 11.0] };
        let detail = AttemptDetail { samples: vec![samples], ..AttemptDetail::default() };
        let request = FinishRequest { lease_token: token(job), outcome: Some(outcome), detail: Some(detail) };
        self.service.finish(request).await.map(drop)
    }
}

fn token(job: &Job) -> String {
    job.lease.as_ref().map(|lease| lease.token.clone()).unwrap_or_default()
}

fn benchmark() -> Benchmark {
    Benchmark {
        model: "m.gguf".to_owned(),
        executor: EXECUTOR.to_owned(),
        workload: Some(Workload { prompt: 64, r#gen: 16, repetitions: 2, warmup: 1 }),
        objective: Objective::Decode.into(),
        timeout: fleetune_proto::convert::duration_to_wire(60.0).into(),
        ..Benchmark::default()
    }
}

fn inventory() -> Inventory {
    Inventory { os: "linux".to_owned(), host: "h".to_owned(), ram_mib: 16_384, ..Inventory::default() }
}

fn inventory_json() -> String {
    serde_json::to_string(&inventory()).expect("an inventory is JSON")
}

fn registration(id: &str) -> RegisterRequest {
    let model = Model { name: "m.gguf".to_owned(), path: "/m.gguf".to_owned(), hash: HASH.to_owned(), bytes: 7 };
    RegisterRequest {
        worker_id: id.to_owned(),
        name: id.to_owned(),
        inventory_json: inventory_json(),
        executors: [(EXECUTOR.to_owned(), ENGINE.to_owned())].into(),
        models: vec![model],
        ..RegisterRequest::default()
    }
}

fn description() -> Description {
    let model = ModelMetadata {
        architecture: "llama".to_owned(),
        block_count: 4,
        context_length: 4_096,
        embedding_length: 256,
        head_count: 8,
        head_count_kv: 4,
        tensor_bytes: 1 << 21,
        file_bytes: 1 << 21,
        ..ModelMetadata::default()
    };
    Description {
        model_json: serde_json::to_string(&model).expect("metadata are JSON"),
        inventory_json: inventory_json(),
        pin: Some(Pin {
            model_hash: HASH.to_owned(),
            executor: EXECUTOR.to_owned(),
            engine: ENGINE.to_owned(),
            device_class: inventory().device_class(),
        }),
        ..Description::default()
    }
}
