//! Children: a study for each class of workers that a parent meets.

use async_trait::async_trait;
use fleetune_core::{StudyId, StudyState, Timestamp};

use super::common::{need_head, need_study, wrong_state};
use super::study::open_job;
use super::{Lane, Operation};
use crate::storage::error::StoreError;
use crate::storage::record::{Family, JobKind, NewStudy, StudyRecord};
use crate::storage::rows::Rows;

/// Most children of one study.
const MAX_CHILDREN: usize = 64;

/// Longest part of a child's name that names its class, characters.
const MAX_CLASS: usize = 100;

pub(in crate::storage) struct CreateChild {
    pub parent: StudyId,
    pub class: String,
    pub now: Timestamp,
}

#[async_trait]
impl Operation for CreateChild {
    type Output = StudyRecord;

    fn lane(&self) -> Lane {
        Lane::Study(self.parent)
    }

    async fn apply(&self, rows: &mut dyn Rows) -> Result<StudyRecord, StoreError> {
        // The row of the parent is locked: two workers of one class, at whichever coordinators, find one child.
        let head = need_head(rows, self.parent).await?;
        let children = rows.children(self.parent).await?;
        let class = |child: &StudyRecord| child.family.as_ref().and_then(Family::class).map(str::to_owned);
        if let Some(child) = children.iter().find(|child| class(child).as_ref() == Some(&self.class)) {
            return Ok(child.clone());
        }
        let parent = need_study(rows, self.parent).await?;
        let per = match &parent.family {
            Some(Family::Parent(per)) if parent.state == StudyState::Active => per.clone(),
            Some(_) | None => return Err(wrong_state(&head, "have children")),
        };
        if children.len() >= MAX_CHILDREN {
            let what = format!("the number of kinds of workers of study `{}`", head.name);
            return Err(StoreError::TooLarge { what, limit: MAX_CHILDREN as u64 });
        }
        let new = NewStudy {
            name: self.free_name(rows, &parent.name).await?,
            request_id: format!("child/{}/{}", self.parent, self.class),
            state: StudyState::Preparing,
            config: parent.config,
            schedule: parent.schedule,
            family: Some(Family::Child { parent: self.parent, per, class: self.class.clone() }),
        };
        let id = rows.insert_study(&new, self.now).await?;
        rows.insert_job(&open_job(id, JobKind::Describe, serde_json::Value::Null), self.now).await?;
        need_study(rows, id).await
    }
}

impl CreateChild {
    /// `PARENT@CLASS`; with a number where that is another study's.
    async fn free_name(&self, rows: &mut dyn Rows, parent: &str) -> Result<String, StoreError> {
        let plain = |c: char| if c.is_control() || c == '/' { '_' } else { c };
        let class: String = self.class.chars().map(plain).take(MAX_CLASS).collect();
        let name = format!("{parent}@{class}");
        let mut free = name.clone();
        for number in 2.. {
            if rows.study_by_name(&free).await?.is_none() {
                break;
            }
            free = format!("{name} ({number})");
        }
        Ok(free)
    }
}
