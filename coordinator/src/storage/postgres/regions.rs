//! What went down under which configuration, and what studies sample no more.

use async_trait::async_trait;
use fleetune_core::region::Incident;
use fleetune_core::{Attempt, JobId, StudyId, Timestamp, TrialNumber, WorkerId};
use sqlx::{query, query_as, query_scalar};

use super::{PostgresRows, database};
use crate::storage::error::StoreError;
use crate::storage::raw::{RawIncident, to_json};
use crate::storage::record::{NewIncident, StudyExclusion};
use crate::storage::rows::RegionRows;

macro_rules! select_incident {
    ($rest:literal) => {
        concat!(
            "SELECT id, device_class, model_hash, kind, worker, study, trial, attempt, at, settings, message, refuted ",
            "FROM incident ",
            $rest
        )
    };
}

#[async_trait]
impl RegionRows for PostgresRows {
    async fn incidents(&mut self, device_class: &str, model_hash: &str) -> Result<Vec<Incident>, StoreError> {
        let incidents =
            query_as::<_, RawIncident>(select_incident!("WHERE device_class = $1 AND model_hash = $2 ORDER BY id"));
        let incidents = incidents.bind(device_class).bind(model_hash).fetch_all(&mut *self.tx).await;
        incidents.map_err(database)?.into_iter().map(RawIncident::record).collect()
    }

    async fn all_incidents(&mut self, device_class: Option<&str>, limit: u32) -> Result<Vec<Incident>, StoreError> {
        let incidents = query_as::<_, RawIncident>(select_incident!(
            "WHERE $1::text IS NULL OR device_class = $1 ORDER BY id LIMIT $2"
        ));
        let incidents = incidents.bind(device_class).bind(i64::from(limit)).fetch_all(&mut *self.tx).await;
        incidents.map_err(database)?.into_iter().map(RawIncident::record).collect()
    }

    async fn insert_incident(&mut self, new: &NewIncident) -> Result<i64, StoreError> {
        self.dirty = true;
        let NewIncident { incident, study } = new;
        let insert = query_scalar(
            "INSERT INTO incident (device_class, model_hash, kind, worker, study_id, study, trial, attempt, at, settings, \
             message, refuted) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) RETURNING id",
        );
        let insert = insert.bind(&incident.device_class).bind(&incident.model_hash).bind(incident.kind.as_str());
        let insert = insert.bind(&incident.worker.0).bind(study.0).bind(&incident.study).bind(incident.trial.0);
        let insert = insert.bind(i64::from(incident.attempt.0)).bind(incident.at.0);
        let insert = insert.bind(to_json("settings of an incident", &incident.settings)?);
        let insert = insert.bind(&incident.message).bind(incident.refuted);
        insert.fetch_one(&mut *self.tx).await.map_err(database)
    }

    async fn refute_incident(&mut self, id: i64) -> Result<(), StoreError> {
        self.dirty = true;
        let update = query("UPDATE incident SET refuted = TRUE WHERE id = $1").bind(id);
        update.execute(&mut *self.tx).await.map(drop).map_err(database)
    }

    async fn delete_incident(&mut self, id: i64) -> Result<(), StoreError> {
        self.dirty = true;
        let delete = query("DELETE FROM incident WHERE id = $1").bind(id);
        delete.execute(&mut *self.tx).await.map(drop).map_err(database)
    }

    async fn forget_incident(
        &mut self,
        study: StudyId,
        trial: TrialNumber,
        attempt: Attempt,
    ) -> Result<bool, StoreError> {
        let delete = query("DELETE FROM incident WHERE study_id = $1 AND trial = $2 AND attempt = $3");
        let delete = delete.bind(study.0).bind(trial.0).bind(i64::from(attempt.0));
        let gone = delete.execute(&mut *self.tx).await.map_err(database)?.rows_affected() > 0;
        self.dirty |= gone;
        Ok(gone)
    }

    async fn trim_incidents(&mut self, device_class: &str, model_hash: &str, keep: u32) -> Result<(), StoreError> {
        let delete = query(
            "DELETE FROM incident WHERE device_class = $1 AND model_hash = $2 AND id <= (SELECT id FROM incident \
             WHERE device_class = $1 AND model_hash = $2 ORDER BY id DESC LIMIT 1 OFFSET $3)",
        );
        let delete = delete.bind(device_class).bind(model_hash).bind(i64::from(keep));
        delete.execute(&mut *self.tx).await.map(drop).map_err(database)
    }

    async fn save_exclusions(&mut self, study: StudyId, exclusions: &[StudyExclusion]) -> Result<(), StoreError> {
        self.dirty = true;
        let update = query("UPDATE study SET exclusions = $2 WHERE id = $1").bind(study.0);
        let update = update.bind(to_json("exclusions of a study", &exclusions)?);
        update.execute(&mut *self.tx).await.map(drop).map_err(database)
    }

    async fn lost_by(&mut self, worker: &WorkerId, after: Timestamp) -> Result<Vec<(StudyId, JobId)>, StoreError> {
        let lost = query_as::<_, (i64, i64)>(
            "SELECT DISTINCT job.study_id, job.id FROM job JOIN attempt ON attempt.job_id = job.id \
             WHERE job.state = 'leased' AND job.kind = 'trial' AND attempt.worker = $1 AND attempt.state = 'lost' \
             AND attempt.ended_at > $2 ORDER BY 1, 2",
        );
        let lost = lost.bind(&worker.0).bind(after.0).fetch_all(&mut *self.tx).await.map_err(database)?;
        Ok(lost.into_iter().map(|(study, job)| (StudyId(study), JobId(job))).collect())
    }
}
