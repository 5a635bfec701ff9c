//! What clients that sample themselves read and write.

use std::sync::Arc;

use async_trait::async_trait;
use fleetune_core::{Attempt, Distribution, Revision, StudyId, TrialId, TrialNumber};
use sqlx::{query, query_as};

use super::trials::select_trial;
use super::{SqliteRows, database};
use crate::storage::error::StoreError;
use crate::storage::foreign::{Attribute, ForeignRows, HeldTrial};
use crate::storage::packed::{pack_floats, pack_values};
use crate::storage::raw::{attribute, ended_at, float_bits, kind_from_name};
use crate::storage::record::TrialRecord;
use crate::storage::rows::TrialRow;

type Result<T> = std::result::Result<T, StoreError>;

#[async_trait]
impl ForeignRows for SqliteRows {
    async fn place_of(&mut self, id: TrialId) -> Result<Option<(StudyId, TrialNumber)>> {
        let place = query_as::<_, (i64, i64)>("SELECT study_id, number FROM trial WHERE id = ?1").bind(id.0);
        let place = place.fetch_optional(&mut *self.tx).await.map_err(database)?;
        Ok(place.map(|(study, number)| (StudyId(study), TrialNumber(number))))
    }

    async fn trial_by_id(&mut self, id: TrialId) -> Result<Option<TrialRow>> {
        let trial = query_as(select_trial!("WHERE id = ?1")).bind(id.0);
        let trial = trial.fetch_all(&mut *self.tx).await.map_err(database)?;
        Ok(self.trials(trial).await?.pop())
    }

    async fn trials_by_id(&mut self, ids: &[i64]) -> Result<Vec<TrialRecord>> {
        let trials = query_as(select_trial!("WHERE id IN (SELECT value FROM json_each(?1)) ORDER BY id"));
        let trials = trials.bind(serde_json::Value::from(ids).to_string());
        let trials = trials.fetch_all(&mut *self.tx).await.map_err(database)?;
        self.records(trials).await
    }

    async fn held_trials(&mut self, above: TrialId, limit: u32) -> Result<Vec<HeldTrial>> {
        // Without being told, SQLite walks all trials in order of their ids.
        let held = query_as::<_, (i64, i64, i64)>(
            "SELECT id, study_id, revision FROM trial INDEXED BY trial_unwatched WHERE state = 'running' AND job_id IS NULL \
             AND started_by IS NULL AND id > ?1 ORDER BY id LIMIT ?2",
        );
        let held = held.bind(above.0).bind(i64::from(limit)).fetch_all(&mut *self.tx).await.map_err(database)?;
        let trial =
            |(id, study, revision)| HeldTrial { id: TrialId(id), study: StudyId(study), revision: Revision(revision) };
        Ok(held.into_iter().map(trial).collect())
    }

    async fn attributes_of(&mut self, ids: &[i64]) -> Result<Vec<(TrialId, Attribute)>> {
        let all = query_as::<_, (i64, String, Vec<u8>, Vec<u8>)>(
            "SELECT trial_id, kind, key, value FROM trial_attribute \
             WHERE trial_id IN (SELECT value FROM json_each(?1)) ORDER BY trial_id",
        );
        let all = all.bind(serde_json::Value::from(ids).to_string());
        let all = all.fetch_all(&mut *self.tx).await.map_err(database)?;
        let own = |(trial, kind, key, value): (i64, String, Vec<u8>, Vec<u8>)| {
            let (key, value) = attribute((key, value))?;
            Ok((TrialId(trial), (kind_from_name(&kind)?, key, value)))
        };
        all.into_iter().map(own).collect()
    }

    async fn study_attributes_of_all(&mut self) -> Result<Vec<(StudyId, Attribute)>> {
        let all = query_as::<_, (i64, String, Vec<u8>, Vec<u8>)>(
            "SELECT study_id, kind, key, value FROM study_attribute ORDER BY study_id",
        );
        let all = all.fetch_all(&mut *self.tx).await.map_err(database)?;
        let own = |(study, kind, key, value): (i64, String, Vec<u8>, Vec<u8>)| {
            let (key, value) = attribute((key, value))?;
            Ok((StudyId(study), (kind_from_name(&kind)?, key, value)))
        };
        all.into_iter().map(own).collect()
    }

    async fn parameter(&mut self, study: StudyId, name: &str) -> Result<Option<Arc<Distribution>>> {
        let first = query_as::<_, (i64, String)>(
            "SELECT distribution.id, CAST(distribution.body AS TEXT) FROM parameter \
             JOIN distribution ON distribution.id = parameter.distribution_id \
             WHERE parameter.study_id = ?1 AND name = ?2",
        );
        let first = first.bind(study.0).bind(name.as_bytes());
        let first = first.fetch_optional(&mut *self.tx).await.map_err(database)?;
        first.map(|(id, body)| self.distributions.read(id, &body)).transpose()
    }

    async fn insert_parameter(&mut self, study: StudyId, name: &str, first: &Arc<Distribution>) -> Result<()> {
        let id = self.distribution_id(study, first).await?;
        self.dirty = true;
        let insert = query("INSERT INTO parameter (study_id, name, distribution_id) VALUES (?1, ?2, ?3)");
        let insert = insert.bind(study.0).bind(name.as_bytes()).bind(id);
        insert.execute(&mut *self.tx).await.map(drop).map_err(database)
    }

    async fn save_whole(&mut self, trial: &TrialRow) -> Result<()> {
        let record = &trial.record;
        let params = self.pack_params(record.study, &record.params).await?;
        self.dirty = true;
        let (kind, message) = record.fail.as_ref().map(|(kind, message)| (kind.as_str(), message.as_str())).unzip();
        let update = query(
            "UPDATE trial SET state = ?2, fixed = ?3, params = ?4, objective_values = ?5, \
             constraint_values = ?6, fail_kind = ?7, fail_message = ?8, turn = ?9, seen = ?10, sampler = ?11, \
             revision = ?12, started_revision = ?13, ended_revision = ?14, started_at = ?15, ended_at = ?16, \
             seconds = ?17, step_count = ?18 WHERE id = ?1",
        );
        let update = update.bind(record.id.0).bind(record.state.as_str()).bind(pack_values(&record.fixed)).bind(params);
        let update = update.bind(pack_floats(&record.values)).bind(pack_floats(&record.constraints));
        let update = update.bind(kind).bind(message);
        let update = update.bind(record.turn.map(|turn| turn.0)).bind(record.seen.map(|seen| seen.0));
        let update = update.bind(&record.sampler).bind(record.revision.0);
        let update = update.bind(record.started_revision.map(|revision| revision.0));
        let update = update.bind(record.ended_revision.map(|revision| revision.0));
        let update = update.bind(record.started_at.map(|at| at.0)).bind(ended_at(record));
        let update = update.bind(float_bits(record.seconds)).bind(i64::from(trial.step_count));
        update.execute(&mut *self.tx).await.map(drop).map_err(database)
    }

    async fn put_step(&mut self, trial: TrialId, attempt: Attempt, step: u32, value: f64) -> Result<()> {
        self.dirty = true;
        let upsert = query(
            "INSERT INTO step (trial_id, attempt, step, value, stop) VALUES (?1, ?2, ?3, ?4, 0) \
             ON CONFLICT (trial_id, attempt, step) DO UPDATE SET value = excluded.value",
        );
        let upsert = upsert.bind(trial.0).bind(i64::from(attempt.0)).bind(i64::from(step)).bind(float_bits(value));
        upsert.execute(&mut *self.tx).await.map(drop).map_err(database)
    }
}
