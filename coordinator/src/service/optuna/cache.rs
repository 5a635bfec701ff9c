//! Trials, encoded: ended ones do not change, and every new client wants all of them; open ones every client wants
//! again and again.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use fleetune_core::{Revision, TrialId};

use crate::storage::{TrialMark, TrialRecord};

/// Bytes kept of ended trials, at most, and of open ones.
const LIMIT: usize = 128 * 1024 * 1024;
const OPEN_LIMIT: usize = 16 * 1024 * 1024;

/// What an entry costs besides its bytes, about.
const OVERHEAD: usize = 96;

/// Encoded trials. Open ones have a place of their own: they change, and must not push out what does not.
pub struct Cache {
    ended: Trials,
    open: Trials,
}

impl Default for Cache {
    fn default() -> Self {
        Self { ended: Trials::of(LIMIT), open: Trials::of(OPEN_LIMIT) }
    }
}

impl Cache {
    /// The trials as their marks say they are; `None` for each that is not there.
    pub fn get(&self, marks: &[TrialMark]) -> Vec<Option<Bytes>> {
        let (ended, open) = (self.ended.kept(), self.open.kept());
        marks.iter().map(|mark| if mark.ended { ended.get(mark) } else { open.get(mark) }).collect()
    }

    /// Keeps a trial.
    pub fn put(&self, trial: &TrialRecord, bytes: Bytes) {
        let trials = if trial.state.is_ended() { &self.ended } else { &self.open };
        trials.put(trial.id, trial.revision, bytes);
    }
}

/// Encoded trials by id, each of one revision. What was put in first goes first.
struct Trials {
    limit: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    trials: HashMap<TrialId, (Revision, Bytes)>,
    order: VecDeque<TrialId>,
    bytes: usize,
}

impl Kept {
    fn get(&self, mark: &TrialMark) -> Option<Bytes> {
        let (known, bytes) = self.trials.get(&mark.id)?;
        (*known == mark.revision).then(|| bytes.clone())
    }
}

impl Trials {
    fn of(limit: usize) -> Self {
        Self { limit, kept: Mutex::default() }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, id: TrialId, revision: Revision, bytes: Bytes) {
        let mut kept = self.kept();
        let size = bytes.len() + OVERHEAD;
        if size > self.limit {
            return;
        }
        if let Some((_, before)) = kept.trials.insert(id, (revision, bytes)) {
            kept.bytes -= before.len() + OVERHEAD;
        } else {
            kept.order.push_back(id);
        }
        kept.bytes += size;
        while kept.bytes > self.limit {
            let Some(first) = kept.order.pop_front() else { return };
            if let Some((_, gone)) = kept.trials.remove(&first) {
                kept.bytes -= gone.len() + OVERHEAD;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(trials: &Trials, id: i64, revision: i64) -> Option<Bytes> {
        trials.kept().get(&TrialMark { id: TrialId(id), revision: Revision(revision), ended: true })
    }

    #[test]
    fn only_the_same_revision_is_given() {
        let cache = Trials::of(1_000);
        cache.put(TrialId(1), Revision(5), Bytes::from_static(b"a"));
        assert_eq!(get(&cache, 1, 5), Some(Bytes::from_static(b"a")));
        assert_eq!(get(&cache, 1, 6), None);
        assert_eq!(get(&cache, 2, 5), None);
    }

    #[test]
    fn it_stays_within_its_limit() {
        let cache = Trials::of(10 * (OVERHEAD + 100));
        for id in 0..100 {
            cache.put(TrialId(id), Revision(1), vec![0; 100].into());
            cache.put(TrialId(id), Revision(2), vec![0; 100].into());
        }
        let there = (0..100).filter(|&id| get(&cache, id, 2).is_some()).collect::<Vec<_>>();
        assert_eq!(there, (90..100).collect::<Vec<_>>());
        cache.put(TrialId(200), Revision(1), vec![0; 100_000].into());
        assert_eq!(get(&cache, 200, 1), None);
    }
}
