//! The agent against a coordinator of its tests, with the scripted runner as engine.
#![cfg(unix)]

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fleetune_core::inventory::{Cpu, Wsl};
use fleetune_core::{Inventory, Params};
use fleetune_model::{SynthQuant, SynthSize, SynthSpec};
use fleetune_proto::{convert, v1};
use fleetune_worker::agent::{Agent, AgentConfig, AgentError, AgentEvent, JobEnd, Unusable};
use fleetune_worker::lock::{Device, DeviceLocks};
use fleetune_worker::probe::{GpuReading, Probe};
use support::{Coordinator, DEADLINE, Heard};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const RUNNER: &str = env!("CARGO_BIN_EXE_fleetune-worker-test-runner");

struct Machine(Inventory);

impl Probe for Machine {
    fn inventory(&self) -> Inventory {
        self.0.clone()
    }

    fn gpu_readings(&self) -> Vec<GpuReading> {
        Vec::new()
    }
}

fn machine() -> Inventory {
    Inventory {
        host: "bench".into(),
        cpu: Cpu { model: "Test CPU".into(), physical_cores: 8, logical_cpus: 16 },
        ram_mib: 16_384,
        ..Inventory::default()
    }
}

/// A running agent and the coordinator it works for.
struct World {
    coordinator: Coordinator,
    folder: tempfile::TempDir,
    events: broadcast::Receiver<AgentEvent>,
    stop: CancellationToken,
    agent: JoinHandle<Result<(), AgentError>>,
}

impl World {
    async fn new(script: &str, jobs: Vec<v1::job::Work>, prepare: impl FnOnce(&Coordinator)) -> Self {
        Self::on(machine(), PathBuf::from(RUNNER), script, jobs, prepare).await
    }

    async fn on(
        machine: Inventory,
        runner: PathBuf,
        script: &str,
        jobs: Vec<v1::job::Work>,
        prepare: impl FnOnce(&Coordinator),
    ) -> Self {
        Self::patient(machine, runner, DEADLINE, script, jobs, prepare).await
    }

    /// With a runner that may be away for `patience`.
    async fn patient(
        machine: Inventory,
        runner: PathBuf,
        patience: Duration,
        script: &str,
        jobs: Vec<v1::job::Work>,
        prepare: impl FnOnce(&Coordinator),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("models")).unwrap();
        let mut bytes = Vec::new();
        SynthSpec { size: SynthSize::Tiny, quant: SynthQuant::Q8_0, seed: 1 }.write(&mut bytes).unwrap();
        std::fs::write(folder.path().join("models/tiny.gguf"), bytes).unwrap();
        std::fs::write(folder.path().join("models/tiny.gguf.script.json"), script).unwrap();
        let coordinator = Coordinator::default();
        coordinator.with(|state| state.jobs = jobs.into_iter().map(job).collect());
        prepare(&coordinator);
        let config = AgentConfig {
            data_dir: folder.path().join("data"),
            runner: Some(runner),
            model_dirs: vec![folder.path().join("models")],
            lock_dir: Some(folder.path().join("locks")),
            grace: Some(Duration::from_millis(500)),
            runner_patience: Some(patience),
            ..AgentConfig::default()
        };
        let channel = coordinator.channel().await;
        let agent = Agent::with_probe(config, channel, Arc::new(Machine(machine))).await.unwrap();
        let events = agent.events();
        let stop = CancellationToken::new();
        let agent = tokio::spawn(agent.run(stop.clone()));
        Self { coordinator, folder, events, stop, agent }
    }

    /// Waits for an event that `pick` likes.
    async fn event<T>(&mut self, mut pick: impl FnMut(AgentEvent) -> Option<T>) -> T {
        let search = async {
            loop {
                if let Some(found) = pick(self.events.recv().await.expect("the agent lives")) {
                    return found;
                }
            }
        };
        tokio::time::timeout(DEADLINE, search).await.expect("it happens in time")
    }

    async fn end(&mut self) -> JobEnd {
        self.event(|event| match event {
            AgentEvent::JobEnded { end, .. } => Some(end),
            _ => None,
        })
        .await
    }

    async fn repetition(&mut self) {
        self.event(|event| matches!(event, AgentEvent::Repetition { step: Some(_), .. }).then_some(())).await;
    }

    /// What the agent ends with by itself, after it gave its job back. No job has ended otherwise.
    async fn gives_up(mut self) -> AgentError {
        assert_eq!(self.end().await, JobEnd::Released);
        let error = tokio::time::timeout(DEADLINE, self.agent).await.expect("it ends in time").unwrap().unwrap_err();
        self.coordinator.with(|state| {
            assert!(state.heard.contains(&Heard::Release(TOKEN.into())));
            assert!(!state.heard.iter().any(|heard| matches!(heard, Heard::Finish(_) | Heard::Round(_))));
        });
        error
    }

    async fn stop(self) -> Coordinator {
        self.stop.cancel();
        tokio::time::timeout(DEADLINE, self.agent).await.expect("it stops in time").unwrap().unwrap();
        self.coordinator
    }
}

const TOKEN: &str = "5.1.00000000000000ff";

fn job(work: v1::job::Work) -> v1::Job {
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
        }),
        work: Some(work),
        pin: None,
    }
}

fn wire(params: &[(&str, i64)]) -> BTreeMap<String, v1::Value> {
    let params: Params = params.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
    convert::params_to_wire(&params)
}

fn trial(params: &[(&str, i64)]) -> v1::job::Work {
    v1::job::Work::Trial(v1::TrialJob { number: 4, params: wire(params) })
}

/// A comparison of one configuration.
fn comparison(cells_left: u32) -> v1::job::Work {
    v1::job::Work::Comparison(v1::ComparisonJob {
        candidates: vec![v1::Candidate { trial: 0, params: wire(&[]), baseline: true }],
        next: Some(v1::Round { round: 0, order: vec![0] }),
        cells_left,
        kind: v1::ComparisonKind::Confirmation.into(),
    })
}

fn outcome(finish: &v1::FinishRequest) -> &v1::TrialOutcome {
    match finish.outcome.as_ref() {
        Some(v1::finish_request::Outcome::Trial(outcome)) => outcome,
        other => panic!("{other:?}"),
    }
}

fn samples(finish: &v1::FinishRequest, metric: &str) -> Vec<f64> {
    let all = &finish.detail.as_ref().unwrap().samples;
    all.iter().find(|samples| samples.metric == metric).map(|samples| samples.values.clone()).unwrap_or_default()
}

#[tokio::test]
async fn trial_reports_every_repetition_and_ends_complete() {
    let mut world = World::new("{}", vec![trial(&[("n_threads", 6)])], |_| ()).await;
    let JobEnd::Complete { value } = world.end().await else { panic!("not complete") };
    let coordinator = world.stop().await;
    let finish = coordinator.finish().await;
    assert_eq!(outcome(&finish).state(), v1::TrialState::Complete);
    assert!(outcome(&finish).seconds > 0.0);
    let decode = samples(&finish, "decode_tok_s");
    let reports = coordinator.reports();
    assert_eq!(reports.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(reports.iter().map(|(_, value)| *value).collect::<Vec<_>>(), decode);
    assert_eq!(Some(value), fleetune_core::measurement::median(&decode));
    let detail = convert::detail(finish.detail.unwrap()).unwrap();
    assert_eq!(detail.requested.len(), 2);
    assert_eq!(detail.effective["n_threads"], 6);
    assert_eq!((detail.stopped_by.as_str(), detail.device_class.as_str()), ("none", "Test CPU 8 cores"));
    assert!(detail.engine.starts_with("scripted"), "{}", detail.engine);
    assert!(detail.telemetry["log"]["path"].as_str().unwrap().contains("s-4-"), "{}", detail.telemetry);
}

#[tokio::test]
async fn stop_verdict_ends_the_child_and_keeps_the_samples_so_far() {
    let prune = |coordinator: &Coordinator| coordinator.with(|state| state.stop_at = Some(2));
    let mut world = World::new(r#"{"mode":"hang","at":2}"#, vec![trial(&[])], prune).await;
    assert!(matches!(world.end().await, JobEnd::Pruned { .. }));
    let coordinator = world.stop().await;
    let finish = coordinator.finish().await;
    assert_eq!(outcome(&finish).state(), v1::TrialState::Pruned);
    assert_eq!(samples(&finish, "decode_tok_s").len(), 2);
    assert_eq!(finish.detail.unwrap().stopped_by, "SIGTERM");
}

#[tokio::test]
async fn failed_trial_says_why() {
    for (script, params, kind, message) in [
        (r#"{"mode":"oom","at":1}"#, vec![], v1::FailKind::Oom, "failed to allocate"),
        (r#"{"mode":"abort"}"#, vec![], v1::FailKind::Crash, "GGML_ASSERT"),
        (r#"{"mode":"nan"}"#, vec![], v1::FailKind::NonFinite, "finite"),
        ("{}", vec![("n_thread", 1)], v1::FailKind::InvalidConfig, "did you mean `n_threads`"),
    ] {
        let mut world = World::new(script, vec![trial(&params)], |_| ()).await;
        assert!(matches!(world.end().await, JobEnd::Failed(_)), "{script}");
        let finish = world.stop().await.finish().await;
        let failure = outcome(&finish).failure.clone().unwrap();
        assert_eq!(failure.kind(), kind, "{script}");
        assert!(failure.message.contains(message), "{}", failure.message);
    }
}

#[tokio::test]
async fn cancelled_and_lost_trials_end_the_child_without_a_finish() {
    for (state, expected) in [(v1::LeaseState::Cancelled, JobEnd::Cancelled), (v1::LeaseState::Lost, JobEnd::Lost)] {
        let mut world = World::new(r#"{"mode":"hang","at":1}"#, vec![trial(&[])], |_| ()).await;
        world.repetition().await;
        world.coordinator.with(|all| all.verdict = Some(state));
        assert_eq!(world.end().await, expected);
        let coordinator = world.stop().await;
        coordinator.with(|all| {
            assert!(!all.heard.iter().any(|heard| matches!(heard, Heard::Finish(_) | Heard::Release(_))));
        });
    }
}

#[tokio::test]
async fn stopped_agent_gives_its_job_back() {
    let mut world = World::new(r#"{"mode":"hang","at":1,"ignore_sigterm":true}"#, vec![trial(&[])], |_| ()).await;
    world.repetition().await;
    world.stop.cancel();
    assert_eq!(world.end().await, JobEnd::Released);
    let coordinator = world.stop().await;
    let token = coordinator
        .until(|heard| match heard {
            Heard::Release(token) => Some(token.clone()),
            _ => None,
        })
        .await;
    assert_eq!(token, TOKEN);
}

#[tokio::test]
async fn job_leased_while_the_agent_stops_is_given_back() {
    let lost = |coordinator: &Coordinator| coordinator.with(|state| state.lose_answers = true);
    let world = World::new("{}", vec![trial(&[])], lost).await;
    world.coordinator.acquiring().await;
    let coordinator = world.stop().await;
    coordinator.with(|state| {
        assert!(state.jobs.is_empty(), "it was leased");
        assert!(state.heard.contains(&Heard::Release(TOKEN.into())));
    });
}

#[tokio::test]
async fn drained_agent_finishes_its_job_and_leaves() {
    let mut world = World::new(r#"{"repetition_ms":400}"#, vec![trial(&[]), trial(&[])], |_| ()).await;
    world.repetition().await;
    world.coordinator.with(|state| state.drain = true);
    assert!(matches!(world.end().await, JobEnd::Complete { .. }));
    let left = tokio::time::timeout(DEADLINE, &mut world.agent).await.expect("it leaves by itself").unwrap();
    left.unwrap();
    world.coordinator.with(|state| {
        assert_eq!(state.jobs.len(), 1, "the second job stays");
        assert!(state.heard.iter().any(|heard| matches!(heard, Heard::Finish(_))));
    });
}

#[tokio::test]
async fn describe_tells_model_machine_and_pin() {
    let mut world = World::new("{}", vec![v1::job::Work::Describe(v1::DescribeJob {})], |_| ()).await;
    assert_eq!(world.end().await, JobEnd::Described);
    let finish = world.stop().await.finish().await;
    let Some(v1::finish_request::Outcome::Described(description)) = finish.outcome else { panic!() };
    let model: fleetune_model::ModelMetadata = serde_json::from_str(&description.model_json).unwrap();
    assert_eq!(model.architecture, "llama");
    let inventory: Inventory = serde_json::from_str(&description.inventory_json).unwrap();
    assert_eq!(inventory.cpu.physical_cores, 8);
    let pin = description.pin.unwrap();
    assert_eq!((pin.model_hash.len(), pin.executor.as_str()), (64, "llama-cpp"));
    assert_eq!(pin.device_class, "Test CPU 8 cores");
    assert!(description.baseline_note.is_empty());
    let defaults = convert::params(description.defaults).unwrap();
    assert_eq!(defaults["n_threads_batch"], 8.into());
}

#[tokio::test]
async fn changed_model_file_ends_the_agent_and_fails_no_trial() {
    for work in [trial(&[]), comparison(1)] {
        let pinned = |coordinator: &Coordinator| coordinator.with(|state| state.model_hash = Some("0".repeat(64)));
        let error = World::new("{}", vec![work], pinned).await.gives_up().await.to_string();
        assert!(error.contains("is not the one that study `s` was made for"), "{error}");
    }
}

#[tokio::test]
async fn study_of_a_missing_model_fails_and_a_model_that_vanished_ends_the_agent() {
    let mut world = World::new("{}", Vec::new(), |_| ()).await;
    let missing = |work| {
        let mut job = job(work);
        job.benchmark.as_mut().unwrap().model = "other".into();
        job
    };
    let describe = missing(v1::job::Work::Describe(v1::DescribeJob {}));
    world.coordinator.with(|state| state.jobs.push_back(describe));
    let JobEnd::Failed(failure) = world.end().await else { panic!() };
    assert!(failure.message.contains("`other` was not found") && failure.message.contains("--models"));
    world.coordinator.with(|state| {
        state.heard.clear();
        state.jobs.push_back(missing(trial(&[])));
    });
    let error = world.gives_up().await.to_string();
    assert!(error.contains("`other` was not found") && error.contains("--models"), "{error}");
}

#[tokio::test]
async fn unusable_lock_folder_ends_the_agent_and_fails_no_trial() {
    for work in [trial(&[]), comparison(1)] {
        let world = World::new("{}", Vec::new(), |_| ()).await;
        // A file where the folder would be.
        std::fs::write(world.folder.path().join("locks"), "").unwrap();
        world.coordinator.with(|state| state.jobs.push_back(job(work)));
        let error = world.gives_up().await;
        assert!(matches!(error, AgentError::Unusable(Unusable::Lock(_))), "{error}");
        assert!(error.to_string().contains("FLEETUNE_LOCK_DIR"), "{error}");
    }
}

#[tokio::test]
async fn runner_that_cannot_be_started_ends_the_agent_and_fails_no_trial() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let runner = folder.path().join("runner");
    std::fs::hard_link(RUNNER, &runner).unwrap();
    let patience = Duration::from_millis(300);
    let mut world = World::patient(machine(), runner.clone(), patience, "{}", Vec::new(), |_| ()).await;
    // It is asked for its engine before a job is waited for; this job comes after that.
    world.coordinator.acquiring().await;
    std::fs::remove_file(&runner).unwrap();
    world.coordinator.with(|state| state.jobs.push_back(job(trial(&[]))));
    let missing = world.event(|event| match event {
        AgentEvent::RunnerMissing { message } => Some(message),
        AgentEvent::JobEnded { end, .. } => {
            assert_eq!(end, JobEnd::Released);
            None
        }
        _ => None,
    });
    assert!(missing.await.contains("could not be started"));
    let error = tokio::time::timeout(DEADLINE, world.agent).await.expect("it ends in time").unwrap().unwrap_err();
    assert!(error.to_string().contains("could not be started"), "{error}");
    world.coordinator.with(|state| {
        assert!(state.heard.contains(&Heard::Release(TOKEN.into())));
        assert!(!state.heard.iter().any(|heard| matches!(heard, Heard::Finish(_))));
    });
}

#[tokio::test]
async fn comparison_measures_its_cells_in_order_until_there_is_no_round() {
    let candidate =
        |trial, threads, baseline| v1::Candidate { trial, params: wire(&[("n_threads", threads)]), baseline };
    let comparison = v1::job::Work::Comparison(v1::ComparisonJob {
        candidates: vec![candidate(0, 4, true), candidate(7, 6, false), candidate(8, 3, false)],
        next: Some(v1::Round { round: 0, order: vec![1, 0, 2] }),
        cells_left: 4,
        kind: v1::ComparisonKind::Confirmation.into(),
    });
    let next = |coordinator: &Coordinator| {
        coordinator.with(|state| state.rounds.push_back(v1::Round { round: 1, order: vec![0] }));
    };
    let script = r#"{"rules":[{"when":{"n_threads":3},"mode":"oom"}]}"#;
    let mut world = World::new(script, vec![comparison], next).await;
    assert_eq!(world.end().await, JobEnd::Compared);
    let coordinator = world.stop().await;
    let rounds: Vec<v1::RecordRoundRequest> = coordinator.with(|state| {
        assert!(!state.heard.iter().any(|heard| matches!(heard, Heard::Finish(_))));
        let round = |heard: &Heard| match heard {
            Heard::Round(round) => Some((**round).clone()),
            _ => None,
        };
        state.heard.iter().filter_map(round).collect()
    });
    assert_eq!(rounds.iter().map(|round| (round.round, round.cells.len())).collect::<Vec<_>>(), [(0, 3), (1, 1)]);
    let cells = &rounds[0].cells;
    assert_eq!(cells.iter().map(|cell| cell.candidate).collect::<Vec<_>>(), [1, 0, 2]);
    assert!(cells[0].value.unwrap() > cells[1].value.unwrap(), "6 threads are faster than 4");
    assert_eq!(cells[2].value, None);
    assert_eq!(cells[2].failure.as_ref().unwrap().kind(), v1::FailKind::Oom);
    assert_eq!(cells[0].detail.as_ref().unwrap().samples.iter().map(|s| s.values.len()).max(), Some(1));
}

#[tokio::test]
async fn busy_device_is_waited_for_and_does_not_count() {
    let folder = std::cell::OnceCell::new();
    let mut world = World::new("{}", Vec::new(), |_| ()).await;
    folder.set(world.folder.path().join("locks")).unwrap();
    let locks = DeviceLocks::new(folder.get().unwrap());
    let cpu = locks.acquire(&std::collections::BTreeSet::from([Device::Cpu]), |_| ()).await.unwrap();
    world.coordinator.with(|state| state.jobs.push_back(job(trial(&[]))));
    let waiting = world.event(|event| match event {
        AgentEvent::WaitingForDevice { device } => Some(device),
        _ => None,
    });
    assert_eq!(waiting.await, Device::Cpu);
    drop(cpu);
    assert!(matches!(world.end().await, JobEnd::Complete { .. }));
    let finish = world.stop().await.finish().await;
    assert!(finish.detail.unwrap().waited_s > 0.0);
}

#[tokio::test]
async fn forgotten_worker_registers_again() {
    let forget = |coordinator: &Coordinator| coordinator.with(|state| state.forget = 1);
    let mut world = World::new("{}", vec![trial(&[])], forget).await;
    assert!(matches!(world.end().await, JobEnd::Complete { .. }));
    let coordinator = world.stop().await;
    let registrations: Vec<v1::RegisterRequest> = coordinator.with(|state| {
        let registration = |heard: &Heard| match heard {
            Heard::Register(registration) => Some(registration.clone()),
            _ => None,
        };
        state.heard.iter().filter_map(registration).collect()
    });
    assert_eq!(registrations.len(), 2);
    assert_eq!(registrations[0].worker_id, registrations[1].worker_id);
    assert_eq!(registrations[0].name, "bench");
    assert!(registrations[0].executors["llama-cpp"].starts_with("scripted"));
}

#[tokio::test]
async fn result_is_kept_while_the_coordinator_is_away() {
    let away = |coordinator: &Coordinator| coordinator.with(|state| state.finish_away = true);
    let mut world = World::new("{}", vec![trial(&[])], away).await;
    world.repetition().await;
    world.event(|event| (event == AgentEvent::Spooled).then_some(())).await;
    world.coordinator.with(|state| {
        state.finish_away = false;
        state.forget = 1;
    });
    let finish = world.coordinator.finish().await;
    assert_eq!(outcome(&finish).state(), v1::TrialState::Complete);
    world.stop().await;
}

#[tokio::test]
async fn unsafe_configuration_is_not_started_and_the_baseline_avoids_it() {
    let wsl = Inventory { wsl: Wsl { detected: true, ..Wsl::default() }, ..machine() };
    // On the file system of the program itself, so that it can be linked.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let runner = folder.path().join("runner");
    std::fs::hard_link(RUNNER, &runner).unwrap();
    std::fs::write(folder.path().join("runner.engine.json"), r#"{"gpu_mib":[20475]}"#).unwrap();
    let mut world = World::on(wsl, runner, "{}", Vec::new(), |_| ()).await;
    std::fs::write(world.folder.path().join("models/deep.gguf"), deep_model()).unwrap();
    let deep = |work| {
        let mut job = job(work);
        job.benchmark.as_mut().unwrap().model = "deep".into();
        job
    };
    world.coordinator.with(|state| state.jobs.push_back(deep(trial(&[("n_gpu_layers", 31)]))));
    assert!(matches!(world.end().await, JobEnd::Complete { .. }), "one layer less is safe");
    world.coordinator.with(|state| state.jobs.push_back(deep(trial(&[("n_gpu_layers", 32)]))));
    let JobEnd::Failed(failure) = world.end().await else { panic!("it was run") };
    assert_eq!(failure.kind, fleetune_core::FailKind::UnsafeRegion);
    assert!(failure.message.contains("--allow-wsl-unsafe"), "{}", failure.message);
    let mut allowed = deep(trial(&[("n_gpu_layers", 32)]));
    allowed.benchmark.as_mut().unwrap().allow_wsl_unsafe = true;
    world.coordinator.with(|state| state.jobs.push_back(allowed));
    assert!(matches!(world.end().await, JobEnd::Complete { .. }));
    world.coordinator.with(|state| {
        state.heard.clear();
        state.jobs.push_back(deep(v1::job::Work::Describe(v1::DescribeJob {})));
    });
    assert_eq!(world.end().await, JobEnd::Described);
    let finish = world.stop().await.finish().await;
    let Some(v1::finish_request::Outcome::Described(description)) = finish.outcome else { panic!() };
    assert!(description.baseline_note.contains("`n_gpu_layers` = 31"), "{}", description.baseline_note);
    assert_eq!(convert::params(description.defaults).unwrap()["n_gpu_layers"], 31.into());
    assert!(description.pin.unwrap().device_class.ends_with("WSL"));
}

/// A header of 40 layers, and nothing else.
fn deep_model() -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3_u32.to_le_bytes());
    bytes.extend([0_u64, 2].map(u64::to_le_bytes).concat());
    let mut key = |name: &str, kind: u32, value: &[u8]| {
        bytes.extend((name.len() as u64).to_le_bytes());
        bytes.extend(name.bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend(value);
    };
    key("general.architecture", 8, &[&5_u64.to_le_bytes()[..], b"llama"].concat());
    key("llama.block_count", 4, &40_u32.to_le_bytes());
    bytes
}

#[tokio::test]
async fn exchanged_runner_is_registered_as_another_engine() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let runner = folder.path().join("runner");
    std::fs::hard_link(RUNNER, &runner).unwrap();
    let mut world = World::on(machine(), runner.clone(), "{}", Vec::new(), |_| ()).await;
    let registered = |heard: &Heard| match heard {
        Heard::Register(registration) => Some(registration.executors["llama-cpp"].clone()),
        _ => None,
    };
    let first = world.coordinator.until(registered).await;
    world.coordinator.acquiring().await;
    // The scripted engine's version lies beside the program; a program of another name has another one beside it.
    std::fs::write(folder.path().join("other.engine.json"), r#"{"version":"2"}"#).unwrap();
    let script = format!("#!/bin/sh\nexec '{}'\n", folder.path().join("other").display());
    std::fs::hard_link(RUNNER, folder.path().join("other")).unwrap();
    std::fs::remove_file(&runner).unwrap();
    world.coordinator.with(|state| state.jobs.push_back(job(trial(&[]))));
    assert_eq!(world.end().await, JobEnd::Released, "there is no runner");
    let missing = world.event(|event| match event {
        AgentEvent::RunnerMissing { message } => Some(message),
        _ => None,
    });
    assert!(missing.await.contains("could not be started"));
    // Written elsewhere first: nobody must start half a program.
    let new = folder.path().join("new");
    std::fs::write(&new, script).unwrap();
    std::fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::rename(&new, &runner).unwrap();
    let second = world.coordinator.until(|heard| registered(heard).filter(|engine| *engine != first)).await;
    assert!(second.starts_with("scripted 2"), "{second}");
    world.stop().await;
}

#[tokio::test]
async fn missing_runner_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let config = AgentConfig {
        data_dir: folder.path().to_owned(),
        runner: Some(folder.path().join("fleetune-runner")),
        ..AgentConfig::default()
    };
    let error = Agent::new(config, Coordinator::default().channel().await).await.unwrap_err();
    assert!(error.to_string().contains("make setup"), "{error}");
}
