//! Requests that are lost, and replies that are lost: a study whose messages get lost ends as one whose messages do not.
//!
//! A lost request does nothing until it is sent again. When a reply is lost, what was asked for is done, and then asked
//! for again, by the same request. In between somebody else acts. A twin of the study hears every request once.

use std::collections::BTreeMap;

use fleetune_coordinator::storage::{Claimed, StartTrials, StoreError, TrialFilter};
use fleetune_core::{FailKind, LeaseToken, StudyId, TrialNumber, TrialState};
use proptest::prelude::*;
use serde_json::Value;

use super::harness::{Db, TTL, at, complete, explore, failed, rules, start_at, waiting, worker};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Loss {
    Nothing,
    Request,
    Reply,
}

/// Trials are meant modulo how many there are; `back` counts leases from the newest.
#[derive(Clone, Debug)]
enum Step {
    Enqueue,
    Start { worker: Option<u8>, queued: bool },
    Claim { worker: u8 },
    Report { trial: usize, back: usize, step: u32, stop: bool },
    Finish { trial: usize, back: usize, kind: u8 },
    Release { trial: usize, back: usize },
    Cancel { trial: usize },
    Wait(i64),
}

/// What is sent, and sent again: the same words, whatever has happened since.
#[derive(Clone, Debug)]
enum Request {
    Enqueue,
    Start(StartTrials),
    Claim(u8),
    Report(TrialNumber, Option<usize>, u32, bool),
    Finish(TrialNumber, Option<usize>, u8),
    Release(TrialNumber, usize),
    Cancel(TrialNumber),
}

fn steps() -> impl Strategy<Value = Vec<(Step, Loss)>> {
    let trial = 0..5_usize;
    let back = prop_oneof![4 => Just(0_usize), 1 => 1..3_usize];
    let loss = prop_oneof![2 => Just(Loss::Nothing), 1 => Just(Loss::Request), 1 => Just(Loss::Reply)];
    let step = prop_oneof![
        2 => Just(Step::Enqueue),
        4 => (proptest::option::weighted(0.7, 0..3_u8), any::<bool>())
            .prop_map(|(worker, queued)| Step::Start { worker, queued }),
        5 => (0..3_u8).prop_map(|worker| Step::Claim { worker }),
        4 => (trial.clone(), back.clone(), 0..3_u32, any::<bool>())
            .prop_map(|(trial, back, step, stop)| Step::Report { trial, back, step, stop }),
        4 => (trial.clone(), back.clone(), 0..3_u8).prop_map(|(trial, back, kind)| Step::Finish { trial, back, kind }),
        2 => (trial.clone(), back).prop_map(|(trial, back)| Step::Release { trial, back }),
        1 => trial.prop_map(|trial| Step::Cancel { trial }),
        3 => (1..50_i64).prop_map(Step::Wait),
    ];
    proptest::collection::vec((step, loss), 1..50)
}

/// One of the two studies.
struct Side<'a> {
    db: &'a Db,
    study: StudyId,
    name: &'static str,
    /// Leases in the order in which they were given; the secrets differ between the sides.
    leases: BTreeMap<TrialNumber, Vec<LeaseToken>>,
}

/// Whether something was done, and what was said of it.
type Answer = Result<String, String>;

impl Side<'_> {
    /// What is to be sent for `step`, as things stand.
    async fn request(&self, step: &Step) -> Option<Request> {
        let all = TrialFilter { limit: 10_000, ..TrialFilter::default() };
        let trials = self.db.store.trials(self.study, &all).await.unwrap();
        let number = |trial: usize| trials.get(trial % trials.len().max(1)).map(|trial| trial.number);
        let lease = |number, back: usize| {
            let leases = self.leases.get(&number).map_or(0, Vec::len);
            leases.checked_sub(1).map(|last| last.saturating_sub(back))
        };
        Some(match *step {
            Step::Enqueue => Request::Enqueue,
            Step::Start { worker: name, queued } => {
                let study = self.db.store.study(self.study).await.unwrap();
                let waiting = trials.iter().find(|trial| queued && trial.state == TrialState::Waiting);
                let number = waiting.map_or(study.next_number, |trial| trial.number);
                let mut start = start_at(self.study, study.next_turn, &[number]);
                start.entries[0].queued = waiting.is_some();
                start.lease = name.map(|name| (worker(&format!("w{name}")), TTL));
                Request::Start(start)
            }
            Step::Claim { worker } => Request::Claim(worker),
            Step::Report { trial, back, step, stop } => {
                let number = number(trial)?;
                Request::Report(number, lease(number, back), step, stop)
            }
            Step::Finish { trial, back, kind } => {
                let number = number(trial)?;
                Request::Finish(number, lease(number, back), kind)
            }
            Step::Release { trial, back } => {
                let number = number(trial)?;
                Request::Release(number, lease(number, back)?)
            }
            Step::Cancel { trial } => Request::Cancel(number(trial)?),
            Step::Wait(_) => return None,
        })
    }

    /// Sends `request` as the one called `id`.
    async fn send(&mut self, request: &Request, id: &str, seconds: i64) -> Answer {
        let (store, study, now) = (&self.db.store, self.study, at(seconds));
        let id = format!("{} {id}", self.name);
        let token = |number: &TrialNumber, index: &Option<usize>| {
            index.and_then(|index| self.leases.get(number)?.get(index).copied())
        };
        match request {
            Request::Enqueue => {
                let queued = store.enqueue(study, id, vec![waiting(0)], now).await;
                said(queued.map(|queued| queued[0].number))
            }
            Request::Start(start) => {
                let start = StartTrials { study, request_id: id, ..start.clone() };
                let started = store.start(start, now).await.map(|mut started| started.remove(0));
                if let Ok(started) = &started
                    && let Some(lease) = &started.lease
                {
                    self.note(started.trial.number, lease.token);
                }
                said(started.map(|started| started.trial.number))
            }
            Request::Claim(name) => {
                match store.claim(study, &worker(&format!("w{name}")), &id, rules(), now).await.unwrap() {
                    Claimed::Job { trial: Some(trial), lease, .. } => {
                        self.note(trial.number, lease.token);
                        Ok(format!("{} attempt {}", trial.number, lease.token.attempt))
                    }
                    claimed => Err(format!("{claimed:?}")),
                }
            }
            Request::Report(number, lease, step, stop) => {
                said(store.report(study, *number, token(number, lease), *step, 0.5, *stop, now).await)
            }
            Request::Finish(number, lease, kind) => {
                let end = match kind {
                    0 => complete(1.0),
                    1 => complete(2.0),
                    _ => failed(FailKind::Oom),
                };
                said(store.finish(study, *number, token(number, lease), end, Value::Null, now).await.map(drop))
            }
            Request::Release(number, lease) => {
                let token = token(number, &Some(*lease)).expect("it was given");
                said(store.release(token, now).await)
            }
            Request::Cancel(number) => said(store.cancel_trial(study, *number, now).await.map(drop)),
        }
    }

    fn note(&mut self, number: TrialNumber, token: LeaseToken) {
        let leases = self.leases.entry(number).or_default();
        if !leases.contains(&token) {
            leases.push(token);
        }
    }

    /// Everything but secrets and ids.
    async fn state(&self) -> Vec<String> {
        let study = self.db.store.study(self.study).await.unwrap();
        let all = TrialFilter { limit: 10_000, ..TrialFilter::default() };
        let mut state = vec![format!("{} {} {}", study.revision, study.next_number, study.next_turn)];
        for trial in self.db.store.trials(self.study, &all).await.unwrap() {
            let mut attempts = Vec::new();
            if let Some(job) = trial.job {
                for attempt in self.db.store.attempts(job).await.unwrap() {
                    attempts.push((attempt.worker.0, attempt.state, attempt.started_at, attempt.ended_at));
                }
            }
            let stands = (trial.number, trial.state, trial.values, trial.fail, trial.attempt, trial.turn, trial.steps);
            let when = (trial.revision, trial.started_revision, trial.ended_revision, trial.started_at);
            state.push(format!("{stands:?} {when:?} {attempts:?}"));
        }
        state
    }
}

/// The kind of an error is its name: the rest differs between the sides.
fn said<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> Answer {
    let name = |error: &StoreError| format!("{error:?}").split([' ', '(', '{']).next().unwrap_or_default().to_owned();
    answer.map(|answer| format!("{answer:?}")).map_err(|error| name(&error))
}

/// A request whose sender waits for an answer.
struct Unanswered {
    request: Request,
    id: String,
    /// What was said the first time, if it arrived.
    first: Option<Answer>,
}

async fn play(db: &Db, steps: &[(Step, Loss)]) -> Result<(), TestCaseError> {
    let side = |name: &'static str, study: StudyId| Side { db, study, name, leases: BTreeMap::new() };
    let mut lossy = side("lossy", db.study("lossy").await.id);
    let mut twin = side("twin", db.study("twin").await.id);
    let (mut now, mut unanswered) = (0, None);
    for (index, (step, loss)) in steps.iter().enumerate() {
        if let Step::Wait(seconds) = step {
            send_again(&mut lossy, &mut twin, unanswered.take(), now).await?;
            now += seconds;
            continue;
        }
        let Some(request) = lossy.request(step).await else { continue };
        let id = index.to_string();
        let first = if *loss == Loss::Request {
            None
        } else {
            let answer = lossy.send(&request, &id, now).await;
            prop_assert_eq!(&answer, &twin.send(&request, &id, now).await, "{:?}", request);
            Some(answer)
        };
        // Whoever waited longer asks again first.
        send_again(&mut lossy, &mut twin, unanswered.take(), now).await?;
        unanswered = (*loss != Loss::Nothing).then_some(Unanswered { request, id, first });
    }
    send_again(&mut lossy, &mut twin, unanswered, now).await?;
    prop_assert_eq!(lossy.state().await, twin.state().await);
    Ok(())
}

async fn send_again(
    lossy: &mut Side<'_>,
    twin: &mut Side<'_>,
    unanswered: Option<Unanswered>,
    now: i64,
) -> Result<(), TestCaseError> {
    let Some(Unanswered { request, id, first }) = unanswered else { return Ok(()) };
    let again = lossy.send(&request, &id, now).await;
    if let Some(Ok(first)) = first {
        // What was done is not done again: the twin is not told. Others may have taken or ended the trial since.
        match again {
            Ok(again) => prop_assert_eq!(again, first, "{:?}", request),
            Err(why) => prop_assert!(!creates(&request), "{:?}: {}", request, why),
        }
    } else {
        // What did nothing may do something now.
        prop_assert_eq!(again, twin.send(&request, &id, now).await, "{:?}", request);
    }
    Ok(())
}

fn creates(request: &Request) -> bool {
    matches!(request, Request::Enqueue | Request::Start(_))
}

#[test]
fn lost_requests_and_lost_replies_change_nothing_on_sqlite() {
    explore(60, steps(), async |steps| play(&Db::sqlite().await, &steps).await);
}

#[test]
fn lost_requests_and_lost_replies_change_nothing_on_postgres() {
    explore(12, steps(), async |steps| play(&Db::postgres().await, &steps).await);
}
