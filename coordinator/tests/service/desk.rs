//! Many clients of one study at once: what waits shares a write, and nobody can tell.

use std::collections::BTreeSet;

use fleetune_coordinator::storage::testing::PrivatePostgres;
use fleetune_proto::reason::Reason;
use fleetune_proto::v1;
use tokio::task::JoinSet;

use super::harness::{Server, config, database, objective, reason};

/// Clients side by side, and pairs of each.
const CLIENTS: usize = 16;
const PAIRS: usize = 6;

/// Every client asks twice under one request, at the same time, and tells once.
async fn crowd(url: &str) {
    let mut server = Server::start(url).await;
    let mut config = config(Some((CLIENTS * PAIRS) as u32));
    config.sampler = Some(v1::Sampler { name: "tpe".to_owned(), ..v1::Sampler::default() });
    server.create("s", config).await.unwrap();
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let studies = server.studies.clone();
        clients.spawn(async move {
            let mut numbers = Vec::new();
            for pair in 0..PAIRS {
                let request = v1::AskRequest {
                    request_id: format!("{client}-{pair}"),
                    study: "s".to_owned(),
                    count: 1,
                    ..v1::AskRequest::default()
                };
                let (mut one, mut other) = (studies.clone(), studies.clone());
                let (one, other) = tokio::join!(one.ask(request.clone()), other.ask(request));
                let trial = one.unwrap().into_inner().trials.remove(0);
                let again = other.unwrap().into_inner().trials.remove(0);
                assert_eq!((again.number, &again.params), (trial.number, &trial.params));
                let tell = v1::TellRequest {
                    study: "s".to_owned(),
                    number: trial.number,
                    state: v1::TrialState::Complete.into(),
                    values: vec![objective(&trial.params)],
                    ..v1::TellRequest::default()
                };
                let (mut one, mut other) = (studies.clone(), studies.clone());
                let (one, other) = tokio::join!(one.tell(tell.clone()), other.tell(tell));
                assert_eq!(one.unwrap().into_inner().trial, other.unwrap().into_inner().trial);
                numbers.push(trial.number);
            }
            numbers
        });
    }
    let numbers: BTreeSet<i64> = clients.join_all().await.into_iter().flatten().collect();
    assert_eq!(numbers, (0..(CLIENTS * PAIRS) as i64).collect());
    assert_eq!(server.verify("s").await, (CLIENTS * PAIRS) as u64);
    let trials = server.trials("s").await;
    let revisions: BTreeSet<i64> = trials.iter().map(|trial| trial.revision).collect();
    assert_eq!(revisions.len(), trials.len());
    let study = server.study("s").await;
    assert_eq!((study.state(), study.reason.as_str()), (v1::StudyState::Finished, "trial budget used up"));
    assert_eq!(reason(&server.ask("s", 1).await.unwrap_err()), Reason::StudyFinished);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_on_sqlite_gets_every_number_once() {
    let (_folder, url) = database();
    crowd(&url).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_on_postgres_gets_every_number_once() {
    crowd(&PrivatePostgres::start().database().await).await;
}

#[tokio::test]
async fn a_name_that_another_coordinator_gave_to_a_new_study_is_found_again() {
    let (_folder, url) = database();
    let (mut one, mut other) = (Server::start(&url).await, Server::start(&url).await);
    let old = one.create("s", config(None)).await.unwrap();
    let held = one.ask("s", 1).await.unwrap()[0].number;
    let delete = v1::DeleteStudyRequest { name: "s".to_owned(), force: true };
    other.studies.delete_study(delete).await.unwrap();
    assert_eq!(reason(&one.tell("s", held, 1.0).await.unwrap_err()), Reason::StudyNotFound);
    assert_eq!(reason(&one.ask("s", 1).await.unwrap_err()), Reason::StudyNotFound);
    let new = other.create("s", config(None)).await.unwrap();
    assert_ne!(new.id, old.id);
    assert_eq!(one.ask("s", 1).await.unwrap()[0].number, 0);
    // And once more, with the old study in memory: the ask finds the new one itself.
    let delete = v1::DeleteStudyRequest { name: "s".to_owned(), force: true };
    other.studies.delete_study(delete).await.unwrap();
    other.create("s", config(None)).await.unwrap();
    assert_eq!(one.ask("s", 1).await.unwrap()[0].number, 0);
}

#[tokio::test]
async fn what_another_coordinator_changed_counts_at_once() {
    let (_folder, url) = database();
    let (mut one, mut other) = (Server::start(&url).await, Server::start(&url).await);
    one.create("s", config(None)).await.unwrap();
    let held = one.ask("s", 2).await.unwrap();
    // Told there: here it is known as running.
    other.tell("s", held[0].number, 1.0).await.unwrap();
    assert_eq!(reason(&one.tell("s", held[0].number, 2.0).await.unwrap_err()), Reason::TrialEnded);
    let pause = v1::PauseStudyRequest { name: "s".to_owned() };
    other.studies.pause_study(pause).await.unwrap();
    assert_eq!(reason(&one.ask("s", 1).await.unwrap_err()), Reason::StudyState);
    // A trial that runs may be told all the same.
    one.tell("s", held[1].number, 1.0).await.unwrap();
    other.studies.resume_study(v1::ResumeStudyRequest { name: "s".to_owned() }).await.unwrap();
    assert_eq!(one.ask("s", 1).await.unwrap()[0].number, 2);
    one.verify("s").await;
}
