//! A study's next step as one coordinator knows it: trials that ended, trials that enter `Running`, in one write.

use std::collections::BTreeSet;

use async_trait::async_trait;
use fleetune_core::{StudyId, StudyState, Timestamp};

use super::common::{end_record, need_head};
use super::start::start_trials;
use super::{Lane, Operation};
use crate::storage::engine::News;
use crate::storage::error::StoreError;
use crate::storage::record::{Advance, Advanced, StartTrials, Step, TrialRecord};
use crate::storage::rows::{Rows, StudyHead};

pub(in crate::storage) struct AdvanceStudy {
    pub advance: Advance,
    /// Random bits of a lease token per entry of each start.
    pub secrets: Vec<Vec<u64>>,
    pub now: Timestamp,
}

#[async_trait]
impl Operation for AdvanceStudy {
    type Output = Step;

    const NEWS: News = News::Watchers;

    fn lane(&self) -> Lane {
        Lane::Study(self.advance.study)
    }

    async fn apply(&self, rows: &mut dyn Rows) -> Result<Step, StoreError> {
        let advance = &self.advance;
        let mut head = need_head(rows, advance.study).await?;
        // Every change of a trial that is held, and of what decides on starts, takes a revision: while it is the one
        // that the caller knows, so is everything else.
        let starts_none = |start: &StartTrials| head.state != StudyState::Active || head.next_turn != start.turn;
        if head.revision != advance.at || advance.starts.first().is_some_and(starts_none) {
            return Ok(Step::Behind);
        }
        let again = self.known_requests(rows, advance.study).await?;
        if !again.is_empty() {
            return Ok(Step::Again(again));
        }

        let ended = self.end_all(rows, &mut head).await?;
        let mut started = Vec::with_capacity(advance.starts.len());
        if !advance.starts.is_empty() {
            let starts: Vec<&StartTrials> = advance.starts.iter().collect();
            started = start_trials(rows, &mut head, &starts, &self.secrets, self.now).await?;
        }
        rows.save_head(&head).await?;
        Ok(Step::Done(Advanced { ended, started, revision: head.revision }))
    }
}

impl AdvanceStudy {
    /// The requests among ours that have started trials before.
    async fn known_requests(&self, rows: &mut dyn Rows, study: StudyId) -> Result<BTreeSet<String>, StoreError> {
        let requests: Vec<&str> = self.advance.starts.iter().map(|start| start.request_id.as_str()).collect();
        if requests.is_empty() { Ok(BTreeSet::new()) } else { rows.known_requests(study, &requests).await }
    }

    async fn end_all(&self, rows: &mut dyn Rows, head: &mut StudyHead) -> Result<Vec<TrialRecord>, StoreError> {
        let ended: Vec<TrialRecord> = self
            .advance
            .ends
            .iter()
            .map(|(trial, end)| {
                let mut trial = trial.clone();
                end_record(head, &mut trial, end, self.now);
                trial
            })
            .collect();
        if !ended.is_empty() {
            rows.save_ends(&ended).await?;
        }
        Ok(ended)
    }
}
