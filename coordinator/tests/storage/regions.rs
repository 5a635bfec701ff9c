//! What went down: incidents, the regions that they show, configurations in quarantine.

use fleetune_coordinator::storage::{Cause, Claimed, LeaseStatus, Prepared, StoreError, StudyExclusion, StudyRecord};
use fleetune_core::region::UnsafeRegion;
use fleetune_core::study::{Benchmark, StudyConfig};
use fleetune_core::{FailKind, LeaseToken, Objective, Params, StudyState, TrialNumber, Workload};
use serde_json::Value;

use super::harness::{
    Db, TTL, at, complete, config, fail_kind, failed, fresh, job, new_study, params, pin, registration, start_at,
    worker,
};

fn benchmark() -> Benchmark {
    Benchmark {
        model: "m".to_owned(),
        executor: "llama-cpp".to_owned(),
        workload: Workload::default(),
        objective: Objective::Decode,
        fixed: Params::from([("n_gpu_layers".to_owned(), 20.into())]),
        timeout_s: 300.0,
        allow_wsl_unsafe: false,
        confirm: false,
        prior: true,
        ignore_regions: false,
    }
}

/// A study of the machines and the model of [`pin`].
async fn pinned(db: &Db, name: &str, benchmark: Benchmark) -> StudyRecord {
    let study = db.store.create_study(new_study(name, StudyState::Preparing), at(0)).await.unwrap();
    let (_, _, lease) = job(db.claim(&study, "describer", 0).await);
    let config = StudyConfig { benchmark: Some(benchmark), ..config() };
    let prepared = Prepared { description: Value::Null, config, pin: pin(), waiting: Vec::new() };
    db.store.prepare(lease.token, prepared, Value::Null, at(0)).await.unwrap()
}

/// Loses a trial by `w` and then by `v`: its number, and the token of `w`.
async fn lose(db: &Db, study: &StudyRecord, seconds: i64) -> (TrialNumber, LeaseToken) {
    let (number, token) = db.leased(study, "w", seconds).await;
    job(db.claim(study, "v", seconds + 31).await);
    assert_eq!(db.claim(study, "u", seconds + 62).await, Claimed::Nothing);
    assert_eq!(fail_kind(&db.trial(study, number).await), Some(FailKind::WorkerLost));
    (number, token)
}

/// A leased trial whose parameter `x` is this.
async fn leased_at(db: &Db, study: &StudyRecord, x: f64, name: &str, seconds: i64) -> (TrialNumber, LeaseToken) {
    let study = db.reread(study).await;
    let mut start = start_at(study.id, study.next_turn, &[study.next_number]);
    start.entries = vec![fleetune_coordinator::storage::StartEntry { params: params(x), ..fresh(study.next_number) }];
    start.lease = Some((worker(name), TTL));
    let started = db.store.start(start, at(seconds)).await.unwrap().remove(0);
    (started.trial.number, started.lease.unwrap().token)
}

async fn crash(db: &Db, study: &StudyRecord, x: f64, message: &str, seconds: i64) {
    let (number, token) = leased_at(db, study, x, "w", seconds).await;
    let mut end = failed(FailKind::Crash);
    end.fail = Some((FailKind::Crash, message.to_owned()));
    db.store.finish(study.id, number, Some(token), end, Value::Null, at(seconds)).await.unwrap();
}

async fn regions(db: &Db) -> Vec<UnsafeRegion> {
    db.store.regions_of(&pin()).await.unwrap()
}

/// What the study excludes now.
async fn excluded(db: &Db, study: &StudyRecord) -> Vec<StudyExclusion> {
    let study = db.reread(study).await;
    study.exclusions_at(study.revision)
}

fn causes(exclusions: &[StudyExclusion]) -> Vec<Cause> {
    exclusions.iter().map(|exclusion| exclusion.cause).collect()
}

pub async fn a_configuration_that_lost_two_workers_is_in_quarantine(db: Db) {
    let study = db.study("a").await;
    let (number, _) = lose(&db, &study, 0).await;
    let [exclusion] = excluded(&db, &study).await.try_into().unwrap();
    assert_eq!(exclusion.cause, Cause::Trial(number.0));
    assert_eq!(exclusion.settings, Params::from([("x".to_owned(), 0.5.into())]));
    // Whoever knows of the end knows of it.
    assert_eq!(Some(exclusion.added), db.trial(&study, number).await.ended_revision);
    assert_eq!(db.reread(&study).await.exclusions_at(fleetune_core::Revision(exclusion.added.0 - 1)), []);
    assert_eq!(db.store.incidents(None).await.unwrap(), [], "its machines are not known");
}

pub async fn two_lost_workers_make_a_region_that_other_studies_heed(db: Db) {
    let study = pinned(&db, "a", benchmark()).await;
    let before = pinned(&db, "before", benchmark()).await;
    let ignoring = pinned(&db, "ignoring", Benchmark { ignore_regions: true, ..benchmark() }).await;
    let (number, _) = lose(&db, &study, 0).await;
    let [region] = regions(&db).await.try_into().unwrap();
    assert_eq!((region.settings["x"].clone(), region.settings["n_gpu_layers"].clone()), (0.5.into(), 20.into()));
    let evidence: Vec<_> =
        region.evidence.iter().map(|one| (one.worker.0.as_str(), one.trial, one.attempt.0)).collect();
    assert_eq!(evidence, [("w", number, 1), ("v", number, 2)]);
    let of_region = Cause::Region(region.id);
    assert_eq!(causes(&excluded(&db, &study).await), [Cause::Trial(number.0), of_region]);
    let after = pinned(&db, "after", benchmark()).await;
    assert_eq!(causes(&after.exclusions), [of_region]);
    assert_eq!(db.reread(&after).await, after);
    assert_eq!(excluded(&db, &before).await, []);
    let told = db.store.copy_regions(before.id).await.unwrap();
    assert_eq!((causes(&told.exclusions), told.revision.0), (vec![of_region], before.revision.0 + 1));
    assert_eq!(db.store.copy_regions(before.id).await.unwrap(), told, "nothing has changed since");
    assert_eq!(db.store.copy_regions(ignoring.id).await.unwrap().exclusions, []);
    let mut other = pin();
    "other".clone_into(&mut other.device_class);
    assert_eq!(db.store.regions_of(&other).await.unwrap(), []);
}

pub async fn a_machine_that_went_down_makes_a_region(db: Db) {
    let study = pinned(&db, "a", benchmark()).await;
    db.store.register(registration("w", "boot 1", &[]), at(0)).await.unwrap();
    let (number, _) = db.leased(&study, "w", 0).await;
    db.store.register(registration("w", "boot 2", &[]), at(5)).await.unwrap();
    assert_eq!(fail_kind(&db.trial(&study, number).await), Some(FailKind::HostCrash));
    let [region] = regions(&db).await.try_into().unwrap();
    let [incident] = region.evidence.try_into().unwrap();
    assert_eq!((incident.kind, incident.worker, incident.at), (FailKind::HostCrash, worker("w"), at(5)));
    assert_eq!(causes(&excluded(&db, &study).await), [Cause::Trial(number.0), Cause::Region(region.id)]);
}

pub async fn a_machine_that_went_down_takes_back_what_another_runs_now(db: Db) {
    let study = pinned(&db, "a", benchmark()).await;
    db.store.register(registration("w", "boot 1", &[]), at(0)).await.unwrap();
    let (number, _) = db.leased(&study, "w", 1).await;
    let (_, _, lease) = job(db.claim(&study, "v", 32).await);
    db.store.register(registration("w", "boot 2", &[]), at(40)).await.unwrap();
    assert_eq!(fail_kind(&db.trial(&study, number).await), Some(FailKind::HostCrash));
    let heartbeat = db.store.heartbeat(&worker("w"), &[lease.token], TTL, at(41)).await.unwrap();
    assert_eq!(heartbeat.leases, [(lease.token, LeaseStatus::Ended)]);
    let [region] = regions(&db).await.try_into().unwrap();
    assert_eq!(region.evidence[0].worker, worker("w"));
}

pub async fn crashes_that_are_alike_make_a_region(db: Db) {
    let study = pinned(&db, "a", benchmark()).await;
    crash(&db, &study, 0.5, "died by SIGSEGV at 0x1", 1).await;
    crash(&db, &study, 0.5, "the engine aborted: x", 2).await;
    crash(&db, &study, 0.25, "died by SIGSEGV at 0x2", 3).await;
    assert_eq!(regions(&db).await, [], "neither are they alike, nor is one beyond the other");
    crash(&db, &study, 0.5, "died by SIGSEGV at 0x3", 4).await;
    let [region] = regions(&db).await.try_into().unwrap();
    assert_eq!(region.evidence.len(), 3);
    assert_eq!(causes(&excluded(&db, &study).await), [Cause::Region(region.id)]);
}

pub async fn what_was_measured_beyond_it_refutes_an_incident(db: Db) {
    let study = pinned(&db, "a", benchmark()).await;
    crash(&db, &study, 0.5, "died", 1).await;
    let (number, token) = leased_at(&db, &study, 0.5, "w", 2).await;
    db.store.finish(study.id, number, Some(token), complete(1.0), Value::Null, at(2)).await.unwrap();
    crash(&db, &study, 0.5, "died", 3).await;
    assert_eq!(regions(&db).await, []);
    assert!(db.store.incidents(Some("d")).await.unwrap().iter().all(|incident| incident.refuted));
}

pub async fn a_late_result_ends_the_quarantine(db: Db) {
    let study = pinned(&db, "a", benchmark()).await;
    let (number, token) = lose(&db, &study, 0).await;
    assert_eq!(excluded(&db, &study).await.len(), 2);
    let late = db.store.finish(study.id, number, Some(token), complete(1.0), Value::Null, at(90)).await;
    assert!(late.is_err());
    assert_eq!(excluded(&db, &study).await, []);
    assert_eq!(regions(&db).await, []);
    assert_eq!(db.store.incidents(None).await.unwrap().len(), 1, "the other worker did not come back");
    let again = db.store.finish(study.id, number, Some(token), complete(1.0), Value::Null, at(91)).await;
    assert!(again.is_err());
    assert_eq!(db.reread(&study).await.exclusions.len(), 2, "it stays known what was excluded when");
}

pub async fn a_person_ends_the_quarantine(db: Db) {
    let study = db.study("a").await;
    lose(&db, &study, 0).await;
    let entry = |x: f64| fleetune_coordinator::storage::NewWaiting {
        fixed: Params::from([("x".to_owned(), x.into())]),
        origin: fleetune_coordinator::storage::Origin::Enqueued,
    };
    db.store.enqueue_out_of_quarantine(study.id, "other".to_owned(), vec![entry(0.25)], at(70)).await.unwrap();
    db.store.enqueue(study.id, "plain".to_owned(), vec![entry(0.5)], at(70)).await.unwrap();
    assert_eq!(excluded(&db, &study).await.len(), 1);
    let queued =
        db.store.enqueue_out_of_quarantine(study.id, "this".to_owned(), vec![entry(0.5)], at(71)).await.unwrap();
    assert_eq!(excluded(&db, &study).await, []);
    let [exclusion] = db.reread(&study).await.exclusions.try_into().unwrap();
    assert!(exclusion.removed < Some(queued[0].revision));
}

pub async fn a_region_that_is_deleted_leaves_nothing(db: Db) {
    let study = pinned(&db, "a", benchmark()).await;
    lose(&db, &study, 0).await;
    let [region] = regions(&db).await.try_into().unwrap();
    assert!(matches!(db.store.delete_region(region.id + 1).await, Err(StoreError::RegionNotFound(_))));
    assert_eq!(db.store.delete_region(region.id).await.unwrap(), region);
    assert_eq!(db.store.incidents(None).await.unwrap(), []);
    assert!(matches!(db.store.delete_region(region.id).await, Err(StoreError::RegionNotFound(_))));
    let told = db.store.copy_regions(study.id).await.unwrap();
    let left = told.exclusions_at(told.revision);
    assert!(matches!(causes(&left)[..], [Cause::Trial(_)]), "what this study saw itself stays: {left:?}");
}
