//! The board: which studies may have work for a worker, as this process knows it, for all calls that wait.
//!
//! It only spares looks at storage. Whether there is work is decided where it is handed out.

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, PoisonError};

use fleetune_core::{StudyId, StudyState};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;

use super::engine::Engine;
use super::error::EngineError;
use crate::storage::StudyRecord;

/// Open studies looked at.
const MAX_STUDIES: u32 = 1_000;
/// Calls that try to get work of one study at the same time. More only find out together that there is none.
const TRIES: usize = 16;

/// A study that is open and needs workers.
pub(super) struct Offer {
    pub study: StudyRecord,
    /// Taken by whoever tries to get work of it.
    pub tries: Semaphore,
    empty: AtomicBool,
    /// Its place among studies of one priority: smaller ones are served first.
    served: AtomicI64,
    /// The place behind all others of its board.
    last: Arc<AtomicI64>,
    /// Classes of workers that have their child, where it is a parent.
    settled: std::sync::Mutex<BTreeSet<String>>,
    /// It is a child whose parent starts nothing.
    is_held_back: bool,
}

impl Offer {
    /// A board of `studies`.
    pub fn board(studies: impl Iterator<Item = StudyRecord>) -> Vec<Self> {
        let studies: Vec<_> = studies.collect();
        let is_active = |study: &StudyRecord| study.state == StudyState::Active;
        let active: HashSet<_> = studies.iter().filter(|study| is_active(study)).map(|study| study.id).collect();
        let last = Arc::new(AtomicI64::new(0));
        let offer = |study: StudyRecord| {
            last.fetch_max(study.served_at.0, Ordering::Relaxed);
            Self {
                tries: Semaphore::new(TRIES),
                empty: AtomicBool::new(false),
                served: AtomicI64::new(study.served_at.0),
                last: Arc::clone(&last),
                settled: std::sync::Mutex::default(),
                is_held_back: study.parent().is_some_and(|parent| !active.contains(&parent)),
                study,
            }
        };
        studies.into_iter().map(offer).collect()
    }

    /// Whether it is a child whose parent is paused or has ended.
    pub fn is_held_back(&self) -> bool {
        self.is_held_back
    }

    /// Whether workers of `class` have their child.
    pub fn is_settled(&self, class: &str) -> bool {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner).contains(class)
    }

    /// Workers of `class` have their child.
    pub fn settle(&self, class: String) {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner).insert(class);
    }

    /// Its place among studies of one priority.
    pub fn served(&self) -> i64 {
        self.served.load(Ordering::Relaxed)
    }

    /// Goes behind all others: calls that look at one board at the same time try different studies.
    pub fn serve(&self) {
        self.served.store(self.last.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Whether somebody found no work since the board was read.
    pub fn is_empty(&self) -> bool {
        self.empty.load(Ordering::Relaxed)
    }

    /// Nobody needs to try again before the board is read anew.
    pub fn found_empty(&self) {
        self.empty.store(true, Ordering::Relaxed);
    }
}

/// What was read last.
#[derive(Clone, Default)]
pub(super) struct Board(Arc<Mutex<Option<Read>>>);

struct Read {
    at: Instant,
    /// Words of work heard until then.
    heard: u64,
    offers: Arc<Vec<Offer>>,
}

impl Engine {
    /// The open studies that need workers, by id; as they were at `since` or later, and read after whatever work this
    /// process has heard of.
    pub(super) async fn offers(&self, since: Instant) -> Result<Arc<Vec<Offer>>, EngineError> {
        // One reads, the others wait for what it finds.
        let mut read = self.board.0.lock().await;
        let heard = *self.work_comes().borrow();
        if let Some(read) = read.as_ref().filter(|read| read.at >= since && read.heard == heard) {
            return Ok(Arc::clone(&read.offers));
        }
        let at = Instant::now();
        let studies = self.store.open_studies(StudyId(0), MAX_STUDIES).await?;
        self.answered();
        let needs_workers = studies.into_iter().filter(|study| study.config.benchmark.is_some());
        let offers = Arc::new(Offer::board(needs_workers));
        *read = Some(Read { at, heard, offers: Arc::clone(&offers) });
        Ok(offers)
    }

    /// The study called `name` with its parent or its children.
    pub(super) async fn offers_of(&self, name: &str) -> Result<Vec<Offer>, EngineError> {
        let study = self.store.study_by_name(name).await?;
        let id = study.id;
        let mut studies = self.store.children(id).await?;
        if let Some(parent) = study.parent() {
            // It says whether anything is started.
            studies.push(self.store.study(parent).await?);
        }
        studies.push(study);
        let mut offers = Offer::board(studies.into_iter());
        offers.retain(|offer| offer.study.id == id || offer.study.parent() == Some(id));
        Ok(offers)
    }
}
