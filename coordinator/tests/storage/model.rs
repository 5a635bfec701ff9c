//! Random operations on the store and on a model of maps: answers and end states must agree.
//!
//! The model knows the rules of leases and states, nothing of rows, revisions or transactions.

use std::collections::{BTreeMap, BTreeSet};

use fleetune_coordinator::storage::{Claimed, LeaseRules, StoreError, TrialFilter};
use fleetune_core::{FailKind, LeaseToken, StudyState, TrialNumber, TrialState};
use proptest::prelude::*;
use serde_json::Value;

use super::harness::{Db, TTL, at, complete, explore, failed, registration, rules, start_at, worker};

/// Workers are `w0` to `w2`; trials are meant modulo how many there are.
#[derive(Clone, Debug)]
enum Step {
    Enqueue,
    Start { worker: Option<u8>, queued: bool },
    Report { trial: usize, attempt: usize, step: u32, stop: bool },
    Finish { trial: usize, attempt: usize, kind: u8 },
    Cancel { trial: usize },
    Claim { worker: u8 },
    Release { trial: usize, attempt: usize },
    Heartbeat { trial: usize, attempt: usize },
    Register { worker: u8, reboot: bool },
    Reap,
    Pause(bool),
    Wait(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let trial = 0..6_usize;
    // Mostly the newest attempt, sometimes an older one.
    let attempt = prop_oneof![4 => Just(0_usize), 1 => 1..3_usize];
    let step = prop_oneof![
        1 => Just(Step::Enqueue),
        4 => (proptest::option::weighted(0.7, 0..3_u8), any::<bool>())
            .prop_map(|(worker, queued)| Step::Start { worker, queued }),
        3 => (trial.clone(), attempt.clone(), 0..4_u32, any::<bool>())
            .prop_map(|(trial, attempt, step, stop)| Step::Report { trial, attempt, step, stop }),
        3 => (trial.clone(), attempt.clone(), 0..3_u8)
            .prop_map(|(trial, attempt, kind)| Step::Finish { trial, attempt, kind }),
        1 => trial.clone().prop_map(|trial| Step::Cancel { trial }),
        5 => (0..3_u8).prop_map(|worker| Step::Claim { worker }),
        1 => (trial.clone(), attempt.clone()).prop_map(|(trial, attempt)| Step::Release { trial, attempt }),
        2 => (trial, attempt).prop_map(|(trial, attempt)| Step::Heartbeat { trial, attempt }),
        1 => (0..3_u8, any::<bool>()).prop_map(|(worker, reboot)| Step::Register { worker, reboot }),
        1 => Just(Step::Reap),
        1 => any::<bool>().prop_map(Step::Pause),
        5 => (1..50_i64).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 1..60)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Open,
    Lost,
    Released,
    Finished,
}

/// A lease and what became of it.
#[derive(Clone, Debug)]
struct Held {
    worker: String,
    token: LeaseToken,
    fate: Fate,
    /// When it was found to be lost.
    lost: Option<i64>,
}

#[derive(Clone, Debug)]
struct Trial {
    state: TrialState,
    fail: Option<FailKind>,
    values: Vec<f64>,
    turn: Option<i64>,
    held: Vec<Held>,
    expires: i64,
    /// Steps of the current attempt with their verdicts.
    steps: BTreeMap<u32, bool>,
}

impl Trial {
    fn is_leased(&self) -> bool {
        !self.held.is_empty()
    }

    fn lease_is_live(&self) -> bool {
        self.state == TrialState::Running && self.held.last().is_some_and(|held| held.fate == Fate::Open)
    }

    /// Whether a claim may take it.
    fn is_claimable(&self, now: i64) -> bool {
        self.state == TrialState::Running && self.is_leased() && (!self.lease_is_live() || self.expires <= now)
    }

    fn at_limit(&self) -> bool {
        let lost: Vec<_> = self.held.iter().filter(|held| matches!(held.fate, Fate::Open | Fate::Lost)).collect();
        let workers: BTreeSet<_> = lost.iter().map(|held| &held.worker).collect();
        lost.len() >= 3 || workers.len() >= 2
    }

    fn end(&mut self, state: TrialState, fail: Option<FailKind>, values: Vec<f64>) {
        self.state = state;
        self.fail = fail;
        self.values = values;
        self.lose(0);
    }

    fn lose(&mut self, now: i64) {
        if let Some(held) = self.held.last_mut()
            && held.fate == Fate::Open
        {
            held.fate = Fate::Lost;
            held.lost = Some(now);
        }
    }

    /// Whether `worker`, whose last sign of life was at `seen`, has lost it since.
    fn lost_since(&self, worker: &str, seen: i64) -> bool {
        let lost = |held: &Held| held.fate == Fate::Lost && held.worker == worker && held.lost > Some(seen);
        self.held.iter().any(lost)
    }
}

#[derive(Default)]
struct Model {
    trials: Vec<Trial>,
    turns: i64,
    boots: BTreeMap<u8, u32>,
    /// The last sign of life of each worker.
    seen: BTreeMap<String, i64>,
    paused: bool,
    now: i64,
}

impl Model {
    /// The started trials in the order in which they are handed out again.
    fn by_turn(&self) -> Vec<usize> {
        let mut started: Vec<_> = (0..self.trials.len()).filter(|index| self.trials[*index].turn.is_some()).collect();
        started.sort_by_key(|index| self.trials[*index].turn);
        started
    }
}

/// The answer of a mutation, as far as the model foresees it.
type Answer = Result<String, &'static str>;

fn kind_of(error: &StoreError) -> &'static str {
    match error {
        StoreError::TrialLeased { .. } => "leased",
        StoreError::LeaseLost { .. } => "lost",
        StoreError::TrialEnded { .. } => "ended",
        StoreError::WrongTrialState { .. } => "trial state",
        StoreError::WrongStudyState { .. } => "study state",
        _ => "other",
    }
}

async fn play(db: &Db, steps: &[Step]) -> Result<(), TestCaseError> {
    let study = db.study("model").await;
    let mut model = Model::default();
    for index in 0..3_u8 {
        db.store.register(registration(&format!("w{index}"), "boot 0", &[]), at(0)).await.unwrap();
    }
    for (place, step) in steps.iter().enumerate() {
        let now = at(model.now);
        let count = model.trials.len();
        match step {
            Step::Enqueue => {
                db.enqueue(&study, &format!("q{place}"), 1).await;
                model.trials.push(new_trial());
            }
            Step::Start { worker: name, queued } => {
                let waiting = model.trials.iter().position(|trial| trial.state == TrialState::Waiting);
                let index = waiting.filter(|_| *queued).unwrap_or(count);
                let turn = fleetune_core::Turn(model.turns);
                let mut start = start_at(study.id, turn, &[TrialNumber(index as i64)]);
                start.entries[0].queued = index < count;
                start.request_id = format!("s{place}");
                start.lease = name.map(|name| (worker(&format!("w{name}")), TTL));
                let answer = db.store.start(start, now).await;
                if model.paused {
                    prop_assert_eq!(kind_of(&answer.unwrap_err()), "study state");
                    continue;
                }
                let started = answer.unwrap().remove(0);
                if index == count {
                    model.trials.push(new_trial());
                }
                let trial = &mut model.trials[index];
                trial.state = TrialState::Running;
                trial.turn = Some(model.turns);
                trial.expires = model.now + 30;
                model.turns += 1;
                if let (Some(name), Some(lease)) = (name, started.lease) {
                    trial.held.push(Held {
                        worker: format!("w{name}"),
                        token: lease.token,
                        fate: Fate::Open,
                        lost: None,
                    });
                }
            }
            Step::Wait(seconds) => model.now += seconds,
            Step::Pause(pause) => {
                let state = if *pause { StudyState::Paused } else { StudyState::Active };
                db.set_state(&study, state, model.now).await;
                model.paused = *pause;
            }
            Step::Claim { worker: name } => {
                let name = format!("w{name}");
                let mut expected = None;
                for index in model.by_turn() {
                    let now = model.now;
                    let trial = &mut model.trials[index];
                    if !trial.is_claimable(now) {
                        continue;
                    }
                    if trial.at_limit() {
                        trial.end(TrialState::Fail, Some(FailKind::WorkerLost), vec![]);
                        continue;
                    }
                    expected = Some(index);
                    break;
                }
                let claimed = db.claim_at(&study, &name, now).await;
                match (claimed, expected) {
                    (Claimed::Nothing, None) => {}
                    (Claimed::Job { trial: Some(got), lease, .. }, Some(index)) => {
                        prop_assert_eq!(got.number.0 as usize, index);
                        let trial = &mut model.trials[index];
                        trial.lose(model.now);
                        trial.steps.clear();
                        trial.expires = model.now + 30;
                        trial.held.push(Held { worker: name, token: lease.token, fate: Fate::Open, lost: None });
                    }
                    (claimed, expected) => prop_assert!(false, "{:?} but expected {:?}", claimed, expected),
                }
            }
            Step::Register { worker: name, reboot } => {
                let boot = model.boots.entry(*name).or_default();
                *boot += u32::from(*reboot);
                let id = format!("w{name}");
                db.store.register(registration(&id, &format!("boot {boot}"), &[]), now).await.unwrap();
                let seen = model.seen.insert(id.clone(), model.now).unwrap_or(0);
                for trial in &mut model.trials {
                    let Some(last) = trial.held.last() else { continue };
                    let is_own = last.worker == id;
                    let is_lost = *reboot && trial.lost_since(&id, seen);
                    if trial.state != TrialState::Running || !is_own && !is_lost {
                        continue;
                    }
                    if *reboot && !(is_own && last.fate == Fate::Released) {
                        trial.end(TrialState::Fail, Some(FailKind::HostCrash), vec![]);
                    } else if trial.lease_is_live() {
                        trial.lose(model.now);
                        trial.expires = trial.expires.min(model.now);
                    }
                }
            }
            Step::Reap => {
                let ended = db.store.reap(LeaseRules { ..rules() }, now).await.unwrap();
                let mut expected = Vec::new();
                for index in model.by_turn() {
                    let trial = &mut model.trials[index];
                    let running = trial.state == TrialState::Running && trial.is_leased();
                    if running && trial.expires + 30 <= model.now && trial.at_limit() {
                        trial.end(TrialState::Fail, Some(FailKind::WorkerLost), vec![]);
                        expected.push((study.id, TrialNumber(index as i64)));
                    }
                }
                prop_assert_eq!(ended, expected);
            }
            Step::Report { trial, .. }
            | Step::Finish { trial, .. }
            | Step::Cancel { trial }
            | Step::Release { trial, .. }
            | Step::Heartbeat { trial, .. }
                if count > 0 =>
            {
                let index = trial % count;
                let expected = on_trial(&mut model, index, step);
                if matches!(step, Step::Heartbeat { .. }) && model.trials[index].is_leased() {
                    model.seen.insert("w0".to_owned(), model.now);
                }
                let answer = ask(db, study.id, index, step, &model, now).await;
                prop_assert_eq!(answer, expected, "step {} {:?}", place, step);
            }
            Step::Report { .. }
            | Step::Finish { .. }
            | Step::Cancel { .. }
            | Step::Release { .. }
            | Step::Heartbeat { .. } => {}
        }
    }
    compare(db, study.id, &model).await
}

fn new_trial() -> Trial {
    Trial {
        state: TrialState::Waiting,
        fail: None,
        values: vec![],
        turn: None,
        held: vec![],
        expires: 0,
        steps: BTreeMap::new(),
    }
}

/// The token that the step uses: of the newest lease, or of one so many before it.
fn token_of(trial: &Trial, back: usize) -> Option<LeaseToken> {
    trial.held.iter().rev().nth(back).or(trial.held.first()).map(|held| held.token)
}

/// What the model says to a step on one trial.
fn on_trial(model: &mut Model, index: usize, step: &Step) -> Answer {
    let now = model.now;
    let trial = &mut model.trials[index];
    let newest = |trial: &Trial, back: usize| back.min(trial.held.len().saturating_sub(1)) == 0;
    match step {
        Step::Report { attempt, step, stop, .. } => {
            match trial.state {
                TrialState::Running => {}
                TrialState::Waiting => return Err("trial state"),
                _ => return trial.steps.get(step).map(bool::to_string).ok_or("trial state"),
            }
            if trial.is_leased() {
                if !newest(trial, *attempt) || !trial.lease_is_live() {
                    return Err("lost");
                }
                trial.expires = trial.expires.max(now + 30);
            }
            Ok(trial.steps.entry(*step).or_insert(*stop).to_string())
        }
        Step::Finish { attempt, kind, .. } => {
            let (state, fail, values) = match kind {
                0 => (TrialState::Complete, None, vec![1.0]),
                1 => (TrialState::Complete, None, vec![2.0]),
                _ => (TrialState::Fail, Some(FailKind::Oom), vec![]),
            };
            match trial.state {
                TrialState::Waiting => return Err("trial state"),
                TrialState::Running => {}
                _ if (trial.state, trial.fail, &trial.values) == (state, fail, &values) => return Ok("ended".into()),
                _ => return Err(if newest(trial, *attempt) { "ended" } else { "lost" }),
            }
            if trial.is_leased() {
                if !newest(trial, *attempt) || !trial.lease_is_live() {
                    return Err("lost");
                }
                if let Some(held) = trial.held.last_mut() {
                    held.fate = Fate::Finished;
                }
            }
            trial.end(state, fail, values);
            Ok("ended".into())
        }
        Step::Cancel { .. } => {
            if trial.state.is_ended() {
                return if trial.fail == Some(FailKind::Cancelled) { Ok("ended".into()) } else { Err("ended") };
            }
            trial.end(TrialState::Fail, Some(FailKind::Cancelled), vec![]);
            Ok("ended".into())
        }
        Step::Release { attempt, .. } => {
            let back = (*attempt).min(trial.held.len().saturating_sub(1));
            let Some(held) = trial.held.iter().rev().nth(back) else { return Ok("nothing".into()) };
            if held.fate == Fate::Released || trial.state != TrialState::Running {
                return Ok("released".into());
            }
            if back > 0 || !trial.lease_is_live() {
                return Err("lost");
            }
            trial.held.last_mut().unwrap().fate = Fate::Released;
            trial.expires = trial.expires.min(now);
            Ok("released".into())
        }
        Step::Heartbeat { attempt, .. } => {
            if !trial.is_leased() {
                return Ok("nothing".into());
            }
            if trial.state != TrialState::Running {
                return Ok("Ended".into());
            }
            if !newest(trial, *attempt) || !trial.lease_is_live() {
                return Ok("Lost".into());
            }
            trial.expires = trial.expires.max(now + 30);
            Ok(format!("{:?}", fleetune_coordinator::storage::LeaseStatus::Renewed(at(trial.expires))))
        }
        _ => Err("no step on a trial"),
    }
}

/// What the store says to it.
async fn ask(
    db: &Db,
    study: fleetune_core::StudyId,
    index: usize,
    step: &Step,
    model: &Model,
    now: fleetune_core::Timestamp,
) -> Answer {
    let number = TrialNumber(index as i64);
    let trial = &model.trials[index];
    let ended = |result: Result<_, StoreError>| result.map(|_| "ended".to_owned()).map_err(|error| kind_of(&error));
    match step {
        Step::Report { attempt, step, stop, .. } => {
            let token = token_of(trial, *attempt);
            let verdict = db.store.report(study, number, token, *step, 0.5, *stop, now).await;
            verdict.map(|stop| stop.to_string()).map_err(|error| kind_of(&error))
        }
        Step::Finish { attempt, kind, .. } => {
            let end = match kind {
                0 => complete(1.0),
                1 => complete(2.0),
                _ => failed(FailKind::Oom),
            };
            ended(db.store.finish(study, number, token_of(trial, *attempt), end, Value::Null, now).await)
        }
        Step::Cancel { .. } => ended(db.store.cancel_trial(study, number, now).await),
        Step::Release { attempt, .. } => match token_of(trial, *attempt) {
            None => Ok("nothing".into()),
            Some(token) => {
                let released = db.store.release(token, now).await;
                released.map(|()| "released".to_owned()).map_err(|error| kind_of(&error))
            }
        },
        Step::Heartbeat { attempt, .. } => match token_of(trial, *attempt) {
            None => Ok("nothing".into()),
            Some(token) => {
                let heartbeat = db.store.heartbeat(&worker("w0"), &[token], TTL, now).await.unwrap();
                Ok(format!("{:?}", heartbeat.leases[0].1))
            }
        },
        _ => Err("no step on a trial"),
    }
}

async fn compare(db: &Db, study: fleetune_core::StudyId, model: &Model) -> Result<(), TestCaseError> {
    let stored = db.store.trials(study, &TrialFilter { limit: 10_000, ..Default::default() }).await.unwrap();
    prop_assert_eq!(stored.len(), model.trials.len());
    for (stored, trial) in stored.iter().zip(&model.trials) {
        prop_assert_eq!(stored.state, trial.state, "{}", stored.number);
        prop_assert_eq!(super::harness::fail_kind(stored), trial.fail, "{}", stored.number);
        prop_assert_eq!(&stored.values, &trial.values, "{}", stored.number);
        prop_assert_eq!(stored.turn.map(|turn| turn.0), trial.turn, "{}", stored.number);
        prop_assert_eq!(stored.attempt.0 as usize, trial.held.len(), "{}", stored.number);
        let steps: Vec<u32> = stored.steps.iter().map(|step| step.0).collect();
        prop_assert_eq!(steps, trial.steps.keys().copied().collect::<Vec<_>>(), "{}", stored.number);
    }
    let now = db.store.study(study).await.unwrap();
    prop_assert_eq!((now.next_number.0 as usize, now.next_turn.0), (model.trials.len(), model.turns));
    let newest = stored.iter().map(|trial| trial.revision).max().unwrap_or(now.revision);
    prop_assert!(newest <= now.revision);
    Ok(())
}

#[test]
fn sqlite_agrees_with_the_model() {
    explore(50, steps(), async |steps| play(&Db::sqlite().await, &steps).await);
}

#[test]
fn postgres_agrees_with_the_model() {
    explore(12, steps(), async |steps| play(&Db::postgres().await, &steps).await);
}
