//! The desk of a study: the one task of this process through which its trials enter `Running` and held ones end.
//!
//! Whatever waits shares one suggestion round and one write. The study in memory is not read again for it: the write
//! says whether the study is still where memory has it, and changes nothing otherwise.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use fleetune_core::{FailKind, StudyId, TrialNumber, WorkerId};
use tokio::sync::{Mutex, mpsc, oneshot};

use super::error::EngineError;
use super::live::{LiveStudy, MAX_CONFLICTS, Plan};
use super::outcome::Tell;
use crate::storage::{Advance, Started, Step, Store, StoreError, StudyRecord, TrialEnd, TrialRecord};

/// Requests of one round, at most: bounds how long the first one waits for the suggestions of the others.
const ROUND: usize = 128;
/// Requests that may wait; whoever comes later waits before the desk.
const WAITING: usize = 1_024;
/// Why a queue entry that nothing fresh completes has failed.
const NOTHING_LEFT: &str = "nothing left to try around its fixed parameters";

/// A study in memory and its desk, which closes when this is dropped.
pub(super) struct Desk {
    id: StudyId,
    live: Arc<Mutex<LiveStudy>>,
    requests: mpsc::Sender<Request>,
}

/// What became of a held trial that a client tells.
pub(super) enum Told {
    /// It ended.
    Ended {
        /// The trial.
        trial: Box<TrialRecord>,
        /// Whether the search may be over with it.
        last: bool,
    },
    /// Memory has no such trial, or a doubt: storage decides.
    AskStorage(Tell),
}

enum Request {
    Start(StartRequest),
    End(EndRequest),
}

struct StartRequest {
    request_id: String,
    count: u32,
    lease: Option<(WorkerId, Duration)>,
    reply: oneshot::Sender<Result<Vec<Started>, EngineError>>,
}

struct EndRequest {
    number: TrialNumber,
    tell: Tell,
    reply: oneshot::Sender<Result<Told, EngineError>>,
}

impl Desk {
    /// Loads the study and opens its desk.
    pub async fn open(store: Store, id: StudyId) -> Result<Self, EngineError> {
        let live = Arc::new(Mutex::new(LiveStudy::load(store.clone(), id).await?));
        let (requests, mut receiver) = mpsc::channel(WAITING);
        let served = Arc::clone(&live);
        tokio::spawn(async move {
            let mut waiting = Vec::with_capacity(ROUND);
            while receiver.recv_many(&mut waiting, ROUND).await > 0 {
                let mut live = served.lock().await;
                Round::of(&mut waiting).serve(&store, &mut live).await;
            }
        });
        Ok(Self { id, live, requests })
    }

    /// The study.
    pub fn id(&self) -> StudyId {
        self.id
    }

    /// The study in memory.
    pub fn live(&self) -> &Mutex<LiveStudy> {
        &self.live
    }

    /// Whether nobody serves any more.
    pub fn is_closed(&self) -> bool {
        self.requests.is_closed()
    }

    /// Starts up to `count` trials: queue entries first, then fresh ones. At least one, or an error that says why not.
    pub async fn start(
        &self,
        count: u32,
        request_id: &str,
        lease: Option<(WorkerId, Duration)>,
    ) -> Result<Vec<Started>, EngineError> {
        let (reply, answer) = oneshot::channel();
        let request = StartRequest { request_id: request_id.to_owned(), count, lease, reply };
        self.send(Request::Start(request)).await?;
        answer.await.map_err(|_| closed())?
    }

    /// Ends a held trial as a client says.
    pub async fn tell(&self, number: TrialNumber, tell: Tell) -> Result<Told, EngineError> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::End(EndRequest { number, tell, reply })).await?;
        answer.await.map_err(|_| closed())?
    }

    async fn send(&self, request: Request) -> Result<(), EngineError> {
        self.requests.send(request).await.map_err(|_| closed())
    }
}

fn closed() -> EngineError {
    StoreError::Database("the task that serves this study has ended".to_owned()).into()
}

/// What waits and has no answer yet.
#[derive(Default)]
struct Round {
    starts: Vec<StartRequest>,
    ends: Vec<EndRequest>,
    /// Whether memory is as new as storage was a moment ago: a refusal needs that.
    is_current: bool,
    /// Lost races against others.
    conflicts: u32,
}

impl Round {
    fn of(waiting: &mut Vec<Request>) -> Self {
        let mut round = Self::default();
        for request in waiting.drain(..) {
            match request {
                Request::Start(start) => round.starts.push(start),
                Request::End(end) => round.ends.push(end),
            }
        }
        round
    }

    /// Answers everything.
    async fn serve(mut self, store: &Store, live: &mut LiveStudy) {
        while !(self.starts.is_empty() && self.ends.is_empty()) {
            if self.conflicts >= MAX_CONFLICTS {
                return self.fail(&EngineError::Contended(live.record().name.clone()));
            }
            if let Err(error) = self.step(store, live).await {
                return self.fail(&error);
            }
        }
    }

    fn fail(self, error: &EngineError) {
        // A caller that went away needs no answer, here and below.
        self.starts.into_iter().for_each(|start| drop(start.reply.send(Err(error.clone()))));
        self.ends.into_iter().for_each(|end| drop(end.reply.send(Err(error.clone()))));
    }

    /// One try at a write. What it could not answer stays.
    async fn step(&mut self, store: &Store, live: &mut LiveStudy) -> Result<(), EngineError> {
        let now = store.now();
        let mut ends: Vec<(TrialRecord, TrialEnd)> = Vec::with_capacity(self.ends.len());
        let mut ending = Vec::with_capacity(self.ends.len());
        for end in self.ends.drain(..) {
            let twice = ends.iter().any(|(trial, _)| trial.number == end.number);
            match live.end_of(end.number, &end.tell, now).filter(|_| !twice) {
                Some(known) => {
                    ends.push(known);
                    ending.push(end);
                }
                None => drop(end.reply.send(Ok(Told::AskStorage(end.tell)))),
            }
        }
        self.ends = ending;

        self.keep_capacity(store, live.record()).await?;
        let mut starts = Vec::new();
        if !self.starts.is_empty() {
            match live.plan(&self.wanted()).await {
                Ok(Plan::Starts(planned)) => starts = planned,
                // What memory refuses may be what others have changed.
                Ok(Plan::Hopeless(..)) | Err(_) if !self.is_current => return self.catch_up(live).await,
                Ok(Plan::Hopeless(number, unsafe_why)) => {
                    let (kind, why) = match unsafe_why {
                        Some(why) => (FailKind::UnsafeRegion, format!("not started: {why}")),
                        None => (FailKind::Error, NOTHING_LEFT.to_owned()),
                    };
                    // It ends alone; the search goes on without it.
                    match store.fail_waiting(live.record().id, number, kind, why, now).await {
                        Ok(_) => return self.catch_up(live).await,
                        Err(StoreError::WrongTrialState { .. }) => return self.lost(live).await,
                        Err(error) => return Err(error.into()),
                    }
                }
                Err(refusal) => refuse(std::mem::take(&mut self.starts), store, live.record().id, &refusal).await,
            }
        }
        if starts.is_empty() && ends.is_empty() {
            return Ok(());
        }
        let count = starts.len();
        let advance = Advance { study: live.record().id, at: live.seen(), ends, starts };
        match store.advance(advance, now).await {
            Ok(Step::Done(advanced)) => {
                live.fold(&advanced);
                self.is_current = true;
                for (start, trials) in self.starts.drain(..count).zip(advanced.started) {
                    drop(start.reply.send(Ok(trials)));
                }
                let last = live.may_be_over();
                for (end, trial) in self.ends.drain(..).zip(advanced.ended) {
                    drop(end.reply.send(Ok(Told::Ended { trial: Box::new(trial), last })));
                }
                Ok(())
            }
            Ok(Step::Behind) | Err(StoreError::TurnTaken { .. } | StoreError::AtCapacity { .. }) => {
                self.lost(live).await
            }
            Ok(Step::Again(known)) => {
                let id = live.record().id;
                for start in self.starts.extract_if(.., |start| known.contains(&start.request_id)) {
                    let again = store.started_by(id, &start.request_id).await.map_err(EngineError::from);
                    drop(start.reply.send(again));
                }
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Refuses starts for workers beyond what they may lease at once, before anything is suggested for them. The write
    /// counts again.
    async fn keep_capacity(&mut self, store: &Store, record: &StudyRecord) -> Result<(), EngineError> {
        let Some(max_parallel) = record.schedule.max_parallel else { return Ok(()) };
        let is_for_worker = |start: &StartRequest| start.lease.as_ref().is_some_and(|(holder, _)| !holder.is_client());
        if !self.starts.iter().any(is_for_worker) {
            return Ok(());
        }
        let leased = store.live_leases(record.id, store.now()).await?;
        let mut room = max_parallel.saturating_sub(leased);
        let mut kept = Vec::with_capacity(self.starts.len());
        let mut beyond = Vec::new();
        for start in self.starts.drain(..) {
            if !is_for_worker(&start) {
                kept.push(start);
            } else if start.count <= room {
                room -= start.count;
                kept.push(start);
            } else {
                beyond.push(start);
            }
        }
        self.starts = kept;
        let refusal = StoreError::AtCapacity { name: record.name.clone(), max_parallel }.into();
        refuse(beyond, store, record.id, &refusal).await;
        Ok(())
    }

    /// Others were first: what they did is folded, and everything decided again.
    async fn lost(&mut self, live: &mut LiveStudy) -> Result<(), EngineError> {
        self.conflicts += 1;
        self.catch_up(live).await
    }

    async fn catch_up(&mut self, live: &mut LiveStudy) -> Result<(), EngineError> {
        live.catch_up().await?;
        self.is_current = true;
        Ok(())
    }

    /// The first requests, up to one that repeats another: it is answered by what that one gets.
    fn wanted(&self) -> Vec<Wanted<'_>> {
        let mut seen = BTreeSet::new();
        let first = self.starts.iter().take_while(|start| seen.insert(start.request_id.as_str()));
        first
            .map(|start| Wanted { request_id: &start.request_id, count: start.count, lease: start.lease.as_ref() })
            .collect()
    }
}

/// Refuses the starts, but those that have been made: a call may be repeated, whatever the study has come to since.
async fn refuse(starts: Vec<StartRequest>, store: &Store, study: StudyId, refusal: &EngineError) {
    for start in starts {
        let answer = match store.started_by(study, &start.request_id).await {
            Ok(known) if known.is_empty() => Err(refusal.clone()),
            known => known.map_err(EngineError::from),
        };
        drop(start.reply.send(answer));
    }
}

/// Trials that a request asks for.
pub(super) struct Wanted<'a> {
    pub request_id: &'a str,
    pub count: u32,
    /// Leased to this worker for this long, or held.
    pub lease: Option<&'a (WorkerId, Duration)>,
}
