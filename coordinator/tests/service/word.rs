//! What one coordinator changes on Postgres, another one hears of at once.

use std::time::Duration;

use fleetune_coordinator::scheduler::EngineOptions;
use fleetune_coordinator::storage::testing::PrivatePostgres;
use fleetune_coordinator::storage::{NewStudy, Registration, Store};
use fleetune_core::study::{PrunerConfig, SamplerConfig, StudyConfig};
use fleetune_core::{Direction, Inventory, StudyState, WorkerId};
use fleetune_proto::v1;
use sqlx::postgres::{PgListener, PgPool};

use super::harness::{Server, config};
use super::machine::{awaited_job, model_config, register};

/// Shorter than the poll by far.
const SOON: Duration = Duration::from_secs(30);

/// Looks for others' changes hardly ever.
async fn deaf(url: &str) -> Server {
    Server::start_with(url, EngineOptions { poll_every: Duration::from_hours(1), ..EngineOptions::default() }).await
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, what).await.expect("word of the change")
}

/// A store that hears of changes.
async fn listening(url: &str) -> Store {
    let store = Store::open(url).await.unwrap();
    let mut changes = store.changes();
    soon(async {
        while !store.hears_of_changes() {
            changes.changed().await.unwrap();
        }
    })
    .await;
    store
}

async fn create(store: &Store, name: &str) {
    let config = StudyConfig {
        directions: vec![Direction::Minimize],
        space: None,
        sampler: SamplerConfig::Tpe,
        pruner: PrunerConfig::median(),
        budget: fleetune_core::study::Budget { trials: None, seconds: None, target: None },
        planned_trials: None,
        seed: 0,
        benchmark: None,
        earlier: Vec::new(),
    };
    let (request_id, schedule) = (name.to_owned(), fleetune_core::Schedule::default());
    let new = NewStudy { name: name.to_owned(), request_id, state: StudyState::Active, config, schedule, family: None };
    store.create_study(new, store.now()).await.unwrap();
}

#[tokio::test]
async fn watchers_and_workers_of_another_coordinator_are_woken() {
    let url = PrivatePostgres::start().database().await;
    let (mut here, mut there) = (deaf(&url).await, deaf(&url).await);
    register(&mut there, 'a', "scripted 1").await;
    let mut worker = deaf(&url).await;
    let polled = tokio::spawn(async move { awaited_job(&mut worker, 'a').await });
    here.create("s", config(None)).await.unwrap();
    let watch = v1::WatchRequest { study: "s".to_owned(), after: 0 };
    let mut watched = there.studies.watch(watch).await.unwrap().into_inner();
    soon(watched.message()).await.unwrap().unwrap();
    let trial = here.ask("s", 1).await.unwrap().remove(0);
    here.tell("s", trial.number, 1.0).await.unwrap();
    loop {
        let event = soon(watched.message()).await.unwrap().unwrap().event.unwrap();
        if matches!(event, v1::watch_event::Event::Trial(trial) if trial.state() == v1::TrialState::Complete) {
            break;
        }
    }
    here.create("m", model_config(5, false)).await.unwrap();
    assert_eq!(soon(polled).await.unwrap().study, "m");
}

#[tokio::test]
async fn a_store_hears_of_others_alone_and_not_of_heartbeats() {
    let url = PrivatePostgres::start().database().await;
    let (here, there) = (listening(&url).await, listening(&url).await);
    let pool = PgPool::connect(&url).await.unwrap();
    let mut words = PgListener::connect_with(&pool).await.unwrap();
    words.listen("fleetune").await.unwrap();
    let mut heard = there.changes();
    heard.mark_unchanged();
    let registration = Registration {
        id: WorkerId("w".to_owned()),
        name: "w".to_owned(),
        labels: [].into(),
        inventory: Inventory::default(),
        executors: [].into(),
        version: String::new(),
        held: Vec::new(),
        models: Vec::new(),
        token: None,
    };
    let worker = registration.id.clone();
    let mut own = here.changes();
    own.mark_unchanged();
    here.register(registration, here.now()).await.unwrap();
    soon(heard.changed()).await.unwrap();
    let word = soon(words.recv()).await.unwrap();
    assert!(!own.has_changed().unwrap(), "its own word woke it");
    for _ in 0..20 {
        here.heartbeat(&worker, &[], Duration::from_secs(30), here.now()).await.unwrap();
    }
    sqlx::query("SELECT pg_notify('fleetune', 'mark')").execute(&pool).await.unwrap();
    assert_eq!(soon(words.recv()).await.unwrap().payload(), "mark");
    create(&here, "s").await;
    assert_eq!(soon(words.recv()).await.unwrap().payload(), word.payload());
    // A last word is said before the end.
    create(&there, "t").await;
    there.close().await;
    assert_ne!(soon(words.recv()).await.unwrap().payload(), word.payload());
    soon(own.changed()).await.unwrap();
}

#[tokio::test]
async fn a_lost_connection_is_made_again_and_counts_as_a_change() {
    let url = PrivatePostgres::start().database().await;
    let (here, there) = (listening(&url).await, listening(&url).await);
    let mut heard = there.changes();
    heard.mark_unchanged();
    let pool = PgPool::connect(&url).await.unwrap();
    let killed: Vec<bool> = sqlx::query_scalar(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE application_name = 'fleetune listen' AND datname = current_database()",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert_eq!(killed, [true, true]);
    // Once for the loss, and once for the return, unless both are seen at once.
    soon(heard.changed()).await.unwrap();
    soon(async {
        while !there.hears_of_changes() {
            heard.changed().await.unwrap();
        }
    })
    .await;
    heard.mark_unchanged();
    create(&here, "s").await;
    soon(heard.changed()).await.unwrap();
}
