//! Attributes of studies and trials.

use async_trait::async_trait;

use super::common::{need_open_head, need_trial};
use super::{Lane, Operation};
use crate::storage::engine::News;
use crate::storage::error::StoreError;
use crate::storage::record::{AttributeKind, AttributeOwner};
use crate::storage::rows::Rows;

pub(in crate::storage) struct SetAttribute {
    pub owner: AttributeOwner,
    pub kind: AttributeKind,
    pub key: String,
    pub value: String,
}

#[async_trait]
impl Operation for SetAttribute {
    type Output = ();

    const NEWS: News = News::Watchers;

    fn lane(&self) -> Lane {
        match self.owner {
            AttributeOwner::Study(study) | AttributeOwner::Trial(study, _) => Lane::Study(study),
        }
    }

    async fn apply(&self, rows: &mut dyn Rows) -> Result<(), StoreError> {
        match self.owner {
            AttributeOwner::Study(study) => {
                need_open_head(rows, study).await?;
                rows.set_study_attribute(study, self.kind, &self.key, &self.value).await
            }
            AttributeOwner::Trial(study, number) => {
                let mut head = need_open_head(rows, study).await?;
                let mut trial = need_trial(rows, study, number).await?;
                trial.record.revision = head.bump();
                rows.set_trial_attribute(trial.record.id, self.kind, &self.key, &self.value).await?;
                rows.save_trial(&trial).await?;
                rows.save_head(&head).await
            }
        }
    }
}
