//! What workers' machines do, as they told this process. Kept in memory alone: it is old within seconds.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fleetune_core::gauges::Gauges;
use fleetune_core::{Timestamp, WorkerId};

/// Workers that are kept, at most.
const MAX_WORKERS: usize = 10_000;

/// The newest gauges of each worker.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<HashMap<WorkerId, (Timestamp, Gauges)>>);

impl Told {
    /// Takes in what a worker told. Past the limit those that were silent for `ttl` make room, or it is not kept.
    pub fn note(&self, worker: &WorkerId, gauges: Gauges, now: Timestamp, ttl: Duration) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= MAX_WORKERS && !told.contains_key(worker) {
            told.retain(|_, (at, _)| now.since(*at) <= ttl);
        }
        if told.len() < MAX_WORKERS || told.contains_key(worker) {
            told.insert(worker.clone(), (now, gauges));
        }
    }

    /// What a worker told within `ttl`.
    pub fn of(&self, worker: &WorkerId, now: Timestamp, ttl: Duration) -> Option<Gauges> {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.get(worker).filter(|(at, _)| now.since(*at) <= ttl).map(|(_, gauges)| gauges.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(30);

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1_000_000)
    }

    #[test]
    fn the_newest_counts_while_it_is_new_and_the_silent_make_room() {
        let told = Told::default();
        let (worker, load) = (WorkerId("w".to_owned()), |load| Gauges { load: Some(load), ..Gauges::default() });
        told.note(&worker, load(1.0), at(0), TTL);
        told.note(&worker, load(2.0), at(10), TTL);
        assert_eq!(told.of(&worker, at(40), TTL), Some(load(2.0)));
        assert_eq!(told.of(&worker, at(41), TTL), None);
        for other in 1..MAX_WORKERS {
            told.note(&WorkerId(other.to_string()), load(0.0), at(20), TTL);
        }
        let late = WorkerId("late".to_owned());
        told.note(&late, load(3.0), at(30), TTL);
        assert_eq!(told.of(&late, at(30), TTL), None, "no room");
        told.note(&late, load(3.0), at(45), TTL);
        assert_eq!(told.of(&late, at(45), TTL), Some(load(3.0)));
    }
}
