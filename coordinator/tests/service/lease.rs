//! Clients that lease what they ask for: shell loops and the like, which may die between ask and tell.

use std::time::Duration;

use fleetune_coordinator::scheduler::EngineOptions;
use fleetune_proto::reason::Reason;
use fleetune_proto::v1;
use tonic::Status;

use super::harness::{Server, config, database, fresh_id, quick, reason, run_out};
use super::machine::{self, awaited_job, prepared};

/// With a short delay after the start, but longer than a busy machine stands still, which would be a gap in service.
const DELAY: Duration = Duration::from_secs(2);

async fn start(url: &str) -> Server {
    Server::start_with(url, EngineOptions { lease_ttl: DELAY, ..quick() }).await
}

fn request(count: u32, seconds: i64, holder: &str) -> v1::AskRequest {
    v1::AskRequest {
        request_id: fresh_id(),
        study: "s".to_owned(),
        count,
        lease: Some(prost_types::Duration { seconds, nanos: 0 }),
        holder: holder.to_owned(),
    }
}

async fn ask(server: &mut Server, request: v1::AskRequest) -> Result<Vec<(v1::Trial, v1::Lease)>, Status> {
    let answer = server.studies.ask(request).await?.into_inner();
    assert_eq!(answer.trials.len(), answer.leases.len());
    Ok(answer.trials.into_iter().zip(answer.leases).collect())
}

async fn ask_one(server: &mut Server, holder: &str) -> (v1::Trial, v1::Lease) {
    ask(server, request(1, 1, holder)).await.unwrap().remove(0)
}

async fn tell(server: &mut Server, number: i64, value: f64, lease: &v1::Lease) -> Result<v1::Trial, Status> {
    let request = v1::TellRequest {
        study: "s".to_owned(),
        number,
        state: v1::TrialState::Complete.into(),
        values: vec![value],
        lease_token: lease.token.clone(),
        ..v1::TellRequest::default()
    };
    Ok(server.studies.tell(request).await?.into_inner().trial.unwrap())
}

#[tokio::test]
async fn a_leased_trial_is_its_holders_alone() {
    let (_folder, url) = database();
    let mut server = start(&url).await;
    server.create("s", config(None)).await.unwrap();
    let (trial, lease) = ask(&mut server, request(1, 600, "a")).await.unwrap().remove(0);
    assert!(!trial.held && lease.attempt == 1 && trial.attempt == 1);
    assert_eq!(reason(&server.tell("s", trial.number, 1.0).await.unwrap_err()), Reason::TrialLeased);
    assert_eq!(reason(&server.report("s", trial.number, 1, 1.0).await.unwrap_err()), Reason::TrialLeased);
    let forged = v1::Lease { token: format!("{}0", &lease.token[..lease.token.len() - 1]), ..lease.clone() };
    let forged = if forged.token == lease.token { v1::Lease { token: "1.1.0".to_owned(), ..forged } } else { forged };
    assert_eq!(reason(&tell(&mut server, trial.number, 1.0, &forged).await.unwrap_err()), Reason::TrialLeaseLost);
    let told = tell(&mut server, trial.number, 1.0, &lease).await.unwrap();
    assert_eq!(told.state(), v1::TrialState::Complete);
    assert_eq!(tell(&mut server, trial.number, 1.0, &lease).await.unwrap(), told);
}

#[tokio::test]
async fn a_trial_whose_lease_ended_goes_to_the_next_ask_with_a_lease() {
    let (_folder, url) = database();
    let mut server = start(&url).await;
    server.create("s", config(None)).await.unwrap();
    let (first, lost) = ask_one(&mut server, "a").await;
    run_out(&lost).await;
    // Without a lease there is nothing to take over.
    assert_eq!(server.ask("s", 1).await.unwrap()[0].number, 1);
    let given = ask(&mut server, request(3, 600, "b")).await.unwrap();
    assert_eq!(given.iter().map(|(trial, _)| trial.number).collect::<Vec<_>>(), [0, 2, 3]);
    assert_eq!(given.iter().map(|(_, lease)| lease.attempt).collect::<Vec<_>>(), [2, 1, 1]);
    assert_eq!(given[0].0.params, first.params);
    assert_eq!(reason(&tell(&mut server, 0, 1.0, &lost).await.unwrap_err()), Reason::TrialLeaseLost);
    tell(&mut server, 0, 1.0, &given[0].1).await.unwrap();
}

#[tokio::test]
async fn a_repeated_ask_with_a_lease_gets_what_the_first_one_did() {
    let (_folder, url) = database();
    let mut server = start(&url).await;
    server.create("s", config(None)).await.unwrap();
    for lost in ask(&mut server, request(2, 1, "a")).await.unwrap() {
        run_out(&lost.1).await;
    }
    let repeated = request(3, 600, "b");
    let first = ask(&mut server, repeated.clone()).await.unwrap();
    assert_eq!(first.iter().map(|(trial, _)| trial.number).collect::<Vec<_>>(), [0, 1, 2]);
    // More has come up since, which is for another request.
    let (_, lost) = ask_one(&mut server, "c").await;
    run_out(&lost).await;
    assert_eq!(ask(&mut server, repeated.clone()).await.unwrap(), first);
    // Another coordinator knows as much.
    assert_eq!(ask(&mut start(&url).await, repeated.clone()).await.unwrap(), first);
    tell(&mut server, 1, 1.0, &first[1].1).await.unwrap();
    assert_eq!(ask(&mut server, repeated.clone()).await.unwrap(), [first[0].clone(), first[2].clone()]);
    for (trial, lease) in [&first[0], &first[2]] {
        tell(&mut server, trial.number, 1.0, lease).await.unwrap();
    }
    assert_eq!(reason(&ask(&mut server, repeated).await.unwrap_err()), Reason::TrialLeaseLost);
}

#[tokio::test]
async fn a_lost_lease_is_not_given_again_to_the_request_that_lost_it() {
    let (_folder, url) = database();
    let mut server = start(&url).await;
    server.create("s", config(None)).await.unwrap();
    let repeated = request(1, 1, "a");
    let (_, lost) = ask(&mut server, repeated.clone()).await.unwrap().remove(0);
    run_out(&lost).await;
    // Ended by time, but nobody's yet: its holder may go on.
    assert_eq!(ask(&mut server, repeated.clone()).await.unwrap()[0].1.token, lost.token);
    ask_one(&mut server, "b").await;
    assert_eq!(reason(&ask(&mut server, repeated).await.unwrap_err()), Reason::TrialLeaseLost);
}

#[tokio::test]
async fn a_report_renews_the_lease_for_as_long_as_was_asked() {
    let (_folder, url) = database();
    let mut server = start(&url).await;
    server.create("s", config(None)).await.unwrap();
    let (trial, lease) = ask_one(&mut server, "a").await;
    run_out(&lease).await;
    let report = v1::ReportRequest {
        study: "s".to_owned(),
        number: trial.number,
        step: 1,
        value: 1.0,
        lease_token: lease.token.clone(),
    };
    server.studies.report(report).await.unwrap();
    assert_eq!(ask_one(&mut server, "b").await.0.number, 1);
}

#[tokio::test]
async fn a_trial_that_two_holders_lost_ends_as_worker_lost() {
    let (_folder, url) = database();
    let mut server = start(&url).await;
    server.create("s", config(None)).await.unwrap();
    for holder in ["a", "b"] {
        let (trial, lease) = ask_one(&mut server, holder).await;
        assert_eq!(trial.number, 0);
        run_out(&lease).await;
    }
    let (trial, _) = ask_one(&mut server, "c").await;
    assert_eq!(trial.number, 1);
    assert_eq!(server.trials("s").await[0].failure.as_ref().unwrap().kind(), v1::FailKind::WorkerLost);
}

#[tokio::test]
async fn an_ask_waits_out_the_delay_after_a_start_and_then_goes_on_in_order() {
    let (_folder, url) = database();
    let mut server = start(&url).await;
    server.create("s", config(None)).await.unwrap();
    let (_, lost) = ask_one(&mut server, "a").await;
    run_out(&lost).await;
    drop(server);
    let mut server = start(&url).await;
    let begun = std::time::Instant::now();
    let (trial, lease) = ask_one(&mut server, "b").await;
    assert_eq!((trial.number, lease.attempt), (0, 2));
    assert!(begun.elapsed() > DELAY / 2, "{:?}", begun.elapsed());
    // What is claimed is in nobody's way: the next ask need not wait.
    assert_eq!(ask(&mut server, request(1, 600, "c")).await.unwrap()[0].0.number, 1);
}

#[tokio::test]
async fn leases_have_bounds_and_an_ask_keeps_its_kind() {
    let (_folder, url) = database();
    let mut server = start(&url).await;
    server.create("s", config(None)).await.unwrap();
    let long = "x".repeat(101);
    for (seconds, holder) in [(0, "a"), (-1, "a"), (30 * 24 * 3600 + 1, "a"), (1, "a\nb"), (1, long.as_str())] {
        let refused = ask(&mut server, request(1, seconds, holder)).await.unwrap_err();
        assert_eq!(reason(&refused), Reason::InvalidArgument, "{seconds} {holder}: {refused}");
    }
    server.ask_as("s", 1, "r").await.unwrap();
    let other = v1::AskRequest { request_id: "r".to_owned(), ..request(1, 1, "a") };
    assert_eq!(reason(&ask(&mut server, other).await.unwrap_err()), Reason::InvalidArgument);
    let month = request(1, 30 * 24 * 3600, "");
    assert_eq!(ask(&mut server, month).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_was_taken_over_is_given_though_the_budget_is_used_up() {
    let (_folder, url) = database();
    let mut server = start(&url).await;
    server.create("s", config(Some(2))).await.unwrap();
    for lost in ask(&mut server, request(2, 1, "a")).await.unwrap() {
        run_out(&lost.1).await;
    }
    let (trial, lease) = ask_one(&mut server, "b").await;
    tell(&mut server, trial.number, 1.0, &lease).await.unwrap();
    let given = ask(&mut server, request(5, 600, "b")).await.unwrap();
    assert_eq!(given.iter().map(|(trial, _)| trial.number).collect::<Vec<_>>(), [1]);
    tell(&mut server, 1, 1.0, &given[0].1).await.unwrap();
    assert_eq!(server.study("s").await.state(), v1::StudyState::Finished);
    assert_eq!(reason(&ask(&mut server, request(1, 1, "b")).await.unwrap_err()), Reason::StudyFinished);
}

#[tokio::test]
async fn in_a_study_with_a_benchmark_a_lost_trial_goes_to_a_worker() {
    let (_folder, url) = database();
    let mut server = start(&url).await;
    prepared(&mut server, 9, false).await;
    let (trial, lost) = ask_one(&mut server, "a").await;
    assert_eq!((trial.number, lost.attempt), (0, 1));
    run_out(&lost).await;
    assert_eq!(ask_one(&mut server, "a").await.0.number, 1);
    let again = awaited_job(&mut server, 'a').await;
    assert_eq!((machine::trial(&again).0, again.lease.unwrap().attempt), (0, 2));
}
