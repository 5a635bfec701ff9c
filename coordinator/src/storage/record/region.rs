//! What went down, and what a study samples no more.

use fleetune_core::region::Incident;
use fleetune_core::{Params, Revision, StudyId};
use serde::{Deserialize, Serialize};

use super::StudyRecord;

/// Something that a study samples no more, from one revision to another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StudyExclusion {
    /// What it comes from.
    pub cause: Cause,
    /// Of a region: its corner, a whole configuration. Of a trial: its parameters.
    pub settings: Params,
    /// Why, for people.
    pub why: String,
    /// Since then.
    pub added: Revision,
    /// Until then; none: to this day.
    pub removed: Option<Revision>,
}

impl StudyExclusion {
    /// Whether it holds at `revision`.
    pub fn holds_at(&self, revision: Revision) -> bool {
        self.added <= revision && self.removed.is_none_or(|removed| removed > revision)
    }
}

/// Why something is sampled no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Everything at or beyond it is unsafe: the id of the region.
    Region(i64),
    /// This very configuration is in quarantine: the number of the trial that it ended.
    Trial(i64),
}

impl StudyRecord {
    /// What is not sampled by whoever has seen everything up to `revision`.
    pub fn exclusions_at(&self, revision: Revision) -> Vec<StudyExclusion> {
        self.exclusions.iter().filter(|exclusion| exclusion.holds_at(revision)).cloned().collect()
    }
}

/// An incident to store; its id is not looked at.
#[derive(Clone, Debug)]
pub struct NewIncident {
    /// What happened.
    pub incident: Incident,
    /// The study in which it did; its name may be another's later.
    pub study: StudyId,
}
