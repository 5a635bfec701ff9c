//! Workers that register, come back after a crash or a reboot, drain.

use fleetune_coordinator::storage::{AttemptState, Claimed, JobKind, LeaseStatus, NewToken, Registration, StoreError};
use fleetune_core::{Attempt, FailKind, Role, StudyState, TrialState, WorkerId};
use serde_json::Value;

use super::harness::{Db, TTL, at, complete, fail_kind, job, new_study, registration, worker};

pub async fn a_worker_that_returns_keeps_its_first_registration(db: Db) {
    let first = db.store.register(registration("w", "boot", &[]), at(1)).await.unwrap();
    assert_eq!((first.registered_at, first.last_seen, first.draining), (at(1), at(1), false));
    assert_eq!(db.store.worker(&worker("w")).await.unwrap(), first);
    let mut changed = registration("w", "boot", &[]);
    changed.version = "0.2.0".into();
    let again = db.store.register(changed, at(2)).await.unwrap();
    assert_eq!((again.registered_at, again.last_seen, again.version.as_str()), (at(1), at(2), "0.2.0"));
    db.store.register(registration("a", "boot", &[]), at(3)).await.unwrap();
    let all = db.store.workers(&WorkerId(String::new()), 10).await.unwrap();
    assert_eq!(all.iter().map(|worker| worker.id.0.as_str()).collect::<Vec<_>>(), ["a", "w"]);
    assert_eq!(db.store.workers(&worker("a"), 10).await.unwrap(), [again]);
}

pub async fn leases_that_are_not_named_end_at_once(db: Db) {
    let study = db.study("a").await;
    db.store.register(registration("w", "boot", &[]), at(0)).await.unwrap();
    let (kept, kept_token) = db.leased(&study, "w", 0).await;
    let (lost, lost_token) = db.leased(&study, "w", 0).await;
    let (others, _) = db.leased(&study, "v", 0).await;
    db.store.register(registration("w", "boot", &[kept_token]), at(5)).await.unwrap();
    let (_, trial, _) = job(db.claim(&study, "w", 5).await);
    assert_eq!(trial.unwrap().number, lost);
    assert_eq!(db.claim(&study, "w", 5).await, Claimed::Nothing);
    assert_eq!(db.store.attempts(lost_token.job).await.unwrap()[0].state, AttemptState::Lost);
    for number in [kept, lost, others] {
        assert_eq!(db.trial(&study, number).await.state, TrialState::Running);
    }
    db.store.finish(study.id, kept, Some(kept_token), complete(1.0), Value::Null, at(6)).await.unwrap();
    // A process that dies again and again uses up the attempts all the same.
    db.store.register(registration("w", "boot", &[]), at(7)).await.unwrap();
    job(db.claim(&study, "w", 7).await);
    db.store.register(registration("w", "boot", &[]), at(8)).await.unwrap();
    assert_eq!(db.claim(&study, "w", 8).await, Claimed::Nothing);
    assert_eq!(fail_kind(&db.trial(&study, lost).await), Some(FailKind::WorkerLost));
}

pub async fn a_rebooted_host_ends_its_trials_as_host_crash(db: Db) {
    let study = db.study("a").await;
    let other = db.study("b").await;
    db.store.register(registration("w", "boot 1", &[]), at(0)).await.unwrap();
    let (first, token) = db.leased(&study, "w", 0).await;
    let (second, _) = db.leased(&other, "w", 0).await;
    let (others, _) = db.leased(&study, "v", 0).await;
    db.store.register(registration("w", "boot 2", &[]), at(5)).await.unwrap();
    assert_eq!(fail_kind(&db.trial(&study, first).await), Some(FailKind::HostCrash));
    assert_eq!(fail_kind(&db.trial(&other, second).await), Some(FailKind::HostCrash));
    assert_eq!(db.trial(&study, others).await.state, TrialState::Running);
    assert_eq!(db.reread(&study).await.revision, db.trial(&study, first).await.revision);
    let heartbeat = db.store.heartbeat(&worker("w"), &[token], TTL, at(6)).await.unwrap();
    assert_eq!(heartbeat.leases, [(token, LeaseStatus::Ended)]);
    // The boot id it has now is the one that counts from here on.
    let (third, _) = db.leased(&study, "w", 7).await;
    db.store.register(registration("w", "boot 2", &[]), at(8)).await.unwrap();
    assert_eq!(db.trial(&study, third).await.state, TrialState::Running);
}

pub async fn a_rebooted_host_keeps_the_results_it_names(db: Db) {
    let study = db.study("a").await;
    db.store.register(registration("w", "boot 1", &[]), at(0)).await.unwrap();
    let (spooled, token) = db.leased(&study, "w", 0).await;
    db.store.register(registration("w", "boot 2", &[token]), at(5)).await.unwrap();
    db.store.finish(study.id, spooled, Some(token), complete(1.0), Value::Null, at(6)).await.unwrap();
}

pub async fn a_rebooted_host_ends_lost_trials_too(db: Db) {
    let study = db.study("a").await;
    db.store.register(registration("w", "boot 1", &[]), at(0)).await.unwrap();
    let (ended, _) = db.leased(&study, "w", 0).await;
    let (claimed, _) = db.leased(&study, "w", 0).await;
    // Lost by the death of the process, and not claimed yet; then the machine goes down as well.
    db.store.register(registration("w", "boot 1", &[]), at(1)).await.unwrap();
    let (_, trial, _) = job(db.claim(&study, "v", 2).await);
    assert_eq!(trial.unwrap().number, ended);
    db.store.register(registration("w", "boot 2", &[]), at(3)).await.unwrap();
    assert_eq!(db.trial(&study, ended).await.state, TrialState::Running);
    assert_eq!(fail_kind(&db.trial(&study, claimed).await), Some(FailKind::HostCrash));
}

pub async fn a_released_trial_survives_a_reboot(db: Db) {
    let study = db.study("a").await;
    db.store.register(registration("w", "boot 1", &[]), at(0)).await.unwrap();
    let (number, token) = db.leased(&study, "w", 0).await;
    db.store.release(token, at(1)).await.unwrap();
    db.store.register(registration("w", "boot 2", &[]), at(2)).await.unwrap();
    assert_eq!(job(db.claim(&study, "w", 2).await).1.unwrap().number, number);
}

pub async fn without_boot_ids_nobody_crashed(db: Db) {
    let study = db.study("a").await;
    for (boots, now) in [(["", "b"], 0), (["b", ""], 10)] {
        db.store.register(registration("w", boots[0], &[]), at(now)).await.unwrap();
        let (number, _) = db.leased(&study, "w", now).await;
        db.store.register(registration("w", boots[1], &[]), at(now + 1)).await.unwrap();
        assert_eq!(db.trial(&study, number).await.state, TrialState::Running, "{boots:?}");
    }
}

pub async fn draining_is_told_by_heartbeat(db: Db) {
    db.store.register(registration("w", "b", &[]), at(0)).await.unwrap();
    for draining in [true, true, false] {
        assert_eq!(db.store.drain_worker(&worker("w"), draining).await.unwrap().draining, draining);
        let heartbeat = db.store.heartbeat(&worker("w"), &[], TTL, at(1)).await.unwrap();
        assert_eq!(heartbeat.draining, draining);
    }
    db.store.drain_worker(&worker("w"), true).await.unwrap();
    assert!(db.store.register(registration("w", "b", &[]), at(2)).await.unwrap().draining);
}

pub async fn an_unknown_worker_is_told_so(db: Db) {
    let unknown = worker("nobody");
    assert!(matches!(db.store.worker(&unknown).await, Err(StoreError::WorkerNotFound(_))));
    assert!(matches!(db.store.heartbeat(&unknown, &[], TTL, at(1)).await, Err(StoreError::WorkerNotFound(_))));
    assert!(matches!(db.store.drain_worker(&unknown, true).await, Err(StoreError::WorkerNotFound(_))));
}

pub async fn what_a_worker_holds_is_told_until_it_is_lost_or_over(db: Db) {
    let held = async |name: &str| {
        let jobs = db.store.held_by(&worker(name)).await.unwrap();
        jobs.into_iter().map(|job| (job.study, job.kind, job.trial, job.attempt, job.expires_at)).collect::<Vec<_>>()
    };
    let study = db.study("a").await;
    let preparing = db.store.create_study(new_study("b", StudyState::Preparing), at(0)).await.unwrap();
    let (first, token) = db.leased(&study, "w", 0).await;
    let (second, _) = db.leased(&study, "w", 1).await;
    job(db.claim(&preparing, "w", 2).await);
    let mine = [
        ("a".to_owned(), JobKind::Trial, Some(first), Attempt(1), at(30)),
        ("a".to_owned(), JobKind::Trial, Some(second), Attempt(1), at(31)),
        ("b".to_owned(), JobKind::Describe, None, Attempt(1), at(32)),
    ];
    assert_eq!(held("w").await, mine);
    assert_eq!(held("v").await, []);
    db.store.release(token, at(3)).await.unwrap();
    assert_eq!(held("w").await, mine[1..]);
    job(db.claim(&study, "v", 4).await);
    assert_eq!(held("v").await, [("a".to_owned(), JobKind::Trial, Some(first), Attempt(2), at(34))]);
    db.set_state(&study, StudyState::Cancelled, 5).await;
    assert_eq!(held("w").await, mine[2..]);
    assert_eq!(held("v").await, []);
}

pub async fn a_worker_keeps_its_token_while_that_is_in_force(db: Db) {
    let token = async |name: &str, byte: u8| {
        let new = NewToken {
            name: name.to_owned(),
            role: Role::Worker,
            hash: [byte; 32],
            created_by: String::new(),
            expires_at: None,
        };
        db.store.create_token(new, at(0)).await.unwrap().id
    };
    let (own, other) = (token("own", 1).await, token("other", 2).await);
    let with = |token| Registration { token, ..registration("w", "boot", &[]) };
    assert_eq!(db.store.register(with(Some(own)), at(1)).await.unwrap().token, Some(own));
    let refused = db.store.register(with(Some(other)), at(2)).await.unwrap_err();
    assert!(matches!(&refused, StoreError::AnotherToken(name) if name == "the w"), "{refused}");
    assert_eq!(db.store.worker(&worker("w")).await.unwrap().last_seen, at(1));
    db.store.register(with(Some(own)), at(3)).await.unwrap();
    db.store.revoke_token("own", at(4)).await.unwrap();
    assert_eq!(db.store.register(with(Some(other)), at(5)).await.unwrap().token, Some(other));
    // Who needs no token, or an admin's, may do everything.
    assert_eq!(db.store.register(with(None), at(6)).await.unwrap().token, None);
}
