//! Studies: creation, states, preparation, removal, attributes.

use std::collections::BTreeMap;

use fleetune_coordinator::storage::{
    AttemptState, AttributeKind, AttributeOwner, JobKind, JobState, NewWaiting, Origin, Prepared, Store, StoreError,
    StudyUpdate,
};
use fleetune_core::study::{Budget, StudyConfig};
use fleetune_core::{FailKind, LeaseToken, Params, Revision, StudyId, StudyState, TrialNumber, TrialState, Turn};
use serde_json::{Value, json};

use super::harness::{Db, at, complete, config, fail_kind, job, new_study, pin};

pub async fn the_same_request_creates_one_study(db: Db) {
    let first = db.store.create_study(new_study("a", StudyState::Active), at(0)).await.unwrap();
    let again = db.store.create_study(new_study("a", StudyState::Active), at(5)).await.unwrap();
    assert_eq!(first, again);
    assert_eq!(first, db.store.study_by_name("a").await.unwrap());
    assert_eq!((first.revision, first.config_revision), (Revision(1), Revision(1)));
    assert_eq!((first.next_number, first.next_turn), (TrialNumber(0), Turn(0)));
    assert_eq!(first.config, config());
}

pub async fn the_same_request_at_two_coordinators_creates_one_study(db: Db) {
    let second = db.second().await;
    for round in 0..50 {
        let new = || new_study(&format!("study {round}"), StudyState::Active);
        let create = async |store: &Store| loop {
            match store.create_study(new(), at(0)).await {
                // Both were at it at the same moment; whoever is told so calls again.
                Err(StoreError::Busy(_)) => {}
                created => break created.unwrap().id,
            }
        };
        let (one, other) = futures::join!(create(&db.store), create(&second));
        assert_eq!(one, other);
    }
}

pub async fn another_study_cannot_take_the_name(db: Db) {
    db.study("a").await;
    let mut other = new_study("a", StudyState::Active);
    other.request_id = "another".into();
    let error = db.store.create_study(other, at(0)).await.unwrap_err();
    assert!(matches!(error, StoreError::NameTaken(name) if name == "a"));
}

pub async fn a_preparing_study_has_an_open_describe_job(db: Db) {
    let study = db.store.create_study(new_study("a", StudyState::Preparing), at(0)).await.unwrap();
    let jobs = db.store.jobs(study.id).await.unwrap();
    assert_eq!(jobs.len(), 1);
    assert_eq!((jobs[0].kind, jobs[0].state), (JobKind::Describe, JobState::Open));
    let active = db.study("b").await;
    assert!(db.store.jobs(active.id).await.unwrap().is_empty());
}

fn to(state: StudyState) -> StudyUpdate {
    StudyUpdate { state: Some((state, "by hand".to_owned())), ..StudyUpdate::default() }
}

pub async fn states_change_only_as_allowed(db: Db) {
    let study = db.study("a").await;
    let paused = db.set_state(&study, StudyState::Paused, 1).await;
    assert_eq!((paused.state, paused.reason.as_str()), (StudyState::Paused, "by hand"));
    let error = db.store.update_study(study.id, to(StudyState::Archived), at(2)).await.unwrap_err();
    assert!(matches!(error, StoreError::WrongStudyState { state: StudyState::Paused, .. }), "{error}");
    let expected = StudyUpdate { expected: Some(StudyState::Active), ..to(StudyState::Cancelled) };
    let error = db.store.update_study(study.id, expected, at(2)).await.unwrap_err();
    assert!(matches!(error, StoreError::WrongStudyState { .. }), "{error}");
    assert_eq!(db.reread(&study).await, paused);
    let error = db.store.update_study(StudyId(99), to(StudyState::Paused), at(2)).await.unwrap_err();
    assert!(matches!(error, StoreError::StudyNotFound(_)), "{error}");
}

pub async fn a_repeated_change_of_state_succeeds(db: Db) {
    let study = db.study("a").await;
    let update = StudyUpdate { expected: Some(StudyState::Active), ..to(StudyState::Paused) };
    let first = db.store.update_study(study.id, update.clone(), at(1)).await.unwrap();
    assert_eq!(db.store.update_study(study.id, update, at(2)).await.unwrap(), first);
}

pub async fn a_new_budget_is_a_new_configuration(db: Db) {
    let study = db.study("a").await;
    let budget = Budget { trials: Some(20), seconds: Some(1e300), target: Some(-0.0) };
    let update = StudyUpdate { budget: Some(budget), ..StudyUpdate::default() };
    let changed = db.store.update_study(study.id, update.clone(), at(1)).await.unwrap();
    assert_eq!(changed.config.budget, budget);
    assert!(changed.config_revision > study.config_revision);
    assert_eq!(db.store.update_study(study.id, update, at(2)).await.unwrap(), changed);
    assert_eq!(db.reread(&study).await, changed);
}

pub async fn cancelling_ends_waiting_and_running_trials(db: Db) {
    let study = db.study("a").await;
    let held = db.start(&study, None, 1).await.trial.number;
    let (leased, token) = db.leased(&study, "w", 1).await;
    let done = db.start(&study, None, 1).await.trial.number;
    db.store.finish(study.id, done, None, complete(1.0), Value::Null, at(2)).await.unwrap();
    let queued = db.enqueue(&study, "q", 1).await[0].number;
    let cancelled = db.set_state(&study, StudyState::Cancelled, 3).await;
    assert_eq!(cancelled.state, StudyState::Cancelled);
    for number in [held, leased, queued] {
        assert_eq!(fail_kind(&db.trial(&study, number).await), Some(FailKind::Cancelled), "{number}");
    }
    assert_eq!(db.trial(&study, done).await.state, TrialState::Complete);
    assert_eq!(db.store.job(token.job).await.unwrap().state, JobState::Done);
    assert_eq!(db.store.attempts(token.job).await.unwrap()[0].state, AttemptState::Lost);
    assert_eq!(db.reread(&study).await, cancelled);
}

/// A study that is being prepared, and the token of who does it.
async fn preparing(db: &Db) -> (StudyId, LeaseToken) {
    let study = db.store.create_study(new_study("p", StudyState::Preparing), at(0)).await.unwrap();
    let (job, trial, lease) = job(db.claim(&study, "w", 1).await);
    assert_eq!((job.kind, trial), (JobKind::Describe, None));
    (study.id, lease.token)
}

fn prepared() -> Prepared {
    let waiting = |origin| NewWaiting { fixed: Params::from([("n".to_owned(), 1_i64.into())]), origin };
    Prepared {
        description: json!({"layers": 32}),
        config: StudyConfig { seed: 7, ..config() },
        pin: pin(),
        waiting: vec![waiting(Origin::Default), waiting(Origin::EngineFit)],
    }
}

pub async fn preparing_ends_in_one_transaction(db: Db) {
    let (id, token) = preparing(&db).await;
    let study = db.store.prepare(token, prepared(), json!({"took": 1.5}), at(2)).await.unwrap();
    assert_eq!((study.state, study.config.seed), (StudyState::Active, 7));
    assert_eq!((study.pin.clone(), study.description.clone()), (Some(pin()), Some(json!({"layers": 32}))));
    assert_eq!(study.next_number, TrialNumber(2));
    assert_eq!(db.store.study(id).await.unwrap(), study);
    let first = db.store.trial(id, TrialNumber(0)).await.unwrap();
    assert_eq!((first.state, first.origin), (TrialState::Waiting, Origin::Default));
    assert_eq!(db.store.trial(id, TrialNumber(1)).await.unwrap().origin, Origin::EngineFit);
    assert_eq!(db.store.job(token.job).await.unwrap().state, JobState::Done);
    let attempt = &db.store.attempts(token.job).await.unwrap()[0];
    assert_eq!((attempt.state, &attempt.detail), (AttemptState::Finished, &json!({"took": 1.5})));
}

pub async fn a_preparation_can_be_repeated(db: Db) {
    let (_, token) = preparing(&db).await;
    let study = db.store.prepare(token, prepared(), Value::Null, at(2)).await.unwrap();
    assert_eq!(db.store.prepare(token, prepared(), Value::Null, at(3)).await.unwrap(), study);
    let error = db.store.fail_preparation(token, "no".to_owned(), Value::Null, at(3)).await.unwrap_err();
    assert!(matches!(error, StoreError::JobEnded(_)), "{error}");
}

pub async fn a_preparation_keeps_a_budget_that_was_changed_meanwhile(db: Db) {
    let (id, token) = preparing(&db).await;
    let resolved = prepared();
    let budget = Budget { trials: Some(77), ..Budget::default() };
    let update = StudyUpdate { budget: Some(budget), ..StudyUpdate::default() };
    db.store.update_study(id, update, at(2)).await.unwrap();
    let study = db.store.prepare(token, resolved, Value::Null, at(3)).await.unwrap();
    assert_eq!((study.config.budget, study.config.seed), (budget, 7));
    assert_eq!(db.store.study(id).await.unwrap(), study);
}

pub async fn a_failed_preparation_fails_the_study(db: Db) {
    let (_, token) = preparing(&db).await;
    for now in [2, 3] {
        let study = db.store.fail_preparation(token, "no\0such model".to_owned(), Value::Null, at(now)).await.unwrap();
        assert_eq!((study.state, study.reason.as_str()), (StudyState::Failed, "no\u{fffd}such model"));
    }
}

pub async fn a_lost_preparation_is_refused(db: Db) {
    let (id, token) = preparing(&db).await;
    let (_, _, lease) = job(db.claim(&db.store.study(id).await.unwrap(), "v", 60).await);
    let study = db.store.study(id).await.unwrap();
    let error = db.store.prepare(token, prepared(), Value::Null, at(61)).await.unwrap_err();
    assert!(matches!(error, StoreError::LeaseLost { .. }), "{error}");
    assert_eq!(db.store.study(id).await.unwrap(), study);
    db.store.prepare(lease.token, prepared(), Value::Null, at(62)).await.unwrap();
}

pub async fn deleting_a_study_deletes_everything_in_it(db: Db) {
    let study = db.study("a").await;
    let (number, token) = db.leased(&study, "w", 1).await;
    db.store.report(study.id, number, Some(token), 0, 1.0, false, at(2)).await.unwrap();
    let owner = AttributeOwner::Trial(study.id, number);
    db.store.set_attribute(owner, AttributeKind::User, "k".into(), "v".into()).await.unwrap();
    for _repeat in 0..2 {
        db.store.delete_study(study.id).await.unwrap();
    }
    assert!(matches!(db.store.study(study.id).await, Err(StoreError::StudyNotFound(_))));
    assert!(matches!(db.store.job(token.job).await, Err(StoreError::JobNotFound(_))));
    assert!(db.store.attempts(token.job).await.unwrap().is_empty());
    let error = db.store.report(study.id, number, Some(token), 1, 1.0, false, at(3)).await.unwrap_err();
    assert!(matches!(error, StoreError::StudyNotFound(_)), "{error}");
    db.study("a").await;
}

pub async fn ids_are_never_used_again(db: Db) {
    let first = db.study("a").await;
    let (number, token) = db.leased(&first, "w", 1).await;
    let trial = db.trial(&first, number).await;
    db.store.delete_study(first.id).await.unwrap();
    let second = db.study("b").await;
    let started = db.start(&second, Some("w"), 2).await;
    assert!(second.id > first.id && started.trial.id > trial.id && started.lease.unwrap().token.job > token.job);
}

pub async fn attributes_are_kept_byte_for_byte(db: Db) {
    let study = db.study("a").await;
    let number = db.start(&study, None, 1).await.trial.number;
    let texts = ["", "{\"b\": 1, \"a\": NaN}", "\0", "é\u{301}\u{1f999}", " x ", &"k".repeat(10_000)];
    for owner in [AttributeOwner::Study(study.id), AttributeOwner::Trial(study.id, number)] {
        for kind in [AttributeKind::User, AttributeKind::System] {
            let mut expected = BTreeMap::new();
            for (index, text) in texts.iter().enumerate() {
                let value = format!("{text}{index}{kind:?}");
                db.store.set_attribute(owner, kind, (*text).to_owned(), "old".to_owned()).await.unwrap();
                db.store.set_attribute(owner, kind, (*text).to_owned(), value.clone()).await.unwrap();
                expected.insert((*text).to_owned(), value);
            }
            assert_eq!(db.store.attributes(owner, kind).await.unwrap(), expected);
        }
    }
}

pub async fn studies_are_listed_in_pages(db: Db) {
    for name in ["c", "b", "a"] {
        db.study(name).await;
    }
    let first = db.store.studies(StudyId(0), 2).await.unwrap();
    assert_eq!(first.iter().map(|study| study.name.as_str()).collect::<Vec<_>>(), ["c", "b"]);
    let rest = db.store.studies(first[1].id, 2).await.unwrap();
    assert_eq!(rest.iter().map(|study| study.name.as_str()).collect::<Vec<_>>(), ["a"]);
}
