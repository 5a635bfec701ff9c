//! Which faults happen when: drawn from a seed, the same on every machine.

use std::time::Duration;

use rand::rngs::ChaCha8Rng;
use rand::{RngExt as _, SeedableRng as _};

use super::Storage;
use super::proxy::Cut;

/// Workers of an arena.
pub const WORKERS: usize = 3;
/// Clients of an arena.
pub const CLIENTS: usize = 4;
/// How long a coordinator's leases run.
pub const LEASE: Duration = Duration::from_secs(30);

/// Drills shorter than this have no time for leases that end.
const LONG: f64 = 100.0;
/// Coordinators and databases are left alone for the rest of each season: leases end only while somebody serves.
const SEASON: f64 = 100.0;
const STORMY: f64 = 45.0;

/// How long a disk is full at least: what is half empty is filled first.
const FULL: Duration = Duration::from_secs(2);

/// One thing that is done to the arena. What is not there (a worker that is dead already) is left out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// SIGKILL.
    KillCoordinator(usize),
    /// It comes back.
    StartCoordinator(usize),
    /// SIGKILL.
    KillWorker(usize),
    /// It comes back, with its identity and its stored results.
    StartWorker(usize),
    /// Immediate stop and start.
    RestartPostgres,
    /// The coordinator on SQLite is started again where nothing can grow.
    FillDisk,
    /// And again with room.
    FreeDisk,
    /// Between a worker and its coordinator.
    CutWorker(usize, Cut, Duration, bool),
    /// Between a client and every coordinator.
    CutClient(usize, Cut, Duration, bool),
}

/// The faults of so many seconds, in order of time.
pub fn plan(seed: u64, storage: Storage, seconds: f64) -> Vec<(Duration, Fault)> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(storage as u64);
    let long = seconds >= LONG;
    let pause = (seconds / 12.0).clamp(0.5, 4.0);
    let coordinators = coordinators(storage);
    let mut faults = Vec::new();
    let mut at = pause;
    while at < seconds {
        let stormy = at % SEASON < STORMY;
        let when = Duration::from_secs_f64(at);
        // Every draw is made whether it is used or not: a plan of another length begins alike.
        let (kind, party) = (rng.random_range(0..100), rng.random_range(0..60_usize));
        let (short, beyond) = (rng.random_range(0.1..2.0), rng.random_range(1.1..1.6));
        let (far, reset) = (rng.random_bool(0.4), rng.random_bool(0.5));
        let cut = [Cut::Requests, Cut::Replies, Cut::Both][rng.random_range(0..3)];
        let short = Duration::from_secs_f64(short);
        let away = if long && far { LEASE.mul_f64(beyond) } else { short };
        let (worker, client, coordinator) = (party % WORKERS, party % CLIENTS, party % coordinators);
        match kind {
            0..30 if stormy => {
                faults.push((when, Fault::KillCoordinator(coordinator)));
                faults.push((when + short, Fault::StartCoordinator(coordinator)));
            }
            30..45 if stormy => match storage {
                Storage::Postgres => faults.push((when, Fault::RestartPostgres)),
                Storage::Sqlite => {
                    faults.push((when, Fault::FillDisk));
                    faults.push((when + short + FULL, Fault::FreeDisk));
                }
            },
            0..60 => {
                faults.push((when, Fault::KillWorker(worker)));
                faults.push((when + away, Fault::StartWorker(worker)));
            }
            60..80 => faults.push((when, Fault::CutWorker(worker, cut, away, reset))),
            _ => faults.push((when, Fault::CutClient(client, cut, short, reset))),
        }
        at += pause * rng.random_range(0.3..1.7);
    }
    faults.sort_by_key(|(at, _)| *at);
    faults
}

/// How many coordinators share a storage.
pub fn coordinators(storage: Storage) -> usize {
    match storage {
        Storage::Sqlite => 1,
        Storage::Postgres => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_has_the_same_faults_and_another_one_has_others() {
        for storage in [Storage::Sqlite, Storage::Postgres] {
            assert_eq!(plan(7, storage, 300.0), plan(7, storage, 300.0));
            assert_ne!(plan(7, storage, 300.0), plan(8, storage, 300.0));
        }
    }

    #[test]
    fn long_plan_has_every_fault_and_cuts_beyond_the_lease() {
        for storage in [Storage::Sqlite, Storage::Postgres] {
            let plan = plan(1, storage, 300.0);
            let has = |wanted: fn(&Fault) -> bool| plan.iter().any(|(_, fault)| wanted(fault));
            assert!(has(|fault| matches!(fault, Fault::KillCoordinator(_))));
            assert!(has(|fault| matches!(fault, Fault::KillWorker(_))));
            assert!(has(|fault| matches!(fault, Fault::CutWorker(_, _, time, _) if *time > LEASE)));
            assert!(has(|fault| matches!(fault, Fault::CutClient(..))));
            assert_eq!(has(|fault| matches!(fault, Fault::RestartPostgres)), storage == Storage::Postgres);
            assert_eq!(has(|fault| matches!(fault, Fault::FillDisk)), storage == Storage::Sqlite);
        }
    }
}
