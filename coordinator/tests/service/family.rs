//! A study for each class of workers: made when such a worker asks, served to no other, steered together.

use fleetune_coordinator::storage::testing::PrivatePostgres;
use fleetune_core::Inventory;
use fleetune_core::inventory::Cpu;
use fleetune_proto::reason::Reason;
use fleetune_proto::v1;

use super::harness::{Server, config, database, fresh_id, reason};
use super::machine::{
    acquire, complete, description, finish, inventory, job, model_config, register_as, registration, speed, trial,
};

fn machine(cpu: &str) -> Inventory {
    let cpu = Cpu { model: cpu.to_owned(), ..inventory().cpu };
    Inventory { cpu, ..inventory() }
}

/// A worker on a machine with this processor.
async fn register(server: &mut Server, name: char, cpu: &str) {
    let inventory_json = serde_json::to_string(&machine(cpu)).unwrap();
    register_as(server, v1::RegisterRequest { inventory_json, ..registration(name) }).await;
}

async fn create(server: &mut Server, name: &str, per: &str) -> v1::Study {
    let request = v1::CreateStudyRequest {
        request_id: fresh_id(),
        name: name.to_owned(),
        config: Some(model_config(3, false)),
        per: per.to_owned(),
        ..v1::CreateStudyRequest::default()
    };
    server.studies.create_study(request).await.unwrap().into_inner().study.unwrap()
}

async fn describe(server: &mut Server, worker: char, cpu: &str) -> String {
    let describe = job(server, worker).await;
    let v1::finish_request::Outcome::Described(mut found) = description() else { panic!("no description") };
    found.inventory_json = serde_json::to_string(&machine(cpu)).unwrap();
    found.pin.as_mut().unwrap().device_class = machine(cpu).device_class();
    finish(server, &describe, v1::finish_request::Outcome::Described(found), &[]).await;
    describe.study
}

async fn measure(server: &mut Server, worker: char, factor: f64) -> String {
    let job = job(server, worker).await;
    let value = speed(&trial(&job).1) * factor;
    finish(server, &job, complete(), &[value, value]).await;
    job.study
}

async fn set_state(server: &mut Server, name: &str, state: v1::StudyState) {
    let name = name.to_owned();
    match state {
        v1::StudyState::Paused => drop(server.studies.pause_study(v1::PauseStudyRequest { name }).await.unwrap()),
        v1::StudyState::Active => drop(server.studies.resume_study(v1::ResumeStudyRequest { name }).await.unwrap()),
        _ => drop(server.studies.cancel_study(v1::CancelStudyRequest { name }).await.unwrap()),
    }
}

async fn each_class_has_its_own_optimum(url: &str) {
    let (mut here, mut there) = (Server::start(url).await, Server::start(url).await);
    assert_eq!(create(&mut here, "s", "device").await.state(), v1::StudyState::Active);
    for (name, cpu) in [('a', "old"), ('b', "new"), ('c', "new")] {
        register(&mut here, name, cpu).await;
    }
    let (old, new) = (machine("old").device_class(), machine("new").device_class());
    assert_eq!(describe(&mut here, 'a', "old").await, format!("s@{old}"));
    assert_eq!(describe(&mut there, 'b', "new").await, format!("s@{new}"));
    for _ in 0..3 {
        assert_eq!(measure(&mut there, 'a', 1.0).await, format!("s@{old}"));
    }
    for worker in ['b', 'c', 'b'] {
        assert_eq!(measure(&mut here, worker, 2.0).await, format!("s@{new}"));
    }
    // Both have ended, and nobody makes them anew.
    for (server, worker) in [(&mut here, 'a'), (&mut there, 'c')] {
        let nothing = acquire(server, worker).await;
        assert_eq!((nothing.jobs, nothing.obstacles), (vec![], vec![]));
    }
    let study = there.study("s").await;
    let shown: Vec<_> = study.children.iter().map(|child| child.study.as_ref().unwrap()).collect();
    let classes: Vec<_> = shown.iter().map(|study| study.class.as_str()).collect();
    assert_eq!(classes, [&old, &new]);
    assert!(shown.iter().all(|study| study.state() == v1::StudyState::Finished), "{shown:?}");
    assert_eq!(
        (study.counts.unwrap().complete, study.per.as_str(), study.state()),
        (6, "device", v1::StudyState::Active)
    );
    let best: Vec<_> = study.children.iter().map(|child| child.best.unwrap().value.unwrap()).collect();
    assert!(best.iter().all(|best| *best > 0.0), "{best:?}");
    let name = shown[0].name.clone();
    assert_eq!(here.study(&name).await.parent, "s");
    // A larger budget of the parent is one of its children.
    let budget = Some(v1::Budget { trials: Some(4), ..v1::Budget::default() });
    let request = v1::UpdateStudyRequest { name: "s".to_owned(), budget, ..v1::UpdateStudyRequest::default() };
    here.studies.update_study(request).await.unwrap();
    assert_eq!(measure(&mut there, 'a', 1.0).await, name);
    assert_eq!(here.verify(&name).await, 4);
}

#[tokio::test]
async fn each_class_has_its_own_optimum_on_sqlite() {
    let (_folder, url) = database();
    each_class_has_its_own_optimum(&url).await;
}

#[tokio::test]
async fn each_class_has_its_own_optimum_on_postgres() {
    each_class_has_its_own_optimum(&PrivatePostgres::start().database().await).await;
}

#[tokio::test]
async fn what_is_done_to_a_parent_is_done_to_its_children() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    create(&mut server, "s", "device").await;
    register(&mut server, 'a', "old").await;
    register(&mut server, 'b', "new").await;
    let child = describe(&mut server, 'a', "old").await;
    set_state(&mut server, "s", v1::StudyState::Paused).await;
    assert_eq!(server.study(&child).await.state(), v1::StudyState::Paused);
    // Neither does anybody get something, nor does a class get its study.
    assert_eq!((acquire(&mut server, 'a').await.jobs, acquire(&mut server, 'b').await.jobs), (vec![], vec![]));
    assert_eq!(server.study("s").await.children.len(), 1);
    set_state(&mut server, "s", v1::StudyState::Active).await;
    let running = job(&mut server, 'a').await;
    // A child that is being prepared cannot be paused; its parent holds it back.
    let preparing = job(&mut server, 'b').await;
    let request = v1::ReleaseRequest { lease_token: super::machine::token(&preparing) };
    server.workers.release(request).await.unwrap();
    set_state(&mut server, "s", v1::StudyState::Paused).await;
    assert_eq!(acquire(&mut server, 'b').await.jobs, []);
    let request = v1::DeleteStudyRequest { name: "s".to_owned(), force: false };
    assert_eq!(reason(&server.studies.delete_study(request).await.unwrap_err()), Reason::StudyState);
    set_state(&mut server, "s", v1::StudyState::Cancelled).await;
    for name in [&child, &preparing.study] {
        assert_eq!(server.study(name).await.state(), v1::StudyState::Cancelled, "{name}");
    }
    let request = v1::HeartbeatRequest {
        worker_id: super::machine::worker_id('a'),
        tokens: vec![super::machine::token(&running)],
        gauges: None,
    };
    let beat = server.workers.heartbeat(request).await.unwrap().into_inner();
    assert_eq!(beat.leases[0].state(), v1::LeaseState::Cancelled);
    let request = v1::DeleteStudyRequest { name: "s".to_owned(), force: false };
    server.studies.delete_study(request).await.unwrap();
    let gone = server.studies.get_study(v1::GetStudyRequest { name: child }).await.unwrap_err();
    assert_eq!(reason(&gone), Reason::StudyNotFound);
}

#[tokio::test]
async fn a_label_may_tell_workers_apart_and_one_without_it_is_told() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    create(&mut server, "s", "label:rack").await;
    register(&mut server, 'a', "cpu").await;
    let refused = acquire(&mut server, 'a').await;
    assert_eq!(refused.jobs, []);
    assert!(refused.obstacles[0].contains("`--label rack=VALUE`"), "{:?}", refused.obstacles);
    let labels = [("rack".to_owned(), "7".to_owned())].into();
    register_as(&mut server, v1::RegisterRequest { labels, ..registration('b') }).await;
    assert_eq!(job(&mut server, 'b').await.study, "s@7");
}

#[tokio::test]
async fn a_worker_of_one_study_serves_its_children_too() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    create(&mut server, "s", "device").await;
    create(&mut server, "t", "device").await;
    register(&mut server, 'a', "cpu").await;
    let mut of = async |study: &str| {
        let request = v1::AcquireRequest {
            worker_id: super::machine::worker_id('a'),
            request_id: fresh_id(),
            study: study.to_owned(),
            ..v1::AcquireRequest::default()
        };
        let jobs = server.workers.acquire(request).await.unwrap().into_inner().jobs;
        jobs.into_iter().map(|job| job.study).collect::<Vec<_>>()
    };
    let child = format!("t@{}", machine("cpu").device_class());
    assert_eq!(of("t").await, [child.as_str()]);
    assert_eq!(of("t").await, [""; 0]);
    assert_eq!(of(&child).await, [""; 0]);
}

#[tokio::test]
async fn a_parent_takes_no_trials_and_a_study_without_a_model_no_children() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    create(&mut server, "s", "device").await;
    let refused = server.ask("s", 1).await.unwrap_err();
    assert_eq!(reason(&refused), Reason::StudyState);
    assert!(refused.message().contains("each kind of workers"), "{}", refused.message());
    let request = v1::EnqueueRequest {
        request_id: fresh_id(),
        study: "s".to_owned(),
        trials: vec![v1::FixedParams::default()],
        force: false,
    };
    server.studies.enqueue(request).await.unwrap_err();
    for (name, wanted, per) in [
        ("c", config(None), "device"),
        ("m", model_config(1, false), "rack"),
        ("n".repeat(91).as_str(), model_config(1, false), "device"),
    ] {
        let request = v1::CreateStudyRequest {
            request_id: fresh_id(),
            name: name.to_owned(),
            config: Some(wanted),
            per: per.to_owned(),
            ..v1::CreateStudyRequest::default()
        };
        let refused = server.studies.create_study(request).await.unwrap_err();
        assert_eq!(reason(&refused), Reason::InvalidArgument, "{name}");
    }
}
