//! A coordinator that is away: nothing that was measured is lost, and nothing waits for it for long.

use std::time::{Duration, Instant};

use fleetune_proto::v1;
use fleetune_worker::agent::{AgentConfig, AgentEvent, JobEnd};

use crate::coordinator::{Coordinator, Heard, Listening};
use crate::world::{TOKEN, World, config, folder, job, machine, outcome, samples, trial};

/// A trial of so many repetitions.
fn long_trial(repetitions: u32) -> v1::Job {
    let mut job = job(trial(&[]));
    job.benchmark.as_mut().unwrap().workload.as_mut().unwrap().repetitions = repetitions;
    job
}

/// An agent that dials out to `listening`.
async fn agent_of(listening: &Listening, folder: &std::sync::Arc<tempfile::TempDir>, patience: Duration) -> World {
    let config = AgentConfig { coordinator_patience: Some(patience), ..config(folder.path()) };
    World::start(machine(), folder.clone(), config, listening.coordinator.clone(), listening.channel()).await
}

async fn disconnected(world: &mut World) {
    world.event(|event| matches!(event, AgentEvent::Disconnected { .. }).then_some(())).await;
}

async fn spooled(world: &mut World) {
    world.event(|event| (event == AgentEvent::Spooled).then_some(())).await;
}

#[tokio::test]
async fn result_is_kept_while_the_coordinator_is_away() {
    let change = |config: &mut AgentConfig| config.coordinator_patience = Some(Duration::from_millis(300));
    let mut world = World::configured("{}", Vec::new(), change).await;
    world.coordinator.with(|state| {
        state.finish_away = true;
        state.jobs.push_back(job(trial(&[])));
    });
    world.repetition().await;
    spooled(&mut world).await;
    // Not even the end of a long poll is waited for.
    world.coordinator.with(|state| state.finish_away = false);
    let finish = world.coordinator.finish().await;
    assert_eq!(outcome(&finish).state(), v1::TrialState::Complete);
    world.stop().await;
}

#[tokio::test]
async fn result_survives_the_coordinator_and_the_worker_that_measured_it() {
    let mut listening = Listening::new(Coordinator::default()).await;
    listening.coordinator.with(|state| state.jobs.push_back(long_trial(5)));
    let folder = folder(r#"{"repetition_ms":100}"#);
    let patience = Duration::from_millis(300);
    let mut world = agent_of(&listening, &folder, patience).await;
    world.repetition().await;
    listening.go_away();
    // The event of the result comes before that of the job's end.
    spooled(&mut world).await;
    assert!(matches!(world.end().await, JobEnd::Complete { .. }));
    world.stop().await;

    let mut world = agent_of(&listening, &folder, patience).await;
    disconnected(&mut world).await;
    listening.come_back().await;
    let finish = listening.coordinator.finish().await;
    assert_eq!(outcome(&finish).state(), v1::TrialState::Complete);
    assert_eq!(samples(&finish, "decode_tok_s").len(), 5, "the repetitions of the outage count");
    let registrations = listening.coordinator.registrations();
    assert_eq!(registrations.len(), 2);
    assert_eq!(registrations[0].worker_id, registrations[1].worker_id);
    assert_eq!(registrations[1].held, [TOKEN], "so that nobody else is given the job");
    // Delivered once, and the same worker goes on.
    listening.coordinator.with(|state| state.jobs.push_back(job(trial(&[]))));
    assert!(matches!(world.end().await, JobEnd::Complete { .. }));
    world.stop().await;
    let finishes = listening
        .coordinator
        .with(|state| state.heard.iter().filter(|heard| matches!(heard, Heard::Finish(_))).count());
    assert_eq!(finishes, 2);
}

#[tokio::test]
async fn outage_delays_a_trial_by_two_patiences_and_not_by_one_for_each_repetition() {
    let mut listening = Listening::new(Coordinator::default()).await;
    listening.coordinator.with(|state| state.jobs.push_back(long_trial(30)));
    let folder = folder(r#"{"repetition_ms":20}"#);
    let patience = Duration::from_secs(1);
    let mut world = agent_of(&listening, &folder, patience).await;
    world.repetition().await;
    listening.go_away();
    let begin = Instant::now();
    let JobEnd::Complete { .. } = world.end().await else { panic!("not complete") };
    // One report, and the result. Thirty reports would take half a minute.
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
    listening.come_back().await;
    let finish = listening.coordinator.finish().await;
    assert!(outcome(&finish).seconds < 15.0);
    world.stop().await;
}

#[tokio::test]
async fn reports_go_on_when_the_coordinator_is_back() {
    let mut listening = Listening::new(Coordinator::default()).await;
    listening.coordinator.with(|state| state.jobs.push_back(long_trial(60)));
    let folder = folder(r#"{"repetition_ms":50}"#);
    let mut world = agent_of(&listening, &folder, Duration::from_millis(200)).await;
    world.repetition().await;
    listening.go_away();
    disconnected(&mut world).await;
    listening.come_back().await;
    assert!(matches!(world.end().await, JobEnd::Complete { .. }));
    assert_eq!(listening.coordinator.reports().last().map(|(step, _)| *step), Some(60));
    listening.coordinator.finish().await;
    world.stop().await;
}
