//! Several coordinators on one database: none needs the others, and nothing depends on which of them answers.

use std::collections::BTreeSet;

use fleetune_coordinator::storage::testing::PrivatePostgres;
use fleetune_proto::v1;

use super::harness::{Server, by_number, config, database, objective};

async fn alternate(url: &str) {
    let mut first = Server::start(url).await;
    first.create("s", config(Some(20))).await.unwrap();
    let mut second = Server::start(url).await;
    for round in 0..20 {
        let (asked, told) = if round % 2 == 0 { (&mut first, &mut second) } else { (&mut second, &mut first) };
        let trial = asked.ask("s", 1).await.unwrap().remove(0);
        told.tell("s", trial.number, objective(&trial.params)).await.unwrap();
    }
    assert_eq!(second.verify("s").await, 20);
    let shared = by_number(&first.trials("s").await);

    let (_folder, url) = database();
    let mut alone = Server::start(&url).await;
    alone.create("s", config(Some(20))).await.unwrap();
    for _ in 0..20 {
        let trial = alone.ask("s", 1).await.unwrap().remove(0);
        alone.tell("s", trial.number, objective(&trial.params)).await.unwrap();
    }
    assert_eq!(by_number(&alone.trials("s").await), shared);
}

#[tokio::test]
async fn two_on_sqlite_suggest_what_one_does() {
    let (_folder, url) = database();
    alternate(&url).await;
}

#[tokio::test]
async fn two_on_postgres_suggest_what_one_does() {
    let url = PrivatePostgres::start().database().await;
    alternate(&url).await;
}

async fn race(url: &str) {
    Server::start(url).await.create("s", config(Some(48))).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let url = url.to_owned();
        tasks.spawn(async move {
            let mut server = Server::start(&url).await;
            let mut mine = Vec::new();
            while let Ok(trials) = server.ask("s", 1).await {
                let trial = &trials[0];
                server.tell("s", trial.number, objective(&trial.params)).await.unwrap();
                mine.push(trial.number);
            }
            mine
        });
    }
    let all: Vec<i64> = tasks.join_all().await.into_iter().flatten().collect();
    let distinct: BTreeSet<i64> = all.iter().copied().collect();
    assert_eq!((all.len(), distinct), (48, (0..48).collect()));
    let mut server = Server::start(url).await;
    assert_eq!(server.verify("s").await, 48);
    let turns: BTreeSet<_> = server.trials("s").await.iter().map(v1::Trial::turn).collect();
    assert_eq!(turns, (0..48).collect());
    assert_eq!(server.study("s").await.state(), v1::StudyState::Finished);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_that_race_on_sqlite_give_every_number_once() {
    let (_folder, url) = database();
    race(&url).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_that_race_on_postgres_give_every_number_once() {
    let url = PrivatePostgres::start().database().await;
    race(&url).await;
}
