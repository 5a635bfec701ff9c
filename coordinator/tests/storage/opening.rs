//! Opening databases: newer and older schemas, full disks, several openers at once.

use fleetune_coordinator::storage::testing::PrivatePostgres;
use fleetune_coordinator::storage::{Store, StoreError};
use fleetune_core::{StudyId, TrialNumber, TrialState};
use serde_json::{Value, json};
use sqlx::{Connection, Executor};

use super::harness::{Db, at, complete, failed};

pub async fn a_newer_schema_is_refused(db: Db) {
    db.store.close().await;
    let row = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
               VALUES (9999, 'of the future', true, '', 0)";
    if db.is_sqlite() {
        sqlx::SqliteConnection::connect(&db.url).await.unwrap().execute(row).await.unwrap();
    } else {
        sqlx::PgConnection::connect(&db.url).await.unwrap().execute(row).await.unwrap();
    }
    let error = Store::open(&db.url).await.unwrap_err();
    let known = Store::migrations_known();
    assert!(matches!(error, StoreError::SchemaTooNew { found: 9999, known: newest } if newest == known), "{error}");
}

pub async fn opening_twice_at_once_works(db: Db) {
    let url =
        if db.is_sqlite() { db.url.replace("test.db", "fresh.db") } else { PrivatePostgres::start().empty_database() };
    let opened = futures::future::join_all((0..4).map(|_| Store::open(&url))).await;
    for store in opened {
        store.unwrap().studies(StudyId(0), 10).await.unwrap();
    }
}

pub async fn the_first_schema_is_brought_up_to_date(db: Db) {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/schema");
    let url = if db.is_sqlite() {
        let url = db.url.replace("test.db", "old.db");
        let dump = std::fs::read_to_string(format!("{fixtures}/sqlite-0001.sql")).unwrap();
        let mut connection = sqlx::SqliteConnection::connect(&format!("{url}?mode=rwc")).await.unwrap();
        connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(dump))).await.unwrap();
        connection.close().await.unwrap();
        url
    } else {
        let url = PrivatePostgres::start().empty_database();
        let dump = std::fs::read_to_string(format!("{fixtures}/postgres-0001.sql")).unwrap();
        let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
        connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(dump))).await.unwrap();
        connection.close().await.unwrap();
        url
    };
    let store = Store::open(&url).await.unwrap();
    let study = store.study_by_name("of schema 1").await.unwrap();
    let trial = store.trial(study.id, TrialNumber(0)).await.unwrap();
    assert_eq!((trial.state, trial.values.as_slice()), (TrialState::Complete, &[1.0][..]));
    assert_eq!(trial.params["x"].internal.to_bits(), 0.5_f64.to_bits());
    assert_eq!(trial.steps, [(0, 1.0)]);
    assert_eq!(store.trial(study.id, TrialNumber(1)).await.unwrap().state, TrialState::Waiting);
    let job = &store.jobs(study.id).await.unwrap()[0];
    assert_eq!(store.attempts(job.id).await.unwrap()[0].detail, json!({"samples": [1.0]}));
    // And it takes what a fresh database takes.
    let now = store.study(study.id).await.unwrap();
    let start = super::harness::pop_at(study.id, now.next_turn, &[TrialNumber(1)]);
    store.start(start, at(9)).await.unwrap();
}

/// Writes until there is no room, then checks that nothing is half-written and that small writes go on.
async fn fill(store: &Store, mut refuses: impl FnMut(usize) -> bool) {
    let db = Db::on(store.clone());
    let study = db.study("a").await;
    let mut refused = None;
    for round in 0..400 {
        let (number, token) = db.leased(&study, "w", 1).await;
        let detail = json!({"noise": noise(round)});
        match store.finish(study.id, number, Some(token), complete(1.0), detail, at(2)).await {
            Ok(_) => {}
            Err(StoreError::Full(_)) => {
                refused = Some((number, token));
                break;
            }
            Err(error) => panic!("{error}"),
        }
        assert!(!refuses(round), "nothing was refused");
    }
    let (number, token) = refused.unwrap();
    let trial = db.trial(&study, number).await;
    assert_eq!((trial.state, trial.ended_revision), (TrialState::Running, None));
    assert_eq!(db.reread(&study).await.revision, trial.revision);
    let end = failed(fleetune_core::FailKind::Error);
    store.finish(study.id, number, Some(token), end, Value::Null, at(3)).await.unwrap();
    assert_eq!(db.trial(&study, number).await.state, TrialState::Fail);
}

/// Half a megabyte that does not compress.
fn noise(seed: usize) -> String {
    let mut state = seed as u64 + 1;
    let letter = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'!' + (state >> 33) as u8 % 90)
    };
    (0..400_000).map(letter).collect()
}

#[tokio::test]
async fn a_full_sqlite_database_refuses_writes_and_stays_usable() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}?max_page_count=1200", folder.path().join("full.db").display());
    fill(&Store::open(&url).await.unwrap(), |round| round > 20).await;
}

#[tokio::test]
async fn a_full_postgres_disk_refuses_writes_and_stays_usable() {
    let cluster = PrivatePostgres::with_file_limit(6);
    let store = Store::open(&cluster.database().await).await.unwrap();
    fill(&store, |round| round > 60).await;
    store.close().await;
}

#[tokio::test]
async fn a_memory_database_is_gone_afterwards() {
    let store = Store::open("sqlite::memory:").await.unwrap();
    let db = Db::on(store.clone());
    let study = db.study("a").await;
    assert_eq!(store.study(study.id).await.unwrap(), study);
    let other = Store::open("sqlite::memory:").await.unwrap();
    assert!(other.study_by_name("a").await.is_err());
}

#[tokio::test]
async fn a_url_that_cannot_be_opened_says_why_and_hides_the_password() {
    for url in ["mysql://me:secret@host/db", "postgres://me:secret@/db?host=/nonexistent", "sqlite:///nonexistent/a.db"]
    {
        let error = Store::open(url).await.unwrap_err();
        assert!(matches!(error, StoreError::CannotOpen { .. }), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

/// Writes the dumps that `the_first_schema_is_brought_up_to_date` reads; for a new schema, under its number.
#[tokio::test]
#[ignore = "writes fixtures; run it by name once per released schema, with sqlite3 and pg_dump installed"]
async fn dump_the_schema() {
    use std::process::Command;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/schema");
    let version = format!("{:04}", Store::migrations_known());
    for db in [Db::sqlite().await, Db::postgres().await] {
        let study =
            db.store.create_study(super::harness::new_study("of schema 1", fleetune_core::StudyState::Active), at(0));
        let study = study.await.unwrap();
        let (number, token) = db.leased(&study, "w", 1).await;
        db.store.report(study.id, number, Some(token), 0, 1.0, false, at(2)).await.unwrap();
        let detail = json!({"samples": [1.0]});
        db.store.finish(study.id, number, Some(token), complete(1.0), detail, at(3)).await.unwrap();
        db.enqueue(&study, "q", 1).await;
        db.store.register(super::harness::registration("w", "boot", &[]), at(4)).await.unwrap();
        db.store.close().await;
        let (name, output) = if db.is_sqlite() {
            let file = db.url.trim_start_matches("sqlite://");
            ("sqlite", Command::new("sqlite3").arg(file).arg(".dump").output().unwrap())
        } else {
            ("postgres", Command::new("pg_dump").args(["--inserts", "--no-owner", &db.url]).output().unwrap())
        };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // Lines that start with a backslash are commands of psql, not SQL.
        let dump = String::from_utf8(output.stdout).unwrap();
        let sql: Vec<_> = dump.lines().filter(|line| !line.starts_with('\\')).collect();
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(format!("{folder}/{name}-{version}.sql"), sql.join("\n") + "\n").unwrap();
    }
}
