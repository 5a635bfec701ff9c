//! Giving up on held trials whose client has gone.

use async_trait::async_trait;
use fleetune_core::study::Budget;
use fleetune_core::{FailKind, StudyId, Timestamp, TrialId, TrialNumber, TrialState};

use super::common::need_study;
use super::foreign::end;
use super::{Lane, Operation};
use crate::storage::engine::News;
use crate::storage::error::StoreError;
use crate::storage::foreign::{FAIL_REASON, HeldTrial};
use crate::storage::record::AttributeKind;
use crate::storage::rows::{Rows, TrialRow};

/// The trial, if it still runs without a lease. The row of its study is locked.
async fn held(rows: &mut dyn Rows, study: StudyId, id: TrialId) -> Result<Option<TrialRow>, StoreError> {
    let trial = rows.trial_by_id(id).await?;
    Ok(trial.filter(|trial| trial.record.study == study && trial.record.is_held()))
}

pub(in crate::storage) struct FailSilent {
    pub held: HeldTrial,
    pub why: String,
    pub now: Timestamp,
}

#[async_trait]
impl Operation for FailSilent {
    type Output = Option<(TrialNumber, bool)>;

    const NEWS: News = News::Watchers;

    fn lane(&self) -> Lane {
        Lane::Study(self.held.study)
    }

    async fn apply(&self, rows: &mut dyn Rows) -> Result<Option<(TrialNumber, bool)>, StoreError> {
        let HeldTrial { id, study, revision } = self.held;
        let Some(mut head) = rows.head_for_update(study).await? else { return Ok(None) };
        let Some(mut trial) = held(rows, study, id).await? else { return Ok(None) };
        if trial.record.revision != revision {
            return Ok(None);
        }
        end(&mut head, &mut trial.record, TrialState::Fail, Some(self.now));
        // Nothing is known about its parameters.
        trial.record.fail = Some((FailKind::Error, self.why.clone()));
        let text = serde_json::Value::from(self.why.as_str()).to_string();
        rows.set_trial_attribute(id, AttributeKind::System, FAIL_REASON, &text).await?;
        rows.save_whole(&trial).await?;
        rows.save_head(&head).await?;
        let may_be_over = need_study(rows, study).await?.config.budget != Budget::default();
        Ok(Some((trial.record.number, may_be_over)))
    }
}

pub(in crate::storage) struct ShowLife {
    pub study: StudyId,
    pub trials: Vec<TrialId>,
}

#[async_trait]
impl Operation for ShowLife {
    type Output = ();

    const NEWS: News = News::Nobody;

    fn lane(&self) -> Lane {
        Lane::Study(self.study)
    }

    async fn apply(&self, rows: &mut dyn Rows) -> Result<(), StoreError> {
        let Some(mut head) = rows.head_for_update(self.study).await? else { return Ok(()) };
        let mut touched = false;
        for &id in &self.trials {
            if let Some(mut trial) = held(rows, self.study, id).await? {
                trial.record.revision = head.bump();
                rows.save_trial(&trial).await?;
                touched = true;
            }
        }
        if touched { rows.save_head(&head).await } else { Ok(()) }
    }
}
