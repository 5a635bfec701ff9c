//! What operators look at: statistics of the storage, studies as stored.

use fleetune_core::StudyId;

use super::engine::Engine;
use super::error::EngineError;
use crate::storage::{Statistics, StudyRecord};

impl Engine {
    /// How the database is doing.
    pub fn storage_statistics(&self) -> &Statistics {
        self.store.statistics()
    }

    /// At most `limit` studies as stored, by id; cheap, since no history is read.
    pub async fn study_records(&self, limit: u32) -> Result<Vec<StudyRecord>, EngineError> {
        Ok(self.store.studies(StudyId(0), limit).await?)
    }
}
