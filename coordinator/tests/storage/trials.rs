//! Steps and ends of running trials.

use fleetune_coordinator::storage::{AttemptState, JobState, StoreError, TrialEnd, TrialFilter};
use fleetune_core::{FailKind, LeaseToken, Revision, TrialNumber, TrialState};
use serde_json::{Value, json};

use super::harness::{Db, at, complete, fail_kind, failed};

pub async fn a_trial_ends_exactly_once(db: Db) {
    let study = db.study("a").await;
    let number = db.start(&study, None, 1).await.trial.number;
    let ended = db.store.finish(study.id, number, None, complete(1.0), Value::Null, at(5)).await.unwrap();
    assert_eq!((ended.state, ended.values.as_slice(), ended.seconds), (TrialState::Complete, &[1.0][..], 1.5));
    assert_eq!((ended.ended_at, ended.ended_revision), (Some(at(5)), Some(ended.revision)));
    for other in [complete(2.0), complete(-1.0), failed(FailKind::Oom)] {
        let error = db.store.finish(study.id, number, None, other, Value::Null, at(6)).await.unwrap_err();
        assert!(matches!(error, StoreError::TrialEnded { state: TrialState::Complete, .. }), "{error}");
    }
    assert!(matches!(db.store.cancel_trial(study.id, number, at(7)).await, Err(StoreError::TrialEnded { .. })));
    assert_eq!(db.trial(&study, number).await, ended);
}

pub async fn an_identical_end_can_be_repeated(db: Db) {
    let study = db.study("a").await;
    let (number, token) = db.leased(&study, "w", 1).await;
    let end = TrialEnd { values: vec![f64::NAN, -0.0], constraints: vec![f64::INFINITY], ..complete(0.0) };
    let first = db.store.finish(study.id, number, Some(token), end.clone(), json!({"a": 1}), at(2)).await.unwrap();
    for token in [Some(token), None] {
        let again = db.store.finish(study.id, number, token, end.clone(), json!({"a": 2}), at(3)).await.unwrap();
        assert_eq!(format!("{again:?}"), format!("{first:?}"));
    }
    let zero = TrialEnd { values: vec![f64::NAN, 0.0], ..end };
    let error = db.store.finish(study.id, number, Some(token), zero, Value::Null, at(3)).await.unwrap_err();
    assert!(matches!(error, StoreError::TrialEnded { .. }), "{error}");
    let attempts = db.store.attempts(token.job).await.unwrap();
    assert_eq!((attempts[0].state, &attempts[0].detail), (AttemptState::Finished, &json!({"a": 1})));
    assert_eq!(db.store.job(token.job).await.unwrap().state, JobState::Done);
}

fn odd() -> Vec<f64> {
    vec![
        f64::NAN,
        -f64::NAN,
        f64::from_bits(0x7ff0_0000_dead_beef),
        f64::INFINITY,
        f64::NEG_INFINITY,
        -0.0,
        f64::from_bits(1),
        f64::MAX,
        0.1 + 0.2,
    ]
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|value| value.to_bits()).collect()
}

pub async fn values_survive_bit_for_bit(db: Db) {
    let study = db.study("a").await;
    let number = db.start(&study, None, 1).await.trial.number;
    let end = TrialEnd { values: odd(), constraints: odd(), seconds: f64::from_bits(3), ..complete(0.0) };
    db.store.finish(study.id, number, None, end, Value::Null, at(2)).await.unwrap();
    let trial = db.second().await.trial(study.id, number).await.unwrap();
    assert_eq!((bits(&trial.values), bits(&trial.constraints)), (bits(&odd()), bits(&odd())));
    assert_eq!(trial.seconds.to_bits(), 3);
}

pub async fn complete_without_values_is_allowed(db: Db) {
    let study = db.study("a").await;
    let number = db.start(&study, None, 1).await.trial.number;
    let end = TrialEnd { values: vec![], ..complete(0.0) };
    let ended = db.store.finish(study.id, number, None, end, Value::Null, at(2)).await.unwrap();
    assert_eq!((ended.state, ended.values), (TrialState::Complete, vec![]));
}

pub async fn a_waiting_trial_cannot_end(db: Db) {
    let study = db.study("a").await;
    let number = db.enqueue(&study, "q", 1).await[0].number;
    let error = db.store.finish(study.id, number, None, complete(1.0), Value::Null, at(2)).await.unwrap_err();
    assert!(matches!(error, StoreError::WrongTrialState { state: TrialState::Waiting, .. }), "{error}");
    let running = db.start(&study, None, 2).await.trial.number;
    let end = TrialEnd { state: TrialState::Waiting, ..complete(1.0) };
    let error = db.store.finish(study.id, running, None, end, Value::Null, at(2)).await.unwrap_err();
    assert!(matches!(error, StoreError::WrongTrialState { .. }), "{error}");
    let error = db.store.finish(study.id, TrialNumber(9), None, complete(1.0), Value::Null, at(2)).await.unwrap_err();
    assert!(matches!(error, StoreError::TrialNotFound { .. }), "{error}");
}

pub async fn a_leased_trial_needs_its_token(db: Db) {
    let study = db.study("a").await;
    let (number, token) = db.leased(&study, "w", 1).await;
    let error = db.store.finish(study.id, number, None, complete(1.0), Value::Null, at(2)).await.unwrap_err();
    assert!(matches!(error, StoreError::TrialLeased { .. }), "{error}");
    let error = db.store.report(study.id, number, None, 0, 1.0, false, at(2)).await.unwrap_err();
    assert!(matches!(error, StoreError::TrialLeased { .. }), "{error}");
    db.store.finish(study.id, number, Some(token), complete(1.0), Value::Null, at(2)).await.unwrap();
}

pub async fn a_forged_token_is_refused(db: Db) {
    let study = db.study("a").await;
    let (number, token) = db.leased(&study, "w", 1).await;
    let (_, others) = db.leased(&study, "w", 1).await;
    let held = db.start(&study, None, 1).await.trial.number;
    let forged = LeaseToken { secret: token.secret ^ 1, ..token };
    for (number, token) in [(number, forged), (number, others), (held, token)] {
        let error = db.store.report(study.id, number, Some(token), 0, 1.0, false, at(2)).await.unwrap_err();
        assert!(matches!(error, StoreError::LeaseLost { .. }), "{error}");
        let end = db.store.finish(study.id, number, Some(token), complete(1.0), json!({"forged": true}), at(2)).await;
        assert!(matches!(end, Err(StoreError::LeaseLost { .. })));
    }
    assert!(matches!(db.store.release(forged, at(2)).await, Err(StoreError::LeaseLost { .. })));
    assert!(db.store.attempts(token.job).await.unwrap()[0].detail.is_null());
    assert_eq!(db.trial(&study, number).await.state, TrialState::Running);
}

pub async fn the_first_report_of_a_step_counts(db: Db) {
    let study = db.study("a").await;
    let number = db.start(&study, None, 1).await.trial.number;
    let report = |step, value, stop| db.store.report(study.id, number, None, step, value, stop, at(2));
    assert!(!report(3, 1.0, false).await.unwrap());
    let revision = db.trial(&study, number).await.revision;
    assert!(!report(3, 2.0, true).await.unwrap());
    assert_eq!(db.trial(&study, number).await.revision, revision);
    assert!(report(1, 5.0, true).await.unwrap());
    assert!(report(1, 5.0, false).await.unwrap());
    assert_eq!(db.trial(&study, number).await.steps, [(1, 5.0), (3, 1.0)]);
}

pub async fn a_repeated_report_after_the_end_gets_its_verdict(db: Db) {
    let study = db.study("a").await;
    let (number, token) = db.leased(&study, "w", 1).await;
    let report = |step| db.store.report(study.id, number, Some(token), step, 1.0, true, at(2));
    assert!(report(0).await.unwrap());
    let pruned = TrialEnd { state: TrialState::Pruned, ..complete(1.0) };
    db.store.finish(study.id, number, Some(token), pruned, Value::Null, at(3)).await.unwrap();
    assert!(report(0).await.unwrap());
    let error = report(1).await.unwrap_err();
    assert!(matches!(error, StoreError::WrongTrialState { state: TrialState::Pruned, .. }), "{error}");
    assert_eq!(db.trial(&study, number).await.steps, [(0, 1.0)]);
}

pub async fn steps_may_be_any_float(db: Db) {
    let study = db.study("a").await;
    let number = db.start(&study, None, 1).await.trial.number;
    for (step, value) in (0..).zip(odd()) {
        db.store.report(study.id, number, None, step * 1_000_000, value, false, at(2)).await.unwrap();
    }
    let steps = db.trial(&study, number).await.steps;
    let values: Vec<f64> = steps.iter().map(|(_, value)| *value).collect();
    assert_eq!(bits(&values), bits(&odd()));
}

pub async fn a_cancelled_trial_is_ended_for_everybody(db: Db) {
    let study = db.study("a").await;
    let (number, token) = db.leased(&study, "w", 1).await;
    let cancelled = db.store.cancel_trial(study.id, number, at(2)).await.unwrap();
    assert_eq!(fail_kind(&cancelled), Some(FailKind::Cancelled));
    assert_eq!(db.store.cancel_trial(study.id, number, at(3)).await.unwrap(), cancelled);
    let late = db.store.finish(study.id, number, Some(token), complete(1.0), json!({"late": 1}), at(4)).await;
    assert!(matches!(late, Err(StoreError::TrialEnded { state: TrialState::Fail, .. })));
    assert_eq!(db.store.attempts(token.job).await.unwrap()[0].detail, json!({"late": 1}));
    assert_eq!(db.trial(&study, number).await, cancelled);
    let queued = db.enqueue(&study, "q", 1).await[0].number;
    let cancelled = db.store.cancel_trial(study.id, queued, at(5)).await.unwrap();
    assert_eq!((fail_kind(&cancelled), cancelled.turn), (Some(FailKind::Cancelled), None));
}

pub async fn every_change_of_a_trial_takes_a_revision(db: Db) {
    use fleetune_coordinator::storage::{AttributeKind, AttributeOwner};
    let study = db.study("a").await;
    let number = db.enqueue(&study, "q", 1).await[0].number;
    let mut last = db.trial(&study, number).await.revision;
    assert_eq!(last, Revision(2));
    let mut next = async |what: &str| {
        let trial = db.trial(&study, number).await;
        last = last.next();
        assert_eq!(trial.revision, last, "{what}");
        assert_eq!(db.reread(&study).await.revision, last, "{what}");
    };
    let turn = db.reread(&study).await.next_turn;
    db.store.start(super::harness::pop_at(study.id, turn, &[number]), at(1)).await.unwrap();
    next("start").await;
    db.store.report(study.id, number, None, 0, 1.0, false, at(1)).await.unwrap();
    next("report").await;
    let owner = AttributeOwner::Trial(study.id, number);
    db.store.set_attribute(owner, AttributeKind::User, "k".into(), "v".into()).await.unwrap();
    next("attribute").await;
    db.store.finish(study.id, number, None, complete(1.0), Value::Null, at(1)).await.unwrap();
    next("end").await;
}

pub async fn an_oversized_detail_is_refused_and_stderr_is_cut(db: Db) {
    let study = db.study("a").await;
    let (number, token) = db.leased(&study, "w", 1).await;
    let big = json!({"log": "x".repeat(1 << 20)});
    let error = db.store.finish(study.id, number, Some(token), complete(1.0), big, at(2)).await.unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { .. }), "{error}");
    assert_eq!(db.trial(&study, number).await.state, TrialState::Running);
    let stderr = format!("é{}the end", "x".repeat(70_000));
    let detail = json!({"stderr_tail": stderr, "exit": 1});
    db.store.finish(study.id, number, Some(token), failed(FailKind::Crash), detail, at(3)).await.unwrap();
    let detail = &db.store.attempts(token.job).await.unwrap()[0].detail;
    let kept = detail["stderr_tail"].as_str().unwrap();
    assert!(kept.len() <= 65_536 && kept.ends_with("the end") && detail["exit"] == 1);
}

pub async fn a_hopeless_queue_entry_ends_before_its_start(db: Db) {
    let study = db.study("a").await;
    let queued = db.enqueue(&study, "q", 1).await[0].number;
    let running = db.start(&study, None, 1).await.trial.number;
    let failed = db.store.fail_waiting(study.id, queued, FailKind::Error, "no way".to_owned(), at(2)).await.unwrap();
    assert_eq!((failed.state, &failed.fail), (TrialState::Fail, &Some((FailKind::Error, "no way".to_owned()))));
    assert_eq!((failed.turn, failed.ended_revision), (None, Some(db.reread(&study).await.revision)));
    assert_eq!(
        db.store.fail_waiting(study.id, queued, FailKind::Error, "no way".to_owned(), at(3)).await.unwrap(),
        failed
    );
    let error =
        db.store.fail_waiting(study.id, running, FailKind::Error, "no way".to_owned(), at(3)).await.unwrap_err();
    assert!(matches!(error, StoreError::WrongTrialState { .. }), "{error}");
}

pub async fn trials_are_filtered_by_state_and_number(db: Db) {
    let study = db.study("a").await;
    for _trial in 0..4 {
        db.start(&study, None, 1).await;
    }
    db.enqueue(&study, "q", 2).await;
    for number in [1, 3] {
        db.store.finish(study.id, TrialNumber(number), None, complete(1.0), Value::Null, at(2)).await.unwrap();
    }
    let list = async |states: &[TrialState], from, limit| {
        let filter = TrialFilter { states: states.to_vec(), from: TrialNumber(from), limit };
        let trials = db.store.trials(study.id, &filter).await.unwrap();
        trials.iter().map(|trial| trial.number.0).collect::<Vec<_>>()
    };
    assert_eq!(list(&[], 0, 100).await, [0, 1, 2, 3, 4, 5]);
    assert_eq!(list(&[], 2, 2).await, [2, 3]);
    assert_eq!(list(&[TrialState::Waiting], 0, 1).await, [4]);
    assert_eq!(list(&[TrialState::Running, TrialState::Waiting, TrialState::Running], 1, 2).await, [2, 4]);
    assert_eq!(list(&[TrialState::Fail], 0, 9).await, [0_i64; 0]);
}
