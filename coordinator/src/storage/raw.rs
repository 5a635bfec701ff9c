//! Rows as both databases give them, and their way into the domain's types.

use std::collections::HashMap;
use std::time::Duration;

use fleetune_core::region::Incident;
use fleetune_core::schedule::Per;
use fleetune_core::{
    Attempt, FailKind, JobId, Revision, Role, Schedule, StudyId, StudyState, Timestamp, TrialId, TrialNumber,
    TrialState, Turn, WorkerId,
};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use sqlx::FromRow;

use super::distributions::Distributions;
use super::error::StoreError;
use super::packed::{unhex, unpack_floats, unpack_values};
use super::record::{
    AttemptRecord, AttemptState, AttributeKind, AuditRecord, Deed, Family, JobKind, JobRecord, JobState, Origin,
    StudyRecord, Tally, TokenRecord, TrialRecord, WorkerRecord,
};
use super::rows::{AttemptRow, JobRow, StudyHead, TrialRow};

type Result<T> = std::result::Result<T, StoreError>;

fn corrupt(what: &str, why: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt { what: what.to_owned(), why: why.to_string() }
}

fn from_json<T: DeserializeOwned>(what: &str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| corrupt(what, error))
}

/// The JSON text of a column.
pub(super) fn to_json<T: Serialize>(what: &str, value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| corrupt(what, error))
}

/// The JSON text of a column that is NULL for `null`.
pub(super) fn to_json_or_null(what: &str, value: &serde_json::Value) -> Result<Option<String>> {
    if value.is_null() { Ok(None) } else { to_json(what, value).map(Some) }
}

fn json_or_null(what: &str, text: Option<&str>) -> Result<serde_json::Value> {
    text.map_or(Ok(serde_json::Value::Null), |text| from_json(what, text))
}

fn number(what: &str, number: i64) -> Result<u32> {
    u32::try_from(number).map_err(|error| corrupt(what, error))
}

/// Stands for an end whose time is not known.
const UNKNOWN: i64 = i64::MIN;

/// The column of the end of a trial.
pub(super) fn ended_at(trial: &TrialRecord) -> Option<i64> {
    trial.ended_at.map(|at| at.0).or(trial.state.is_ended().then_some(UNKNOWN))
}

fn instant(at: Option<i64>) -> Option<Timestamp> {
    at.map(Timestamp)
}

pub(super) fn kind_name(kind: AttributeKind) -> &'static str {
    match kind {
        AttributeKind::User => "user",
        AttributeKind::System => "system",
    }
}

pub(super) fn kind_from_name(name: &str) -> Result<AttributeKind> {
    match name {
        "user" => Ok(AttributeKind::User),
        "system" => Ok(AttributeKind::System),
        other => Err(corrupt("kind of an attribute", other)),
    }
}

pub(super) fn job_state_name(state: JobState) -> &'static str {
    match state {
        JobState::Open => "open",
        JobState::Leased => "leased",
        JobState::Done => "done",
    }
}

fn study_state(name: &str) -> Result<StudyState> {
    StudyState::from_name(name).ok_or_else(|| corrupt("study state", name))
}

/// The ids of inserted trials, in the trials' order. `inserted`: (id, number) in any order, since RETURNING promises
/// none.
pub(super) fn ids_of(trials: &[(&TrialRecord, (&str, u32))], inserted: &[(i64, i64)]) -> Result<Vec<TrialId>> {
    let ids: HashMap<i64, i64> = inserted.iter().map(|&(id, number)| (number, id)).collect();
    let id = |trial: &TrialRecord| ids.get(&trial.number.0).copied().map(TrialId);
    trials
        .iter()
        .map(|(trial, _)| id(trial).ok_or_else(|| corrupt("inserted trials", "one of them has no id")))
        .collect()
}

/// (state, fail kind, count) of groups of trials, and seconds as they are stored.
pub(super) fn tally(groups: &[(String, Option<String>, i64)], seconds: &[i64]) -> Result<Tally> {
    let mut tally = Tally::default();
    for (state, kind, count) in groups {
        let state = TrialState::from_name(state).ok_or_else(|| corrupt("trial state", state))?;
        let known = |kind: &String| FailKind::from_name(kind).ok_or_else(|| corrupt("fail kind", kind));
        tally.counts.add(state, kind.as_ref().map(known).transpose()?, u64::try_from(*count).unwrap_or(0));
    }
    tally.spent_s = seconds.iter().map(|&bits| bits_float(bits)).sum();
    Ok(tally)
}

/// A float as the integer it is stored as, and back.
pub(super) fn float_bits(value: f64) -> i64 {
    value.to_bits().cast_signed()
}

fn bits_float(bits: i64) -> f64 {
    f64::from_bits(bits.cast_unsigned())
}

#[derive(FromRow)]
pub(super) struct RawStudy {
    id: i64,
    name: String,
    state: String,
    reason: String,
    config: String,
    pin: Option<String>,
    description: Option<String>,
    exclusions: String,
    revision: i64,
    config_revision: i64,
    next_number: i64,
    next_turn: i64,
    created_at: i64,
    priority: i64,
    max_parallel: Option<i64>,
    served_at: i64,
    selector: Option<String>,
    per: Option<String>,
    parent_id: Option<i64>,
    class: Option<String>,
    archived_from: Option<String>,
    unarchived_at: Option<i64>,
}

impl RawStudy {
    pub fn record(self) -> Result<StudyRecord> {
        Ok(StudyRecord {
            id: StudyId(self.id),
            name: self.name,
            state: study_state(&self.state)?,
            reason: self.reason,
            config: from_json("study configuration", &self.config)?,
            schedule: Schedule {
                priority: i32::try_from(self.priority).map_err(|error| corrupt("priority", error))?,
                max_parallel: max_parallel(self.max_parallel)?,
                selector: self.selector,
            },
            served_at: Timestamp(self.served_at),
            family: self.per.as_deref().map(|stored| family(stored, self.parent_id, self.class)).transpose()?,
            pin: self.pin.as_deref().map(|pin| from_json("pin", pin)).transpose()?,
            description: self.description.as_deref().map(|text| from_json("description", text)).transpose()?,
            exclusions: from_json("exclusions of a study", &self.exclusions)?,
            revision: Revision(self.revision),
            config_revision: Revision(self.config_revision),
            next_number: TrialNumber(self.next_number),
            next_turn: Turn(self.next_turn),
            created_at: Timestamp(self.created_at),
            archived_from: self.archived_from.as_deref().map(study_state).transpose()?,
            unarchived_at: instant(self.unarchived_at),
        })
    }
}

#[derive(FromRow)]
pub(super) struct RawHead {
    id: i64,
    name: String,
    state: String,
    revision: i64,
    next_number: i64,
    next_turn: i64,
    max_parallel: Option<i64>,
    served_at: i64,
    per: Option<String>,
    parent_id: Option<i64>,
}

impl RawHead {
    pub fn head(self) -> Result<StudyHead> {
        Ok(StudyHead {
            id: StudyId(self.id),
            name: self.name,
            state: study_state(&self.state)?,
            revision: Revision(self.revision),
            next_number: TrialNumber(self.next_number),
            next_turn: Turn(self.next_turn),
            max_parallel: max_parallel(self.max_parallel)?,
            served_at: Timestamp(self.served_at),
            is_parent: self.per.is_some() && self.parent_id.is_none(),
        })
    }
}

fn family(per: &str, parent: Option<i64>, class: Option<String>) -> Result<Family> {
    let none = || corrupt("what tells workers apart", format!("`{per}` is nothing"));
    let per = Per::from_name(per).ok_or_else(none)?;
    Ok(match parent.map(StudyId).zip(class) {
        Some((parent, class)) => Family::Child { parent, per, class },
        None => Family::Parent(per),
    })
}

fn max_parallel(stored: Option<i64>) -> Result<Option<u32>> {
    stored.map(u32::try_from).transpose().map_err(|error| corrupt("max_parallel", error))
}

#[derive(FromRow, Deserialize)]
pub(super) struct RawTrial {
    id: i64,
    study_id: i64,
    number: i64,
    state: String,
    origin: String,
    #[serde(deserialize_with = "hex_bytes")]
    fixed: Vec<u8>,
    #[serde(deserialize_with = "hex_bytes")]
    pub params: Vec<u8>,
    #[serde(deserialize_with = "hex_bytes")]
    objective_values: Vec<u8>,
    #[serde(deserialize_with = "hex_bytes")]
    constraint_values: Vec<u8>,
    fail_kind: Option<String>,
    #[serde(deserialize_with = "hex_text")]
    fail_message: Option<String>,
    job_id: Option<i64>,
    attempt: i64,
    turn: Option<i64>,
    seen: Option<i64>,
    sampler: String,
    revision: i64,
    started_revision: Option<i64>,
    ended_revision: Option<i64>,
    created_at: i64,
    started_at: Option<i64>,
    ended_at: Option<i64>,
    seconds: i64,
    step_count: i64,
}

fn hex_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<u8>, D::Error> {
    unhex(<&str>::deserialize(deserializer)?).ok_or_else(|| D::Error::custom("no hexadecimal digits"))
}

/// In hexadecimal digits, since a text in JSON ends at a NUL. Nothing stands for NULL as well.
fn hex_text<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<String>, D::Error> {
    String::from_utf8(hex_bytes(deserializer)?).map(Some).map_err(D::Error::custom)
}

impl RawTrial {
    /// The trials of a JSON array that has an array of all columns for each, in their order.
    pub fn from_json(text: &str) -> Result<Vec<Self>> {
        from_json("trials", text)
    }

    pub fn row(self, distributions: &Distributions) -> Result<TrialRow> {
        let floats = |bytes: &[u8]| unpack_floats(bytes).ok_or_else(|| corrupt("values", "their bytes end early"));
        let fail = match self.fail_kind {
            None => None,
            Some(kind) => {
                let kind = FailKind::from_name(&kind).ok_or_else(|| corrupt("fail kind", &kind))?;
                Some((kind, self.fail_message.unwrap_or_default()))
            }
        };
        let record = TrialRecord {
            id: TrialId(self.id),
            study: StudyId(self.study_id),
            number: TrialNumber(self.number),
            state: TrialState::from_name(&self.state).ok_or_else(|| corrupt("trial state", &self.state))?,
            origin: Origin::from_name(&self.origin).ok_or_else(|| corrupt("origin", &self.origin))?,
            fixed: unpack_values(&self.fixed).ok_or_else(|| corrupt("fixed parameters", "their bytes end early"))?,
            params: distributions.unpack(&self.params)?,
            values: floats(&self.objective_values)?,
            constraints: floats(&self.constraint_values)?,
            fail,
            job: self.job_id.map(JobId),
            attempt: Attempt(number("attempt", self.attempt)?),
            turn: self.turn.map(Turn),
            seen: self.seen.map(Revision),
            sampler: self.sampler,
            revision: Revision(self.revision),
            started_revision: self.started_revision.map(Revision),
            ended_revision: self.ended_revision.map(Revision),
            created_at: Timestamp(self.created_at),
            started_at: instant(self.started_at),
            ended_at: instant(self.ended_at.filter(|&at| at != UNKNOWN)),
            seconds: bits_float(self.seconds),
            steps: Vec::new(),
        };
        Ok(TrialRow { record, step_count: number("step count", self.step_count)? })
    }
}

#[derive(FromRow)]
pub(super) struct RawStep {
    pub trial_id: i64,
    step: i64,
    value: i64,
}

impl RawStep {
    pub fn step(&self) -> Result<(u32, f64)> {
        Ok((number("step", self.step)?, bits_float(self.value)))
    }
}

#[derive(FromRow)]
pub(super) struct RawVerdict {
    value: i64,
    stop: bool,
}

impl RawVerdict {
    pub fn verdict(&self) -> (f64, bool) {
        (bits_float(self.value), self.stop)
    }
}

#[derive(FromRow)]
pub(super) struct RawJob {
    id: i64,
    study_id: i64,
    kind: String,
    state: String,
    trial_id: Option<i64>,
    trial_number: Option<i64>,
    spec: Option<String>,
    result: Option<String>,
    attempt: i64,
    worker: Option<String>,
    expires_at: Option<i64>,
    ttl: i64,
    lease_ended: bool,
}

impl RawJob {
    pub fn row(self) -> Result<JobRow> {
        let state = match self.state.as_str() {
            "open" => JobState::Open,
            "leased" => JobState::Leased,
            "done" => JobState::Done,
            other => return Err(corrupt("job state", other)),
        };
        let record = JobRecord {
            id: JobId(self.id),
            study: StudyId(self.study_id),
            kind: JobKind::from_name(&self.kind).ok_or_else(|| corrupt("job kind", &self.kind))?,
            state,
            trial: self.trial_number.map(TrialNumber),
            spec: json_or_null("job", self.spec.as_deref())?,
            result: json_or_null("result of a job", self.result.as_deref())?,
            attempt: Attempt(number("attempt", self.attempt)?),
            worker: self.worker.map(WorkerId),
            expires_at: instant(self.expires_at),
        };
        Ok(JobRow {
            record,
            trial_id: self.trial_id.map(TrialId),
            ttl: Duration::from_micros(u64::try_from(self.ttl).unwrap_or(0)),
            lease_ended: self.lease_ended,
        })
    }
}

fn attempt_state(name: &str) -> Result<AttemptState> {
    AttemptState::from_name(name).ok_or_else(|| corrupt("attempt state", name))
}

#[derive(FromRow)]
pub(super) struct RawAttempt {
    attempt: i64,
    worker: String,
    secret: i64,
    state: String,
    has_detail: bool,
}

impl RawAttempt {
    pub fn row(self) -> Result<AttemptRow> {
        Ok(AttemptRow {
            attempt: Attempt(number("attempt", self.attempt)?),
            worker: WorkerId(self.worker),
            secret: self.secret.cast_unsigned(),
            state: attempt_state(&self.state)?,
            has_detail: self.has_detail,
        })
    }
}

#[derive(FromRow)]
pub(super) struct RawAttemptRecord {
    job_id: i64,
    attempt: i64,
    worker: String,
    state: String,
    started_at: i64,
    ended_at: Option<i64>,
    detail: Option<String>,
}

impl RawAttemptRecord {
    pub fn record(self) -> Result<AttemptRecord> {
        Ok(AttemptRecord {
            job: JobId(self.job_id),
            attempt: Attempt(number("attempt", self.attempt)?),
            worker: WorkerId(self.worker),
            state: attempt_state(&self.state)?,
            started_at: Timestamp(self.started_at),
            ended_at: instant(self.ended_at),
            detail: json_or_null("detail of an attempt", self.detail.as_deref())?,
        })
    }
}

/// The cells of a round.
pub(super) fn cells(text: &str) -> Result<serde_json::Value> {
    from_json("round", text)
}

#[derive(FromRow)]
pub(super) struct RawWorker {
    id: String,
    name: String,
    labels: String,
    inventory: String,
    executors: String,
    version: String,
    models: String,
    draining: bool,
    registered_at: i64,
    last_seen: i64,
    token_id: Option<i64>,
}

impl RawWorker {
    pub fn record(self) -> Result<WorkerRecord> {
        Ok(WorkerRecord {
            id: WorkerId(self.id),
            name: self.name,
            labels: from_json("labels of a worker", &self.labels)?,
            inventory: from_json("inventory of a worker", &self.inventory)?,
            executors: from_json("executors of a worker", &self.executors)?,
            version: self.version,
            models: from_json("models of a worker", &self.models)?,
            draining: self.draining,
            registered_at: Timestamp(self.registered_at),
            last_seen: Timestamp(self.last_seen),
            token: self.token_id,
        })
    }
}

#[derive(FromRow)]
pub(super) struct RawToken {
    id: i64,
    name: String,
    role: String,
    hash: Vec<u8>,
    created_at: i64,
    created_by: String,
    expires_at: Option<i64>,
    last_used_at: Option<i64>,
    revoked_at: Option<i64>,
}

impl RawToken {
    pub fn record(self) -> Result<TokenRecord> {
        Ok(TokenRecord {
            id: self.id,
            name: self.name,
            role: role(&self.role)?,
            hash: self.hash.try_into().map_err(|_| corrupt("hash of a token", "it has not 32 bytes"))?,
            created_at: Timestamp(self.created_at),
            created_by: self.created_by,
            expires_at: instant(self.expires_at),
            last_used_at: instant(self.last_used_at),
            revoked_at: instant(self.revoked_at),
        })
    }
}

fn role(name: &str) -> Result<Role> {
    Role::from_name(name).ok_or_else(|| corrupt("role", name))
}

#[derive(FromRow)]
pub(super) struct RawAudit {
    id: i64,
    at: i64,
    actor: String,
    role: Option<String>,
    peer: String,
    action: String,
    subject: String,
}

impl RawAudit {
    pub fn record(self) -> Result<AuditRecord> {
        let role = self.role.as_deref().map(role).transpose()?;
        let Self { actor, peer, action, subject, .. } = self;
        let deed = Deed { actor, role, peer, action, subject };
        Ok(AuditRecord { id: self.id, at: Timestamp(self.at), deed })
    }
}

#[derive(FromRow)]
pub(super) struct RawIncident {
    id: i64,
    device_class: String,
    model_hash: String,
    kind: String,
    worker: String,
    study: String,
    trial: i64,
    attempt: i64,
    at: i64,
    settings: String,
    message: String,
    refuted: bool,
}

impl RawIncident {
    pub fn record(self) -> Result<Incident> {
        Ok(Incident {
            id: self.id,
            device_class: self.device_class,
            model_hash: self.model_hash,
            kind: FailKind::from_name(&self.kind).ok_or_else(|| corrupt("fail kind", &self.kind))?,
            worker: WorkerId(self.worker),
            study: self.study,
            trial: TrialNumber(self.trial),
            attempt: Attempt(number("attempt", self.attempt)?),
            at: Timestamp(self.at),
            settings: from_json("settings of an incident", &self.settings)?,
            message: self.message,
            refuted: self.refuted,
        })
    }
}

/// An attribute's two texts, which are bytes to the database.
pub(super) fn attribute((key, value): (Vec<u8>, Vec<u8>)) -> Result<(String, String)> {
    let text = |bytes| String::from_utf8(bytes).map_err(|error| corrupt("attribute", error));
    Ok((text(key)?, text(value)?))
}
