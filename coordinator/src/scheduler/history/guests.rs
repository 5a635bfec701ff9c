//! What samplers over spaces of clients read.

use std::sync::Arc;

use fleetune_core::{Distribution, Revision, TrialNumber, TrialState, Turn};
use fleetune_sampler::Running;

use super::History;
use crate::scheduler::guest::Distributions;
use crate::storage::TrialRecord;

impl History {
    /// Keeps of what is common what `trial`, at `row` now, has as well, if it completed or was pruned just now.
    pub(super) fn narrow(&mut self, row: usize, trial: &TrialRecord) {
        if self.state[row].is_ended() || !matches!(trial.state, TrialState::Complete | TrialState::Pruned) {
            return;
        }
        let same = |known: &Arc<Distribution>, other: &Arc<Distribution>| Arc::ptr_eq(known, other) || known == other;
        if let Some(common) = &mut self.common {
            common.retain(|name, known| trial.params.get(name).is_some_and(|own| same(known, &own.distribution)));
        } else {
            let own = trial.params.iter().map(|(name, param)| (name.clone(), Arc::clone(&param.distribution)));
            self.common = Some(own.collect());
        }
    }

    /// The parameters that all completed and pruned trials have, with the same distribution.
    pub fn common(&self) -> Distributions {
        self.common.clone().unwrap_or_default()
    }

    /// All running trials, by turn, with the parameters that they have by now.
    pub fn all_running(&self) -> Vec<Running> {
        let running = |(&turn, &number): (&Turn, &TrialNumber)| {
            let params = self.params(number).unwrap_or_default();
            Running { turn, number, params }
        };
        self.running.iter().map(running).collect()
    }

    /// The trials that ended after `known`, by revision.
    pub fn ended_after(&self, known: Revision) -> Vec<(Revision, TrialNumber)> {
        let later = |row: usize| {
            let ended = self.ended.get(row).map(Revision);
            ended.filter(|&ended| ended > known && self.turn.get(row).is_some())
        };
        let mut ended: Vec<(Revision, TrialNumber)> =
            (0..self.len()).filter_map(|row| Some((later(row)?, TrialNumber(row as i64)))).collect();
        ended.sort_unstable();
        ended
    }
}
