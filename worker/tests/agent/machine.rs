//! What an agent makes of the machine it runs on.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use fleetune_core::Inventory;
use fleetune_core::inventory::Wsl;
use fleetune_proto::{convert, v1};
use fleetune_worker::agent::{Agent, AgentConfig, AgentError, AgentEvent, JobEnd, Unusable};
use fleetune_worker::lock::{Device, DeviceLocks};

use crate::coordinator::{Coordinator, Heard};
use crate::world::{RUNNER, TOKEN, World, comparison, job, machine, trial};

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
async fn what_the_machine_does_is_told_with_heartbeats() {
    let world = World::new("{}", Vec::new(), |_| ()).await;
    let told = world.coordinator.until_state(|state| state.gauges.first().cloned()).await;
    assert_eq!((told.load, told.memory_available_bytes), (Some(0.25), None));
    assert_eq!((told.devices.len(), told.devices[0].memory_used_bytes), (1, Some(7)));
    world.stop().await;
}

#[tokio::test]
async fn runner_that_answers_but_never_starts_a_job_ends_the_agent() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let runner = folder.path().join("runner");
    let allow = |mode| std::fs::set_permissions(&runner, PermissionsExt::from_mode(mode)).unwrap();
    // One start, and none after it.
    std::fs::write(&runner, format!("#!/bin/sh\nchmod 644 '{}'\nexec '{RUNNER}'\n", runner.display())).unwrap();
    allow(0o755);
    let change = |config: &mut AgentConfig| {
        config.runner = Some(runner.clone());
        config.runner_patience = Some(Duration::from_secs(1));
    };
    let mut world = World::configured("{}", vec![job(trial(&[]))], change).await;
    let mut released = 0;
    let error = loop {
        tokio::select! {
            event = world.events.recv() => if let Ok(AgentEvent::JobEnded { end, .. }) = event {
                assert_eq!(end, JobEnd::Released);
                released += 1;
                // It answers again, and the coordinator believes it.
                allow(0o755);
                world.coordinator.with(|state| state.jobs.push_back(job(trial(&[]))));
            },
            ended = &mut world.agent => break ended.unwrap().unwrap_err(),
        }
    };
    assert!(error.to_string().contains("could not be started"), "{error}");
    assert!(released >= 3, "{released}");
    world.coordinator.with(|state| assert!(!state.heard.iter().any(|heard| matches!(heard, Heard::Finish(_)))));
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
async fn runner_that_cannot_be_started_ends_the_agent_and_fails_no_trial() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let runner = folder.path().join("runner");
    std::fs::hard_link(RUNNER, &runner).unwrap();
    let change = |config: &mut AgentConfig| {
        config.runner = Some(runner.clone());
        config.runner_patience = Some(Duration::from_millis(300));
    };
    let mut world = World::configured("{}", Vec::new(), change).await;
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
    let error = world.ended().await.unwrap_err();
    assert!(error.to_string().contains("could not be started"), "{error}");
    world.coordinator.with(|state| {
        assert!(state.heard.contains(&Heard::Release(TOKEN.into())));
        assert!(!state.heard.iter().any(|heard| matches!(heard, Heard::Finish(_))));
    });
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
    std::fs::write(world.models().join("deep.gguf"), deep_model()).unwrap();
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
    std::fs::set_permissions(&new, PermissionsExt::from_mode(0o755)).unwrap();
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
