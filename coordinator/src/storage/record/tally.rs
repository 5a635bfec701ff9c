//! What a study's trials come to, counted.

use fleetune_core::{FailKind, TrialState};

/// Trials of a study by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrialCounts {
    /// Queue entries.
    pub waiting: u64,
    /// Leased or held.
    pub running: u64,
    /// Ended with values.
    pub complete: u64,
    /// Stopped early.
    pub pruned: u64,
    /// Ended without a value.
    pub fail: u64,
    /// Those of `fail` that were skipped before their start.
    pub skipped: u64,
}

impl TrialCounts {
    /// Adds `count` trials in `state`; `fail` says why, where they failed.
    pub fn add(&mut self, state: TrialState, fail: Option<FailKind>, count: u64) {
        match state {
            TrialState::Waiting => self.waiting += count,
            TrialState::Running => self.running += count,
            TrialState::Complete => self.complete += count,
            TrialState::Pruned => self.pruned += count,
            TrialState::Fail => {
                self.fail += count;
                self.skipped += if fail.is_some_and(FailKind::is_skip) { count } else { 0 };
            }
        }
    }
}

/// A study's trials in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// By state.
    pub counts: TrialCounts,
    /// Seconds stored in them.
    pub spent_s: f64,
}
