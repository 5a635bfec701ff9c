//! What of a study changed after some revision, as one statement tells it.

use fleetune_core::{Revision, TrialId, TrialNumber, Turn};
use sqlx::FromRow;

use super::foreign::TrialMark;

/// The counters of a study, and its trials that changed.
pub(super) struct Look {
    pub revision: Revision,
    pub config_revision: Revision,
    pub next_number: TrialNumber,
    pub next_turn: Turn,
    pub changed: Vec<TrialMark>,
}

/// The counters beside a trial that changed; one row without a trial when none did.
#[derive(FromRow)]
pub(super) struct RawChange {
    revision: i64,
    config_revision: i64,
    next_number: i64,
    next_turn: i64,
    trial_id: Option<i64>,
    trial_revision: Option<i64>,
    ended: Option<bool>,
}

impl Look {
    /// What the rows say together; `None` without any.
    pub fn of(rows: &[RawChange]) -> Option<Self> {
        let head = rows.first()?;
        let mark = |row: &RawChange| {
            let (id, revision) = (TrialId(row.trial_id?), Revision(row.trial_revision?));
            Some(TrialMark { id, revision, ended: row.ended? })
        };
        Some(Self {
            revision: Revision(head.revision),
            config_revision: Revision(head.config_revision),
            next_number: TrialNumber(head.next_number),
            next_turn: Turn(head.next_turn),
            changed: rows.iter().filter_map(mark).collect(),
        })
    }
}
