//! The board: which studies may have work for a worker, as this process knows it, for all calls that wait.
//!
//! It only spares looks at storage. Whether there is work is decided where it is handed out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fleetune_core::StudyId;
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
}

impl Offer {
    pub fn new(study: StudyRecord) -> Self {
        Self { study, tries: Semaphore::new(TRIES), empty: AtomicBool::new(false) }
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
        let offers = Arc::new(needs_workers.map(Offer::new).collect());
        *read = Some(Read { at, heard, offers: Arc::clone(&offers) });
        Ok(offers)
    }
}
