//! Drills: real coordinators, workers and clients at work while processes are killed and networks are cut, and a checker
//! that reads everything afterwards.
//!
//! An [`arena`] is one storage with all who use it. Its faults follow a [`plan`] drawn from a seed; its clients write
//! down in a [`ledger`] what was acknowledged; the [`check`] holds the storage to that. Nothing here knows how the
//! program works inside.

pub mod arena;
pub mod bits;
pub mod check;
mod client;
mod close;
pub mod ledger;
pub mod plan;
mod postings;
pub mod proxy;
pub mod skew;

use std::fmt;
use std::path::PathBuf;

use clap::ValueEnum;

pub use arena::Arena;
pub use check::Findings;

/// Where an arena keeps its studies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Storage {
    /// A file, and one coordinator.
    Sqlite,
    /// A cluster of its own, and two coordinators.
    Postgres,
}

/// What is drilled.
#[derive(Clone, Debug)]
pub struct Drill {
    /// The program.
    pub program: PathBuf,
    /// The runner of its workers.
    pub runner: PathBuf,
    /// All choices are drawn from it.
    pub seed: u64,
    /// Of faults, all storages together.
    pub seconds: f64,
    /// One after the other.
    pub storages: Vec<Storage>,
}

/// What was done, and what came of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Of the drill.
    pub seed: u64,
    /// Seconds of faults.
    pub seconds: f64,
    /// Processes killed.
    pub kills: u32,
    /// Times that Postgres was stopped at once and started again.
    pub restarts: u32,
    /// Cuts between a worker or a client and its coordinator.
    pub cuts: u32,
    /// Writes that were acknowledged.
    pub acked: usize,
    /// What does not fit.
    pub findings: Findings,
}

impl Drill {
    /// Drills every storage for its share of the time. `say` hears what happens.
    pub fn run(&self, say: &dyn Fn(&str)) -> Report {
        let mut report = Report { seed: self.seed, seconds: self.seconds, ..Report::default() };
        for &storage in &self.storages {
            let seconds = self.seconds / self.storages.len() as f64;
            let mut arena = Arena::new(self, storage);
            let plan = plan::plan(self.seed, storage, seconds);
            let tally = arena.run(&plan, seconds, say);
            report.kills += tally.kills;
            report.restarts += tally.restarts;
            report.cuts += tally.cuts;
            report.acked += arena.acked();
            let findings = arena.check();
            for finding in findings.all() {
                say(&format!("{storage:?}: {finding}"));
            }
            if !findings.is_clean() {
                say(&format!("what there was is kept in {}", arena.keep().display()));
            }
            report.findings.add(findings);
        }
        report
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "drill: seed={} seconds={} kills={} restarts={} cuts={} acked={} lost={} duplicated={}",
            self.seed,
            self.seconds,
            self.kills,
            self.restarts,
            self.cuts,
            self.acked,
            self.findings.lost.len(),
            self.findings.duplicated.len()
        )
    }
}
