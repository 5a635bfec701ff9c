//! Steps of a study that one coordinator knows: starts and ends in one write, or nothing.

use std::collections::BTreeSet;

use fleetune_coordinator::storage::{Advance, Advanced, StartTrials, Started, Step, StudyRecord, TrialRecord};
use fleetune_core::{FailKind, Revision, StudyState, TrialNumber, Turn};
use serde_json::json;

use super::harness::{Db, TTL, at, complete, failed, start_at, worker};

/// Starts of one trial each, by requests of their own, from the first number and turn on.
fn starts(study: &StudyRecord, requests: &[&str]) -> Vec<StartTrials> {
    (0..)
        .zip(requests)
        .map(|(offset, request)| StartTrials {
            request_id: (*request).to_owned(),
            seen: study.revision,
            ..start_at(study.id, Turn(study.next_turn.0 + offset), &[TrialNumber(study.next_number.0 + offset)])
        })
        .collect()
}

fn trials(started: &[Vec<Started>]) -> Vec<TrialRecord> {
    started.iter().flatten().map(|started| started.trial.clone()).collect()
}

#[track_caller]
fn done(step: Step) -> Advanced {
    match step {
        Step::Done(advanced) => advanced,
        Step::Behind | Step::Again(_) => panic!("expected a step: {step:?}"),
    }
}

pub async fn starts_and_ends_of_one_step_are_stored_as_told(db: Db) {
    let study = db.study("a").await;
    let ids = ["a", "b\0c", "b\0d"];
    // Postgres stores no NUL in a text.
    let ids = if db.is_sqlite() { ids } else { ["a", "b", "c"] };
    let advance = Advance { study: study.id, at: study.revision, ends: Vec::new(), starts: starts(&study, &ids) };
    let advanced = done(db.store.advance(advance, at(1)).await.unwrap());
    let started = trials(&advanced.started);
    assert_eq!(started.iter().map(|trial| trial.number.0).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(started.is_sorted_by_key(|trial| trial.id) && started.is_sorted_by_key(|trial| trial.revision));
    for trial in &started {
        assert_eq!(&db.trial(&study, trial.number).await, trial);
    }

    let study = db.reread(&study).await;
    assert_eq!((study.revision, study.next_turn, study.next_number), (advanced.revision, Turn(3), TrialNumber(3)));
    let mut failed = failed(FailKind::Oom);
    failed.fail = Some((FailKind::Oom, "no \"memory\" left, ü".to_owned()));
    failed.seconds = 0.1;
    let mut odd = complete(-0.0);
    odd.constraints = vec![f64::NAN, f64::INFINITY];
    let ends = vec![(started[2].clone(), failed), (started[0].clone(), odd)];
    let advance = Advance { study: study.id, at: study.revision, ends, starts: starts(&study, &["e"]) };
    let advanced = done(db.store.advance(advance, at(2)).await.unwrap());
    for trial in advanced.ended.iter().chain(&trials(&advanced.started)) {
        assert_eq!(format!("{:?}", db.trial(&study, trial.number).await), format!("{trial:?}"));
    }
    assert_eq!(advanced.ended[1].values[0].to_bits(), (-0.0_f64).to_bits());
    assert_eq!(db.reread(&study).await.revision, advanced.revision);
}

pub async fn a_step_from_a_revision_that_is_gone_changes_nothing(db: Db) {
    let study = db.study("a").await;
    let held = db.start(&study, None, 1).await.trial;
    let known = db.reread(&study).await;
    // Another ends the trial: what the first knows of it is old.
    db.store.finish(study.id, held.number, None, complete(1.0), json!(null), at(2)).await.unwrap();
    let before = db.reread(&study).await;
    let ends = vec![(held.clone(), complete(2.0))];
    let advance = Advance { study: study.id, at: known.revision, ends, starts: starts(&known, &["x"]) };
    assert_eq!(db.store.advance(advance, at(3)).await.unwrap(), Step::Behind);
    assert_eq!(db.reread(&study).await, before);
    assert_eq!(db.trial(&study, held.number).await.values, [1.0]);

    // The revision alone is not enough: a paused study starts nothing.
    let paused = db.set_state(&study, StudyState::Paused, 4).await;
    let advance = Advance { study: study.id, at: paused.revision, ends: Vec::new(), starts: starts(&paused, &["x"]) };
    assert_eq!(db.store.advance(advance, at(5)).await.unwrap(), Step::Behind);
    let advance = Advance { study: study.id, at: Revision(0), ends: Vec::new(), starts: Vec::new() };
    assert_eq!(db.store.advance(advance, at(5)).await.unwrap(), Step::Behind);
}

pub async fn a_request_that_started_trials_starts_no_more_in_a_step(db: Db) {
    let study = db.study("a").await;
    let first = Advance { study: study.id, at: study.revision, ends: Vec::new(), starts: starts(&study, &["a", "b"]) };
    let first = done(db.store.advance(first, at(1)).await.unwrap());
    let study = db.reread(&study).await;
    let again = Advance { study: study.id, at: study.revision, ends: Vec::new(), starts: starts(&study, &["c", "b"]) };
    let again = db.store.advance(again, at(2)).await.unwrap();
    assert_eq!(again, Step::Again(BTreeSet::from(["b".to_owned()])));
    assert_eq!(db.reread(&study).await, study);
    assert_eq!(db.store.started_by(study.id, "b").await.unwrap(), first.started[1]);
}

pub async fn a_step_starts_queue_entries_and_leases_beside_fresh_trials(db: Db) {
    let study = db.study("a").await;
    let queued = db.enqueue(&study, "queue", 1).await.remove(0);
    let study = db.reread(&study).await;
    let mut planned = starts(&study, &["fresh", "leased", "queued"]);
    planned[1].lease = Some((worker("w"), TTL));
    planned[2].entries[0].number = queued.number;
    planned[2].entries[0].queued = true;
    let advance = Advance { study: study.id, at: study.revision, ends: Vec::new(), starts: planned };
    let advanced = done(db.store.advance(advance, at(1)).await.unwrap());
    for trial in trials(&advanced.started) {
        assert_eq!(db.trial(&study, trial.number).await, trial);
    }
    let leased = &advanced.started[1][0];
    assert!(leased.trial.job.is_some() && leased.lease.is_some());
    assert_eq!(db.store.started_by(study.id, "leased").await.unwrap(), advanced.started[1]);
    assert_eq!(advanced.started[2][0].trial.fixed, queued.fixed);
}
