//! Comparison jobs and `Confirming`.

use fleetune_coordinator::storage::{Claimed, JobKind, JobRecord, JobState, StoreError, StudyRecord};
use fleetune_core::{Attempt, LeaseToken, StudyState};
use serde_json::{Value, json};

use super::harness::{Db, at, job};

async fn confirming(db: &Db) -> (StudyRecord, JobRecord) {
    let study = db.study("a").await;
    let spec = json!({"configurations": [0, 3]});
    let job = db.store.create_comparison(study.id, spec, "budget used up".into(), at(1)).await.unwrap();
    (db.reread(&study).await, job)
}

async fn leased(db: &Db) -> (StudyRecord, LeaseToken) {
    let (study, _) = confirming(db).await;
    let (_, _, lease) = job(db.claim(&study, "w", 2).await);
    (study, lease.token)
}

pub async fn a_comparison_confirms_the_study(db: Db) {
    let (study, comparison) = confirming(&db).await;
    assert_eq!((study.state, study.reason.as_str()), (StudyState::Confirming, "budget used up"));
    assert_eq!((comparison.kind, comparison.state), (JobKind::Comparison, JobState::Open));
    assert_eq!(db.store.job(comparison.id).await.unwrap(), comparison);
    let (claimed, trial, _) = job(db.claim(&study, "w", 2).await);
    assert_eq!((claimed.id, &claimed.spec, trial), (comparison.id, &json!({"configurations": [0, 3]}), None));
    assert_eq!(db.claim(&study, "v", 3).await, Claimed::Nothing);
    let other = db.study("b").await;
    db.set_state(&other, StudyState::Paused, 1).await;
    let refused = db.store.create_comparison(other.id, Value::Null, String::new(), at(1)).await;
    assert!(matches!(refused, Err(StoreError::WrongStudyState { .. })));
}

pub async fn creating_a_comparison_can_be_repeated(db: Db) {
    let (study, first) = confirming(&db).await;
    let again = db.store.create_comparison(study.id, json!(1), "again".into(), at(2)).await.unwrap();
    assert_eq!(again, first);
    assert_eq!(db.reread(&study).await, study);
}

pub async fn rounds_are_stored_once_and_in_order(db: Db) {
    let (_, token) = leased(&db).await;
    for round in [1, 0, 11, 2, 1] {
        db.store.record_round(token, round, json!([round, 0.1]), at(3)).await.unwrap();
    }
    let error = db.store.record_round(token, 1, json!([9]), at(3)).await.unwrap_err();
    assert!(matches!(error, StoreError::RoundTaken { round: 1, .. }), "{error}");
    let expected = [0, 1, 2, 11].map(|round| json!([round, 0.1]));
    assert_eq!(db.store.rounds(token.job).await.unwrap(), expected);
}

pub async fn the_stderr_of_each_cell_is_cut(db: Db) {
    let (_, token) = leased(&db).await;
    let cell = |index| json!({"candidate": index, "detail": {"stderr_tail": format!("{}the end", "x".repeat(70_000))}});
    let cells: Value = (0..2).map(cell).collect();
    for _repeat in 0..2 {
        db.store.record_round(token, 0, cells.clone(), at(3)).await.unwrap();
    }
    for cell in db.store.rounds(token.job).await.unwrap()[0].as_array().unwrap() {
        let kept = cell["detail"]["stderr_tail"].as_str().unwrap();
        assert!(kept.len() == 65_536 && kept.ends_with("the end"));
    }
}

pub async fn the_next_attempt_goes_on_after_the_last_round(db: Db) {
    let (study, token) = leased(&db).await;
    db.store.record_round(token, 0, json!(["a"]), at(3)).await.unwrap();
    db.store.release(token, at(4)).await.unwrap();
    let (next, _, lease) = job(db.claim(&study, "v", 4).await);
    assert_eq!(next.attempt, Attempt(2));
    let error = db.store.record_round(token, 1, json!(["b"]), at(5)).await.unwrap_err();
    assert!(matches!(error, StoreError::LeaseLost { .. }), "{error}");
    db.store.record_round(token, 0, json!(["a"]), at(5)).await.unwrap();
    db.store.record_round(lease.token, 1, json!(["c"]), at(5)).await.unwrap();
    assert_eq!(db.store.rounds(token.job).await.unwrap(), [json!(["a"]), json!(["c"])]);
}

pub async fn the_end_of_a_comparison_finishes_the_study(db: Db) {
    let (study, token) = leased(&db).await;
    let result = json!({"winner": 3, "gain": [0.01, 0.02]});
    let finished =
        db.store.finish_comparison(token, result.clone(), json!({"d": 1}), StudyState::Finished, at(5)).await.unwrap();
    assert_eq!(finished.state, StudyState::Finished);
    assert!(finished.revision > study.revision);
    assert_eq!(
        db.store.finish_comparison(token, result.clone(), Value::Null, StudyState::Finished, at(6)).await.unwrap(),
        finished
    );
    let error =
        db.store.finish_comparison(token, json!(0), Value::Null, StudyState::Finished, at(6)).await.unwrap_err();
    assert!(matches!(error, StoreError::JobEnded(_)), "{error}");
    let done = db.store.job(token.job).await.unwrap();
    assert_eq!((done.state, done.result), (JobState::Done, result));
    assert_eq!(db.store.attempts(token.job).await.unwrap()[0].detail, json!({"d": 1}));
}

pub async fn a_comparison_may_end_with_the_search_going_on(db: Db) {
    let (study, token) = leased(&db).await;
    let active = db.store.finish_comparison(token, json!(1), Value::Null, StudyState::Active, at(5)).await.unwrap();
    assert_eq!((active.state, active.reason.as_str()), (StudyState::Active, ""));
    let next = db.store.create_comparison(study.id, json!(2), "again".into(), at(6)).await.unwrap();
    assert_ne!(next.id, token.job);
    assert_eq!(db.reread(&study).await.state, StudyState::Confirming);
}

pub async fn leaving_confirming_closes_the_comparison(db: Db) {
    let (study, token) = leased(&db).await;
    db.set_state(&study, StudyState::Active, 3).await;
    assert_eq!(db.store.job(token.job).await.unwrap().state, JobState::Done);
    let error =
        db.store.finish_comparison(token, json!(0), Value::Null, StudyState::Finished, at(6)).await.unwrap_err();
    assert!(matches!(error, StoreError::LeaseLost { .. }), "{error}");
    let next = db.store.create_comparison(study.id, json!(2), String::new(), at(7)).await.unwrap();
    assert_ne!(next.id, token.job);
}

pub async fn a_lost_comparison_is_refused(db: Db) {
    let (study, token) = leased(&db).await;
    job(db.claim(&study, "v", 60).await);
    let error =
        db.store.finish_comparison(token, json!(0), Value::Null, StudyState::Finished, at(61)).await.unwrap_err();
    assert!(matches!(error, StoreError::LeaseLost { .. }), "{error}");
    let (_, trial) = db.leased(&db.study("b").await, "w", 61).await;
    let error =
        db.store.finish_comparison(trial, json!(0), Value::Null, StudyState::Finished, at(61)).await.unwrap_err();
    assert!(matches!(error, StoreError::JobNotFound(_)), "{error}");
}
