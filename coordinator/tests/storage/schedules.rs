//! Which study is served next, and how many of its trials workers may lease at once.

use fleetune_coordinator::storage::{Claimed, StartTrials, StoreError, StudyRecord, StudyUpdate};
use fleetune_core::{Schedule, StudyState, Timestamp, WorkerId};

use super::harness::{Db, TTL, at, complete, job, new_study, start_at, worker};

async fn limited(db: &Db, max_parallel: u32) -> StudyRecord {
    let study = db.study("a").await;
    set(db, &study, Schedule { max_parallel: Some(max_parallel), ..Schedule::default() }).await
}

async fn set(db: &Db, study: &StudyRecord, schedule: Schedule) -> StudyRecord {
    let update = StudyUpdate { schedule: Some(schedule), ..StudyUpdate::default() };
    db.store.update_study(study.id, update, at(0)).await.unwrap()
}

async fn try_lease(db: &Db, study: &StudyRecord, holder: WorkerId, seconds: i64) -> Result<(), StoreError> {
    let study = db.reread(study).await;
    let start = start_at(study.id, study.next_turn, &[study.next_number]);
    db.store.start(StartTrials { lease: Some((holder, TTL)), ..start }, at(seconds)).await.map(|_| ())
}

pub async fn a_schedule_is_kept_and_changes_at_any_time(db: Db) {
    let selector = Some("labels.rack == '7'".to_owned());
    let first = Schedule { priority: -7, max_parallel: Some(2), selector };
    let mut new = new_study("a", StudyState::Active);
    new.schedule.clone_from(&first);
    let study = db.store.create_study(new, at(0)).await.unwrap();
    assert_eq!(study.schedule, first);
    let changed = set(&db, &study, Schedule { priority: 1_000, ..Schedule::default() }).await;
    assert_eq!(db.reread(&study).await, changed);
    // Watchers see it; samplers have nothing to do with it.
    assert!(changed.revision > study.revision);
    assert_eq!(changed.config_revision, study.config_revision);
    let again = set(&db, &study, changed.schedule.clone()).await;
    assert_eq!(again.revision, changed.revision);
    db.set_state(&study, StudyState::Cancelled, 1).await;
    assert_eq!(set(&db, &study, first.clone()).await.schedule, first);
}

pub async fn workers_lease_no_more_trials_at_once_than_they_may(db: Db) {
    let study = limited(&db, 2).await;
    let (number, token) = db.leased(&study, "v", 0).await;
    try_lease(&db, &study, worker("w"), 0).await.unwrap();
    let refused = try_lease(&db, &study, worker("x"), 1).await.unwrap_err();
    assert!(matches!(refused, StoreError::AtCapacity { max_parallel: 2, .. }), "{refused}");
    assert_eq!(db.reread(&study).await.next_number.0, 2, "what was refused left something");
    // What clients ask for is their own affair.
    db.start(&study, None, 1).await;
    try_lease(&db, &study, WorkerId::client("c"), 1).await.unwrap();
    db.store.finish(study.id, number, Some(token), complete(1.0), serde_json::Value::Null, at(2)).await.unwrap();
    // But a lease is a lease: there are two still.
    try_lease(&db, &study, worker("x"), 3).await.unwrap_err();
    set(&db, &study, Schedule { max_parallel: Some(3), ..Schedule::default() }).await;
    try_lease(&db, &study, worker("x"), 3).await.unwrap();
}

pub async fn concurrent_starts_stay_within_the_limit(db: Db) {
    let study = limited(&db, 3).await;
    let mut tasks = tokio::task::JoinSet::new();
    for name in 0..12 {
        let (store, other, id) = (db.store.clone(), db.second().await, study.id);
        let store = if name % 2 == 0 { store } else { other };
        tasks.spawn(async move {
            loop {
                let study = store.study(id).await.unwrap();
                let mut start = start_at(id, study.next_turn, &[study.next_number]);
                start.request_id = format!("of {name}");
                start.lease = Some((worker(&name.to_string()), TTL));
                match store.start(start, at(0)).await {
                    Ok(_) => return true,
                    Err(StoreError::AtCapacity { .. }) => return false,
                    Err(StoreError::TurnTaken { .. } | StoreError::Busy(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
    }
    let started = tasks.join_all().await.into_iter().filter(|started| *started).count();
    assert_eq!((started, db.store.live_leases(study.id, at(0)).await.unwrap()), (3, 3));
}

pub async fn an_ended_lease_waits_for_room_too(db: Db) {
    let study = limited(&db, 2).await;
    db.leased(&study, "v", 0).await;
    db.leased(&study, "w", 10).await;
    set(&db, &study, Schedule { max_parallel: Some(1), ..Schedule::default() }).await;
    // The first has run out, the second one still runs.
    assert_eq!(db.claim(&study, "x", 35).await, Claimed::Nothing);
    try_lease(&db, &study, worker("x"), 35).await.unwrap_err();
    job(db.claim(&study, "x", 40).await);
    assert_eq!(db.claim(&study, "y", 41).await, Claimed::Nothing);
}

pub async fn it_is_noted_when_a_worker_was_served(db: Db) {
    let served = async |study: &StudyRecord| db.reread(study).await.served_at;
    let study = db.study("a").await;
    db.start(&study, None, 1).await;
    try_lease(&db, &study, WorkerId::client("c"), 2).await.unwrap();
    assert_eq!(served(&study).await, Timestamp(0), "that was no worker");
    db.leased(&study, "w", 3).await;
    assert_eq!(served(&study).await, at(3));
    // The trials of the client and of the worker have been lost.
    job(db.claim(&study, "w", 50).await);
    job(db.claim(&study, "w", 51).await);
    assert_eq!(served(&study).await, at(51));
    let described = db.store.create_study(new_study("b", StudyState::Preparing), at(0)).await.unwrap();
    job(db.claim(&described, "w", 60).await);
    assert_eq!(served(&described).await, at(60));
}
