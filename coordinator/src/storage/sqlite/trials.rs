//! Trials, their distributions, steps and attributes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use fleetune_core::{Attempt, Distribution, Revision, StudyId, TrialId, TrialNumber, TrialState};
use sqlx::{query, query_as, query_scalar};

use super::{SqliteRows, database};
use crate::storage::distributions::{body, pack};
use crate::storage::error::StoreError;
use crate::storage::packed::{hex, pack_floats, pack_values};
use crate::storage::raw::{
    RawStep, RawTrial, RawVerdict, attribute, ended_at, float_bits, ids_of, kind_name, tally, to_json,
};
use crate::storage::record::{AttributeKind, ParamSet, Tally, TrialRecord};
use crate::storage::rows::{Request, TrialRow, TrialRows};

macro_rules! select_trial {
    ($rest:literal) => {
        concat!(
            "SELECT id, study_id, number, state, origin, fixed, params, objective_values, constraint_values, ",
            "fail_kind, fail_message, job_id, attempt, turn, seen, sampler, revision, started_revision, ",
            "ended_revision, created_at, started_at, ended_at, seconds, step_count FROM trial ",
            $rest
        )
    };
}
pub(super) use select_trial;

impl SqliteRows {
    /// The trials of these rows, with their distributions.
    pub(super) async fn trials(&mut self, raw: Vec<RawTrial>) -> Result<Vec<TrialRow>, StoreError> {
        let missing = self.distributions.missing(raw.iter().map(|trial| trial.params.as_slice()));
        if !missing.is_empty() {
            let ids = serde_json::Value::from(missing).to_string();
            let load = query_as::<_, (i64, i64, String)>(
                "SELECT id, study_id, CAST(body AS TEXT) FROM distribution \
                 WHERE id IN (SELECT value FROM json_each(?1))",
            );
            for (id, study, body) in load.bind(ids).fetch_all(&mut *self.tx).await.map_err(database)? {
                self.distributions.loaded(StudyId(study), id, body)?;
            }
        }
        raw.into_iter().map(|trial| trial.row(&self.distributions)).collect()
    }

    pub(super) async fn records(&mut self, raw: Vec<RawTrial>) -> Result<Vec<TrialRecord>, StoreError> {
        Ok(self.trials(raw).await?.into_iter().map(|trial| trial.record).collect())
    }

    /// The packed column of `params`; distributions that are new to the study are inserted.
    pub(super) async fn pack_params(&mut self, study: StudyId, params: &ParamSet) -> Result<Vec<u8>, StoreError> {
        let mut ids = Vec::with_capacity(params.len());
        for param in params.values() {
            ids.push(self.distribution_id(study, &param.distribution).await?);
        }
        Ok(pack(params, &ids))
    }

    pub(super) async fn distribution_id(&mut self, study: StudyId, new: &Arc<Distribution>) -> Result<i64, StoreError> {
        if let Some(id) = self.distributions.id_of(study, new) {
            return Ok(id);
        }
        let body = body(new)?;
        if let Some(id) = self.distributions.id_of_body(study, new, &body) {
            return Ok(id);
        }
        let select = query_scalar("SELECT id FROM distribution WHERE study_id = ?1 AND body = ?2");
        let known = select.bind(study.0).bind(body.as_bytes()).fetch_optional(&mut *self.tx).await.map_err(database)?;
        if let Some(id) = known {
            self.distributions.loaded(study, id, body)?;
            return Ok(id);
        }
        self.dirty = true;
        let insert = query_scalar("INSERT INTO distribution (study_id, body) VALUES (?1, ?2) RETURNING id");
        let id = insert.bind(study.0).bind(body.as_bytes()).fetch_one(&mut *self.tx).await.map_err(database)?;
        self.distributions.inserted(study, body, id, new);
        Ok(id)
    }
}

#[async_trait]
impl TrialRows for SqliteRows {
    async fn trial(&mut self, study: StudyId, number: TrialNumber) -> Result<Option<TrialRow>, StoreError> {
        let trial = query_as(select_trial!("WHERE study_id = ?1 AND number = ?2")).bind(study.0).bind(number.0);
        let trial = trial.fetch_all(&mut *self.tx).await.map_err(database)?;
        Ok(self.trials(trial).await?.pop())
    }

    async fn trials_from(
        &mut self,
        study: StudyId,
        from: TrialNumber,
        limit: u32,
    ) -> Result<Vec<TrialRecord>, StoreError> {
        let trials = query_as(select_trial!("WHERE study_id = ?1 AND number >= ?2 ORDER BY number LIMIT ?3"));
        let trials = trials.bind(study.0).bind(from.0).bind(i64::from(limit));
        let trials = trials.fetch_all(&mut *self.tx).await.map_err(database)?;
        self.records(trials).await
    }

    async fn trials_in_state(
        &mut self,
        study: StudyId,
        state: TrialState,
        from: TrialNumber,
        limit: u32,
    ) -> Result<Vec<TrialRecord>, StoreError> {
        let trials =
            query_as(select_trial!("WHERE study_id = ?1 AND state = ?2 AND number >= ?3 ORDER BY number LIMIT ?4"));
        let trials = trials.bind(study.0).bind(state.as_str()).bind(from.0).bind(i64::from(limit));
        let trials = trials.fetch_all(&mut *self.tx).await.map_err(database)?;
        self.records(trials).await
    }

    async fn trials_since(&mut self, study: StudyId, after: Revision, limit: u32) -> Result<Vec<TrialRow>, StoreError> {
        // One row of JSON: the driver takes several times as long for a row of 24 columns as SQLite does to write it.
        let trials = query_scalar::<_, String>(
            "SELECT json_group_array(json_array(id, study_id, number, state, origin, hex(fixed), hex(params), \
             hex(objective_values), hex(constraint_values), fail_kind, hex(fail_message), job_id, attempt, turn, seen, \
             sampler, revision, started_revision, ended_revision, created_at, started_at, ended_at, seconds, \
             step_count)) \
             FROM (SELECT * FROM trial WHERE study_id = ?1 AND revision > ?2 ORDER BY revision LIMIT ?3)",
        );
        let trials = trials.bind(study.0).bind(after.0).bind(i64::from(limit));
        let trials = trials.fetch_one(&mut *self.tx).await.map_err(database)?;
        let mut trials = self.trials(RawTrial::from_json(&trials)?).await?;
        // An aggregate promises no order.
        trials.sort_by_key(|trial| trial.record.revision);
        Ok(trials)
    }

    async fn tally(&mut self, study: StudyId) -> Result<Tally, StoreError> {
        let counts = query_as("SELECT state, fail_kind, count(*) FROM trial WHERE study_id = ?1 GROUP BY 1, 2");
        let counts = counts.bind(study.0).fetch_all(&mut *self.tx).await.map_err(database)?;
        let seconds = query_scalar("SELECT seconds FROM trial WHERE study_id = ?1 AND seconds <> 0");
        let seconds = seconds.bind(study.0).fetch_all(&mut *self.tx).await.map_err(database)?;
        tally(&counts, &seconds)
    }

    async fn add_steps(&mut self, trials: &mut [TrialRecord]) -> Result<(), StoreError> {
        let ids: Vec<i64> = trials.iter().map(|trial| trial.id.0).collect();
        let steps = query_as::<_, RawStep>(
            "SELECT step.trial_id, step.step, step.value FROM json_each(?1) AS wanted \
             JOIN trial ON trial.id = wanted.value \
             JOIN step ON step.trial_id = trial.id AND step.attempt = trial.attempt \
             ORDER BY step.trial_id, step.step",
        );
        let steps = steps.bind(serde_json::Value::from(ids).to_string());
        let steps = steps.fetch_all(&mut *self.tx).await.map_err(database)?;
        for trial in trials {
            let start = steps.partition_point(|step| step.trial_id < trial.id.0);
            let own = steps[start..].iter().take_while(|step| step.trial_id == trial.id.0);
            trial.steps = own.map(RawStep::step).collect::<Result<_, _>>()?;
        }
        Ok(())
    }

    async fn trials_created_by(&mut self, study: StudyId, request_id: &str) -> Result<Vec<TrialRecord>, StoreError> {
        let trials = query_as(select_trial!("WHERE study_id = ?1 AND created_by = ?2 ORDER BY created_index"));
        let trials = trials.bind(study.0).bind(request_id).fetch_all(&mut *self.tx).await.map_err(database)?;
        self.records(trials).await
    }

    async fn study_started_by(&mut self, studies: &[StudyId], request_id: &str) -> Result<Option<StudyId>, StoreError> {
        let ids: Vec<i64> = studies.iter().map(|study| study.0).collect();
        let study = query_scalar(
            "SELECT study_id FROM trial WHERE study_id IN (SELECT value FROM json_each(?1)) AND started_by = ?2 LIMIT 1",
        );
        let study = study.bind(to_json("studies", &ids)?).bind(request_id);
        Ok(study.fetch_optional(&mut *self.tx).await.map_err(database)?.map(StudyId))
    }

    async fn trials_started_by(&mut self, study: StudyId, request_id: &str) -> Result<Vec<TrialRecord>, StoreError> {
        let trials = query_as(select_trial!("WHERE study_id = ?1 AND started_by = ?2 ORDER BY started_index"));
        let trials = trials.bind(study.0).bind(request_id).fetch_all(&mut *self.tx).await.map_err(database)?;
        self.records(trials).await
    }

    async fn insert_trial(
        &mut self,
        trial: &TrialRecord,
        created_by: Request<'_>,
        started_by: Request<'_>,
    ) -> Result<TrialId, StoreError> {
        let params = self.pack_params(trial.study, &trial.params).await?;
        self.dirty = true;
        let insert = query_scalar(
            "INSERT INTO trial (study_id, number, state, origin, fixed, params, objective_values, constraint_values, \
             attempt, turn, seen, sampler, revision, started_revision, created_at, started_at, seconds, step_count, \
             created_by, created_index, started_by, started_index) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, x'', x'', 0, ?7, ?8, ?9, ?10, ?11, ?12, ?13, 0, 0, ?14, ?15, ?16, ?17) \
             RETURNING id",
        );
        let insert = insert.bind(trial.study.0).bind(trial.number.0).bind(trial.state.as_str());
        let insert = insert.bind(trial.origin.as_str()).bind(pack_values(&trial.fixed)).bind(params);
        let insert = insert.bind(trial.turn.map(|turn| turn.0)).bind(trial.seen.map(|seen| seen.0));
        let insert = insert.bind(&trial.sampler).bind(trial.revision.0);
        let insert = insert.bind(trial.started_revision.map(|revision| revision.0));
        let insert = insert.bind(trial.created_at.0).bind(trial.started_at.map(|at| at.0));
        let insert = insert.bind(created_by.map(|by| by.0)).bind(created_by.map(|by| i64::from(by.1)));
        let insert = insert.bind(started_by.map(|by| by.0)).bind(started_by.map(|by| i64::from(by.1)));
        insert.fetch_one(&mut *self.tx).await.map(TrialId).map_err(database)
    }

    async fn insert_running(&mut self, trials: &[(&TrialRecord, (&str, u32))]) -> Result<Vec<TrialId>, StoreError> {
        let Some((first, _)) = trials.first() else { return Ok(Vec::new()) };
        let mut new = Vec::with_capacity(trials.len());
        for (trial, (request, index)) in trials {
            let params = hex(&self.pack_params(trial.study, &trial.params).await?);
            let turn = trial.turn.map(|turn| turn.0);
            // In hexadecimal digits, since a text in JSON ends at a NUL.
            let request = hex(request.as_bytes());
            new.push((trial.number.0, trial.origin.as_str(), params, turn, trial.revision.0, request, index));
        }
        self.dirty = true;
        let insert = query_as::<_, (i64, i64)>(
            "INSERT INTO trial (study_id, number, state, origin, fixed, params, objective_values, constraint_values, \
             attempt, turn, seen, sampler, revision, started_revision, created_at, started_at, seconds, step_count, \
             started_by, started_index) \
             SELECT ?1, value ->> 0, 'running', value ->> 1, x'', unhex(value ->> 2), x'', x'', 0, value ->> 3, ?2, \
             ?3, value ->> 4, value ->> 4, ?4, ?4, 0, 0, CAST(unhex(value ->> 5) AS TEXT), value ->> 6 \
             FROM json_each(?5) WHERE true ORDER BY key RETURNING id, number",
        );
        let insert = insert.bind(first.study.0).bind(first.seen.map(|seen| seen.0)).bind(&first.sampler);
        let insert = insert.bind(first.created_at.0).bind(to_json("started trials", &new)?);
        let inserted = insert.fetch_all(&mut *self.tx).await.map_err(database)?;
        ids_of(trials, &inserted)
    }

    async fn known_requests(&mut self, study: StudyId, requests: &[&str]) -> Result<BTreeSet<String>, StoreError> {
        let requests: Vec<String> = requests.iter().map(|request| hex(request.as_bytes())).collect();
        let known = query_scalar(
            "SELECT started_by FROM trial WHERE study_id = ?1 \
             AND started_by IN (SELECT CAST(unhex(value) AS TEXT) FROM json_each(?2))",
        );
        let known = known.bind(study.0).bind(to_json("requests", &requests)?);
        Ok(known.fetch_all(&mut *self.tx).await.map_err(database)?.into_iter().collect())
    }

    async fn save_ends(&mut self, trials: &[TrialRecord]) -> Result<(), StoreError> {
        let Some(first) = trials.first() else { return Ok(()) };
        self.dirty = true;
        let ended: Vec<_> = trials
            .iter()
            .map(|trial| {
                let (kind, message) = trial.fail.as_ref().map(|(kind, text)| (kind.as_str(), text)).unzip();
                let (values, constraints) = (hex(&pack_floats(&trial.values)), hex(&pack_floats(&trial.constraints)));
                let (revision, seconds) = (trial.revision.0, float_bits(trial.seconds));
                (trial.id.0, trial.state.as_str(), values, constraints, kind, message, revision, seconds)
            })
            .collect();
        let update = query(
            "UPDATE trial SET state = value ->> 1, objective_values = unhex(value ->> 2), \
             constraint_values = unhex(value ->> 3), fail_kind = value ->> 4, fail_message = value ->> 5, \
             revision = value ->> 6, ended_revision = value ->> 6, ended_at = ?1, seconds = value ->> 7 \
             FROM json_each(?2) AS ended WHERE trial.id = ended.value ->> 0",
        );
        let update = update.bind(first.ended_at.map(|at| at.0)).bind(to_json("ended trials", &ended)?);
        update.execute(&mut *self.tx).await.map(drop).map_err(database)
    }

    async fn save_start(&mut self, trial: &TrialRecord, started_by: Request<'_>) -> Result<(), StoreError> {
        let params = self.pack_params(trial.study, &trial.params).await?;
        self.dirty = true;
        let update = query(
            "UPDATE trial SET state = ?2, params = ?3, job_id = ?4, attempt = ?5, turn = ?6, seen = ?7, sampler = ?8, \
             revision = ?9, started_revision = ?10, started_at = ?11, started_by = ?12, started_index = ?13 \
             WHERE id = ?1",
        );
        let update = update.bind(trial.id.0).bind(trial.state.as_str()).bind(params);
        let update = update.bind(trial.job.map(|job| job.0)).bind(i64::from(trial.attempt.0));
        let update = update.bind(trial.turn.map(|turn| turn.0)).bind(trial.seen.map(|seen| seen.0));
        let update = update.bind(&trial.sampler).bind(trial.revision.0);
        let update = update.bind(trial.started_revision.map(|revision| revision.0));
        let update = update.bind(trial.started_at.map(|at| at.0));
        let update = update.bind(started_by.map(|by| by.0)).bind(started_by.map(|by| i64::from(by.1)));
        update.execute(&mut *self.tx).await.map(drop).map_err(database)
    }

    async fn save_trial(&mut self, trial: &TrialRow) -> Result<(), StoreError> {
        self.dirty = true;
        let record = &trial.record;
        let (kind, message) = record.fail.as_ref().map(|(kind, message)| (kind.as_str(), message.as_str())).unzip();
        let update = query(
            "UPDATE trial SET state = ?2, objective_values = ?3, constraint_values = ?4, fail_kind = ?5, \
             fail_message = ?6, attempt = ?7, revision = ?8, ended_revision = ?9, ended_at = ?10, seconds = ?11, \
             step_count = ?12 WHERE id = ?1",
        );
        let update = update.bind(record.id.0).bind(record.state.as_str());
        let update = update.bind(pack_floats(&record.values)).bind(pack_floats(&record.constraints));
        let update = update.bind(kind).bind(message).bind(i64::from(record.attempt.0)).bind(record.revision.0);
        let update = update.bind(record.ended_revision.map(|revision| revision.0));
        let update = update.bind(ended_at(record)).bind(float_bits(record.seconds));
        let update = update.bind(i64::from(trial.step_count));
        update.execute(&mut *self.tx).await.map(drop).map_err(database)
    }

    async fn step(&mut self, trial: TrialId, attempt: Attempt, step: u32) -> Result<Option<(f64, bool)>, StoreError> {
        let select = query_as::<_, RawVerdict>(
            "SELECT value, stop FROM step WHERE trial_id = ?1 AND attempt = ?2 AND step = ?3",
        );
        let select = select.bind(trial.0).bind(i64::from(attempt.0)).bind(i64::from(step));
        let stored = select.fetch_optional(&mut *self.tx).await.map_err(database)?;
        Ok(stored.map(|stored| stored.verdict()))
    }

    async fn insert_step(
        &mut self,
        trial: TrialId,
        attempt: Attempt,
        step: u32,
        value: f64,
        stop: bool,
    ) -> Result<(), StoreError> {
        self.dirty = true;
        let insert = query("INSERT INTO step (trial_id, attempt, step, value, stop) VALUES (?1, ?2, ?3, ?4, ?5)");
        let insert = insert.bind(trial.0).bind(i64::from(attempt.0)).bind(i64::from(step));
        let insert = insert.bind(float_bits(value)).bind(stop);
        insert.execute(&mut *self.tx).await.map(drop).map_err(database)
    }

    async fn trial_attributes(
        &mut self,
        id: TrialId,
        kind: AttributeKind,
    ) -> Result<BTreeMap<String, String>, StoreError> {
        let pairs = query_as("SELECT key, value FROM trial_attribute WHERE trial_id = ?1 AND kind = ?2");
        let pairs = pairs.bind(id.0).bind(kind_name(kind)).fetch_all(&mut *self.tx).await.map_err(database)?;
        pairs.into_iter().map(attribute).collect()
    }

    async fn set_trial_attribute(
        &mut self,
        id: TrialId,
        kind: AttributeKind,
        key: &str,
        value: &str,
    ) -> Result<(), StoreError> {
        self.dirty = true;
        let upsert = query(
            "INSERT INTO trial_attribute (trial_id, kind, key, value) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT (trial_id, kind, key) DO UPDATE SET value = excluded.value",
        );
        let upsert = upsert.bind(id.0).bind(kind_name(kind)).bind(key.as_bytes()).bind(value.as_bytes());
        upsert.execute(&mut *self.tx).await.map(drop).map_err(database)
    }
}
