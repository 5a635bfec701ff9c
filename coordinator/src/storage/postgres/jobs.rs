//! Jobs, attempts and rounds.

use async_trait::async_trait;
use fleetune_core::{Attempt, JobId, StudyId, Timestamp, WorkerId};
use sqlx::{query, query_as, query_scalar};

use super::{PostgresRows, database};
use crate::storage::error::StoreError;
use crate::storage::raw::{RawAttempt, RawAttemptRecord, RawJob, cells, job_state_name, to_json_or_null};
use crate::storage::record::{AttemptRecord, AttemptState};
use crate::storage::rows::{AttemptRow, JobRow, JobRows};

macro_rules! select_job {
    ($rest:literal) => {
        concat!(
            "SELECT job.id, job.study_id, job.kind, job.state, job.trial_id, trial.number AS trial_number, job.spec, ",
            "job.result, job.attempt, job.worker, job.expires_at, job.ttl, job.lease_ended ",
            "FROM job LEFT JOIN trial ON trial.id = job.trial_id ",
            $rest
        )
    };
}

fn pairs(pairs: Vec<(i64, i64)>) -> Vec<(StudyId, JobId)> {
    pairs.into_iter().map(|(study, job)| (StudyId(study), JobId(job))).collect()
}

#[async_trait]
impl JobRows for PostgresRows {
    async fn study_of_job(&mut self, id: JobId) -> Result<Option<StudyId>, StoreError> {
        let study = query_scalar("SELECT study_id FROM job WHERE id = $1").bind(id.0);
        Ok(study.fetch_optional(&mut *self.tx).await.map_err(database)?.map(StudyId))
    }

    async fn job(&mut self, id: JobId) -> Result<Option<JobRow>, StoreError> {
        let job = query_as::<_, RawJob>(select_job!("WHERE job.id = $1")).bind(id.0);
        job.fetch_optional(&mut *self.tx).await.map_err(database)?.map(RawJob::row).transpose()
    }

    async fn job_for_update(&mut self, id: JobId) -> Result<Option<JobRow>, StoreError> {
        let job = query_as::<_, RawJob>(select_job!("WHERE job.id = $1 FOR NO KEY UPDATE OF job")).bind(id.0);
        job.fetch_optional(&mut *self.tx).await.map_err(database)?.map(RawJob::row).transpose()
    }

    async fn jobs(&mut self, study: StudyId) -> Result<Vec<JobRow>, StoreError> {
        let jobs = query_as::<_, RawJob>(select_job!("WHERE job.study_id = $1 ORDER BY job.id")).bind(study.0);
        jobs.fetch_all(&mut *self.tx).await.map_err(database)?.into_iter().map(RawJob::row).collect()
    }

    async fn open_jobs(&mut self, study: StudyId) -> Result<Vec<JobRow>, StoreError> {
        let jobs = query_as::<_, RawJob>(select_job!(
            "WHERE job.study_id = $1 AND job.kind IN ('describe', 'comparison') AND job.state <> 'done' ORDER BY job.id"
        ));
        jobs.bind(study.0).fetch_all(&mut *self.tx).await.map_err(database)?.into_iter().map(RawJob::row).collect()
    }

    async fn ended_lease(
        &mut self,
        study: StudyId,
        now: Timestamp,
        by_time: bool,
    ) -> Result<Option<JobId>, StoreError> {
        let job = query_scalar(
            "SELECT id FROM job WHERE study_id = $1 AND kind = 'trial' AND state <> 'done' \
             AND (lease_ended OR ($3 AND expires_at <= $2)) ORDER BY id LIMIT 1",
        );
        let job = job.bind(study.0).bind(now.0).bind(by_time);
        Ok(job.fetch_optional(&mut *self.tx).await.map_err(database)?.map(JobId))
    }

    async fn live_leases(&mut self, study: StudyId, now: Timestamp) -> Result<u32, StoreError> {
        let count = query_scalar::<_, i64>(
            "SELECT count(*) FROM job WHERE study_id = $1 AND kind = 'trial' AND state = 'leased' AND NOT lease_ended \
             AND expires_at > $2",
        );
        let count = count.bind(study.0).bind(now.0).fetch_one(&mut *self.tx).await.map_err(database)?;
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }

    async fn lost_jobs(
        &mut self,
        before: Timestamp,
        max_attempts: u32,
        limit: u32,
    ) -> Result<Vec<(StudyId, JobId)>, StoreError> {
        let lost = query_as(
            "SELECT study_id, id FROM job WHERE state = 'leased' AND expires_at <= $1 AND kind = 'trial' AND ( \
                 SELECT count(*) >= $2 OR count(DISTINCT worker) >= 2 FROM attempt \
                 WHERE attempt.job_id = job.id AND attempt.state IN ('open', 'lost') \
             ) ORDER BY id LIMIT $3",
        );
        let lost = lost.bind(before.0).bind(i64::from(max_attempts)).bind(i64::from(limit));
        Ok(pairs(lost.fetch_all(&mut *self.tx).await.map_err(database)?))
    }

    async fn leases_of(&mut self, worker: &WorkerId) -> Result<Vec<(StudyId, JobId)>, StoreError> {
        let leases = query_as("SELECT study_id, id FROM job WHERE state = 'leased' AND worker = $1 ORDER BY 1, 2");
        Ok(pairs(leases.bind(&worker.0).fetch_all(&mut *self.tx).await.map_err(database)?))
    }

    async fn insert_job(&mut self, job: &JobRow, now: Timestamp) -> Result<JobId, StoreError> {
        self.dirty = true;
        let record = &job.record;
        let insert = query_scalar(
            "INSERT INTO job (study_id, kind, state, trial_id, spec, attempt, worker, expires_at, ttl, lease_ended, \
             created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING id",
        );
        let insert = insert.bind(record.study.0).bind(record.kind.as_str()).bind(job_state_name(record.state));
        let insert = insert.bind(job.trial_id.map(|id| id.0)).bind(to_json_or_null("job", &record.spec)?);
        let insert = insert.bind(i64::from(record.attempt.0)).bind(record.worker.as_ref().map(|worker| &worker.0));
        let insert = insert.bind(record.expires_at.map(|at| at.0)).bind(job.ttl.as_micros() as i64);
        let insert = insert.bind(job.lease_ended).bind(now.0);
        insert.fetch_one(&mut *self.tx).await.map(JobId).map_err(database)
    }

    async fn save_job(&mut self, job: &JobRow) -> Result<(), StoreError> {
        self.dirty = true;
        let record = &job.record;
        let update = query(
            "UPDATE job SET state = $2, result = $3, attempt = $4, worker = $5, expires_at = $6, ttl = $7, \
             lease_ended = $8 WHERE id = $1",
        );
        let update = update.bind(record.id.0).bind(job_state_name(record.state));
        let update = update.bind(to_json_or_null("result of a job", &record.result)?);
        let update = update.bind(i64::from(record.attempt.0)).bind(record.worker.as_ref().map(|worker| &worker.0));
        let update = update.bind(record.expires_at.map(|at| at.0)).bind(job.ttl.as_micros() as i64);
        let update = update.bind(job.lease_ended);
        update.execute(&mut *self.tx).await.map(drop).map_err(database)
    }

    async fn attempts(&mut self, job: JobId) -> Result<Vec<AttemptRow>, StoreError> {
        let attempts = query_as::<_, RawAttempt>(
            "SELECT attempt, worker, secret, state, detail IS NOT NULL AS has_detail FROM attempt \
             WHERE job_id = $1 ORDER BY attempt",
        );
        let attempts = attempts.bind(job.0).fetch_all(&mut *self.tx).await.map_err(database)?;
        attempts.into_iter().map(RawAttempt::row).collect()
    }

    async fn attempt(&mut self, job: JobId, attempt: Attempt) -> Result<Option<AttemptRow>, StoreError> {
        let select = query_as::<_, RawAttempt>(
            "SELECT attempt, worker, secret, state, detail IS NOT NULL AS has_detail FROM attempt \
             WHERE job_id = $1 AND attempt = $2",
        );
        let select = select.bind(job.0).bind(i64::from(attempt.0));
        select.fetch_optional(&mut *self.tx).await.map_err(database)?.map(RawAttempt::row).transpose()
    }

    async fn attempt_records(&mut self, job: JobId) -> Result<Vec<AttemptRecord>, StoreError> {
        let attempts = query_as::<_, RawAttemptRecord>(
            "SELECT job_id, attempt, worker, state, started_at, ended_at, detail FROM attempt \
             WHERE job_id = $1 ORDER BY attempt",
        );
        let attempts = attempts.bind(job.0).fetch_all(&mut *self.tx).await.map_err(database)?;
        attempts.into_iter().map(RawAttemptRecord::record).collect()
    }

    async fn claimed_by(&mut self, request: &str) -> Result<Option<(JobId, AttemptRow)>, StoreError> {
        let job = query_scalar("SELECT job_id FROM attempt WHERE claimed_by = $1").bind(request);
        let Some(job) = job.fetch_optional(&mut *self.tx).await.map_err(database)?.map(JobId) else {
            return Ok(None);
        };
        let attempt = query_as::<_, RawAttempt>(
            "SELECT attempt, worker, secret, state, detail IS NOT NULL AS has_detail FROM attempt \
             WHERE claimed_by = $1",
        );
        let attempt = attempt.bind(request).fetch_one(&mut *self.tx).await.map_err(database)?;
        Ok(Some((job, attempt.row()?)))
    }

    async fn insert_attempt(
        &mut self,
        job: JobId,
        attempt: &AttemptRow,
        claimed_by: Option<&str>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.dirty = true;
        let insert = query(
            "INSERT INTO attempt (job_id, attempt, worker, secret, state, started_at, claimed_by) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        );
        let insert = insert.bind(job.0).bind(i64::from(attempt.attempt.0)).bind(&attempt.worker.0);
        let insert =
            insert.bind(attempt.secret.cast_signed()).bind(attempt.state.as_str()).bind(now.0).bind(claimed_by);
        insert.execute(&mut *self.tx).await.map(drop).map_err(database)
    }

    async fn end_attempt(
        &mut self,
        job: JobId,
        attempt: Attempt,
        state: AttemptState,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.dirty = true;
        let update = query("UPDATE attempt SET state = $3, ended_at = $4 WHERE job_id = $1 AND attempt = $2");
        let update = update.bind(job.0).bind(i64::from(attempt.0)).bind(state.as_str()).bind(now.0);
        update.execute(&mut *self.tx).await.map(drop).map_err(database)
    }

    async fn save_detail(&mut self, job: JobId, attempt: Attempt, detail: &str) -> Result<(), StoreError> {
        self.dirty = true;
        let update = query("UPDATE attempt SET detail = $3 WHERE job_id = $1 AND attempt = $2");
        let update = update.bind(job.0).bind(i64::from(attempt.0)).bind(detail);
        update.execute(&mut *self.tx).await.map(drop).map_err(database)
    }

    async fn round(&mut self, job: JobId, round: u32) -> Result<Option<serde_json::Value>, StoreError> {
        let select = query_scalar::<_, String>("SELECT cells FROM round WHERE job_id = $1 AND round = $2");
        let stored = select.bind(job.0).bind(i64::from(round)).fetch_optional(&mut *self.tx).await.map_err(database)?;
        stored.map(|stored| cells(&stored)).transpose()
    }

    async fn rounds(&mut self, job: JobId) -> Result<Vec<serde_json::Value>, StoreError> {
        let select = query_scalar::<_, String>("SELECT cells FROM round WHERE job_id = $1 ORDER BY round");
        let rounds = select.bind(job.0).fetch_all(&mut *self.tx).await.map_err(database)?;
        rounds.iter().map(|stored| cells(stored)).collect()
    }

    async fn insert_round(&mut self, job: JobId, round: u32, attempt: Attempt, cells: &str) -> Result<(), StoreError> {
        self.dirty = true;
        let insert = query("INSERT INTO round (job_id, round, attempt, cells) VALUES ($1, $2, $3, $4)");
        let insert = insert.bind(job.0).bind(i64::from(round)).bind(i64::from(attempt.0)).bind(cells);
        insert.execute(&mut *self.tx).await.map(drop).map_err(database)
    }
}
