//! Queue entries and the entry of trials into `Running`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fleetune_coordinator::storage::{Origin, Param, StoreError, external};
use fleetune_core::{StudyState, TrialNumber, TrialState, Turn, Value};
use serde_json::json;

use super::harness::{Db, TTL, at, complete, distribution, fresh, job, pop_at, start_at, unit, waiting, worker};

pub async fn numbers_and_turns_are_dense(db: Db) {
    let study = db.study("a").await;
    for expected in 0..5 {
        let trial = db.start(&study, None, 1).await.trial;
        assert_eq!((trial.number, trial.turn), (TrialNumber(expected), Some(Turn(expected))));
        assert_eq!(trial.state, TrialState::Running);
        assert_eq!(trial.started_revision, Some(trial.revision));
        assert!(trial.is_held());
    }
    let study = db.reread(&study).await;
    assert_eq!((study.next_number, study.next_turn), (TrialNumber(5), Turn(5)));
}

pub async fn the_same_request_starts_the_same_trials(db: Db) {
    let study = db.study("a").await;
    let mut start = start_at(study.id, Turn(0), &[TrialNumber(0), TrialNumber(1)]);
    start.lease = Some((worker("w"), TTL));
    let first = db.store.start(start.clone(), at(1)).await.unwrap();
    assert_eq!(db.store.start(start.clone(), at(2)).await.unwrap(), first);
    assert_ne!(first[0].lease.as_ref().unwrap().token.secret, first[1].lease.as_ref().unwrap().token.secret);
    // Even when the study takes no new trial any more.
    db.set_state(&study, StudyState::Paused, 3).await;
    assert_eq!(db.store.start(start, at(4)).await.unwrap(), first);
    assert_eq!(db.reread(&study).await.next_number, TrialNumber(2));
}

pub async fn a_repeated_start_gives_its_lease_while_it_holds(db: Db) {
    let study = db.study("a").await;
    let first = db.start(&study, Some("w"), 1).await;
    let request = format!("start {} 0", study.id);
    assert_eq!(db.store.started_by(study.id, &request).await.unwrap(), std::slice::from_ref(&first));
    assert_eq!(db.store.leased_by(&request, &[study.id]).await.unwrap(), Some(study.id));
    assert_eq!(db.store.leased_by("another", &[study.id]).await.unwrap(), None);
    let (_, _, second) = job(db.claim(&study, "v", 60).await);
    let again = db.store.started_by(study.id, &request).await.unwrap();
    assert_eq!((again[0].trial.attempt, &again[0].lease), (second.token.attempt, &None));
    let end = complete(1.0);
    db.store.finish(study.id, first.trial.number, Some(second.token), end, json!(null), at(61)).await.unwrap();
    assert_eq!(db.store.started_by(study.id, &request).await.unwrap()[0].lease, None);
}

pub async fn the_same_request_enqueues_the_same_trials(db: Db) {
    let study = db.study("a").await;
    let first = db.enqueue(&study, "r", 3).await;
    assert_eq!(db.enqueue(&study, "r", 3).await, first);
    assert_eq!(first.iter().map(|trial| trial.number.0).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(first[2].fixed, waiting(2).fixed);
    assert_eq!(db.trial(&study, TrialNumber(2)).await, first[2]);
    assert_eq!(db.enqueue(&study, "other", 1).await[0].number, TrialNumber(3));
}

pub async fn a_taken_turn_is_refused(db: Db) {
    let study = db.study("a").await;
    db.start(&study, None, 1).await;
    let mut late = start_at(study.id, Turn(0), &[TrialNumber(1)]);
    late.request_id = "late".into();
    let error = db.store.start(late, at(2)).await.unwrap_err();
    assert!(matches!(error, StoreError::TurnTaken { turn: Turn(0), next: Turn(1) }), "{error}");
    assert_eq!(db.reread(&study).await.next_number, TrialNumber(1));
}

pub async fn a_taken_number_is_refused(db: Db) {
    let study = db.study("a").await;
    db.start(&study, None, 1).await;
    for numbers in [&[TrialNumber(0)][..], &[TrialNumber(2)], &[TrialNumber(1), TrialNumber(1)], &[TrialNumber(-1)]] {
        let error = db.store.start(start_at(study.id, Turn(1), numbers), at(2)).await.unwrap_err();
        assert!(matches!(error, StoreError::TurnTaken { .. }), "{error}");
    }
    let study = db.reread(&study).await;
    assert_eq!((study.next_number, study.next_turn), (TrialNumber(1), Turn(1)));
}

pub async fn a_waiting_trial_is_popped(db: Db) {
    let study = db.study("a").await;
    let queued = db.enqueue(&study, "q", 2).await;
    let mut start = pop_at(study.id, Turn(0), &[TrialNumber(1)]);
    start.entries.push(fresh(TrialNumber(2)));
    let started = db.store.start(start, at(2)).await.unwrap();
    let popped = &started[0].trial;
    assert_eq!((popped.id, popped.origin, &popped.fixed), (queued[1].id, Origin::Enqueued, &queued[1].fixed));
    assert_eq!((popped.state, popped.created_at, popped.started_at), (TrialState::Running, at(1), Some(at(2))));
    assert_eq!((started[1].trial.origin, started[1].trial.turn), (Origin::Sampled, Some(Turn(1))));
    assert_eq!(db.trial(&study, TrialNumber(1)).await, *popped);
    assert_eq!(db.trial(&study, TrialNumber(0)).await.state, TrialState::Waiting);
}

pub async fn a_waiting_trial_is_popped_once(db: Db) {
    let study = db.study("a").await;
    db.enqueue(&study, "q", 1).await;
    let twice = pop_at(study.id, Turn(0), &[TrialNumber(0), TrialNumber(0)]);
    assert!(matches!(db.store.start(twice, at(2)).await, Err(StoreError::TurnTaken { .. })));
    db.store.start(pop_at(study.id, Turn(0), &[TrialNumber(0)]), at(2)).await.unwrap();
    let again = pop_at(study.id, Turn(1), &[TrialNumber(0)]);
    assert!(matches!(db.store.start(again, at(2)).await, Err(StoreError::TurnTaken { .. })));
}

pub async fn a_queue_entry_is_not_started_as_a_fresh_trial(db: Db) {
    let study = db.study("a").await;
    let proposed = start_at(study.id, Turn(0), &[TrialNumber(0)]);
    // Somebody queues an entry under the number that was proposed; it takes no turn.
    let queued = db.enqueue(&study, "q", 1).await.remove(0);
    assert_eq!(queued.number, TrialNumber(0));
    let error = db.store.start(proposed, at(2)).await.unwrap_err();
    assert!(matches!(error, StoreError::TurnTaken { turn: Turn(0), next: Turn(0) }), "{error}");
    let absent = pop_at(study.id, Turn(0), &[TrialNumber(1)]);
    assert!(matches!(db.store.start(absent, at(2)).await, Err(StoreError::TurnTaken { .. })));
    assert_eq!(db.trial(&study, TrialNumber(0)).await, queued);
    let popped = db.store.start(pop_at(study.id, Turn(0), &[TrialNumber(0)]), at(3)).await.unwrap();
    assert_eq!(popped[0].trial.fixed, queued.fixed);
}

pub async fn only_active_studies_start_trials(db: Db) {
    let study = db.study("a").await;
    db.set_state(&study, StudyState::Paused, 1).await;
    let error = db.store.start(start_at(study.id, Turn(0), &[TrialNumber(0)]), at(2)).await.unwrap_err();
    assert!(matches!(error, StoreError::WrongStudyState { state: StudyState::Paused, .. }), "{error}");
}

pub async fn ended_studies_take_no_queue_entries(db: Db) {
    let study = db.study("a").await;
    let before = db.enqueue(&study, "r", 1).await;
    db.set_state(&study, StudyState::Finished, 1).await;
    let error = db.store.enqueue(study.id, "s".into(), vec![waiting(0)], at(2)).await.unwrap_err();
    assert!(matches!(error, StoreError::WrongStudyState { .. }), "{error}");
    assert_eq!(db.enqueue(&study, "r", 1).await, before);
}

pub async fn parameters_survive_bit_for_bit(db: Db) {
    let study = db.study("a").await;
    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, f64::from_bits(1), f64::MIN_POSITIVE / 3.0, 0.1];
    let choices = json!({"name": "CategoricalDistribution", "attributes": {"choices": [null, true, "\u{0}x", 1, 2.5]}});
    let choices = distribution(&choices);
    let mut start = start_at(study.id, Turn(0), &[TrialNumber(0)]);
    let entry = &mut start.entries[0];
    entry.params = odd
        .iter()
        .enumerate()
        .map(|(index, internal)| (format!("p{index}"), Param { distribution: unit(), internal: *internal }))
        .collect();
    entry.params.insert("choice".into(), Param { distribution: Arc::clone(&choices), internal: 2.0 });
    db.store.start(start, at(1)).await.unwrap();
    let fixed = BTreeMap::from([
        ("a".to_owned(), Value::Float(1.0)),
        ("b".to_owned(), Value::Int(1)),
        ("c".to_owned(), Value::Null),
        ("d".to_owned(), Value::Float(-0.0)),
    ]);
    let mut entry = waiting(0);
    entry.fixed.clone_from(&fixed);
    db.store.enqueue(study.id, "q".into(), vec![entry], at(2)).await.unwrap();

    let second = db.second().await;
    let trial = second.trial(study.id, TrialNumber(0)).await.unwrap();
    for (index, internal) in odd.iter().enumerate() {
        assert_eq!(trial.params[&format!("p{index}")].internal.to_bits(), internal.to_bits());
    }
    assert_eq!(trial.params["choice"].distribution, choices);
    assert_eq!(external(&trial.params)["choice"], Value::from("\0x"));
    let queued = second.trial(study.id, TrialNumber(1)).await.unwrap();
    assert_eq!(format!("{:?}", queued.fixed), format!("{fixed:?}"));
}

pub async fn equal_distributions_are_stored_once_and_shared(db: Db) {
    let study = db.study("a").await;
    for _trial in 0..3 {
        db.start(&study, None, 1).await;
    }
    let trials = db.second().await.trials(study.id, &all()).await.unwrap();
    let first = &trials[0].params["x"].distribution;
    assert!(trials.iter().all(|trial| Arc::ptr_eq(&trial.params["x"].distribution, first)));
}

fn all() -> fleetune_coordinator::storage::TrialFilter {
    fleetune_coordinator::storage::TrialFilter { limit: 10_000, ..Default::default() }
}

pub async fn concurrent_starts_take_each_turn_once(db: Db) {
    let study = db.study("a").await;
    let stores = [db.store.clone(), db.second().await];
    let mut tasks = Vec::new();
    for task in 0..8 {
        let store = stores[task % 2].clone();
        tasks.push(tokio::spawn(async move {
            let mut taken = Vec::new();
            for round in 0..6 {
                loop {
                    let now = store.study(study.id).await.unwrap();
                    let mut start = start_at(now.id, now.next_turn, &[]);
                    start.request_id = format!("{task} {round}");
                    start.entries = vec![fresh(now.next_number)];
                    match store.start(start, at(1)).await {
                        Ok(started) => break taken.push(started[0].trial.number.0),
                        Err(StoreError::TurnTaken { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            }
            taken
        }));
    }
    let mut taken = BTreeSet::new();
    for task in tasks {
        taken.extend(task.await.unwrap());
    }
    assert_eq!(taken, (0..48).collect());
}
