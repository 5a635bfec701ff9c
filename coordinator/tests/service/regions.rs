//! Unsafe regions as clients and workers see them: searches go around them, nobody is given what lies in them.

use fleetune_core::FailKind;
use fleetune_proto::reason::Reason;
use fleetune_proto::{convert, v1};

use super::harness::{Server, database, fresh_id, int, parameter, reason, value};
use super::machine::{
    ENGINE, acquire, complete, description, finish, inventory, job, model_config, prepared, register, register_as,
    registration, trial,
};

/// Worker `a` comes back after a reboot.
async fn reboot(server: &mut Server, boot: &str) {
    let inventory = fleetune_core::Inventory { boot_id: boot.to_owned(), ..inventory() };
    let inventory_json = serde_json::to_string(&inventory).unwrap();
    register_as(server, v1::RegisterRequest { inventory_json, ..registration('a') }).await;
}

async fn regions(server: &mut Server) -> Vec<v1::UnsafeRegion> {
    server.fleet.list_regions(v1::ListRegionsRequest::default()).await.unwrap().into_inner().regions
}

fn batch(params: &std::collections::BTreeMap<String, v1::Value>) -> i64 {
    match params["n_batch"].kind {
        Some(v1::value::Kind::Int(batch)) => batch,
        _ => panic!("n_batch is no integer"),
    }
}

/// A search of the batch alone, whose default is 17.
fn batch_config(trials: u32) -> v1::StudyConfig {
    let batch = v1::Parameter { default_value: Some(value(17)), ..parameter("n_batch", int(1, 64)) };
    let space = v1::SearchSpace { parameters: vec![batch], ..v1::SearchSpace::default() };
    v1::StudyConfig { space: Some(space), ..model_config(trials, false) }
}

/// A study of the batch whose model is described by `a`.
async fn batch_study(server: &mut Server, name: &str, config: v1::StudyConfig) {
    server.create(name, config).await.unwrap();
    let describe = job(server, 'a').await;
    finish(server, &describe, description(), &[]).await;
}

async fn enqueue(server: &mut Server, study: &str, wanted: i64, force: bool) -> Result<i64, tonic::Status> {
    let trials = vec![v1::FixedParams { params: [("n_batch".to_owned(), value(wanted))].into() }];
    let request = v1::EnqueueRequest { request_id: fresh_id(), study: study.to_owned(), trials, force };
    Ok(server.studies.enqueue(request).await?.into_inner().trials[0].number)
}

#[tokio::test]
async fn a_search_goes_around_what_took_a_machine_down() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    register(&mut server, 'a', ENGINE).await;
    batch_study(&mut server, "s", batch_config(20)).await;
    let queued = enqueue(&mut server, "s", 30, false).await.unwrap();
    let first = job(&mut server, 'a').await;
    assert_eq!(first.regions, []);
    reboot(&mut server, "another boot").await;
    let [region] = regions(&mut server).await.try_into().unwrap();
    assert_eq!((region.evidence.len(), batch(&region.settings), batch(&trial(&first).1)), (1, 17, 17));

    let mut measured = Vec::new();
    while let Some(job) = acquire(&mut server, 'a').await.jobs.pop() {
        let (number, params) = trial(&job);
        assert_eq!(job.regions.len(), 1, "the worker refuses it, too");
        assert!(batch(&params) < 17, "trial {number} has {}", batch(&params));
        finish(&mut server, &job, complete(), &[batch(&params) as f64]).await;
        measured.push(number);
    }
    // The first one took a turn, the queue entry took none.
    assert_eq!(measured.len(), 19);
    let trials = server.trials("s").await;
    let failure = trials[queued as usize].failure.clone().unwrap();
    assert_eq!(convert::fail_kind(failure.kind), Ok(FailKind::UnsafeRegion), "{failure:?}");
    assert!(failure.message.starts_with("not started: "), "{failure:?}");
    assert!(server.verify("s").await >= measured.len() as u64);

    // Another study of these machines and this model knows it from its first trial on.
    batch_study(&mut server, "t", batch_config(20)).await;
    assert_eq!(reason(&enqueue(&mut server, "t", 64, true).await.unwrap_err()), Reason::InvalidArgument);
    let next = job(&mut server, 'a').await;
    assert!(batch(&trial(&next).1) < 17);
    // A third one wants to know.
    let mut ignoring = batch_config(20);
    ignoring.benchmark.as_mut().unwrap().ignore_regions = true;
    finish(&mut server, &next, complete(), &[1.0]).await;
    let only = |study: &str| v1::PauseStudyRequest { name: study.to_owned() };
    server.studies.pause_study(only("t")).await.unwrap();
    batch_study(&mut server, "u", ignoring).await;
    enqueue(&mut server, "u", 64, false).await.unwrap();
    loop {
        let next = job(&mut server, 'a').await;
        assert_eq!(next.regions, []);
        finish(&mut server, &next, complete(), &[1.0]).await;
        if batch(&trial(&next).1) == 64 {
            break;
        }
    }
}

#[tokio::test]
async fn a_region_that_is_deleted_is_searched_again() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    register(&mut server, 'a', ENGINE).await;
    batch_study(&mut server, "s", batch_config(100)).await;
    let first = job(&mut server, 'a').await;
    reboot(&mut server, "another boot").await;
    let [region] = regions(&mut server).await.try_into().unwrap();
    assert_eq!(batch(&trial(&first).1), 17);
    let refused = enqueue(&mut server, "s", 64, false).await.unwrap_err();
    assert!(refused.message().contains(&format!("unsafe region {}", region.id)), "{}", refused.message());
    let get = v1::GetRegionRequest { id: region.id };
    assert_eq!(server.fleet.get_region(get).await.unwrap().into_inner().region, Some(region.clone()));
    let delete = v1::DeleteRegionRequest { id: region.id };
    server.fleet.delete_region(delete).await.unwrap();
    assert_eq!(reason(&server.fleet.delete_region(delete).await.unwrap_err()), Reason::RegionNotFound);
    assert_eq!(regions(&mut server).await, []);
    enqueue(&mut server, "s", 64, false).await.unwrap();
    // What took the machine down itself stays in quarantine, until somebody wants it.
    let refused = enqueue(&mut server, "s", 17, false).await.unwrap_err();
    assert!(refused.message().contains("quarantine"), "{}", refused.message());
    let again = enqueue(&mut server, "s", 17, true).await.unwrap();
    loop {
        let next = job(&mut server, 'a').await;
        finish(&mut server, &next, complete(), &[1.0]).await;
        if trial(&next).0 == again {
            assert_eq!(batch(&trial(&next).1), 17);
            break;
        }
    }
    server.verify("s").await;
}

#[tokio::test]
async fn a_trial_that_was_lost_is_not_handed_out_again_inside_a_region() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    prepared(&mut server, 20, false).await;
    register(&mut server, 'b', ENGINE).await;
    // The default, and the same again by another worker, whose process dies.
    let default = job(&mut server, 'b').await;
    let (number, params) = trial(&default);
    assert_eq!(number, 0);
    let same = vec![v1::FixedParams { params }];
    let request = v1::EnqueueRequest { request_id: fresh_id(), study: "s".to_owned(), trials: same, force: false };
    server.studies.enqueue(request).await.unwrap();
    let lost = job(&mut server, 'a').await;
    assert_eq!(trial(&lost).1, trial(&default).1);
    register(&mut server, 'a', ENGINE).await;
    // Now the machine of the first one goes down.
    let inventory = fleetune_core::Inventory { boot_id: "another".to_owned(), ..inventory() };
    let inventory_json = serde_json::to_string(&inventory).unwrap();
    register_as(&mut server, v1::RegisterRequest { inventory_json, ..registration('b') }).await;
    assert_eq!(regions(&mut server).await.len(), 1);
    let next = job(&mut server, 'a').await;
    assert_ne!(trial(&next).0, trial(&lost).0);
    let skipped = &server.trials("s").await[trial(&lost).0 as usize];
    assert_eq!(skipped.failure.as_ref().unwrap().kind(), v1::FailKind::UnsafeRegion);
}
