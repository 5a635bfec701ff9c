//! Workers as tests play them: on one kind of machine, with one engine and one model.

use std::collections::BTreeMap;

use fleetune_core::inventory::Cpu;
use fleetune_core::{Inventory, Workload};
use fleetune_model::ModelMetadata;
use fleetune_proto::v1;

use super::harness::{Server, fresh_id};

pub const ENGINE: &str = "scripted 1";

/// Hash of the model that is searched.
pub const HASH: &str = "00112233445566778899";

pub fn inventory() -> Inventory {
    Inventory {
        os: "linux".to_owned(),
        host: "h".to_owned(),
        boot_id: "b".to_owned(),
        cpu: Cpu { model: "cpu".to_owned(), physical_cores: 4, logical_cpus: 8 },
        ram_mib: 16_384,
        ..Inventory::default()
    }
}

pub fn model_config(trials: u32, confirm: bool) -> v1::StudyConfig {
    let workload = Workload { prompt: 64, gen_tokens: 16, repetitions: 2, warmup: 1 };
    v1::StudyConfig {
        directions: vec![v1::Direction::Maximize.into()],
        budget: Some(v1::Budget { trials: Some(trials), ..v1::Budget::default() }),
        benchmark: Some(v1::Benchmark {
            model: "m.gguf".to_owned(),
            executor: "llama-cpp".to_owned(),
            workload: Some(v1::Workload {
                prompt: workload.prompt,
                r#gen: workload.gen_tokens,
                repetitions: workload.repetitions,
                warmup: workload.warmup,
            }),
            objective: v1::Objective::Decode.into(),
            timeout: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
            confirm,
            ..v1::Benchmark::default()
        }),
        ..v1::StudyConfig::default()
    }
}

pub fn worker_id(name: char) -> String {
    std::iter::repeat_n(name, 32).collect()
}

/// What every worker here tells of itself: it sees the model of [`description`].
pub fn registration(name: char) -> v1::RegisterRequest {
    v1::RegisterRequest {
        worker_id: worker_id(name),
        name: name.to_string(),
        inventory_json: serde_json::to_string(&inventory()).unwrap(),
        executors: [("llama-cpp".to_owned(), ENGINE.to_owned())].into(),
        models: vec![model("m.gguf", HASH)],
        ..v1::RegisterRequest::default()
    }
}

pub fn model(name: &str, hash: &str) -> v1::Model {
    v1::Model { name: name.to_owned(), path: format!("/models/{name}"), hash: hash.to_owned(), bytes: 7 }
}

pub async fn register(server: &mut Server, name: char, engine: &str) {
    let executors = [("llama-cpp".to_owned(), engine.to_owned())].into();
    register_as(server, v1::RegisterRequest { executors, ..registration(name) }).await;
}

pub async fn register_as(server: &mut Server, registration: v1::RegisterRequest) {
    server.workers.register(registration).await.unwrap();
}

pub async fn acquire(server: &mut Server, name: char) -> v1::AcquireResponse {
    acquire_as(server, name, fresh_id()).await
}

pub async fn acquire_as(server: &mut Server, name: char, request_id: String) -> v1::AcquireResponse {
    let request = v1::AcquireRequest { worker_id: worker_id(name), request_id, ..v1::AcquireRequest::default() };
    server.workers.acquire(request).await.unwrap().into_inner()
}

pub async fn job(server: &mut Server, name: char) -> v1::Job {
    let mut acquired = acquire(server, name).await;
    assert_eq!(acquired.jobs.len(), 1, "{:?}", acquired.obstacles);
    acquired.jobs.remove(0)
}

/// The first job that there is for the worker within some seconds.
pub async fn awaited_job(server: &mut Server, name: char) -> v1::Job {
    let request = v1::AcquireRequest {
        worker_id: worker_id(name),
        request_id: fresh_id(),
        wait_s: 20.0,
        ..v1::AcquireRequest::default()
    };
    server.workers.acquire(request).await.unwrap().into_inner().jobs.remove(0)
}

pub fn token(job: &v1::Job) -> String {
    job.lease.as_ref().unwrap().token.clone()
}

pub async fn finish(server: &mut Server, job: &v1::Job, outcome: v1::finish_request::Outcome, samples: &[f64]) {
    let decode = v1::MetricSamples { metric: "decode_tok_s".to_owned(), values: samples.to_vec() };
    let detail = v1::AttemptDetail { samples: vec![decode], ..v1::AttemptDetail::default() };
    let request = v1::FinishRequest { lease_token: token(job), outcome: Some(outcome), detail: Some(detail) };
    server.workers.finish(request).await.unwrap();
}

pub fn description() -> v1::finish_request::Outcome {
    let model = ModelMetadata {
        architecture: "llama".to_owned(),
        block_count: 4,
        context_length: 4096,
        embedding_length: 256,
        head_count: 8,
        head_count_kv: 4,
        tensor_bytes: 1 << 21,
        file_bytes: 1 << 21,
        ..ModelMetadata::default()
    };
    v1::finish_request::Outcome::Described(v1::Description {
        model_json: serde_json::to_string(&model).unwrap(),
        inventory_json: serde_json::to_string(&inventory()).unwrap(),
        pin: Some(v1::Pin {
            model_hash: HASH.to_owned(),
            executor: "llama-cpp".to_owned(),
            engine: ENGINE.to_owned(),
            device_class: inventory().device_class(),
        }),
        ..v1::Description::default()
    })
}

pub fn complete() -> v1::finish_request::Outcome {
    let state = v1::TrialState::Complete.into();
    v1::finish_request::Outcome::Trial(v1::TrialOutcome { state, failure: None, seconds: 1.0 })
}

/// A study whose model is described, with worker `a`.
pub async fn prepared(server: &mut Server, trials: u32, confirm: bool) {
    server.create("s", model_config(trials, confirm)).await.unwrap();
    register(server, 'a', ENGINE).await;
    let describe = job(server, 'a').await;
    assert!(matches!(describe.work, Some(v1::job::Work::Describe(_))));
    finish(server, &describe, description(), &[]).await;
}

pub fn trial(job: &v1::Job) -> (i64, BTreeMap<String, v1::Value>) {
    match &job.work {
        Some(v1::job::Work::Trial(trial)) => (trial.number, trial.params.clone()),
        other => panic!("no trial: {other:?}"),
    }
}

/// Decode speed by thread count alone: more threads, more speed.
pub fn speed(params: &BTreeMap<String, v1::Value>) -> f64 {
    match params["n_threads"].kind {
        Some(v1::value::Kind::Int(threads)) => 10.0 * threads as f64,
        _ => panic!("n_threads is no integer"),
    }
}

/// Runs `count` trials.
pub async fn measure(server: &mut Server, count: u32) {
    for _ in 0..count {
        let job = job(server, 'a').await;
        let (_, params) = trial(&job);
        finish(server, &job, complete(), &[speed(&params), speed(&params) + 1.0]).await;
    }
}
