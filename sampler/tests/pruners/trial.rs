//! A trial as the rules see it.

use fleetune_core::{Revision, TrialNumber, TrialState};
use fleetune_sampler::pruner::Candidate;

/// A trial that owns its steps.
pub struct Trial {
    pub state: TrialState,
    pub ended: Option<Revision>,
    pub value: Option<f64>,
    pub feasible: bool,
    pub steps: Vec<(u32, f64)>,
}

impl Trial {
    pub fn candidate(&self, number: i64) -> Candidate<'_> {
        Candidate {
            number: TrialNumber(number),
            state: self.state,
            ended: self.ended,
            value: self.value,
            feasible: self.feasible,
            steps: &self.steps,
            series: &self.steps,
        }
    }
}
