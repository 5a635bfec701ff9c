//! Studies are put away after their end, and fetched back.

use async_trait::async_trait;
use fleetune_core::{StudyId, StudyState, Timestamp, TrialNumber};

use super::common::{need_head, need_study, wrong_state};
use super::{Lane, Operation};
use crate::storage::engine::News;
use crate::storage::error::StoreError;
use crate::storage::record::StudyRecord;
use crate::storage::rows::Rows;

pub(in crate::storage) struct Archive {
    pub study: StudyId,
}

#[async_trait]
impl Operation for Archive {
    type Output = StudyRecord;

    const IS_DEED: bool = true;

    fn lane(&self) -> Lane {
        Lane::Study(self.study)
    }

    async fn apply(&self, rows: &mut dyn Rows) -> Result<StudyRecord, StoreError> {
        let mut head = need_head(rows, self.study).await?;
        let mut study = need_study(rows, self.study).await?;
        if study.state == StudyState::Archived {
            return Ok(study);
        }
        if !study.state.may_become(StudyState::Archived) {
            return Err(wrong_state(&head, "be archived"));
        }
        study.archived_from = Some(study.state);
        study.state = StudyState::Archived;
        study.revision = head.bump();
        rows.save_study(&study).await?;
        Ok(study)
    }
}

pub(in crate::storage) struct Unarchive {
    pub study: StudyId,
    pub now: Timestamp,
}

#[async_trait]
impl Operation for Unarchive {
    type Output = StudyRecord;

    const IS_DEED: bool = true;

    fn lane(&self) -> Lane {
        Lane::Study(self.study)
    }

    async fn apply(&self, rows: &mut dyn Rows) -> Result<StudyRecord, StoreError> {
        let mut head = need_head(rows, self.study).await?;
        let mut study = need_study(rows, self.study).await?;
        let Some(before) = study.archived_from.take() else { return Ok(study) };
        study.state = before;
        study.unarchived_at = Some(self.now);
        study.revision = head.bump();
        rows.save_study(&study).await?;
        Ok(study)
    }
}

/// See [`crate::storage::Store::shed`].
pub(in crate::storage) struct Shed {
    pub study: StudyId,
    pub from: TrialNumber,
    pub count: u32,
}

#[async_trait]
impl Operation for Shed {
    type Output = ();

    const NEWS: News = News::Watchers;

    fn lane(&self) -> Lane {
        Lane::Study(self.study)
    }

    async fn apply(&self, rows: &mut dyn Rows) -> Result<(), StoreError> {
        let head = need_head(rows, self.study).await?;
        // It may have been fetched back meanwhile.
        if head.state != StudyState::Archived {
            return Ok(());
        }
        rows.shed(self.study, self.from, self.count).await
    }
}
