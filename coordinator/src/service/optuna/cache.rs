//! Ended trials, encoded: they do not change, and every new client wants all of them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use fleetune_core::{Revision, TrialId};

/// Bytes kept, at most.
const LIMIT: usize = 128 * 1024 * 1024;

/// What an entry costs besides its bytes, about.
const OVERHEAD: usize = 96;

/// Encoded trials by id, each of one revision. What was put in first goes first.
pub struct Cache {
    limit: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    trials: HashMap<TrialId, (Revision, Bytes)>,
    order: VecDeque<TrialId>,
    bytes: usize,
}

impl Default for Cache {
    fn default() -> Self {
        Self::of(LIMIT)
    }
}

impl Cache {
    fn of(limit: usize) -> Self {
        Self { limit, kept: Mutex::default() }
    }

    /// The trials of `wanted` that are there, of these revisions, in their order; `None` for each that is not.
    pub fn get(&self, wanted: impl Iterator<Item = (TrialId, Revision)>) -> Vec<Option<Bytes>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let get = |(id, revision)| {
            let (known, bytes) = kept.trials.get(&id)?;
            (*known == revision).then(|| bytes.clone())
        };
        wanted.map(get).collect()
    }

    /// Keeps a trial.
    pub fn put(&self, id: TrialId, revision: Revision, bytes: Bytes) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
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

    fn get(cache: &Cache, id: i64, revision: i64) -> Option<Bytes> {
        cache.get([(TrialId(id), Revision(revision))].into_iter()).remove(0)
    }

    #[test]
    fn only_the_same_revision_is_given() {
        let cache = Cache::default();
        cache.put(TrialId(1), Revision(5), Bytes::from_static(b"a"));
        assert_eq!(get(&cache, 1, 5), Some(Bytes::from_static(b"a")));
        assert_eq!(get(&cache, 1, 6), None);
        assert_eq!(get(&cache, 2, 5), None);
    }

    #[test]
    fn it_stays_within_its_limit() {
        let cache = Cache::of(10 * (OVERHEAD + 100));
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
