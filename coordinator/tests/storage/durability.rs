//! What outlives a restart, what others see and when, and many writers at once.

use std::collections::BTreeMap;

use fleetune_coordinator::storage::{AttributeKind, AttributeOwner, Store, TrialFilter};
use fleetune_core::{Revision, StudyId, TrialNumber};
use serde_json::Value;

use super::harness::{Db, at, complete, registration, worker};

/// Everything there is in a study, as text.
async fn everything(store: &Store, study: StudyId) -> String {
    let trials = store.trials(study, &TrialFilter { limit: 10_000, ..Default::default() }).await.unwrap();
    let jobs = store.jobs(study).await.unwrap();
    let mut attempts = Vec::new();
    for job in &jobs {
        attempts.push(store.attempts(job.id).await.unwrap());
    }
    format!("{:?} {trials:?} {jobs:?} {attempts:?}", store.study(study).await.unwrap())
}

pub async fn a_restart_finds_everything(db: Db) {
    let study = db.study("a").await;
    db.store.register(registration("w", "b", &[]), at(0)).await.unwrap();
    let (number, token) = db.leased(&study, "w", 1).await;
    db.enqueue(&study, "q", 2).await;
    db.store.report(study.id, number, Some(token), 0, f64::NAN, false, at(2)).await.unwrap();
    let owner = AttributeOwner::Study(study.id);
    db.store.set_attribute(owner, AttributeKind::System, "k".into(), "v".into()).await.unwrap();
    let before = everything(&db.store, study.id).await;
    db.store.close().await;
    let again = db.second().await;
    assert_eq!(everything(&again, study.id).await, before);
    assert_eq!(again.worker(&worker("w")).await.unwrap().inventory.boot_id, "b");
    let attributes = again.attributes(owner, AttributeKind::System).await.unwrap();
    assert_eq!(attributes, BTreeMap::from([("k".to_owned(), "v".to_owned())]));
    again.finish(study.id, number, Some(token), complete(1.0), Value::Null, at(3)).await.unwrap();
}

pub async fn another_store_catches_up_by_revision(db: Db) {
    let study = db.study("a").await;
    let second = db.second().await;
    let mut seen = Revision(0);
    let mut mirror = BTreeMap::new();
    for round in 0..6 {
        let number = db.start(&study, None, round).await.trial.number;
        db.store.report(study.id, number, None, 0, 1.0, false, at(round)).await.unwrap();
        if round % 2 == 0 {
            second.finish(study.id, number, None, complete(1.0), Value::Null, at(round)).await.unwrap();
        }
        loop {
            let page = second.trials_since(study.id, seen, 1).await.unwrap();
            let Some(trial) = page.into_iter().next() else { break };
            assert!(trial.revision > seen);
            seen = trial.revision;
            mirror.insert(trial.number, trial);
        }
    }
    let all = db.store.trials(study.id, &TrialFilter { limit: 100, ..Default::default() }).await.unwrap();
    assert_eq!(mirror.into_values().collect::<Vec<_>>(), all);
    assert_eq!(seen, db.reread(&study).await.revision);
}

pub async fn a_caller_that_goes_away_does_not_stop_its_write(db: Db) {
    let study = db.study("a").await;
    let number = db.start(&study, None, 0).await.trial.number;
    {
        let finish = db.store.finish(study.id, number, None, complete(1.0), Value::Null, at(1));
        tokio::pin!(finish);
        // Polled once: it waits in its lane now.
        assert!(futures::poll!(&mut finish).is_pending());
    }
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !db.trial(&study, number).await.state.is_ended() {
        assert!(std::time::Instant::now() < deadline, "the write was stopped");
        tokio::task::yield_now().await;
    }
}

/// Where the writer that is killed writes; it runs only with this set.
const WRITER: &str = "FLEETUNE_TEST_WRITER";

pub async fn what_was_acknowledged_survives_a_kill(db: Db) {
    use std::io::BufRead;
    let study = db.study("a").await;
    let mut writer = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "storage::durability::write_until_killed", "--nocapture"])
        .env(WRITER, &db.url)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufReader::new(writer.stdout.take().unwrap()).lines();
    let mut acknowledged = Vec::new();
    for line in lines.map_while(Result::ok) {
        let Some((_, number)) = line.split_once("acknowledged ") else { continue };
        acknowledged.push(number.parse::<i64>().unwrap());
        if acknowledged.len() == 60 {
            // In the midst of the next transactions.
            writer.kill().unwrap();
        }
    }
    writer.wait().unwrap();
    assert!(acknowledged.len() >= 60, "the writer ended early");
    let study = db.reread(&study).await;
    let trials = db.store.trials(study.id, &TrialFilter { limit: 10_000, ..Default::default() }).await.unwrap();
    assert!(trials.iter().zip(0..).all(|(trial, number)| trial.number.0 == number), "numbers have a gap");
    assert_eq!(study.next_number.0 as usize, trials.len());
    for number in acknowledged {
        let trial = &trials[usize::try_from(number).unwrap()];
        assert!(trial.state.is_ended() && trial.values == [number as f64], "{number} was acknowledged: {trial:?}");
    }
}

/// The process that is killed: starts and ends trials, 8 at a time, and says which ends were acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn write_until_killed() {
    let Ok(url) = std::env::var(WRITER) else { return };
    let store = Store::open(&url).await.unwrap();
    let study = store.study_by_name("a").await.unwrap().id;
    let tasks = (0..8).map(|task| {
        let store = store.clone();
        tokio::spawn(async move {
            for round in 0..100_000 {
                let entries = vec![super::harness::waiting(0)];
                let queued = store.enqueue(study, format!("{task} {round}"), entries, at(1)).await.unwrap();
                let number = queued[0].number;
                // Another task may have taken the turn: then the trial stays in the queue.
                let turn = store.study(study).await.unwrap().next_turn;
                let mut start = super::harness::pop_at(study, turn, &[number]);
                start.request_id = format!("start {task} {round}");
                if store.start(start, at(1)).await.is_ok() {
                    let end = complete(number.0 as f64);
                    store.finish(study, number, None, end, Value::Null, at(2)).await.unwrap();
                    let mut stdout = std::io::stdout().lock();
                    std::io::Write::write_all(&mut stdout, format!("acknowledged {number}\n").as_bytes()).unwrap();
                }
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

pub async fn many_writers_share_transactions(db: Db) {
    let study = db.study("a").await;
    let number = db.start(&study, None, 0).await.trial.number;
    let writes = (0..512_u32).map(|step| {
        let store = db.store.clone();
        tokio::spawn(async move {
            // Every fourth is refused and takes none of the others with it.
            let number = if step % 4 == 0 { TrialNumber(99) } else { number };
            store.report(study.id, number, None, step, f64::from(step), false, at(1)).await.is_ok()
        })
    });
    let mut stored = 0;
    for write in writes.collect::<Vec<_>>() {
        stored += u32::from(write.await.unwrap());
    }
    assert_eq!(stored, 384);
    let trial = db.trial(&study, number).await;
    assert_eq!(trial.steps.len(), 384);
    assert_eq!(trial.revision, Revision(2 + 384));
}

pub async fn ids_become_visible_in_increasing_order(db: Db) {
    let study = db.study("a").await;
    let second = db.second().await;
    let mut writers = Vec::new();
    for task in 0..4 {
        let store = if task % 2 == 0 { db.store.clone() } else { second.clone() };
        writers.push(tokio::spawn(async move {
            for index in 0..20 {
                let entries = vec![super::harness::waiting(index)];
                store.enqueue(study.id, format!("{task} {index}"), entries, at(1)).await.unwrap();
            }
        }));
    }
    let all = TrialFilter { limit: 10_000, ..Default::default() };
    let mut newest = (0, Revision(1), 0);
    while newest.0 < 80 {
        let trials = second.trials(study.id, &all).await.unwrap();
        assert!(trials.is_sorted_by_key(|trial| trial.id) && trials.is_sorted_by_key(|trial| trial.revision));
        assert!(trials.iter().zip(0..).all(|(trial, number)| trial.number.0 == number), "numbers have a gap");
        if let Some(fresh) = trials.get(newest.0) {
            assert!(fresh.revision > newest.1 && fresh.id.0 > newest.2, "something appeared behind what was seen");
        }
        if let Some(last) = trials.last() {
            newest = (trials.len(), last.revision, last.id.0);
        }
    }
    for writer in writers {
        writer.await.unwrap();
    }
}

pub async fn the_clock_never_runs_backwards(db: Db) {
    let mut last = db.store.now();
    assert!(last.0 > at(0).0, "before this test was written");
    for _reading in 0..1_000 {
        let now = db.store.now();
        assert!(now >= last);
        last = now;
    }
}
