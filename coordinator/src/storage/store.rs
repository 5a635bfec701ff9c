//! The door to storage: every method in the domain's words, atomic, and durable when it returns.
//!
//! A mutation becomes an operation (the rules) that waits in a lane until a transaction takes it with all others that
//! wait (the queue). A read is one snapshot. Which database lies behind is known to `open` alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use fleetune_core::{JobId, Revision, StudyId, Timestamp, TrialNumber, WorkerId};
use tokio::sync::watch;

use super::engine::{Engine, Heard};
use super::error::StoreError;
use super::operations::{claimed_by, started_by};
use super::queue::Queue;
use super::record::{
    AttemptRecord, AttributeKind, AttributeOwner, HeldJob, JobRecord, Started, StudyRecord, Tally, TrialFilter,
    TrialRecord, WorkerRecord,
};
use super::rows::Rows;
use super::statistics::Statistics;
use super::url::StorageUrl;

/// Rows of one page, at most.
pub const PAGE: u32 = 10_000;

/// Durable home of studies, trials, jobs and workers. Cloning shares it.
///
/// Contract, checked on every back end by `tests/storage.rs`: each method is atomic, and durable when it returns; a
/// trial that has ended never changes its values again. `now` comes from [`Store::now`]; no other method reads a
/// clock. A caller that goes away does not stop a write that waits already.
#[derive(Clone)]
pub struct Store {
    engine: Arc<dyn Engine>,
    pub(super) queue: Arc<Queue>,
    url: Arc<str>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the database at `url`, creates its tables or brings them up to date.
    ///
    /// `sqlite:///abs/path.db`, `sqlite://relative.db`, `sqlite::memory:` (a file that is gone afterwards), or
    /// `postgres://user@host/database`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`StoreError::CannotOpen`], and [`StoreError::SchemaTooNew`] for the database of a newer program.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let url = StorageUrl::parse(url)?;
        let engine = url.open().await?;
        let queue = Arc::new(Queue::new(Arc::clone(&engine)));
        Ok(Self { engine, queue, url: url.shown().into() })
    }

    /// The URL it was opened with, a password replaced.
    pub fn describe_url(&self) -> &str {
        &self.url
    }

    /// The database's clock, by the offset measured last. Never runs backwards within a process.
    pub fn now(&self) -> Timestamp {
        self.engine.now()
    }

    /// Changes when other processes changed something, or may have: a hint to look. Heartbeats are no change. Where
    /// nobody tells (`SQLite`), its sender is gone.
    pub fn changes(&self) -> watch::Receiver<Heard> {
        self.engine.others()
    }

    /// Whether [`Self::changes`] tells now; else others' changes are found by polling alone.
    pub fn hears_of_changes(&self) -> bool {
        self.engine.hears()
    }

    /// Waits for what is queued, then lets go of the database. Later calls fail. Without it the end of the process
    /// does as well: what was answered is durable.
    pub async fn close(&self) {
        self.queue.close().await;
        self.engine.close().await;
    }

    /// What was counted of its writes.
    pub fn statistics(&self) -> &Statistics {
        self.queue.statistics()
    }

    /// Succeeds when the database answers a small read.
    pub async fn check(&self) -> Result<(), StoreError> {
        self.read().await?.worker(&WorkerId(String::new())).await.map(|_| ())
    }

    /// The newest schema version this program knows.
    pub fn migrations_known() -> i64 {
        super::sqlite::migrations_known()
    }

    pub(super) fn engine(&self) -> &dyn Engine {
        &*self.engine
    }

    pub(super) async fn read(&self) -> Result<Box<dyn Rows>, StoreError> {
        self.engine.read().await
    }

    /// The study.
    pub async fn study(&self, id: StudyId) -> Result<StudyRecord, StoreError> {
        let study = self.read().await?.study(id).await?;
        study.ok_or_else(|| StoreError::StudyNotFound(id.to_string()))
    }

    /// The study called `name`.
    pub async fn study_by_name(&self, name: &str) -> Result<StudyRecord, StoreError> {
        let study = self.read().await?.study_by_name(name).await?;
        study.ok_or_else(|| StoreError::StudyNotFound(name.to_owned()))
    }

    /// At most `limit` studies with ids above `after`, by id, archived ones too.
    pub async fn studies(&self, after: StudyId, limit: u32) -> Result<Vec<StudyRecord>, StoreError> {
        self.read().await?.studies(after, limit.min(PAGE), true).await
    }

    /// The same without archived ones.
    pub async fn studies_at_hand(&self, after: StudyId, limit: u32) -> Result<Vec<StudyRecord>, StoreError> {
        self.read().await?.studies(after, limit.min(PAGE), false).await
    }

    /// At most `limit` studies that have not ended, with ids above `after`, by id.
    pub async fn open_studies(&self, after: StudyId, limit: u32) -> Result<Vec<StudyRecord>, StoreError> {
        self.read().await?.open_studies(after, limit.min(PAGE)).await
    }

    /// A trial, with the steps of its current attempt.
    pub async fn trial(&self, study: StudyId, number: TrialNumber) -> Result<TrialRecord, StoreError> {
        let mut rows = self.read().await?;
        let trial = rows.trial(study, number).await?.ok_or(StoreError::TrialNotFound { study, number })?;
        with_steps(&mut *rows, trial.record).await
    }

    /// The trials that `filter` names, by number, with their steps.
    pub async fn trials(&self, study: StudyId, filter: &TrialFilter) -> Result<Vec<TrialRecord>, StoreError> {
        let limit = filter.limit.clamp(1, PAGE);
        let mut rows = self.read().await?;
        let mut trials = Vec::new();
        if filter.states.is_empty() {
            trials = rows.trials_from(study, filter.from, limit).await?;
        } else {
            for state in &filter.states {
                trials.append(&mut rows.trials_in_state(study, *state, filter.from, limit).await?);
            }
            trials.sort_by_key(|trial| trial.number);
            trials.dedup_by_key(|trial| trial.number);
            trials.truncate(limit as usize);
        }
        rows.add_steps(&mut trials).await?;
        Ok(trials)
    }

    /// At most `limit` trials changed after revision `after`, by revision, with their steps. What a history catches
    /// up with: every later change has a higher revision.
    pub async fn trials_since(
        &self,
        study: StudyId,
        after: Revision,
        limit: u32,
    ) -> Result<Vec<TrialRecord>, StoreError> {
        let mut rows = self.read().await?;
        let trials = rows.trials_since(study, after, limit.clamp(1, PAGE)).await?;
        let has_steps: Vec<bool> = trials.iter().map(|trial| trial.step_count > 0).collect();
        let mut trials: Vec<TrialRecord> = trials.into_iter().map(|trial| trial.record).collect();
        if has_steps.contains(&true) {
            rows.add_steps(&mut trials).await?;
        }
        Ok(trials)
    }

    /// A study's trials in numbers, without a look at each.
    pub async fn tally(&self, study: StudyId) -> Result<Tally, StoreError> {
        self.read().await?.tally(study).await
    }

    /// A job.
    pub async fn job(&self, id: JobId) -> Result<JobRecord, StoreError> {
        let job = self.read().await?.job(id).await?;
        job.map(|job| job.record).ok_or(StoreError::JobNotFound(id))
    }

    /// The jobs of a study, by id.
    pub async fn jobs(&self, study: StudyId) -> Result<Vec<JobRecord>, StoreError> {
        Ok(self.read().await?.jobs(study).await?.into_iter().map(|job| job.record).collect())
    }

    /// The executions of a job, oldest first.
    pub async fn attempts(&self, job: JobId) -> Result<Vec<AttemptRecord>, StoreError> {
        self.read().await?.attempt_records(job).await
    }

    /// The rounds measured for a comparison job, in their order.
    pub async fn rounds(&self, job: JobId) -> Result<Vec<serde_json::Value>, StoreError> {
        self.read().await?.rounds(job).await
    }

    /// The studies that are children of this one, by id.
    pub async fn children(&self, parent: StudyId) -> Result<Vec<StudyRecord>, StoreError> {
        self.read().await?.children(parent).await
    }

    /// How many trials of the study are leased, and whose lease still runs at `now`.
    pub async fn live_leases(&self, study: StudyId, now: Timestamp) -> Result<u32, StoreError> {
        self.read().await?.live_leases(study, now).await
    }

    /// A worker.
    pub async fn worker(&self, id: &WorkerId) -> Result<WorkerRecord, StoreError> {
        let worker = self.read().await?.worker(id).await?;
        worker.ok_or_else(|| StoreError::WorkerNotFound(id.to_string()))
    }

    /// At most `limit` workers with ids above `after`, by id.
    pub async fn workers(&self, after: &WorkerId, limit: u32) -> Result<Vec<WorkerRecord>, StoreError> {
        self.read().await?.workers(after, limit.min(PAGE)).await
    }

    /// What the worker holds leases of, by study.
    pub async fn held_by(&self, worker: &WorkerId) -> Result<Vec<HeldJob>, StoreError> {
        let mut rows = self.read().await?;
        let mut held = Vec::new();
        for (study, id) in rows.leases_of(worker).await? {
            let (Some(study), Some(job)) = (rows.study(study).await?, rows.job(id).await?) else { continue };
            let JobRecord { kind, trial, attempt, expires_at, .. } = job.record;
            if let Some(expires_at) = expires_at.filter(|_| !job.lease_ended) {
                held.push(HeldJob { study: study.name, kind, trial, attempt, expires_at });
            }
        }
        Ok(held)
    }

    /// The attributes of one kind, byte for byte as they were set.
    pub async fn attributes(
        &self,
        owner: AttributeOwner,
        kind: AttributeKind,
    ) -> Result<BTreeMap<String, String>, StoreError> {
        let mut rows = self.read().await?;
        match owner {
            AttributeOwner::Study(study) => {
                rows.study(study).await?.ok_or_else(|| StoreError::StudyNotFound(study.to_string()))?;
                rows.study_attributes(study, kind).await
            }
            AttributeOwner::Trial(study, number) => {
                let trial = rows.trial(study, number).await?.ok_or(StoreError::TrialNotFound { study, number })?;
                rows.trial_attributes(trial.record.id, kind).await
            }
        }
    }

    /// What [`Self::start`] gave for `request_id`, with the trials as they are now and without a lease that is lost or
    /// over; nothing when it started none.
    pub async fn started_by(&self, study: StudyId, request_id: &str) -> Result<Vec<Started>, StoreError> {
        let mut rows = self.read().await?;
        started_by(&mut *rows, study, request_id).await
    }

    /// The study a job of which `request_id` leased, be it by a claim or by a start in one of `studies`, and whether
    /// that lease still holds or not.
    pub async fn leased_by(&self, request_id: &str, studies: &[StudyId]) -> Result<Option<StudyId>, StoreError> {
        let mut rows = self.read().await?;
        if let Some((job, _)) = rows.claimed_by(request_id).await? {
            return rows.study_of_job(job).await;
        }
        rows.study_started_by(studies, request_id).await
    }

    /// The trial that [`Self::claim`] gave for `request_id`, as it is now, and without a lease that is lost or over;
    /// nothing when it gave none.
    pub async fn claimed_by(&self, request_id: &str) -> Result<Option<Started>, StoreError> {
        let mut rows = self.read().await?;
        claimed_by(&mut *rows, request_id).await
    }
}

async fn with_steps(rows: &mut dyn Rows, trial: TrialRecord) -> Result<TrialRecord, StoreError> {
    let mut trials = [trial];
    rows.add_steps(&mut trials).await?;
    let [trial] = trials;
    Ok(trial)
}

/// Random bits of a lease token.
pub(super) fn secret() -> Result<u64, StoreError> {
    use rand::TryRng;
    rand::rngs::SysRng.try_next_u64().map_err(|error| StoreError::Database(format!("no random numbers: {error}")))
}
