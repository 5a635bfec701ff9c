//! Ending trials that nobody may run again and nobody asks for.

use async_trait::async_trait;
use fleetune_core::{FailKind, StudyId, Timestamp, TrialNumber};

use super::common::{abort_trial, at_limit, failure};
use super::regions::{lost, went_down};
use super::{Lane, Operation};
use crate::storage::error::StoreError;
use crate::storage::record::{JobState, LeaseRules};
use crate::storage::rows::Rows;

/// Trials ended at a time.
const LIMIT: u32 = 64;

pub(in crate::storage) struct Reap {
    pub rules: LeaseRules,
    pub now: Timestamp,
}

#[async_trait]
impl Operation for Reap {
    type Output = Vec<(StudyId, TrialNumber)>;

    fn lane(&self) -> Lane {
        Lane::Global
    }

    async fn apply(&self, rows: &mut dyn Rows) -> Result<Vec<(StudyId, TrialNumber)>, StoreError> {
        let mut ended = Vec::new();
        if self.now < self.rules.not_before {
            return Ok(ended);
        }
        let before = Timestamp(0).plus(self.now.since(Timestamp(0)).saturating_sub(self.rules.ttl));
        let mut jobs = rows.lost_jobs(before, self.rules.max_attempts.max(1), LIMIT).await?;
        // Studies are locked in one order everywhere.
        jobs.sort_unstable();
        for (study, id) in jobs {
            let Some(mut head) = rows.head_for_update(study).await? else { continue };
            // Decided again under the lock: it may have been renewed, claimed or ended meanwhile.
            let Some(job) = rows.job_for_update(id).await? else { continue };
            let ran_out = job.record.expires_at.is_some_and(|expires_at| expires_at <= before);
            let Some(number) = job.record.trial.filter(|_| job.record.state == JobState::Leased && ran_out) else {
                continue;
            };
            let attempts = rows.attempts(id).await?;
            let Some(why) = at_limit(&attempts, self.rules.max_attempts) else { continue };
            let Some(mut trial) = rows.trial(study, number).await? else { continue };
            abort_trial(rows, &mut head, &mut trial, &failure(FailKind::WorkerLost, &why), self.now).await?;
            went_down(rows, &head, &trial.record, &lost(&attempts), self.now).await?;
            rows.save_head(&head).await?;
            ended.push((study, number));
        }
        Ok(ended)
    }
}
