//! The workers as people see them.

use fleetune_proto::reason::Reason;
use fleetune_proto::v1;
use tonic::Status;

use super::harness::{Server, database, reason};
use super::machine::{job, prepared, register, register_as, registration, token, worker_id};

async fn get(server: &mut Server, worker: &str) -> Result<v1::Worker, Status> {
    let request = v1::GetWorkerRequest { worker: worker.to_owned() };
    Ok(server.fleet.get_worker(request).await?.into_inner().worker.unwrap())
}

#[tokio::test]
async fn a_worker_tells_what_it_does() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    prepared(&mut server, 5, false).await;
    assert_eq!(get(&mut server, "a").await.unwrap().jobs, []);
    let trial = job(&mut server, 'a').await;
    let worker = get(&mut server, "a").await.unwrap();
    let expires_at = trial.lease.as_ref().unwrap().expires_at;
    let held = v1::HeldJob { study: "s".to_owned(), kind: "trial".to_owned(), trial: Some(0), attempt: 1, expires_at };
    assert_eq!((worker.jobs, worker.alive), (vec![held], true));
    // Lists stay short.
    let listed = server.fleet.list_workers(v1::ListWorkersRequest::default()).await.unwrap().into_inner();
    assert_eq!((listed.workers.len(), listed.workers[0].jobs.len()), (1, 0));
    server.workers.release(v1::ReleaseRequest { lease_token: token(&trial) }).await.unwrap();
    assert_eq!(get(&mut server, "a").await.unwrap().jobs, []);
}

#[tokio::test]
async fn a_worker_is_named_by_id_by_name_or_by_the_first_digits() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    register(&mut server, 'a', "scripted 1").await;
    let twin = |digit: char| {
        let worker_id = format!("{}{digit}", "c".repeat(31));
        v1::RegisterRequest { worker_id, name: "twin".to_owned(), ..registration('c') }
    };
    register_as(&mut server, twin('1')).await;
    register_as(&mut server, twin('2')).await;
    for name in ["a", "aaaaaa", &worker_id('a')] {
        assert_eq!(get(&mut server, name).await.unwrap().id, worker_id('a'), "{name}");
    }
    for (name, what) in [("twin", "2 workers have this name: `"), ("cccccc", "2 workers have an id that begins so: `")]
    {
        let refused = get(&mut server, name).await.unwrap_err();
        assert_eq!(reason(&refused), Reason::InvalidArgument);
        assert!(refused.message().contains(what), "{refused}");
        assert!(refused.message().contains(&twin('1').worker_id) && refused.message().contains(&twin('2').worker_id));
    }
    assert_eq!(get(&mut server, &twin('2').worker_id).await.unwrap().name, "twin");
    for name in ["", "b", "aaaaa", "dddddd"] {
        assert_eq!(reason(&get(&mut server, name).await.unwrap_err()), Reason::WorkerUnknown, "{name}");
    }
}
