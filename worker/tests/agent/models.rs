//! An agent and the models that it can read.

use std::time::{Duration, Instant};

use fleetune_proto::v1;
use fleetune_worker::agent::{AgentConfig, AgentEvent, JobEnd};

use crate::coordinator::{Coordinator, Heard};
use crate::world::{World, comparison, describe, hash_of, job_of, outcome, trial, write_model};

fn of_one_study(config: &mut AgentConfig) {
    config.study = Some("s".into());
}

fn any_study(_: &mut AgentConfig) {}

/// The hash of a model that is nowhere.
fn nowhere() -> String {
    "0".repeat(64)
}

async fn missing(world: &mut World) -> (String, String) {
    world
        .event(|event| match event {
            AgentEvent::ModelMissing { study, message } => Some((study, message)),
            _ => None,
        })
        .await
}

fn is_ended(coordinator: &Coordinator) -> bool {
    coordinator.with(|state| state.heard.iter().any(|heard| matches!(heard, Heard::Finish(_) | Heard::Round(_))))
}

fn names(registration: &v1::RegisterRequest) -> Vec<&str> {
    registration.models.iter().map(|model| model.name.as_str()).collect()
}

#[tokio::test]
async fn changed_model_file_ends_the_agent_of_one_study_and_fails_no_trial() {
    for work in [trial(&[]), comparison(1)] {
        let world = World::configured("{}", vec![job_of("s", "tiny", Some(nowhere()), work)], of_one_study).await;
        let error = world.gives_up().await.to_string();
        assert!(error.contains("is not the one that study `s` was made for"), "{error}");
    }
}

#[tokio::test]
async fn missing_model_ends_the_agent_of_one_study_and_fails_nothing() {
    for (hash, work) in [(None, describe()), (Some(nowhere()), trial(&[])), (None, trial(&[]))] {
        let world = World::configured("{}", vec![job_of("s", "other", hash, work)], of_one_study).await;
        let error = world.gives_up().await.to_string();
        assert!(error.contains("model `other`") && error.contains("--models"), "{error}");
    }
}

#[tokio::test]
async fn missing_model_is_given_back_and_other_studies_go_on() {
    for (hash, work) in [(None, describe()), (Some(nowhere()), trial(&[])), (Some(nowhere()), comparison(1))] {
        let jobs = vec![job_of("gone", "other", hash, work)];
        let mut world = World::configured("{}", jobs, any_study).await;
        assert_eq!(world.end().await, JobEnd::Released);
        let (study, message) = missing(&mut world).await;
        assert_eq!(study, "gone");
        assert!(message.contains("model `other`") && message.contains("--models FOLDER"), "{message}");
        assert!(!is_ended(&world.coordinator));
        world.coordinator.with(|state| state.jobs.push_back(job_of("s", "tiny", None, trial(&[]))));
        assert!(matches!(world.end().await, JobEnd::Complete { .. }));
        world.stop().await;
    }
}

#[tokio::test]
async fn job_whose_model_stays_missing_is_taken_ever_more_rarely() {
    let again = || job_of("gone", "other", Some(nowhere()), trial(&[]));
    let mut world = World::configured("{}", vec![again(); 6], any_study).await;
    let begin = Instant::now();
    for _ in 0..6 {
        missing(&mut world).await;
    }
    // After 100, 200, 400, 800 and 1,600 ms.
    assert!(begin.elapsed() >= Duration::from_secs(3), "{:?}", begin.elapsed());
    world.stop().await;
}

#[tokio::test]
async fn file_that_is_no_model_fails_its_description() {
    let mut world = World::configured("{}", Vec::new(), any_study).await;
    std::fs::write(world.models().join("broken.gguf"), b"GGUX").unwrap();
    world.coordinator.with(|state| state.jobs.push_back(job_of("s", "broken", None, describe())));
    let JobEnd::Failed(failure) = world.end().await else { panic!("not failed") };
    assert!(failure.message.contains("not a GGUF file"), "{}", failure.message);
    let finish = world.stop().await.finish().await;
    assert!(matches!(finish.outcome, Some(v1::finish_request::Outcome::Failed(_))));
}

#[tokio::test]
async fn pinned_study_runs_on_the_file_that_has_its_hash() {
    let mut world = World::configured("{}", Vec::new(), any_study).await;
    let hash = hash_of(&world.models().join("tiny.gguf"));
    for name in ["tiny", "/another/machine/model.gguf"] {
        world.coordinator.with(|state| {
            state.heard.clear();
            state.jobs.push_back(job_of("s", name, Some(hash.clone()), trial(&[])));
        });
        assert!(matches!(world.end().await, JobEnd::Complete { .. }), "{name}");
        assert_eq!(outcome(&world.coordinator.finish().await).state(), v1::TrialState::Complete);
    }
    world.stop().await;
}

#[tokio::test]
async fn worker_registers_the_models_that_it_can_read_now() {
    let named = tempfile::tempdir().unwrap();
    let file = named.path().join("named.bin");
    write_model(&file, 7);
    let change = |config: &mut AgentConfig| {
        config.model_files = vec![file.clone()];
        config.models_every = Some(Duration::ZERO);
    };
    let world = World::configured("{}", Vec::new(), change).await;
    world.coordinator.with(|state| state.idle = true);
    let first = world.coordinator.until(registration(|_| true)).await;
    assert_eq!(names(&first), ["named.bin", "tiny.gguf"]);
    assert_eq!((first.models[0].path.as_str(), first.models[0].hash.len()), (file.to_str().unwrap(), 64));
    assert_eq!(first.models[1].hash, hash_of(&world.models().join("tiny.gguf")));
    // As a download ends.
    write_model(&world.models().join("new.gguf.partial"), 8);
    std::fs::rename(world.models().join("new.gguf.partial"), world.models().join("new.gguf")).unwrap();
    let second = world.coordinator.until(registration(|models| models.contains(&"new.gguf"))).await;
    assert_eq!(names(&second), ["named.bin", "new.gguf", "tiny.gguf"]);
    std::fs::remove_file(&file).unwrap();
    world.coordinator.until(registration(|models| models == ["new.gguf", "tiny.gguf"])).await;
    let coordinator = world.stop().await;
    assert_eq!(coordinator.registrations().len(), 3, "nothing is said again that has not changed");
}

/// A registration with models that `pick` likes.
fn registration(pick: impl Fn(&[&str]) -> bool) -> impl FnMut(&Heard) -> Option<v1::RegisterRequest> {
    move |heard| match heard {
        Heard::Register(registration) if pick(&names(registration)) => Some(registration.clone()),
        _ => None,
    }
}
