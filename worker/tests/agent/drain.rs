//! An agent that is told to take no more jobs.

use fleetune_worker::agent::{AgentEvent, JobEnd};

use crate::coordinator::{Coordinator, Heard};
use crate::world::{World, trial};

/// Waits until the agent says that it takes no more jobs; whether the coordinator wants that.
async fn draining(world: &mut World) -> bool {
    world
        .event(|event| match event {
            AgentEvent::Draining { by_coordinator } => Some(by_coordinator),
            _ => None,
        })
        .await
}

#[tokio::test]
async fn drained_agent_finishes_its_job_and_leaves() {
    for by_coordinator in [true, false] {
        let mut world = World::new(r#"{"repetition_ms":400}"#, vec![trial(&[]), trial(&[])], |_| ()).await;
        world.repetition().await;
        if by_coordinator {
            world.coordinator.with(|state| state.drain = true);
        } else {
            world.drain.cancel();
        }
        assert_eq!(draining(&mut world).await, by_coordinator, "it says so before the job is done");
        assert!(matches!(world.end().await, JobEnd::Complete { .. }));
        world.ended().await.unwrap();
        world.coordinator.with(|state| {
            assert_eq!(state.jobs.len(), 1, "the second job stays");
            assert!(state.heard.iter().any(|heard| matches!(heard, Heard::Finish(_))));
        });
    }
}

#[tokio::test]
async fn worker_that_was_drained_before_leaves_as_soon_as_it_is_known() {
    let drained = |coordinator: &Coordinator| coordinator.with(|state| state.drain = true);
    let mut world = World::new("{}", Vec::new(), drained).await;
    assert!(draining(&mut world).await, "the coordinator wants it");
    world.ended().await.unwrap();
    assert_eq!(world.coordinator.registrations().len(), 1);
}
