//! How a search ends: by budget, target or an exhausted space; with a comparison or without.

use fleetune_core::{StudyId, StudyState};

use super::comparison;
use super::engine::Engine;
use super::error::EngineError;
use super::live::Room;
use crate::storage::{StoreError, StudyUpdate};

impl Engine {
    /// Ends the search of a study where it is over: nothing runs and nothing more may be started. Safe to call at any
    /// time, from any process.
    pub(super) async fn conclude(&self, id: StudyId) -> Result<(), EngineError> {
        let over = {
            let desk = self.desk(id).await?;
            let mut live = desk.live().lock().await;
            live.catch_up().await?;
            let idle = live.record().state == StudyState::Active && !live.history().any_running();
            if idle {
                // Who finds nothing left to try may end the search now.
                self.changed();
            }
            match live.room() {
                Room::Over(why) if idle => Some((why, comparison::spec(&live))),
                Room::Over(_) | Room::Trials(_) => None,
            }
        };
        match over {
            Some((why, spec)) => self.end_search(id, why, spec).await,
            None => Ok(()),
        }
    }

    /// Ends the search because nothing is left to propose.
    pub(super) async fn conclude_exhausted(&self, id: StudyId, why: &str) -> Result<(), EngineError> {
        let spec = {
            let desk = self.desk(id).await?;
            let live = desk.live().lock().await;
            if live.history().any_running() || live.record().state != StudyState::Active {
                return Ok(());
            }
            comparison::spec(&live)
        };
        self.end_search(id, format!("nothing left to try: {why}"), spec).await
    }

    async fn end_search(&self, id: StudyId, why: String, spec: Option<comparison::Spec>) -> Result<(), EngineError> {
        let now = self.now();
        let result = if let Some(spec) = spec {
            let spec = serde_json::to_value(&spec).map_err(|error| EngineError::invalid("comparison", error))?;
            self.store.create_comparison(id, spec, why, now).await.map(|_| ())
        } else {
            let state = Some((StudyState::Finished, why));
            let update = StudyUpdate { expected: Some(StudyState::Active), state, ..StudyUpdate::default() };
            self.store.update_study(id, update, now).await.map(|_| ())
        };
        match result {
            // Another process ended it first: the same end.
            Ok(()) | Err(StoreError::WrongStudyState { .. }) => {
                self.changed();
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Ends trials whose lease is long gone and that nobody may run again; to be called now and then.
    pub async fn reap(&self) -> Result<(), EngineError> {
        let ended = self.store.reap(self.rules(), self.now()).await?;
        self.answered();
        for (study, _) in ended {
            self.changed();
            self.conclude(study).await?;
        }
        Ok(())
    }
}
