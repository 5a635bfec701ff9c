//! Drafts: one statement each, which does nothing when the study has moved on.

use fleetune_core::{TrialId, TrialNumber};
use sqlx::postgres::PgArguments;
use sqlx::query::QueryAs;
use sqlx::{AssertSqlSafe, Postgres, query_as};

use super::database;
use super::stash::Stash;
use crate::storage::distributions::{self, Distributions};
use crate::storage::draft::Draft;
use crate::storage::engine::Written;
use crate::storage::error::StoreError;
use crate::storage::packed::{pack_floats, pack_values};
use crate::storage::queue::Failed;
use crate::storage::raw::{ended_at, float_bits, kind_name};
use crate::storage::record::{ParamSet, TrialRecord};

/// The parameters of the trials that change, packed; `None` when the id of a distribution is not known.
pub(super) fn pack(draft: &Draft, distributions: &Distributions) -> Result<Option<Vec<Vec<u8>>>, StoreError> {
    let mut packed = Vec::with_capacity(draft.trials.len());
    for whole in draft.trials.values() {
        let Some(params) = pack_one(&whole.record, distributions)? else { return Ok(None) };
        packed.push(params);
    }
    Ok(Some(packed))
}

fn pack_one(record: &TrialRecord, distributions: &Distributions) -> Result<Option<Vec<u8>>, StoreError> {
    let params: &ParamSet = &record.params;
    let mut ids = Vec::with_capacity(params.len());
    for param in params.values() {
        let mut id = distributions.id_of(record.study, &param.distribution);
        if id.is_none() {
            let body = distributions::body(&param.distribution)?;
            id = distributions.id_of_body(record.study, &param.distribution, &body);
        }
        let Some(id) = id else { return Ok(None) };
        ids.push(id);
    }
    Ok(Some(distributions::pack(params, &ids)))
}

/// The statement for a draft with these parts. Its row of the study is locked first; all else hangs on that.
fn statement(draft: &Draft) -> String {
    let mut sql = String::from(
        "WITH head AS (UPDATE study SET revision = $2, next_number = $3, next_turn = $4 \
         WHERE id = $1 AND revision = $5 RETURNING id)",
    );
    let mut next = 6;
    let mut places = |types: &[&str]| {
        let places: Vec<String> = (next..).zip(types).map(|(place, name)| format!("${place}::{name}[]")).collect();
        next += types.len();
        places.join(", ")
    };
    if !draft.trials.is_empty() {
        let of = places(&[
            "bigint", "bigint", "text", "text", "bytea", "bytea", "bytea", "bytea", "text", "text", "bigint", "bigint",
            "text", "bigint", "bigint", "bigint", "bigint", "bigint", "bigint", "bigint", "bigint", "bigint",
        ]);
        // They are there. Found by this index whatever the planner makes of a young table.
        sql += &format!(
            ", changed AS (INSERT INTO trial (id, number, state, origin, fixed, params, objective_values, \
             constraint_values, fail_kind, fail_message, turn, seen, sampler, revision, started_revision, \
             ended_revision, created_at, started_at, ended_at, seconds, step_count, attempt, study_id) \
             OVERRIDING SYSTEM VALUE SELECT new.*, head.id FROM head, UNNEST ({of}) AS new \
             ON CONFLICT (id) DO UPDATE SET state = excluded.state, fixed = excluded.fixed, params = excluded.params, \
             objective_values = excluded.objective_values, constraint_values = excluded.constraint_values, \
             fail_kind = excluded.fail_kind, fail_message = excluded.fail_message, turn = excluded.turn, \
             seen = excluded.seen, sampler = excluded.sampler, revision = excluded.revision, \
             started_revision = excluded.started_revision, ended_revision = excluded.ended_revision, \
             started_at = excluded.started_at, ended_at = excluded.ended_at, seconds = excluded.seconds, \
             step_count = excluded.step_count)"
        );
    }
    if !draft.attributes.is_empty() {
        let of = places(&["bigint", "text", "bytea", "bytea"]);
        sql += &format!(
            ", attributes AS (INSERT INTO trial_attribute (trial_id, kind, key, value) \
             SELECT new.* FROM head, UNNEST ({of}) AS new \
             ON CONFLICT (trial_id, kind, sha256(key)) DO UPDATE SET value = excluded.value)"
        );
    }
    if !draft.steps.is_empty() {
        let of = places(&["bigint", "bigint", "bigint", "bigint"]);
        sql += &format!(
            ", steps AS (INSERT INTO step (trial_id, attempt, step, value, stop) \
             SELECT new.*, FALSE FROM head, UNNEST ({of}) AS new \
             ON CONFLICT (trial_id, attempt, step) DO UPDATE SET value = excluded.value)"
        );
    }
    // The row without a number says that it was done.
    let mut answer = "SELECT NULL::bigint AS number, id FROM head";
    if !draft.added.is_empty() {
        let of = places(&["bigint", "bigint", "bigint", "bigint", "bigint"]);
        sql += &format!(
            ", added AS (INSERT INTO trial (number, turn, revision, started_revision, created_at, started_at, \
             study_id, state, origin, fixed, params, objective_values, constraint_values, attempt, sampler, seconds, \
             step_count) SELECT new.number, new.turn, new.revision, new.revision, new.created_at, new.started_at, \
             head.id, 'running', 'client', '', '', '', '', 0, '', 0, 0 \
             FROM head, UNNEST ({of}) AS new (number, turn, revision, created_at, started_at) \
             ORDER BY new.number RETURNING number, id)"
        );
        answer = "SELECT NULL::bigint AS number, id FROM head UNION ALL SELECT number, id FROM added";
    }
    sql + " " + answer
}

type Query = QueryAs<'static, Postgres, (Option<i64>, i64), PgArguments>;

fn bind(draft: &Draft, params: Vec<Vec<u8>>) -> Query {
    let head = &draft.head;
    let mut query = query_as(AssertSqlSafe(statement(draft)));
    query = query.bind(head.id.0).bind(head.revision.0).bind(head.next_number.0).bind(head.next_turn.0);
    query = query.bind(draft.at.0);
    if !draft.trials.is_empty() {
        query = bind_trials(query, draft, params);
    }
    if !draft.attributes.is_empty() {
        query = query.bind(draft.attributes.keys().map(|key| key.0.0).collect::<Vec<_>>());
        query = query.bind(draft.attributes.keys().map(|key| kind_name(key.1)).collect::<Vec<_>>());
        query = query.bind(draft.attributes.keys().map(|key| key.2.clone().into_bytes()).collect::<Vec<_>>());
        query = query.bind(draft.attributes.values().map(|value| value.clone().into_bytes()).collect::<Vec<_>>());
    }
    if !draft.steps.is_empty() {
        query = query.bind(draft.steps.keys().map(|key| key.0.0).collect::<Vec<_>>());
        query = query.bind(draft.steps.values().map(|(attempt, _)| i64::from(attempt.0)).collect::<Vec<_>>());
        query = query.bind(draft.steps.keys().map(|key| i64::from(key.1)).collect::<Vec<_>>());
        query = query.bind(draft.steps.values().map(|(_, value)| float_bits(*value)).collect::<Vec<_>>());
    }
    if !draft.added.is_empty() {
        let of = |field: fn(&TrialRecord) -> i64| draft.added.iter().map(field).collect::<Vec<_>>();
        query = query.bind(of(|trial| trial.number.0)).bind(of(|trial| trial.turn.unwrap_or_default().0));
        query = query.bind(of(|trial| trial.revision.0)).bind(of(|trial| trial.created_at.0));
        query = query.bind(draft.added.iter().map(|trial| trial.started_at.map(|at| at.0)).collect::<Vec<_>>());
    }
    query
}

fn bind_trials(query: Query, draft: &Draft, params: Vec<Vec<u8>>) -> Query {
    let records = || draft.trials.values().map(|whole| &whole.record);
    let numbers = |field: fn(&TrialRecord) -> i64| records().map(field).collect::<Vec<_>>();
    let optional = |field: fn(&TrialRecord) -> Option<i64>| records().map(field).collect::<Vec<_>>();
    let names = |field: fn(&TrialRecord) -> &'static str| records().map(field).collect::<Vec<_>>();
    let packed = |field: fn(&TrialRecord) -> Vec<u8>| records().map(field).collect::<Vec<_>>();
    let fail = |record: &TrialRecord| record.fail.as_ref().map(|(kind, text)| (kind.as_str(), text.clone())).unzip();
    let (kinds, messages): (Vec<_>, Vec<_>) = records().map(fail).unzip();
    let query = query.bind(numbers(|trial| trial.id.0)).bind(numbers(|trial| trial.number.0));
    let query = query.bind(names(|trial| trial.state.as_str())).bind(names(|trial| trial.origin.as_str()));
    let query = query.bind(packed(|trial| pack_values(&trial.fixed))).bind(params);
    let query = query.bind(packed(|trial| pack_floats(&trial.values)));
    let query = query.bind(packed(|trial| pack_floats(&trial.constraints))).bind(kinds).bind(messages);
    let query = query.bind(optional(|trial| trial.turn.map(|turn| turn.0)));
    let query = query.bind(optional(|trial| trial.seen.map(|seen| seen.0)));
    let query = query.bind(records().map(|trial| trial.sampler.clone()).collect::<Vec<_>>());
    let query = query.bind(numbers(|trial| trial.revision.0));
    let query = query.bind(optional(|trial| trial.started_revision.map(|revision| revision.0)));
    let query = query.bind(optional(|trial| trial.ended_revision.map(|revision| revision.0)));
    let query = query.bind(numbers(|trial| trial.created_at.0));
    let query = query.bind(optional(|trial| trial.started_at.map(|at| at.0))).bind(optional(ended_at));
    let query = query.bind(numbers(|trial| float_bits(trial.seconds)));
    let query = query.bind(numbers(|trial| trial.steps.len() as i64));
    query.bind(numbers(|trial| i64::from(trial.attempt.0)))
}

impl Stash {
    /// Writes a draft; `params`: what [`pack`] made of it.
    pub async fn write(&self, draft: &Draft, params: Vec<Vec<u8>>) -> Result<Written, Failed> {
        let mut borrowed = self.borrow().await.map_err(|error| Failed::Before(database(error)))?;
        let rows = bind(draft, params).fetch_all(&mut borrowed.connection).await.map_err(failed)?;
        borrowed.give_back();
        if rows.is_empty() {
            return Ok(Written::Behind);
        }
        let added = rows.into_iter().filter_map(|(number, id)| Some((TrialNumber(number?), TrialId(id))));
        Ok(Written::All(added.collect()))
    }
}

/// What the database refuses it has not done; of what it was too late to answer nobody knows.
fn failed(error: sqlx::Error) -> Failed {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code).unwrap_or_default();
    let is_refusal = !code.is_empty() && !code.starts_with("57") && !code.starts_with("08");
    if is_refusal { Failed::Before(database(error)) } else { Failed::Commit(database(error)) }
}
