//! Several studies, few workers: who is served next, and how much of a study runs at once.

use fleetune_coordinator::storage::testing::PrivatePostgres;
use fleetune_proto::reason::Reason;
use fleetune_proto::v1;

use super::harness::{Server, config, database, fresh_id, reason};
use super::machine::{
    ENGINE, acquire, complete, description, finish, inventory, job, model_config, prepared, register, register_as,
    registration, speed, trial,
};

/// A study whose trials only wait for a worker.
async fn ready(server: &mut Server, name: &str, schedule: v1::Schedule) {
    let request = v1::CreateStudyRequest {
        request_id: fresh_id(),
        name: name.to_owned(),
        config: Some(model_config(100, false)),
        schedule: Some(schedule),
        ..v1::CreateStudyRequest::default()
    };
    server.studies.create_study(request).await.unwrap();
    let request = v1::AcquireRequest {
        worker_id: super::machine::worker_id('a'),
        request_id: fresh_id(),
        study: name.to_owned(),
        ..v1::AcquireRequest::default()
    };
    let describe = server.workers.acquire(request).await.unwrap().into_inner().jobs.remove(0);
    finish(server, &describe, description(), &[]).await;
}

fn priority(priority: i32) -> v1::Schedule {
    v1::Schedule { priority, ..v1::Schedule::default() }
}

async fn set(server: &mut Server, name: &str, schedule: v1::Schedule) -> v1::Study {
    let request = v1::UpdateStudyRequest { name: name.to_owned(), budget: None, schedule: Some(schedule) };
    server.studies.update_study(request).await.unwrap().into_inner().study.unwrap()
}

/// Measures a trial of whichever study is served next: its name.
async fn served(server: &mut Server, worker: char) -> String {
    let job = job(server, worker).await;
    let value = speed(&trial(&job).1);
    finish(server, &job, complete(), &[value, value]).await;
    job.study
}

async fn studies_take_turns_at_two_coordinators(url: &str) {
    let (mut here, mut there) = (Server::start(url).await, Server::start(url).await);
    for name in ['a', 'b'] {
        register(&mut here, name, ENGINE).await;
    }
    for name in ["x", "y", "z"] {
        ready(&mut here, name, priority(0)).await;
    }
    let mut order = Vec::new();
    for _ in 0..3 {
        order.push(served(&mut here, 'a').await);
        order.push(served(&mut there, 'b').await);
    }
    assert_eq!(order, ["x", "y", "z", "x", "y", "z"]);
    // Whoever is more important is served first, at both of them, and the others go on in turn.
    let changed = set(&mut there, "y", priority(1)).await;
    assert_eq!(changed.schedule, Some(priority(1)));
    assert_eq!((served(&mut here, 'a').await, served(&mut there, 'b').await), ("y".to_owned(), "y".to_owned()));
    set(&mut here, "y", priority(-1)).await;
    let order = [served(&mut here, 'a').await, served(&mut there, 'b').await, served(&mut here, 'a').await];
    assert_eq!(order, ["x", "z", "x"]);
}

#[tokio::test]
async fn studies_take_turns_at_two_coordinators_on_sqlite() {
    let (_folder, url) = database();
    studies_take_turns_at_two_coordinators(&url).await;
}

#[tokio::test]
async fn studies_take_turns_at_two_coordinators_on_postgres() {
    studies_take_turns_at_two_coordinators(&PrivatePostgres::start().database().await).await;
}

#[tokio::test]
async fn one_call_for_several_jobs_takes_them_in_turn() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    register(&mut server, 'a', ENGINE).await;
    for name in ["x", "y"] {
        ready(&mut server, name, priority(0)).await;
    }
    let request = v1::AcquireRequest {
        worker_id: super::machine::worker_id('a'),
        request_id: fresh_id(),
        max_jobs: 4,
        ..v1::AcquireRequest::default()
    };
    let jobs = server.workers.acquire(request).await.unwrap().into_inner().jobs;
    let studies: Vec<_> = jobs.iter().map(|job| job.study.as_str()).collect();
    assert_eq!(studies, ["x", "y", "x", "y"]);
}

#[tokio::test]
async fn a_study_at_its_limit_leaves_workers_to_others_until_a_trial_ends() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    for name in ['a', 'b', 'c'] {
        register(&mut server, name, ENGINE).await;
    }
    ready(&mut server, "narrow", v1::Schedule { priority: 9, max_parallel: Some(1), ..v1::Schedule::default() }).await;
    let first = job(&mut server, 'a').await;
    assert_eq!(first.study, "narrow");
    assert_eq!(acquire(&mut server, 'b').await.jobs, []);
    ready(&mut server, "wide", priority(0)).await;
    assert_eq!(job(&mut server, 'b').await.study, "wide");
    // A worker that waits already gets the place of the trial that ends.
    let mut workers = server.workers.clone();
    set(&mut server, "wide", v1::Schedule { priority: 0, max_parallel: Some(1), ..v1::Schedule::default() }).await;
    let waiting = tokio::spawn(async move {
        let request = v1::AcquireRequest {
            worker_id: super::machine::worker_id('c'),
            request_id: fresh_id(),
            wait_s: 30.0,
            ..v1::AcquireRequest::default()
        };
        workers.acquire(request).await.unwrap().into_inner().jobs.remove(0).study
    });
    finish(&mut server, &first, complete(), &[1.0, 1.0]).await;
    assert_eq!(waiting.await.unwrap(), "narrow");
    // Whoever asks without a worker is not held up.
    assert_eq!(server.ask("narrow", 3).await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_budget_and_a_schedule_change_apart_and_a_schedule_wakes_nobody() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    prepared(&mut server, 1, false).await;
    let budget = server.study("s").await.config.unwrap().budget;
    let changed = set(&mut server, "s", priority(5)).await;
    assert_eq!((changed.config.unwrap().budget, changed.schedule), (budget, Some(priority(5))));
    served(&mut server, 'a').await;
    assert_eq!(server.study("s").await.state(), v1::StudyState::Finished);
    assert_eq!(set(&mut server, "s", priority(6)).await.state(), v1::StudyState::Finished);
    let request = v1::UpdateStudyRequest {
        name: "s".to_owned(),
        budget: Some(v1::Budget { trials: Some(2), ..v1::Budget::default() }),
        schedule: Some(v1::Schedule { priority: 7, max_parallel: Some(3), ..v1::Schedule::default() }),
    };
    let woken = server.studies.update_study(request).await.unwrap().into_inner().study.unwrap();
    assert_eq!((woken.state(), woken.schedule.unwrap().max_parallel), (v1::StudyState::Active, Some(3)));
}

#[tokio::test]
async fn a_schedule_that_means_nothing_is_refused_and_leaves_nothing() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    for (config, schedule, says) in [
        (model_config(1, false), priority(1_001), "-1000 to 1000"),
        (
            model_config(1, false),
            v1::Schedule { priority: 0, max_parallel: Some(0), ..v1::Schedule::default() },
            "at least 1",
        ),
        (config(None), priority(1), "no model"),
    ] {
        let request = v1::CreateStudyRequest {
            request_id: fresh_id(),
            name: "s".to_owned(),
            config: Some(config),
            schedule: Some(schedule),
            ..v1::CreateStudyRequest::default()
        };
        let refused = server.studies.create_study(request).await.unwrap_err();
        assert_eq!(reason(&refused), Reason::InvalidArgument);
        assert!(refused.message().contains(says), "{}", refused.message());
    }
    server.create("s", model_config(1, false)).await.unwrap();
    let request = v1::UpdateStudyRequest { name: "s".to_owned(), budget: None, schedule: Some(priority(-1_001)) };
    assert_eq!(reason(&server.studies.update_study(request).await.unwrap_err()), Reason::InvalidArgument);
}

fn selected(selector: &str) -> v1::Schedule {
    v1::Schedule { selector: selector.to_owned(), ..v1::Schedule::default() }
}

#[tokio::test]
async fn only_workers_that_the_selector_admits_get_jobs() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    register(&mut server, 'a', ENGINE).await;
    let labels = [("rack".to_owned(), "7".to_owned())].into();
    let large = fleetune_core::Inventory { ram_mib: 65_536, ..inventory() };
    let inventory_json = serde_json::to_string(&large).unwrap();
    register_as(&mut server, v1::RegisterRequest { labels, inventory_json, ..registration('b') }).await;
    let request = v1::CreateStudyRequest {
        request_id: fresh_id(),
        name: "s".to_owned(),
        config: Some(model_config(9, false)),
        schedule: Some(selected("inventory.ram_mib >= 32 * 1024")),
        ..v1::CreateStudyRequest::default()
    };
    let study = server.studies.create_study(request).await.unwrap().into_inner().study.unwrap();
    assert_eq!((study.connected_workers, study.selected_workers), (2, 1));
    assert_eq!((study.obstacles, study.left_out), (vec![], vec![]));
    let refused = acquire(&mut server, 'a').await;
    assert_eq!(refused.jobs, []);
    assert!(refused.obstacles[0].contains("inventory.ram_mib >= 32 * 1024"), "{:?}", refused.obstacles);
    let describe = job(&mut server, 'b').await;
    finish(&mut server, &describe, description(), &[]).await;
    // It may change while the study is served.
    let study = set(&mut server, "s", selected("labels.rack == '8'")).await;
    assert_eq!((study.connected_workers, study.selected_workers), (2, 0));
    assert!(study.obstacles[0].contains("of 2 connected workers none"), "{:?}", study.obstacles);
    assert_eq!((acquire(&mut server, 'a').await.jobs, acquire(&mut server, 'b').await.jobs), (vec![], vec![]));
    set(&mut server, "s", selected("!has(labels.rack)")).await;
    assert_eq!(acquire(&mut server, 'b').await.jobs, []);
    job(&mut server, 'a').await;
}

#[tokio::test]
async fn a_selector_of_facts_that_there_are_not_is_refused_with_those_that_there_are() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    for (selector, says) in [
        ("inventory.os == 'linux' && inventory.gpu > 1", "at column 28: there is no fact `inventory.gpu`; known are "),
        ("inventory.os ==", "at column "),
        ("inventory.ram_mib", "neither true nor false"),
    ] {
        let request = v1::CreateStudyRequest {
            request_id: fresh_id(),
            name: "s".to_owned(),
            config: Some(model_config(9, false)),
            schedule: Some(selected(selector)),
            ..v1::CreateStudyRequest::default()
        };
        let refused = server.studies.create_study(request).await.unwrap_err();
        assert_eq!(reason(&refused), Reason::InvalidArgument);
        assert!(refused.message().contains(says), "{}", refused.message());
    }
    server.create("s", model_config(9, false)).await.unwrap();
}
