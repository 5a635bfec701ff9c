//! Whole trials, many at a time, and the name of the study that they make.

use async_trait::async_trait;
use fleetune_core::{StudyId, Timestamp, TrialNumber};

use super::common::{need_open_head, need_study};
use super::foreign::{Known, add};
use super::{Lane, Operation};
use crate::storage::engine::News;
use crate::storage::error::StoreError;
use crate::storage::foreign::NewTrial;
use crate::storage::rows::Rows;

pub(in crate::storage) struct AddTrials {
    pub study: StudyId,
    /// Number of the first of `new`.
    pub first: TrialNumber,
    pub new: Vec<NewTrial>,
    pub now: Timestamp,
}

#[async_trait]
impl Operation for AddTrials {
    /// The study's next number.
    type Output = TrialNumber;

    const NEWS: News = News::Watchers;

    fn lane(&self) -> Lane {
        Lane::Study(self.study)
    }

    async fn apply(&self, rows: &mut dyn Rows) -> Result<TrialNumber, StoreError> {
        let mut head = need_open_head(rows, self.study).await?;
        if self.first > head.next_number {
            return Err(StoreError::TrialNotFound { study: self.study, number: TrialNumber(self.first.0 - 1) });
        }
        // A repeat: what is there stays.
        let there = head.next_number.0.abs_diff(self.first.0) as usize;
        let Some(missing) = self.new.get(there..).filter(|missing| !missing.is_empty()) else {
            return Ok(head.next_number);
        };
        let mut known = Known::default();
        for new in missing {
            add(rows, &mut head, new, &mut known, self.now).await?;
        }
        rows.save_head(&head).await?;
        Ok(head.next_number)
    }
}

pub(in crate::storage) struct NameStudy {
    pub study: StudyId,
    pub name: String,
}

#[async_trait]
impl Operation for NameStudy {
    type Output = ();

    const NEWS: News = News::Watchers;
    const IS_DEED: bool = true;

    /// That of creation: names are unique.
    fn lane(&self) -> Lane {
        Lane::Global
    }

    async fn apply(&self, rows: &mut dyn Rows) -> Result<(), StoreError> {
        match rows.study_by_name(&self.name).await? {
            Some(other) if other.id != self.study => return Err(StoreError::NameTaken(self.name.clone())),
            Some(_) => return Ok(()),
            None => {}
        }
        need_study(rows, self.study).await?;
        rows.rename_study(self.study, &self.name).await
    }
}
