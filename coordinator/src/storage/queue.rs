//! Group commit: mutations that wait in a lane share one transaction; each caller is answered after its commit.
//!
//! A transaction that the database fails is rolled back and its mutations are tried one by one, so that one that
//! cannot succeed takes no other with it. What clients write that sample themselves is decided on memory where it can
//! be, and needs no transaction of several statements: `facts`.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use fleetune_core::{TrialId, TrialNumber};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::draft::Drafting;
use super::engine::{Engine, News};
use super::error::StoreError;
use super::facts;
use super::operations::{Lane, Operation};
use super::rows::Rows;
use super::shelf::Shelves;
use super::statistics::{Statistics, Waiting};

/// Mutations that may wait in one lane; whoever comes later waits before the lane.
const WAITING: usize = 4_096;
/// Mutations in one transaction, at most.
const BATCH: usize = 64;
/// A lane without work ends after this.
const IDLE: Duration = Duration::from_secs(30);
/// Tries of one mutation that met a deadlock or a locked database.
const TRIES: u32 = 6;

type Lanes = Arc<Mutex<HashMap<Lane, mpsc::Sender<Box<dyn Work>>>>>;

/// The lanes of a store. They finish what waits and end when it is dropped.
pub(super) struct Queue {
    engine: Arc<dyn Engine>,
    shelves: Arc<Shelves>,
    lanes: Lanes,
    tasks: TaskTracker,
    statistics: Statistics,
}

impl Queue {
    pub fn new(engine: Arc<dyn Engine>) -> Self {
        Self {
            engine,
            shelves: Arc::default(),
            lanes: Lanes::default(),
            tasks: TaskTracker::new(),
            statistics: Statistics::new(),
        }
    }

    /// What memory has of studies.
    pub fn shelves(&self) -> &Shelves {
        &self.shelves
    }

    /// What was counted so far.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Runs `operation` in its lane; returns after the commit.
    pub async fn run<O: Operation>(&self, operation: O) -> Result<O::Output, StoreError> {
        let _waiting = Waiting::new(&self.statistics);
        let lane = self.engine.lane(operation.lane());
        let (reply, answer) = oneshot::channel();
        let mut work: Box<dyn Work> = Box::new(Pending { operation, outcome: None, reply });
        // A lane that ends just now gives the work back.
        while let Err(mpsc::error::SendError(back)) = self.sender(lane).send(work).await {
            work = back;
        }
        answer.await.unwrap_or_else(|_| Err(StoreError::Database("the store was closed".to_owned())))
    }

    /// Waits until every lane has done its work.
    pub async fn close(&self) {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn sender(&self, lane: Lane) -> mpsc::Sender<Box<dyn Work>> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        match lanes.entry(lane) {
            Entry::Occupied(sender) if !sender.get().is_closed() => sender.get().clone(),
            entry => {
                let (sender, receiver) = mpsc::channel(WAITING);
                let writer = Writer {
                    lane,
                    engine: Arc::clone(&self.engine),
                    shelves: Arc::clone(&self.shelves),
                    statistics: self.statistics.clone(),
                };
                self.tasks.spawn(serve(writer, receiver, Arc::clone(&self.lanes)));
                entry.insert_entry(sender.clone());
                sender
            }
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// An operation of whatever kind that waits for its answer.
#[async_trait]
pub(super) trait Work: Send {
    /// Whether it can be decided on memory.
    fn is_fact(&self) -> bool;

    /// Decides it on memory and keeps the outcome, unless memory lacks something.
    fn draft(&mut self, drafting: &mut Drafting<'_>);

    /// Takes note of the ids that new trials got.
    fn numbered(&mut self, ids: &BTreeMap<TrialNumber, TrialId>);

    /// Applies it; keeps the outcome. Says who may wait for what was written; an error when the transaction cannot go
    /// on.
    async fn apply(&mut self, rows: &mut dyn Rows) -> Result<News, StoreError>;

    /// Answers the caller with the outcome, which is durable, or with why there is none.
    fn answer(self: Box<Self>, failed: Option<StoreError>);
}

struct Pending<O: Operation> {
    operation: O,
    outcome: Option<Result<O::Output, StoreError>>,
    reply: oneshot::Sender<Result<O::Output, StoreError>>,
}

#[async_trait]
impl<O: Operation> Work for Pending<O> {
    fn is_fact(&self) -> bool {
        self.operation.is_fact()
    }

    fn draft(&mut self, drafting: &mut Drafting<'_>) {
        self.outcome = self.operation.draft(drafting);
    }

    fn numbered(&mut self, ids: &BTreeMap<TrialNumber, TrialId>) {
        if let Some(Ok(output)) = &mut self.outcome {
            O::numbered(output, ids);
        }
    }

    async fn apply(&mut self, rows: &mut dyn Rows) -> Result<News, StoreError> {
        rows.take_dirty();
        let outcome = self.operation.apply(rows).await;
        let wrote = rows.take_dirty();
        // A refusal leaves nothing. Operations check first and write last; one that had written already costs the
        // transaction.
        let spoils = outcome.as_ref().err().filter(|error| wrote || is_failure(error)).cloned();
        self.outcome = Some(outcome);
        spoils.map_or(Ok(if wrote { O::NEWS } else { News::Nobody }), Err)
    }

    fn answer(self: Box<Self>, failed: Option<StoreError>) {
        let lost = || Err(StoreError::Database("the operation was not applied".to_owned()));
        let Self { outcome, reply, .. } = *self;
        // A caller that went away needs no answer.
        drop(reply.send(failed.map_or_else(|| outcome.unwrap_or_else(lost), Err)));
    }
}

/// Whether the database failed, rather than a rule refused.
fn is_failure(error: &StoreError) -> bool {
    matches!(error, StoreError::Database(_) | StoreError::Busy(_) | StoreError::Full(_) | StoreError::Corrupt { .. })
}

/// What writes for a lane.
struct Writer {
    lane: Lane,
    engine: Arc<dyn Engine>,
    shelves: Arc<Shelves>,
    statistics: Statistics,
}

async fn serve(writer: Writer, mut receiver: mpsc::Receiver<Box<dyn Work>>, lanes: Lanes) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        match tokio::time::timeout(IDLE, receiver.recv_many(&mut batch, BATCH)).await {
            Ok(0) => return,
            Ok(_) => writer.commit_all(&mut batch).await,
            Err(_idle) => {
                // Under the lock nobody gets a new sender; one who has an old one gets the work back.
                let mut lanes = lanes.lock().unwrap_or_else(PoisonError::into_inner);
                if !receiver.is_closed() {
                    lanes.remove(&writer.lane);
                }
                receiver.close();
            }
        }
    }
}

impl Writer {
    async fn commit_all(&self, batch: &mut Vec<Box<dyn Work>>) {
        let (begun, mutations) = (Instant::now(), batch.len());
        let committed = self.commit(batch).await;
        match &committed {
            Ok(()) => self.statistics.committed(mutations, begun.elapsed()),
            Err(_) => self.statistics.failed(),
        }
        match committed {
            Ok(()) => batch.drain(..).for_each(|work| work.answer(None)),
            // Whether it was committed is unknown. Everything may be repeated by its caller, but not by us: a caller
            // that was told of a failure decides itself.
            Err(Failed::Commit(error)) => batch.drain(..).for_each(|work| work.answer(Some(error.clone()))),
            Err(Failed::Before(_)) => {
                for work in batch.drain(..) {
                    commit_one(&*self.engine, work).await;
                }
            }
        }
    }

    async fn commit(&self, batch: &mut [Box<dyn Work>]) -> Result<(), Failed> {
        let Lane::Study(study) = self.lane else { return commit(&*self.engine, batch).await };
        if batch.iter().all(|work| work.is_fact()) {
            let shelf = self.shelves.of(study);
            if facts::write(&*self.engine, &shelf, batch).await? {
                return Ok(());
            }
        }
        let committed = commit(&*self.engine, batch).await;
        if let Some(shelf) = self.shelves.known(study) {
            shelf.was_passed();
        }
        committed
    }
}

async fn commit_one(engine: &dyn Engine, work: Box<dyn Work>) {
    let mut one = [work];
    let mut tries = 1;
    let failed = loop {
        match commit(engine, &mut one).await {
            Ok(()) => break None,
            Err(Failed::Before(StoreError::Busy(_))) if tries < TRIES => {
                tokio::time::sleep(Duration::from_millis(5 << tries)).await;
                tries += 1;
            }
            Err(Failed::Before(error) | Failed::Commit(error)) => break Some(error),
        }
    };
    let [work] = one;
    work.answer(failed);
}

/// Why a transaction failed, and whether it can have been committed all the same.
pub(super) enum Failed {
    Before(StoreError),
    Commit(StoreError),
}

async fn commit(engine: &dyn Engine, batch: &mut [Box<dyn Work>]) -> Result<(), Failed> {
    let mut rows = engine.write().await.map_err(Failed::Before)?;
    let mut news = News::Nobody;
    for work in batch {
        match work.apply(&mut *rows).await {
            Ok(new) => news = news.max(new),
            Err(error) => {
                // What the rollback itself has to say changes nothing: the connection is thrown away then.
                drop(rows.rollback().await);
                return Err(Failed::Before(error));
            }
        }
    }
    rows.commit().await.map_err(|error| match error {
        StoreError::Full(_) | StoreError::Busy(_) => Failed::Before(error),
        error => Failed::Commit(error),
    })?;
    if news > News::Nobody {
        engine.committed(news);
    }
    Ok(())
}
