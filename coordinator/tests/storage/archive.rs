//! Studies that are put away.

use fleetune_coordinator::storage::{AttributeKind, AttributeOwner, NewTrial, StoreError, StudyUpdate};
use fleetune_core::study::Budget;
use fleetune_core::{FailKind, StudyId, StudyState, TrialNumber};
use serde_json::json;

use super::harness::{Db, at, complete, failed, start_at};

pub async fn an_archived_study_refuses_every_write_and_comes_back_as_what_it_was(db: Db) {
    let study = db.study("a").await;
    let done = db.start(&study, None, 1).await.trial.number;
    db.store.finish(study.id, done, None, complete(1.0), json!(null), at(2)).await.unwrap();
    let error = db.store.archive_study(study.id).await.unwrap_err();
    assert!(matches!(error, StoreError::WrongStudyState { state: StudyState::Active, .. }), "{error}");
    let ended = db.set_state(&study, StudyState::Cancelled, 3).await;

    let archived = db.store.archive_study(study.id).await.unwrap();
    assert_eq!((archived.state, archived.archived_from), (StudyState::Archived, Some(StudyState::Cancelled)));
    assert!(archived.revision > ended.revision && archived.reason == ended.reason);
    assert_eq!(db.store.archive_study(study.id).await.unwrap(), archived, "a repeat");
    assert!(db.store.studies_at_hand(StudyId(0), 10).await.unwrap().is_empty());
    assert_eq!(db.store.studies(StudyId(0), 10).await.unwrap(), std::slice::from_ref(&archived));

    let before = db.trial(&study, done).await;
    let budget = StudyUpdate {
        budget: Some(Budget { trials: Some(99), seconds: None, target: None }),
        ..StudyUpdate::default()
    };
    let attribute = |owner| db.store.set_attribute(owner, AttributeKind::User, "k".into(), "v".into());
    let numbers = [archived.next_number];
    let refused = [
        db.store.update_study(study.id, budget, at(4)).await.map(drop),
        attribute(AttributeOwner::Study(study.id)).await,
        attribute(AttributeOwner::Trial(study.id, done)).await,
        db.store.add_trial(study.id, NewTrial::running(at(4)), at(4)).await.map(drop),
        db.store.add_trials(study.id, archived.next_number, vec![NewTrial::running(at(4))], at(4)).await.map(drop),
        db.store.enqueue(study.id, "e".to_owned(), vec![super::harness::waiting(0)], at(4)).await.map(drop),
        db.store.start(start_at(study.id, archived.next_turn, &numbers), at(4)).await.map(drop),
    ];
    for refused in refused {
        assert!(matches!(refused, Err(StoreError::WrongStudyState { state: StudyState::Archived, .. })), "{refused:?}");
    }
    assert_eq!(db.trial(&study, done).await, before);
    assert_eq!(db.reread(&study).await, archived);

    let back = db.store.unarchive_study(study.id, at(5)).await.unwrap();
    assert_eq!((back.state, back.archived_from, back.unarchived_at), (StudyState::Cancelled, None, Some(at(5))));
    assert_eq!(db.store.unarchive_study(study.id, at(6)).await.unwrap(), back, "a repeat");
    attribute(AttributeOwner::Study(study.id)).await.unwrap();
    assert_eq!(db.trial(&study, done).await, before);
    db.store.archive_study(study.id).await.unwrap();
    db.store.delete_study(study.id).await.unwrap();
}

pub async fn an_archive_forgets_requests_and_attempts_without_a_result_alone(db: Db) {
    let study = db.study("a").await;
    let other = db.study("b").await;
    let detail = |text: &str| json!({"stderr_tail": text});
    let mut jobs = Vec::new();
    for (study, end) in [(&study, complete(1.0)), (&study, failed(FailKind::Error)), (&other, failed(FailKind::Error))]
    {
        let (number, token) = db.leased(study, "w", 1).await;
        db.store.report(study.id, number, Some(token), 1, 0.5, false, at(2)).await.unwrap();
        db.store.finish(study.id, number, Some(token), end, detail("log"), at(3)).await.unwrap();
        jobs.push(token.job);
    }
    let request = start_at(study.id, fleetune_core::Turn(0), &[TrialNumber(0)]).request_id;
    assert_eq!(db.store.started_by(study.id, &request).await.unwrap().len(), 1);
    db.store.shed(study.id, TrialNumber(0), 10).await.unwrap();
    assert_eq!(db.store.started_by(study.id, &request).await.unwrap().len(), 1, "not archived yet");
    for study in [&study, &other] {
        db.set_state(study, StudyState::Cancelled, 4).await;
    }
    db.store.archive_study(study.id).await.unwrap();
    let trials = [db.trial(&study, TrialNumber(0)).await, db.trial(&study, TrialNumber(1)).await];
    for _repeat in 0..2 {
        db.store.shed(study.id, TrialNumber(0), 10).await.unwrap();
    }
    assert!(db.store.started_by(study.id, &request).await.unwrap().is_empty());
    let mut details = Vec::new();
    for job in jobs {
        details.push(db.store.attempts(job).await.unwrap()[0].detail.clone());
    }
    assert_eq!(details, [detail("log"), json!(null), detail("log")]);
    assert_eq!([db.trial(&study, TrialNumber(0)).await, db.trial(&study, TrialNumber(1)).await], trials);
}
