//! What an agent makes of its jobs.

use fleetune_core::Inventory;
use fleetune_proto::{convert, v1};
use fleetune_worker::agent::JobEnd;

use crate::coordinator::{Coordinator, Heard};
use crate::world::{TOKEN, World, describe, outcome, samples, trial, wire};

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
async fn describe_tells_model_machine_and_pin() {
    let mut world = World::new("{}", vec![describe()], |_| ()).await;
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
async fn forgotten_worker_registers_again() {
    let forget = |coordinator: &Coordinator| coordinator.with(|state| state.forget = 1);
    let mut world = World::new("{}", vec![trial(&[])], forget).await;
    assert!(matches!(world.end().await, JobEnd::Complete { .. }));
    let coordinator = world.stop().await;
    let registrations = coordinator.registrations();
    assert_eq!(registrations.len(), 2);
    assert_eq!(registrations[0].worker_id, registrations[1].worker_id);
    assert_eq!(registrations[0].name, "bench");
    assert!(registrations[0].executors["llama-cpp"].starts_with("scripted"));
}
