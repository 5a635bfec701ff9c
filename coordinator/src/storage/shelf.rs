//! What memory has of a study for clients that sample themselves: its counters, where each of its trials stands, and
//! those that are written to whole.
//!
//! A copy is only as good as its revision. Reads look whether the study is still there ([`Shelf::look`]); writes are
//! made on the condition that it is (`facts`). So any number of processes may share a database.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fleetune_core::study::Budget;
use fleetune_core::{Distribution, Revision, StudyId, TrialId, TrialNumber, Turn};

use super::draft::Draft;
use super::engine::Engine;
use super::error::StoreError;
use super::foreign::{TrialMark, WholeTrial};
use super::look::Look;
use super::record::StudyRecord;
use super::rows::StudyHead;

/// Studies with a shelf, at most, before those that nobody uses are dropped.
const SHELVES: usize = 128;
/// Trials kept whole, at most.
const WHOLE: usize = 4_096;
/// Ended trials among them: everybody reads them once.
const ENDED: usize = 256;
/// Trials with more steps, or more bytes of attributes, are not kept whole.
const STEPS: usize = 4_096;
const ATTRIBUTES: usize = 256 * 1024;

/// The shelves of a store.
#[derive(Default)]
pub(super) struct Shelves(Mutex<HashMap<StudyId, Arc<Shelf>>>);

impl Shelves {
    pub fn of(&self, study: StudyId) -> Arc<Shelf> {
        let mut shelves = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if shelves.len() >= SHELVES && !shelves.contains_key(&study) {
            shelves.retain(|_, shelf| Arc::strong_count(shelf) > 1);
        }
        Arc::clone(shelves.entry(study).or_insert_with(|| Arc::new(Shelf::new(study))))
    }

    /// That of a study that has one.
    pub fn known(&self, study: StudyId) -> Option<Arc<Shelf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&study).cloned()
    }

    /// Drops that of a study that is gone.
    pub fn forget(&self, study: StudyId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&study);
    }
}

/// What memory has of one study.
pub(super) struct Shelf {
    study: StudyId,
    state: Mutex<State>,
    /// Looks that were begun. Who waits for one that began after it had come need not look itself.
    begun: AtomicU64,
    /// The newest look that was finished; held while one is under way.
    looking: tokio::sync::Mutex<u64>,
    /// Whether something was written past it in this process.
    passed: AtomicBool,
}

#[derive(Default)]
pub(super) struct State {
    /// Zero while nothing is known. Everything below is as of this revision, or never changes.
    pub revision: Revision,
    next_number: TrialNumber,
    next_turn: Turn,
    config_revision: Revision,
    /// `None` when it has another configuration by now. Its counters, its state and the like are not kept up to date.
    pub record: Option<Arc<StudyRecord>>,
    /// By id.
    marks: Vec<TrialMark>,
    /// Of the revisions in `marks`.
    whole: HashMap<TrialId, Arc<WholeTrial>>,
    /// Those among `whole` that have ended.
    ended: VecDeque<TrialId>,
    /// Open ones that are too large to be kept whole.
    pub large: HashSet<TrialId>,
    /// The distributions with which parameters were named first.
    pub parameters: HashMap<String, Arc<Distribution>>,
}

impl Shelf {
    fn new(study: StudyId) -> Self {
        Self {
            study,
            state: Mutex::default(),
            begun: AtomicU64::new(0),
            looking: tokio::sync::Mutex::new(0),
            passed: AtomicBool::new(false),
        }
    }

    pub fn study(&self) -> StudyId {
        self.study
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something was written that it was not told of.
    pub fn was_passed(&self) {
        self.passed.store(true, Ordering::Relaxed);
    }

    /// Whether a write may be decided on it without a look, as far as this process knows.
    pub fn may_be_current(&self) -> bool {
        !self.passed.load(Ordering::Relaxed) && self.state().revision > Revision(0)
    }

    /// Catches up with what had changed when this was called. Those who call at the same time share a look.
    ///
    /// # Errors
    /// [`StoreError::StudyNotFound`].
    pub async fn look(&self, engine: &dyn Engine) -> Result<(), StoreError> {
        let begun_before = self.begun.load(Ordering::SeqCst);
        let mut finished = self.looking.lock().await;
        if *finished > begun_before {
            return Ok(());
        }
        let own = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        self.passed.store(false, Ordering::Relaxed);
        let after = self.state().revision;
        let look = engine.look(self.study, after).await?;
        let look = look.ok_or_else(|| StoreError::StudyNotFound(self.study.to_string()))?;
        self.state().catch_up(look);
        *finished = own;
        Ok(())
    }
}

impl State {
    /// Takes note of what changed. A look that came late says nothing new.
    fn catch_up(&mut self, look: Look) {
        if look.revision <= self.revision {
            return;
        }
        self.revision = look.revision;
        self.next_number = look.next_number;
        self.next_turn = look.next_turn;
        if look.config_revision != self.config_revision {
            self.config_revision = look.config_revision;
            self.record = None;
        }
        let mut changed = look.changed;
        changed.sort_unstable_by_key(|mark| mark.id);
        for mark in changed {
            self.mark(mark);
            if self.whole.get(&mark.id).is_some_and(|whole| whole.record.revision != mark.revision) {
                self.whole.remove(&mark.id);
            }
            if mark.ended {
                self.large.remove(&mark.id);
            }
        }
    }

    /// Takes note of a draft that was written; `ids`: of its new trials.
    pub fn written(&mut self, draft: Draft, ids: &BTreeMap<TrialNumber, TrialId>) {
        let Draft { at, head, trials, added, .. } = draft;
        // A look may have seen it first.
        let in_step = self.revision == at;
        let added = added.into_iter().filter_map(|mut record| {
            record.id = *ids.get(&record.number)?;
            Some(WholeTrial { record, attributes: Vec::new() })
        });
        for whole in trials.into_values().chain(added) {
            if in_step {
                let (id, revision, ended) = (whole.record.id, whole.record.revision, whole.record.state.is_ended());
                self.mark(TrialMark { id, revision, ended });
            }
            self.keep(whole);
        }
        if in_step {
            self.revision = head.revision;
            self.next_number = head.next_number;
            self.next_turn = head.next_turn;
        }
    }

    /// Keeps a trial whole, unless it is too large, or another than the one known by its mark.
    pub fn keep(&mut self, whole: WholeTrial) {
        let id = whole.record.id;
        let known = self.find(id).is_some_and(|mark| mark.revision == whole.record.revision);
        let is_ended = whole.record.state.is_ended();
        let is_large = is_large(&whole);
        if is_ended {
            self.large.remove(&id);
        } else if is_large {
            self.large.insert(id);
        }
        if !known || is_large {
            self.whole.remove(&id);
            return;
        }
        if self.whole.len() >= WHOLE && !self.whole.contains_key(&id) {
            self.whole.clear();
            self.ended.clear();
        }
        self.whole.insert(id, Arc::new(whole));
        if is_ended {
            self.ended.push_back(id);
            if self.ended.len() > ENDED
                && let Some(oldest) = self.ended.pop_front()
            {
                self.whole.remove(&oldest);
            }
        }
    }

    fn mark(&mut self, mark: TrialMark) {
        match self.marks.last() {
            Some(last) if last.id >= mark.id => match self.marks.binary_search_by_key(&mark.id, |known| known.id) {
                Ok(index) => self.marks[index] = mark,
                Err(index) => self.marks.insert(index, mark),
            },
            Some(_) | None => self.marks.push(mark),
        }
    }

    /// Where a trial of the study stands.
    pub fn find(&self, id: TrialId) -> Option<TrialMark> {
        self.marks.binary_search_by_key(&id, |mark| mark.id).ok().map(|index| self.marks[index])
    }

    /// A trial as its mark says it is, if it is kept whole.
    pub fn whole(&self, id: TrialId) -> Option<&Arc<WholeTrial>> {
        self.whole.get(&id)
    }

    /// The trials with ids above `above`, and those of `named`; by id.
    pub fn marks(&self, above: TrialId, named: &[i64]) -> Vec<TrialMark> {
        let first = self.marks.partition_point(|mark| mark.id <= above);
        let named: BTreeSet<i64> = named.iter().copied().filter(|&id| id <= above.0).collect();
        let mut marks = Vec::with_capacity(named.len() + self.marks.len() - first);
        marks.extend(named.into_iter().filter_map(|id| self.find(TrialId(id))));
        marks.extend_from_slice(&self.marks[first..]);
        marks
    }

    /// The head of the study; of what is not a counter only what never changes is sure to be current.
    pub fn head(&self, study: StudyId) -> Option<StudyHead> {
        let record = self.record.as_ref()?;
        Some(StudyHead {
            id: study,
            name: record.name.clone(),
            state: record.state,
            revision: self.revision,
            next_number: self.next_number,
            next_turn: self.next_turn,
            max_parallel: record.schedule.max_parallel,
            served_at: record.served_at,
            is_parent: record.is_parent(),
        })
    }

    /// Takes note of the study's configuration, if it is the one of this revision.
    pub fn configured(&mut self, mut record: StudyRecord) {
        if record.config_revision == self.config_revision {
            // It may be large, and is not asked for.
            record.description = None;
            self.record = Some(Arc::new(record));
        }
    }

    /// Whether the study can be over by what it has used up.
    pub fn has_budget(&self) -> Option<bool> {
        Some(self.record.as_ref()?.config.budget != Budget::default())
    }
}

fn is_large(whole: &WholeTrial) -> bool {
    let attributes = || whole.attributes.iter().map(|(_, key, value)| key.len() + value.len()).sum::<usize>();
    whole.record.steps.len() > STEPS || attributes() > ATTRIBUTES
}
