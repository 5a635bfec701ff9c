//! Leases: expiry, claims, release, heartbeats, the reaper.

use std::time::Duration;

use fleetune_coordinator::storage::{AttemptState, Claimed, JobKind, JobState, LeaseRules, LeaseStatus, StoreError};
use fleetune_core::{Attempt, FailKind, StudyState, TrialState};
use serde_json::{Value, json};

use super::harness::{Db, TTL, at, complete, fail_kind, failed, job, new_study, registration, rules, worker};

pub async fn a_lease_that_runs_is_not_handed_out(db: Db) {
    let study = db.study("a").await;
    db.leased(&study, "w", 0).await;
    db.start(&study, None, 0).await;
    assert_eq!(db.claim(&study, "v", 29).await, Claimed::Nothing);
    job(db.claim(&study, "v", 30).await);
    // A held trial has no lease that could end.
    assert_eq!(db.claim(&study, "v", 31).await, Claimed::Nothing);
}

pub async fn an_expired_lease_is_handed_out_again(db: Db) {
    let study = db.study("a").await;
    let (number, token) = db.leased(&study, "w", 0).await;
    let before = db.trial(&study, number).await;
    let (job, trial, lease) = job(db.claim(&study, "v", 40).await);
    let trial = trial.unwrap();
    assert_eq!((job.id, job.kind, job.attempt), (token.job, JobKind::Trial, Attempt(2)));
    assert_eq!((job.worker, lease.expires_at), (Some(worker("v")), at(70)));
    assert_eq!((trial.number, trial.state, trial.attempt), (number, TrialState::Running, Attempt(2)));
    assert_eq!((&trial.params, trial.turn), (&before.params, before.turn));
    assert_eq!((lease.token.job, lease.token.attempt), (token.job, Attempt(2)));
    assert_ne!(lease.token.secret, token.secret);
    let states: Vec<_> = db.store.attempts(token.job).await.unwrap().iter().map(|attempt| attempt.state).collect();
    assert_eq!(states, [AttemptState::Lost, AttemptState::Open]);
}

pub async fn a_new_attempt_begins_without_steps(db: Db) {
    let study = db.study("a").await;
    let (number, token) = db.leased(&study, "w", 0).await;
    db.store.report(study.id, number, Some(token), 0, 1.0, true, at(1)).await.unwrap();
    let (_, trial, lease) = job(db.claim(&study, "v", 60).await);
    assert!(trial.unwrap().steps.is_empty());
    assert!(!db.store.report(study.id, number, Some(lease.token), 0, 2.0, false, at(61)).await.unwrap());
    assert_eq!(db.trial(&study, number).await.steps, [(0, 2.0)]);
}

pub async fn an_expired_holder_may_finish_until_the_next_claim(db: Db) {
    let study = db.study("a").await;
    let (number, token) = db.leased(&study, "w", 0).await;
    db.store.report(study.id, number, Some(token), 0, 1.0, false, at(100)).await.unwrap();
    db.store.finish(study.id, number, Some(token), complete(1.0), Value::Null, at(1000)).await.unwrap();
    assert_eq!(db.claim(&study, "v", 1001).await, Claimed::Nothing);
}

pub async fn a_stale_attempt_is_refused_and_its_data_kept(db: Db) {
    let study = db.study("a").await;
    let (number, stale) = db.leased(&study, "w", 0).await;
    let (_, _, lease) = job(db.claim(&study, "v", 60).await);
    let error = db.store.report(study.id, number, Some(stale), 0, 1.0, false, at(61)).await.unwrap_err();
    assert!(matches!(error, StoreError::LeaseLost { held: Attempt(1), current: Attempt(2), .. }), "{error}");
    for detail in [json!({"samples": [1.0]}), json!("a second one is not kept")] {
        let error = db.store.finish(study.id, number, Some(stale), complete(1.0), detail, at(62)).await.unwrap_err();
        assert!(matches!(error, StoreError::LeaseLost { held: Attempt(1), current: Attempt(2), .. }), "{error}");
    }
    let trial = db.trial(&study, number).await;
    assert_eq!((trial.state, trial.steps.len()), (TrialState::Running, 0));
    assert_eq!(db.store.attempts(stale.job).await.unwrap()[0].detail, json!({"samples": [1.0]}));
    db.store.finish(study.id, number, Some(lease.token), complete(2.0), Value::Null, at(63)).await.unwrap();
    let error = db.store.finish(study.id, number, Some(stale), complete(1.0), Value::Null, at(64)).await.unwrap_err();
    assert!(matches!(error, StoreError::LeaseLost { .. }), "{error}");
}

pub async fn a_late_result_that_equals_the_stored_one_is_kept_too(db: Db) {
    let study = db.study("a").await;
    let (number, stale) = db.leased(&study, "w", 0).await;
    let (_, _, lease) = job(db.claim(&study, "v", 60).await);
    for (token, who) in [(lease.token, "v"), (stale, "w"), (stale, "w again"), (lease.token, "v again")] {
        let finish = db.store.finish(study.id, number, Some(token), failed(FailKind::Oom), json!(who), at(61));
        assert_eq!(finish.await.unwrap().attempt, Attempt(2));
    }
    let attempts = db.store.attempts(stale.job).await.unwrap();
    let kept: Vec<_> = attempts.into_iter().map(|attempt| (attempt.state, attempt.detail)).collect();
    assert_eq!(kept, [(AttemptState::Lost, json!("w")), (AttemptState::Finished, json!("v"))]);
}

pub async fn a_repeated_claim_gives_the_same_lease(db: Db) {
    let study = db.study("a").await;
    db.leased(&study, "w", 0).await;
    let claim = async |request, now| db.store.claim(study.id, &worker("v"), request, rules(), at(now)).await.unwrap();
    let (first, trial, lease) = job(claim("r", 40).await);
    assert_eq!(job(claim("r", 41).await), (first, trial, lease.clone()));
    assert_eq!(claim("s", 41).await, Claimed::Nothing);
    // What the request got is gone: it does not get anything else.
    db.store.release(lease.token, at(42)).await.unwrap();
    assert_eq!(claim("r", 43).await, Claimed::Nothing);
    assert_eq!(job(claim("s", 44).await).2.token.attempt, Attempt(3));
}

pub async fn what_a_claim_gave_is_told_while_the_lease_holds(db: Db) {
    let study = db.study("a").await;
    let (number, token) = db.leased(&study, "w", 0).await;
    let claim = |request| {
        let (store, v) = (db.store.clone(), worker("v"));
        async move { store.claim(study.id, &v, request, rules(), at(40)).await.unwrap() }
    };
    assert_eq!(db.store.claimed_by("c").await.unwrap(), None);
    let (_, trial, lease) = job(claim("c").await);
    let told = db.store.claimed_by("c").await.unwrap().unwrap();
    assert_eq!((Some(told.trial), told.lease), (trial, Some(lease.clone())));
    assert_eq!(claim("d").await, Claimed::Nothing);
    assert_eq!(db.store.claimed_by("d").await.unwrap(), None);
    db.store.finish(study.id, number, Some(lease.token), complete(1.0), Value::Null, at(41)).await.unwrap();
    let told = db.store.claimed_by("c").await.unwrap().unwrap();
    assert_eq!((told.trial.state, told.trial.job, told.lease), (TrialState::Complete, Some(token.job), None));
}

pub async fn nothing_is_handed_out_within_a_gap_in_service(db: Db) {
    let study = db.study("a").await;
    let (_, token) = db.leased(&study, "w", 0).await;
    let gap = LeaseRules { not_before: at(100), ..rules() };
    let claim =
        async |now| db.store.claim(study.id, &worker("v"), &format!("claim at {now}"), gap, at(now)).await.unwrap();
    assert_eq!(claim(29).await, Claimed::Nothing);
    assert_eq!(claim(30).await, Claimed::NotBefore(at(100)));
    assert_eq!(claim(99).await, Claimed::NotBefore(at(100)));
    // A lease that was ended needs no patience.
    db.store.release(token, at(99)).await.unwrap();
    job(claim(99).await);
}

pub async fn a_trial_lost_by_two_workers_ends_as_worker_lost(db: Db) {
    let study = db.study("a").await;
    let (number, token) = db.leased(&study, "w", 0).await;
    let (next, _) = db.leased(&study, "w", 50).await;
    job(db.claim(&study, "v", 40).await);
    // The first is not handed out a third time; the search goes on with the next one.
    let (_, trial, _) = job(db.claim(&study, "u", 90).await);
    assert_eq!(trial.unwrap().number, next);
    let ended = db.trial(&study, number).await;
    assert_eq!(fail_kind(&ended), Some(FailKind::WorkerLost));
    assert_eq!(db.store.job(token.job).await.unwrap().state, JobState::Done);
    assert_eq!(db.reread(&study).await.revision, db.trial(&study, next).await.revision);
}

pub async fn a_trial_lost_too_often_ends_as_worker_lost(db: Db) {
    let study = db.study("a").await;
    let (number, _) = db.leased(&study, "w", 0).await;
    for (attempt, now) in [(2, 40), (3, 80)] {
        assert_eq!(job(db.claim(&study, "w", now).await).0.attempt, Attempt(attempt));
    }
    assert_eq!(db.claim(&study, "w", 120).await, Claimed::Nothing);
    assert_eq!(fail_kind(&db.trial(&study, number).await), Some(FailKind::WorkerLost));
}

pub async fn a_released_lease_is_claimable_at_once_and_does_not_count(db: Db) {
    let study = db.study("a").await;
    let (number, mut token) = db.leased(&study, "w", 0).await;
    for round in 1..=5 {
        db.store.release(token, at(round)).await.unwrap();
        let name = if round % 2 == 0 { "w" } else { "v" };
        token = job(db.claim(&study, name, round).await).2.token;
    }
    let attempts = db.store.attempts(token.job).await.unwrap();
    assert!(attempts[..5].iter().all(|attempt| attempt.state == AttemptState::Released));
    db.store.finish(study.id, number, Some(token), complete(1.0), Value::Null, at(9)).await.unwrap();
}

pub async fn releasing_can_be_repeated(db: Db) {
    let study = db.study("a").await;
    let (number, token) = db.leased(&study, "w", 0).await;
    for now in [1, 2] {
        db.store.release(token, at(now)).await.unwrap();
    }
    let error = db.store.finish(study.id, number, Some(token), complete(1.0), json!(1), at(3)).await.unwrap_err();
    assert!(matches!(error, StoreError::LeaseLost { .. }), "{error}");
    let (_, _, lease) = job(db.claim(&study, "v", 3).await);
    db.store.release(token, at(4)).await.unwrap();
    assert_eq!(db.claim(&study, "u", 4).await, Claimed::Nothing);
    db.store.finish(study.id, number, Some(lease.token), complete(1.0), Value::Null, at(5)).await.unwrap();
    db.store.release(lease.token, at(6)).await.unwrap();
}

pub async fn heartbeats_renew_and_take_no_revision(db: Db) {
    let study = db.study("a").await;
    db.store.register(registration("w", "b", &[]), at(0)).await.unwrap();
    let (_, token) = db.leased(&study, "w", 0).await;
    let before = db.reread(&study).await;
    let heartbeat = db.store.heartbeat(&worker("w"), &[token], TTL, at(20)).await.unwrap();
    assert_eq!(heartbeat.leases, [(token, LeaseStatus::Renewed(at(50)))]);
    assert_eq!(db.reread(&study).await, before);
    assert_eq!(db.store.worker(&worker("w")).await.unwrap().last_seen, at(20));
    assert_eq!(db.claim(&study, "v", 49).await, Claimed::Nothing);
    // A late one does not shorten, and one after expiry still counts while nobody claimed.
    db.store.heartbeat(&worker("w"), &[token], Duration::from_secs(1), at(21)).await.unwrap();
    assert_eq!(db.claim(&study, "v", 49).await, Claimed::Nothing);
    db.store.heartbeat(&worker("w"), &[token], TTL, at(60)).await.unwrap();
    assert_eq!(db.claim(&study, "v", 61).await, Claimed::Nothing);
    assert_eq!(db.store.worker(&worker("w")).await.unwrap().last_seen, at(60));
}

pub async fn heartbeats_tell_of_lost_and_ended_leases(db: Db) {
    let study = db.study("a").await;
    db.store.register(registration("w", "b", &[]), at(0)).await.unwrap();
    let (_, lost) = db.leased(&study, "w", 0).await;
    job(db.claim(&study, "v", 40).await);
    let (_, released) = db.leased(&study, "w", 50).await;
    db.store.release(released, at(50)).await.unwrap();
    let (number, ended) = db.leased(&study, "w", 50).await;
    db.store.cancel_trial(study.id, number, at(51)).await.unwrap();
    let (_, alive) = db.leased(&study, "w", 50).await;
    let tokens = [alive, ended, released, lost];
    let heartbeat = db.store.heartbeat(&worker("w"), &tokens, TTL, at(52)).await.unwrap();
    let expected = [LeaseStatus::Renewed(at(82)), LeaseStatus::Ended, LeaseStatus::Lost, LeaseStatus::Lost];
    assert_eq!(heartbeat.leases, tokens.into_iter().zip(expected).collect::<Vec<_>>());
}

pub async fn reports_renew_the_lease(db: Db) {
    let study = db.study("a").await;
    let (number, token) = db.leased(&study, "w", 0).await;
    db.store.report(study.id, number, Some(token), 0, 1.0, false, at(25)).await.unwrap();
    assert_eq!(db.claim(&study, "v", 54).await, Claimed::Nothing);
    job(db.claim(&study, "v", 55).await);
}

pub async fn paused_studies_hand_out_running_trials(db: Db) {
    let study = db.study("a").await;
    let (number, _) = db.leased(&study, "w", 0).await;
    db.set_state(&study, StudyState::Paused, 1).await;
    assert_eq!(job(db.claim(&study, "v", 40).await).1.unwrap().number, number);
}

pub async fn cancelled_studies_hand_out_nothing(db: Db) {
    let study = db.study("a").await;
    db.leased(&study, "w", 0).await;
    db.set_state(&study, StudyState::Cancelled, 1).await;
    assert_eq!(db.claim(&study, "v", 40).await, Claimed::Nothing);
}

pub async fn the_reaper_ends_trials_at_their_limit(db: Db) {
    let study = db.study("a").await;
    let (number, _) = db.leased(&study, "w", 0).await;
    let (young, _) = db.leased(&study, "w", 0).await;
    job(db.claim(&study, "v", 40).await);
    // Its second lease ran out at 70: one TTL later it is ended, and the one with a single loss is not.
    assert!(db.store.reap(rules(), at(99)).await.unwrap().is_empty());
    let gap = LeaseRules { not_before: at(200), ..rules() };
    assert!(db.store.reap(gap, at(100)).await.unwrap().is_empty());
    assert_eq!(db.store.reap(rules(), at(100)).await.unwrap(), [(study.id, number)]);
    assert!(db.store.reap(rules(), at(101)).await.unwrap().is_empty());
    assert_eq!(fail_kind(&db.trial(&study, number).await), Some(FailKind::WorkerLost));
    assert_eq!(db.trial(&study, young).await.state, TrialState::Running);
}

pub async fn a_describe_job_is_handed_out_again(db: Db) {
    let study = db.store.create_study(new_study("p", StudyState::Preparing), at(0)).await.unwrap();
    let (first, _, _) = job(db.claim(&study, "w", 0).await);
    assert_eq!(db.claim(&study, "v", 10).await, Claimed::Nothing);
    let gap = LeaseRules { not_before: at(100), ..rules() };
    assert_eq!(db.store.claim(study.id, &worker("v"), "r", gap, at(30)).await.unwrap(), Claimed::NotBefore(at(100)));
    for (attempt, now) in [(2, 30), (3, 60), (4, 90), (5, 120)] {
        let (again, _, lease) = job(db.claim(&study, &format!("v{now}"), now).await);
        assert_eq!((again.id, again.attempt), (first.id, Attempt(attempt)));
        assert_eq!(lease.expires_at, at(now + 30));
    }
}

pub async fn the_oldest_trial_is_handed_out_first(db: Db) {
    let study = db.study("a").await;
    let mut numbers = Vec::new();
    for _trial in 0..3 {
        numbers.push(db.leased(&study, "w", 0).await.0);
    }
    for number in numbers {
        assert_eq!(job(db.claim(&study, "v", 40).await).1.unwrap().number, number);
    }
}
