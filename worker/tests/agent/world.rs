//! A machine with a model, an agent on it, and the coordinator it works for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fleetune_core::gauges::{DeviceGauges, Gauges};
use fleetune_core::inventory::Cpu;
use fleetune_core::{Inventory, Params};
use fleetune_model::{SynthQuant, SynthSize, SynthSpec};
use fleetune_proto::{convert, v1};
use fleetune_worker::agent::{Agent, AgentConfig, AgentError, AgentEvent, JobEnd};
use fleetune_worker::probe::{GpuReading, Probe};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::coordinator::{Coordinator, DEADLINE, Heard};

pub const RUNNER: &str = env!("CARGO_BIN_EXE_fleetune-worker-test-runner");

/// Of the lease of [`job`].
pub const TOKEN: &str = "5.1.00000000000000ff";

struct Machine(Inventory);

impl Probe for Machine {
    fn inventory(&self) -> Inventory {
        self.0.clone()
    }

    fn gpu_readings(&self) -> Vec<GpuReading> {
        Vec::new()
    }

    fn gauges(&self) -> Gauges {
        let device = DeviceGauges { device: 0, memory_used_bytes: Some(7), ..DeviceGauges::default() };
        Gauges { load: Some(0.25), devices: vec![device], ..Gauges::default() }
    }
}

pub fn machine() -> Inventory {
    Inventory {
        host: "bench".into(),
        cpu: Cpu { model: "Test CPU".into(), physical_cores: 8, logical_cpus: 16 },
        ram_mib: 16_384,
        ..Inventory::default()
    }
}

/// A running agent and the coordinator it works for.
pub struct World {
    pub coordinator: Coordinator,
    pub folder: Arc<tempfile::TempDir>,
    pub events: broadcast::Receiver<AgentEvent>,
    pub stop: CancellationToken,
    pub drain: CancellationToken,
    pub agent: JoinHandle<Result<(), AgentError>>,
}

impl World {
    pub async fn new(script: &str, jobs: Vec<v1::job::Work>, prepare: impl FnOnce(&Coordinator)) -> Self {
        Self::on(machine(), PathBuf::from(RUNNER), script, jobs, prepare).await
    }

    pub async fn on(
        machine: Inventory,
        runner: PathBuf,
        script: &str,
        jobs: Vec<v1::job::Work>,
        prepare: impl FnOnce(&Coordinator),
    ) -> Self {
        let folder = folder(script);
        let config = AgentConfig { runner: Some(runner), ..config(folder.path()) };
        let coordinator = Coordinator::default();
        coordinator.with(|state| state.jobs = jobs.into_iter().map(job).collect());
        prepare(&coordinator);
        let channel = coordinator.channel().await;
        Self::start(machine, folder, config, coordinator, channel).await
    }

    /// With another configuration.
    pub async fn configured(script: &str, jobs: Vec<v1::Job>, change: impl FnOnce(&mut AgentConfig)) -> Self {
        let folder = folder(script);
        let mut config = config(folder.path());
        change(&mut config);
        let coordinator = Coordinator::default();
        coordinator.with(|state| state.jobs = jobs.into());
        let channel = coordinator.channel().await;
        Self::start(machine(), folder, config, coordinator, channel).await
    }

    pub async fn start(
        machine: Inventory,
        folder: Arc<tempfile::TempDir>,
        config: AgentConfig,
        coordinator: Coordinator,
        channel: Channel,
    ) -> Self {
        let agent = Agent::with_probe(config, channel, Arc::new(Machine(machine))).await.unwrap();
        let (events, drain) = (agent.events(), agent.drain());
        let stop = CancellationToken::new();
        let agent = tokio::spawn(agent.run(stop.clone()));
        Self { coordinator, folder, events, stop, drain, agent }
    }

    pub fn models(&self) -> PathBuf {
        self.folder.path().join("models")
    }

    /// Waits for an event that `pick` likes.
    pub async fn event<T>(&mut self, mut pick: impl FnMut(AgentEvent) -> Option<T>) -> T {
        let search = async {
            loop {
                if let Some(found) = pick(self.events.recv().await.expect("the agent lives")) {
                    return found;
                }
            }
        };
        tokio::time::timeout(DEADLINE, search).await.expect("it happens in time")
    }

    pub async fn end(&mut self) -> JobEnd {
        self.event(|event| match event {
            AgentEvent::JobEnded { end, .. } => Some(end),
            _ => None,
        })
        .await
    }

    pub async fn repetition(&mut self) {
        self.event(|event| matches!(event, AgentEvent::Repetition { step: Some(_), .. }).then_some(())).await;
    }

    /// What the agent ends with by itself, after it gave its job back. No job has ended otherwise.
    pub async fn gives_up(mut self) -> AgentError {
        assert_eq!(self.end().await, JobEnd::Released);
        let error = self.ended().await.unwrap_err();
        self.coordinator.with(|state| {
            assert!(state.heard.contains(&Heard::Release(TOKEN.into())));
            assert!(!state.heard.iter().any(|heard| matches!(heard, Heard::Finish(_) | Heard::Round(_))));
        });
        error
    }

    /// Waits until the agent ends by itself.
    pub async fn ended(&mut self) -> Result<(), AgentError> {
        tokio::time::timeout(DEADLINE, &mut self.agent).await.expect("it ends in time").unwrap()
    }

    pub async fn stop(mut self) -> Coordinator {
        self.stop.cancel();
        self.ended().await.unwrap();
        self.coordinator
    }
}

/// A machine's files: a model that the scripted runner runs by `script`.
pub fn folder(script: &str) -> Arc<tempfile::TempDir> {
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().join("models");
    std::fs::create_dir(&models).unwrap();
    write_model(&models.join("tiny.gguf"), 1);
    std::fs::write(models.join("tiny.gguf.script.json"), script).unwrap();
    Arc::new(folder)
}

pub fn write_model(path: &Path, seed: u64) {
    let mut bytes = Vec::new();
    SynthSpec { size: SynthSize::Tiny, quant: SynthQuant::Q8_0, seed }.write(&mut bytes).unwrap();
    std::fs::write(path, bytes).unwrap();
}

pub fn hash_of(path: &Path) -> String {
    fleetune_model::inspect(&mut std::fs::File::open(path).unwrap()).unwrap().hash.0
}

pub fn config(folder: &Path) -> AgentConfig {
    AgentConfig {
        data_dir: folder.join("data"),
        runner: Some(RUNNER.into()),
        model_dirs: vec![folder.join("models")],
        lock_dir: Some(folder.join("locks")),
        grace: Some(Duration::from_millis(500)),
        runner_patience: Some(DEADLINE),
        ..AgentConfig::default()
    }
}

pub fn job(work: v1::job::Work) -> v1::Job {
    v1::Job {
        lease: Some(v1::Lease { token: TOKEN.into(), expires_at: None, attempt: 1 }),
        study: "s".into(),
        benchmark: Some(v1::Benchmark {
            model: "tiny".into(),
            executor: "llama-cpp".into(),
            workload: Some(v1::Workload { prompt: 32, r#gen: 16, repetitions: 3, warmup: 1 }),
            objective: v1::Objective::Decode.into(),
            fixed: wire(&[("n_threads_batch", 8)]),
            timeout: Some(convert::duration_to_wire(60.0)),
            allow_wsl_unsafe: false,
            confirm: false,
            no_prior: false,
            ignore_regions: false,
        }),
        work: Some(work),
        ..v1::Job::default()
    }
}

/// A job of study `study`, whose model is called `model` and has this hash.
pub fn job_of(study: &str, model: &str, hash: Option<String>, work: v1::job::Work) -> v1::Job {
    let mut job = job(work);
    study.clone_into(&mut job.study);
    model.clone_into(&mut job.benchmark.as_mut().unwrap().model);
    job.pin = hash.map(|model_hash| v1::Pin { model_hash, ..v1::Pin::default() });
    job
}

pub fn wire(params: &[(&str, i64)]) -> BTreeMap<String, v1::Value> {
    let params: Params = params.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
    convert::params_to_wire(&params)
}

pub fn trial(params: &[(&str, i64)]) -> v1::job::Work {
    v1::job::Work::Trial(v1::TrialJob { number: 4, params: wire(params) })
}

pub fn describe() -> v1::job::Work {
    v1::job::Work::Describe(v1::DescribeJob {})
}

/// A comparison of one configuration.
pub fn comparison(cells_left: u32) -> v1::job::Work {
    v1::job::Work::Comparison(v1::ComparisonJob {
        candidates: vec![v1::Candidate { trial: 0, params: wire(&[]), baseline: true }],
        next: Some(v1::Round { round: 0, order: vec![0] }),
        cells_left,
        kind: v1::ComparisonKind::Confirmation.into(),
    })
}

pub fn outcome(finish: &v1::FinishRequest) -> &v1::TrialOutcome {
    match finish.outcome.as_ref() {
        Some(v1::finish_request::Outcome::Trial(outcome)) => outcome,
        other => panic!("{other:?}"),
    }
}

pub fn samples(finish: &v1::FinishRequest, metric: &str) -> Vec<f64> {
    let all = &finish.detail.as_ref().unwrap().samples;
    all.iter().find(|samples| samples.metric == metric).map(|samples| samples.values.clone()).unwrap_or_default()
}
