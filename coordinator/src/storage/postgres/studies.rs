//! Studies and their attributes.

use std::collections::BTreeMap;

use async_trait::async_trait;
use fleetune_core::{StudyId, StudyState, Timestamp, TrialNumber};
use sqlx::{query, query_as, query_scalar};

use super::{PostgresRows, database};
use crate::storage::error::StoreError;
use crate::storage::raw::{RawHead, RawStudy, attribute, kind_name, to_json};
use crate::storage::record::{AttributeKind, Family, NewStudy, StudyRecord};
use crate::storage::rows::{StudyHead, StudyRows};

macro_rules! select_study {
    ($rest:literal) => {
        concat!(
            "SELECT id, name, state, reason, config, pin, description, exclusions, revision, config_revision, ",
            "next_number, next_turn, created_at, priority, max_parallel, served_at, selector, ",
            "per, parent_id, class, archived_from, unarchived_at FROM study ",
            $rest
        )
    };
}

#[async_trait]
impl StudyRows for PostgresRows {
    async fn study(&mut self, id: StudyId) -> Result<Option<StudyRecord>, StoreError> {
        let study = query_as::<_, RawStudy>(select_study!("WHERE id = $1")).bind(id.0);
        study.fetch_optional(&mut *self.tx).await.map_err(database)?.map(RawStudy::record).transpose()
    }

    async fn study_by_name(&mut self, name: &str) -> Result<Option<StudyRecord>, StoreError> {
        let study = query_as::<_, RawStudy>(select_study!("WHERE name = $1")).bind(name);
        study.fetch_optional(&mut *self.tx).await.map_err(database)?.map(RawStudy::record).transpose()
    }

    async fn study_by_request(&mut self, request_id: &str) -> Result<Option<StudyRecord>, StoreError> {
        let study = query_as::<_, RawStudy>(select_study!("WHERE request_id = $1")).bind(request_id);
        study.fetch_optional(&mut *self.tx).await.map_err(database)?.map(RawStudy::record).transpose()
    }

    async fn studies(&mut self, after: StudyId, limit: u32, archived: bool) -> Result<Vec<StudyRecord>, StoreError> {
        let studies = query_as::<_, RawStudy>(select_study!(
            "WHERE id > $1 AND ($3 OR state <> 'archived') ORDER BY id LIMIT $2"
        ));
        let studies = studies
            .bind(after.0)
            .bind(i64::from(limit))
            .bind(archived)
            .fetch_all(&mut *self.tx)
            .await
            .map_err(database)?;
        studies.into_iter().map(RawStudy::record).collect()
    }

    async fn open_studies(&mut self, after: StudyId, limit: u32) -> Result<Vec<StudyRecord>, StoreError> {
        let studies = query_as::<_, RawStudy>(select_study!(
            "WHERE id > $1 AND state IN ('preparing', 'active', 'paused', 'confirming') ORDER BY id LIMIT $2"
        ));
        let studies = studies.bind(after.0).bind(i64::from(limit)).fetch_all(&mut *self.tx).await.map_err(database)?;
        studies.into_iter().map(RawStudy::record).collect()
    }

    async fn children(&mut self, parent: StudyId) -> Result<Vec<StudyRecord>, StoreError> {
        let studies = query_as::<_, RawStudy>(select_study!("WHERE parent_id = $1 ORDER BY id")).bind(parent.0);
        let studies = studies.fetch_all(&mut *self.tx).await.map_err(database)?;
        studies.into_iter().map(RawStudy::record).collect()
    }

    async fn head_for_update(&mut self, id: StudyId) -> Result<Option<StudyHead>, StoreError> {
        let head = query_as::<_, RawHead>(
            "SELECT id, name, state, revision, next_number, next_turn, max_parallel, served_at, per, parent_id FROM study \
             WHERE id = $1 FOR NO KEY UPDATE",
        );
        let head = head.bind(id.0).fetch_optional(&mut *self.tx).await.map_err(database)?;
        head.map(RawHead::head).transpose()
    }

    async fn insert_study(&mut self, new: &NewStudy, now: Timestamp) -> Result<StudyId, StoreError> {
        self.dirty = true;
        let insert = query_scalar(
            "INSERT INTO study (name, request_id, state, reason, config, revision, config_revision, next_number, \
             next_turn, created_at, priority, max_parallel, selector, per, \
             parent_id, class) VALUES ($1, $2, $3, '', $4, 1, 1, 0, 0, $5, $6, $7, $8, $9, $10, $11) \
             RETURNING id",
        );
        let insert = insert.bind(&new.name).bind(&new.request_id).bind(new.state.as_str());
        let insert = insert.bind(to_json("study configuration", &new.config)?).bind(now.0);
        let insert = insert.bind(i64::from(new.schedule.priority)).bind(new.schedule.max_parallel.map(i64::from));
        let family = new.family.as_ref();
        let insert = insert.bind(&new.schedule.selector).bind(family.map(|family| family.per().name()));
        let insert = insert.bind(family.and_then(Family::parent).map(|parent| parent.0));
        let insert = insert.bind(family.and_then(Family::class));
        insert.fetch_one(&mut *self.tx).await.map(StudyId).map_err(database)
    }

    async fn save_study(&mut self, study: &StudyRecord) -> Result<(), StoreError> {
        self.dirty = true;
        let pin = study.pin.as_ref().map(|pin| to_json("pin", pin)).transpose()?;
        let description = study.description.as_ref().map(|text| to_json("description", text)).transpose()?;
        let update = query(
            "UPDATE study SET state = $2, reason = $3, config = $4, pin = $5, description = $6, revision = $7, \
             config_revision = $8, next_number = $9, next_turn = $10, priority = $11, max_parallel = $12, \
             served_at = $13, selector = $14, archived_from = $15, unarchived_at = $16 WHERE id = $1",
        );
        let update = update.bind(study.id.0).bind(study.state.as_str()).bind(&study.reason);
        let update = update.bind(to_json("study configuration", &study.config)?).bind(pin).bind(description);
        let update = update.bind(study.revision.0).bind(study.config_revision.0);
        let update = update.bind(study.next_number.0).bind(study.next_turn.0);
        let schedule = &study.schedule;
        let update = update.bind(i64::from(schedule.priority)).bind(schedule.max_parallel.map(i64::from));
        let update = update.bind(study.served_at.0).bind(&schedule.selector);
        let update = update.bind(study.archived_from.map(StudyState::as_str)).bind(study.unarchived_at.map(|at| at.0));
        update.execute(&mut *self.tx).await.map(drop).map_err(database)
    }

    async fn save_head(&mut self, head: &StudyHead) -> Result<(), StoreError> {
        self.dirty = true;
        let update =
            query("UPDATE study SET revision = $2, next_number = $3, next_turn = $4, served_at = $5 WHERE id = $1");
        let update = update.bind(head.id.0).bind(head.revision.0).bind(head.next_number.0).bind(head.next_turn.0);
        let update = update.bind(head.served_at.0);
        update.execute(&mut *self.tx).await.map(drop).map_err(database)
    }

    async fn rename_study(&mut self, id: StudyId, name: &str) -> Result<(), StoreError> {
        self.dirty = true;
        let update = query("UPDATE study SET name = $2 WHERE id = $1").bind(id.0).bind(name);
        update.execute(&mut *self.tx).await.map(drop).map_err(database)
    }

    async fn delete_study(&mut self, id: StudyId) -> Result<(), StoreError> {
        self.dirty = true;
        let delete = query("DELETE FROM study WHERE id = $1").bind(id.0);
        delete.execute(&mut *self.tx).await.map(drop).map_err(database)
    }

    async fn shed(&mut self, id: StudyId, from: TrialNumber, count: u32) -> Result<(), StoreError> {
        self.dirty = true;
        let end = from.0.saturating_add(i64::from(count));
        let requests = query(
            "UPDATE trial SET created_by = NULL, created_index = NULL, started_by = NULL, started_index = NULL \
             WHERE study_id = $1 AND number >= $2 AND number < $3 \
             AND (created_by IS NOT NULL OR started_by IS NOT NULL)",
        );
        let requests = requests.bind(id.0).bind(from.0).bind(end);
        requests.execute(&mut *self.tx).await.map_err(database)?;
        let steps = query(
            "DELETE FROM step WHERE EXISTS (SELECT 1 FROM trial WHERE trial.id = step.trial_id AND trial.study_id = $1 \
             AND trial.number >= $2 AND trial.number < $3 AND step.attempt <> trial.attempt) \
             AND trial_id IN (SELECT trial.id FROM trial WHERE trial.study_id = $1 AND trial.number >= $2 \
             AND trial.number < $3)",
        );
        steps.bind(id.0).bind(from.0).bind(end).execute(&mut *self.tx).await.map_err(database)?;
        let details = query(
            "UPDATE attempt SET detail = NULL WHERE detail IS NOT NULL AND job_id IN (SELECT job.id FROM job \
             JOIN trial ON trial.id = job.trial_id WHERE trial.study_id = $1 AND trial.number >= $2 \
             AND trial.number < $3 AND (trial.state = 'fail' OR trial.attempt <> attempt.attempt))",
        );
        details.bind(id.0).bind(from.0).bind(end).execute(&mut *self.tx).await.map(drop).map_err(database)
    }

    async fn study_attributes(
        &mut self,
        id: StudyId,
        kind: AttributeKind,
    ) -> Result<BTreeMap<String, String>, StoreError> {
        let pairs = query_as("SELECT key, value FROM study_attribute WHERE study_id = $1 AND kind = $2");
        let pairs = pairs.bind(id.0).bind(kind_name(kind)).fetch_all(&mut *self.tx).await.map_err(database)?;
        pairs.into_iter().map(attribute).collect()
    }

    async fn set_study_attribute(
        &mut self,
        id: StudyId,
        kind: AttributeKind,
        key: &str,
        value: &str,
    ) -> Result<(), StoreError> {
        self.dirty = true;
        let upsert = query(
            "INSERT INTO study_attribute (study_id, kind, key, value) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (study_id, kind, sha256(key)) DO UPDATE SET value = excluded.value",
        );
        let upsert = upsert.bind(id.0).bind(kind_name(kind)).bind(key.as_bytes()).bind(value.as_bytes());
        upsert.execute(&mut *self.tx).await.map(drop).map_err(database)
    }
}
