//! Which worker gets what, and what a study says when none does.

use std::time::Duration;

use fleetune_coordinator::scheduler::EngineOptions;
use fleetune_proto::v1;

use super::harness::{Server, database, quick, run_out};
use super::machine::{
    HASH, acquire, awaited_job, complete, description, finish, job, model, model_config, prepared, register,
    register_as, registration, trial, worker_id,
};

/// A worker that sees nothing but `model`.
async fn register_with(server: &mut Server, name: char, model: v1::Model) {
    register_as(server, v1::RegisterRequest { models: vec![model], ..registration(name) }).await;
}

#[tokio::test]
async fn a_model_is_described_by_a_worker_that_sees_it() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    server.create("s", model_config(5, false)).await.unwrap();
    register_with(&mut server, 'b', model("other.gguf", HASH)).await;
    let refused = acquire(&mut server, 'b').await;
    let expected = "study `s` needs the model `m.gguf`, which worker `b` does not see; put it into one of its `--models` \
                    folders";
    assert_eq!((refused.jobs, refused.obstacles), (vec![], vec![expected.to_owned()]));
    assert_eq!(server.study("s").await.obstacles, [expected]);
    // It appears there, under whatever identity: that is what a description is to find out.
    register_with(&mut server, 'b', model("m.gguf", "ffff")).await;
    assert_eq!(server.study("s").await.obstacles, Vec::<String>::new());
    let describe = job(&mut server, 'b').await;
    finish(&mut server, &describe, description(), &[]).await;
    assert_eq!(server.study("s").await.state(), v1::StudyState::Active);
}

#[tokio::test]
async fn a_described_model_is_found_by_its_hash_whatever_it_is_called() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    prepared(&mut server, 5, false).await;
    register_with(&mut server, 'b', model("m.gguf", "ffeeddccbbaa9988")).await;
    let refused = acquire(&mut server, 'b').await;
    let expected = "study `s` needs the model `m.gguf` with the hash 001122334455, but what worker `b` has of that name \
                    is another file, with the hash ffeeddccbbaa; put the one that was measured into one of its `--models` \
                    folders";
    assert_eq!((refused.jobs, refused.obstacles), (vec![], vec![expected.to_owned()]));
    register_with(&mut server, 'b', model("other.gguf", "ffee")).await;
    let refused = acquire(&mut server, 'b').await.obstacles.remove(0);
    assert!(refused.contains("with the hash 001122334455, which worker `b` does not see; put it"), "{refused}");
    register_with(&mut server, 'b', model("renamed.gguf", HASH)).await;
    assert_eq!(trial(&job(&mut server, 'b').await).0, 0);
}

#[tokio::test]
async fn a_study_says_that_nobody_is_there_and_since_when() {
    let (_folder, url) = database();
    let short = Duration::from_millis(50);
    let options = EngineOptions { lease_ttl: short, heartbeat_every: short, ..quick() };
    let mut server = Server::start_with(&url, options).await;
    server.create("s", model_config(5, false)).await.unwrap();
    let obstacles = server.study("s").await.obstacles;
    assert_eq!(obstacles.len(), 1);
    assert!(obstacles[0].starts_with("no worker has registered; `fleetune worker run --server "), "{obstacles:?}");
    register(&mut server, 'a', "scripted 1").await;
    register_with(&mut server, 'b', model("other.gguf", HASH)).await;
    let beat = v1::HeartbeatRequest { worker_id: worker_id('b'), tokens: Vec::new(), gauges: None };
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        // Worker `b` lives, `a` falls silent.
        server.workers.heartbeat(beat.clone()).await.unwrap();
        let obstacles = server.study("s").await.obstacles;
        // On a machine with much to do `b` is silent too when it is looked at: then again.
        if let [misfit, silent] = &obstacles[..]
            && misfit.contains("which worker `b` does not see")
        {
            assert!(silent.starts_with("worker `a` has been silent since 2"), "{silent}");
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{obstacles:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Then `b` does too, and is named though it could do nothing: it is what there is.
    while server.study("s").await.obstacles.iter().any(|obstacle| !obstacle.contains("has been silent since")) {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let obstacles = server.study("s").await.obstacles;
    assert!(obstacles[0].starts_with("worker `b`") && obstacles[1].starts_with("worker `a`"), "{obstacles:?}");
    server.studies.cancel_study(v1::CancelStudyRequest { name: "s".to_owned() }).await.unwrap();
    assert_eq!(server.study("s").await.obstacles, Vec::<String>::new());
}

#[tokio::test]
async fn a_draining_worker_is_an_obstacle_and_gets_nothing() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    prepared(&mut server, 5, false).await;
    let drain = v1::DrainWorkerRequest { worker: "a".to_owned() };
    server.fleet.drain_worker(drain).await.unwrap();
    let expected = "worker `a` is draining; `fleetune worker resume a` lets it take jobs again";
    assert_eq!(server.study("s").await.obstacles, [expected]);
    assert_eq!(acquire(&mut server, 'a').await.jobs, []);
    server.fleet.resume_worker(v1::ResumeWorkerRequest { worker: "a".to_owned() }).await.unwrap();
    assert_eq!(server.study("s").await.obstacles, Vec::<String>::new());
    job(&mut server, 'a').await;
}

#[tokio::test]
async fn a_trial_of_a_worker_that_fell_silent_goes_to_another_that_fits() {
    let (_folder, url) = database();
    let options = EngineOptions { lease_ttl: Duration::from_secs(1), ..quick() };
    let mut server = Server::start_with(&url, options).await;
    prepared(&mut server, 5, false).await;
    let lost = job(&mut server, 'a').await;
    register(&mut server, 'b', "scripted 2").await;
    register_with(&mut server, 'c', model("other.gguf", "ffee")).await;
    register(&mut server, 'd', "scripted 1").await;
    run_out(lost.lease.as_ref().unwrap()).await;
    for misfit in ['b', 'c'] {
        assert_eq!(acquire(&mut server, misfit).await.jobs, []);
    }
    let again = awaited_job(&mut server, 'd').await;
    assert_eq!((trial(&again), again.lease.as_ref().unwrap().attempt), (trial(&lost), 2));
}

#[tokio::test]
async fn another_engine_gets_nothing_and_the_study_says_why() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    prepared(&mut server, 5, false).await;
    register(&mut server, 'b', "scripted 2").await;
    let refused = acquire(&mut server, 'b').await;
    assert_eq!(refused.jobs, []);
    assert!(refused.obstacles[0].contains("pinned to the engine `scripted 1`"), "{:?}", refused.obstacles);
    // Worker `a` fits, so there is no obstacle for the study as a whole.
    assert_eq!(server.study("s").await.obstacles, Vec::<String>::new());
    register(&mut server, 'a', "scripted 3").await;
    assert_eq!(server.study("s").await.obstacles.len(), 2);
}

#[tokio::test]
async fn a_trial_that_a_client_never_told_is_named_as_what_keeps_the_study_open() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    prepared(&mut server, 2, false).await;
    let held = server.ask("s", 1).await.unwrap()[0].number;
    let job = job(&mut server, 'a').await;
    // A leased trial still runs, so the study does not wait for the client alone.
    assert_eq!(server.study("s").await.obstacles, Vec::<String>::new());
    finish(&mut server, &job, complete(), &[1.0, 1.0]).await;
    let obstacles = server.study("s").await.obstacles;
    assert_eq!(obstacles.len(), 1, "{obstacles:?}");
    assert!(obstacles[0].starts_with("trial 0 is held by a client and has not been told"), "{obstacles:?}");
    server.tell("s", held, 1.0).await.unwrap();
    let study = server.study("s").await;
    assert_eq!((study.state(), study.obstacles), (v1::StudyState::Finished, Vec::new()));
}
