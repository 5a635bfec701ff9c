//! Copies and backups of whole databases.

use fleetune_coordinator::storage::testing::PrivatePostgres;
use fleetune_coordinator::storage::{
    AttributeKind, AttributeOwner, Family, NewStudy, NewToken, Store, StoreError, TrialFilter, transfer,
};
use fleetune_core::schedule::Per;
use fleetune_core::{Role, StudyState, TrialNumber};
use serde_json::json;

use super::harness::{Db, at, complete, new_study, registration, start_at};

/// A database with something in every table that has a meaning of its own.
async fn fill(db: &Db) {
    let study = db.study("a").await;
    let (number, token) = db.leased(&study, "w", 1).await;
    db.store.report(study.id, number, Some(token), 0, f64::MIN_POSITIVE, true, at(2)).await.unwrap();
    db.store
        .finish(study.id, number, Some(token), complete(0.1 + 0.2), json!({"samples": [1.0]}), at(3))
        .await
        .unwrap();
    db.enqueue(&study, "q", 2).await;
    let owner = AttributeOwner::Trial(study.id, number);
    db.store.set_attribute(owner, AttributeKind::User, "ä\0".to_owned(), "\u{1f600}".to_owned()).await.unwrap();
    db.store.register(registration("w", "boot", &[]), at(4)).await.unwrap();
    let new = NewToken {
        name: "t".to_owned(),
        role: Role::Worker,
        hash: [7; 32],
        created_by: String::new(),
        expires_at: Some(at(99)),
    };
    db.store.create_token(new, at(5)).await.unwrap();
    let parent = NewStudy { family: Some(Family::Parent(Per::Device)), ..new_study("family", StudyState::Active) };
    let parent = db.store.create_study(parent, at(5)).await.unwrap();
    db.store.create_child(parent.id, "d".to_owned(), at(5)).await.unwrap();
    // Its id must never come again.
    let gone = db.store.create_study(new_study("gone", StudyState::Active), at(6)).await.unwrap();
    db.store.delete_study(gone.id).await.unwrap();
}

async fn assert_same(one: &Store, other: &Store) {
    let study = one.study_by_name("a").await.unwrap();
    assert_eq!(other.study_by_name("a").await.unwrap(), study);
    let parent = one.study_by_name("family").await.unwrap().id;
    let children = one.children(parent).await.unwrap();
    assert_eq!((children.len(), other.children(parent).await.unwrap()), (1, children));
    let all = TrialFilter { from: TrialNumber(0), limit: 100, states: Vec::new() };
    let trials = one.trials(study.id, &all).await.unwrap();
    assert_eq!(other.trials(study.id, &all).await.unwrap(), trials);
    assert_eq!(trials[0].values[0].to_bits(), (0.1_f64 + 0.2).to_bits());
    let jobs = one.jobs(study.id).await.unwrap();
    assert_eq!(other.jobs(study.id).await.unwrap(), jobs);
    for job in jobs {
        assert_eq!(other.attempts(job.id).await.unwrap(), one.attempts(job.id).await.unwrap());
    }
    let owner = AttributeOwner::Trial(study.id, TrialNumber(0));
    let kind = AttributeKind::User;
    assert_eq!(other.attributes(owner, kind).await.unwrap(), one.attributes(owner, kind).await.unwrap());
    assert_eq!(other.workers(&fleetune_core::WorkerId(String::new()), 9).await.unwrap().len(), 1);
    assert_eq!(other.tokens(0, 9).await.unwrap(), one.tokens(0, 9).await.unwrap());
}

pub async fn a_copy_of_either_kind_is_the_same_and_goes_on(db: Db) {
    fill(&db).await;
    let folder = tempfile::tempdir().unwrap();
    let file = format!("sqlite://{}", folder.path().join("copy.db").display());
    for target in [file, PrivatePostgres::start().empty_database()] {
        let copied = transfer::copy(&db.url, &target).await.unwrap();
        let rows = |name: &str| copied.tables.iter().find(|(table, _)| table == name).unwrap().1;
        assert_eq!((rows("study"), rows("trial"), rows("attempt"), rows("access_token")), (3, 3, 1, 1));
        let store = Store::open(&target).await.unwrap();
        assert_same(&db.store, &store).await;
        // It takes what comes next, under ids that were never given out.
        let study = store.study_by_name("a").await.unwrap();
        store.start(start_at(study.id, study.next_turn, &[study.next_number]), at(9)).await.unwrap();
        let next = store.create_study(new_study("b", StudyState::Active), at(9)).await.unwrap();
        assert_eq!(next.id.0, study.id.0 + 4);
        let found = transfer::examine(&target).await.unwrap();
        assert_eq!((found.studies, found.trials, found.faults), (4, 4, Vec::<String>::new()));
        // What holds something is not written over.
        let refused = transfer::copy(&db.url, &target).await.unwrap_err();
        assert!(matches!(&refused, StoreError::CannotOpen { why, .. } if why.contains("empty database")), "{refused}");
    }
}

pub async fn a_backup_is_made_under_load_and_restored(db: Db) {
    fill(&db).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup.db");
    let study = db.store.study_by_name("a").await.unwrap();
    let writes = async {
        for turn in study.next_turn.0..study.next_turn.0 + 50 {
            let number = TrialNumber(study.next_number.0 + turn - study.next_turn.0);
            let start = start_at(study.id, fleetune_core::Turn(turn), &[number]);
            db.store.start(start, at(9)).await.unwrap();
        }
    };
    let (backup, ()) = futures::join!(transfer::backup(&db.url, &file), writes);
    backup.unwrap();
    let url = format!("sqlite://{}", file.display());
    let found = transfer::examine(&url).await.unwrap();
    assert_eq!((found.studies, found.faults), (3, Vec::<String>::new()));
    assert!((3..=53).contains(&found.trials), "{}", found.trials);
    assert!(transfer::backup(&db.url, &file).await.is_err(), "a backup was written over");
    let target = PrivatePostgres::start().empty_database();
    transfer::copy(&url, &target).await.unwrap();
    assert_eq!(transfer::examine(&target).await.unwrap().trials, found.trials);
}

#[tokio::test]
async fn what_does_not_fit_together_is_named() {
    use sqlx::Executor as _;
    let db = Db::sqlite().await;
    fill(&db).await;
    db.store.close().await;
    let mut connection = <sqlx::SqliteConnection as sqlx::Connection>::connect(&db.url).await.unwrap();
    connection.execute("PRAGMA foreign_keys = OFF").await.unwrap();
    connection.execute("DELETE FROM trial WHERE number = 1").await.unwrap();
    connection.execute("UPDATE study SET next_number = 9").await.unwrap();
    connection.execute("INSERT INTO step VALUES (999, 0, 0, 0, 0)").await.unwrap();
    sqlx::Connection::close(connection).await.unwrap();
    let faults = transfer::examine(&db.url).await.unwrap().faults.join("\n");
    for part in ["trial 1 is missing", "its next number is 9", "a row of `step` refers to one of `trial`"] {
        assert!(faults.contains(part), "{faults}");
    }
}
