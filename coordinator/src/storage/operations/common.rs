//! Steps that several operations share.

use fleetune_core::measurement::MAX_STDERR_TAIL;
use fleetune_core::study::StudyState;
use fleetune_core::{Attempt, FailKind, JobId, LeaseToken, StudyId, Timestamp, TrialNumber, TrialState};
use serde_json::Value;

use crate::storage::error::StoreError;
use crate::storage::record::{AttemptState, JobKind, JobState, StudyRecord, TrialEnd, TrialRecord};
use crate::storage::rows::{AttemptRow, JobRow, Rows, StudyHead, TrialRow};

/// Largest detail of an attempt, bytes of JSON.
const DETAIL_LIMIT: usize = 1 << 20;

pub(super) async fn need_head(rows: &mut dyn Rows, study: StudyId) -> Result<StudyHead, StoreError> {
    rows.head_for_update(study).await?.ok_or_else(|| StoreError::StudyNotFound(study.to_string()))
}

/// The same, of a study that may change.
pub(super) async fn need_open_head(rows: &mut dyn Rows, study: StudyId) -> Result<StudyHead, StoreError> {
    let head = need_head(rows, study).await?;
    refuse_archived(&head).map(|()| head)
}

/// Refuses a change of a study that was put away.
pub(super) fn refuse_archived(head: &StudyHead) -> Result<(), StoreError> {
    if head.state == StudyState::Archived { Err(wrong_state(head, "be changed")) } else { Ok(()) }
}

pub(super) async fn need_study(rows: &mut dyn Rows, study: StudyId) -> Result<StudyRecord, StoreError> {
    rows.study(study).await?.ok_or_else(|| StoreError::StudyNotFound(study.to_string()))
}

pub(super) async fn need_trial(
    rows: &mut dyn Rows,
    study: StudyId,
    number: TrialNumber,
) -> Result<TrialRow, StoreError> {
    rows.trial(study, number).await?.ok_or(StoreError::TrialNotFound { study, number })
}

pub(super) async fn need_job(rows: &mut dyn Rows, job: JobId) -> Result<JobRow, StoreError> {
    rows.job_for_update(job).await?.ok_or(StoreError::JobNotFound(job))
}

pub(super) fn wrong_state(head: &StudyHead, what: &str) -> StoreError {
    StoreError::WrongStudyState { name: head.name.clone(), state: head.state, what: what.to_owned() }
}

/// Whether workers may lease `more` trials of the study beside those that they have.
pub(super) async fn has_room(
    rows: &mut dyn Rows,
    head: &StudyHead,
    more: usize,
    now: Timestamp,
) -> Result<bool, StoreError> {
    match head.max_parallel {
        Some(max_parallel) if more > 0 => {
            Ok(rows.live_leases(head.id, now).await? as usize + more <= max_parallel as usize)
        }
        Some(_) | None => Ok(true),
    }
}

pub(super) fn wrong_trial_state(trial: &TrialRecord, what: &str) -> StoreError {
    StoreError::WrongTrialState { number: trial.number, state: trial.state, what: what.to_owned() }
}

/// The trial with the steps of its current attempt, as its readers see it.
pub(super) async fn whole(rows: &mut dyn Rows, trial: TrialRecord) -> Result<TrialRecord, StoreError> {
    let mut trials = [trial];
    rows.add_steps(&mut trials).await?;
    let [trial] = trials;
    Ok(trial)
}

/// The attempt that `token` was given for, whether or not it still counts. `None` when the token is a forgery.
pub(super) async fn attempt_of(rows: &mut dyn Rows, token: LeaseToken) -> Result<Option<AttemptRow>, StoreError> {
    let attempt = rows.attempt(token.job, token.attempt).await?;
    Ok(attempt.filter(|attempt| attempt.secret == token.secret))
}

pub(super) fn lease_lost(token: LeaseToken, current: Attempt) -> StoreError {
    StoreError::LeaseLost { job: token.job, held: token.attempt, current }
}

/// Whether `attempt` holds the lease of `job`: the newest, and not ended before its time. One that ran out still does.
pub(super) fn holds(job: &JobRow, attempt: &AttemptRow) -> bool {
    job.record.state == JobState::Leased && !job.lease_ended && job.record.attempt == attempt.attempt
}

/// What is kept of a detail: each stderr is cut to its tail, in the cells of a round too.
pub(super) fn kept(detail: &Value) -> Value {
    let mut detail = detail.clone();
    match &mut detail {
        Value::Array(cells) => cells.iter_mut().filter_map(|cell| cell.get_mut("detail")).for_each(cut_stderr),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            cut_stderr(&mut detail);
        }
    }
    detail
}

/// Cuts what `AttemptDetail` calls `stderr_tail`.
fn cut_stderr(detail: &mut Value) {
    if let Some(Value::String(stderr)) = detail.get_mut("stderr_tail")
        && stderr.len() > MAX_STDERR_TAIL
    {
        let start = stderr.ceil_char_boundary(stderr.len() - MAX_STDERR_TAIL);
        stderr.drain(..start);
    }
}

/// The JSON text of what is kept of a detail, NULL for `null`.
///
/// # Errors
/// [`StoreError::TooLarge`].
pub(super) fn detail_text(detail: &Value) -> Result<Option<String>, StoreError> {
    if detail.is_null() {
        return Ok(None);
    }
    let text = kept(detail).to_string();
    if text.len() > DETAIL_LIMIT {
        let what = "the detail of an attempt, in bytes of JSON,".to_owned();
        return Err(StoreError::TooLarge { what, limit: DETAIL_LIMIT as u64 });
    }
    Ok(Some(text))
}

/// Keeps what a late or losing attempt found, unless its record holds something already.
pub(super) async fn keep_detail(
    rows: &mut dyn Rows,
    job: JobId,
    attempt: &AttemptRow,
    detail: Option<&str>,
) -> Result<(), StoreError> {
    match detail {
        Some(detail) if !attempt.has_detail => rows.save_detail(job, attempt.attempt, detail).await,
        Some(_) | None => Ok(()),
    }
}

/// Ends a job with the attempt that decided it.
pub(super) async fn finish_job(
    rows: &mut dyn Rows,
    job: &mut JobRow,
    detail: Option<&str>,
    now: Timestamp,
) -> Result<(), StoreError> {
    rows.end_attempt(job.record.id, job.record.attempt, AttemptState::Finished, now).await?;
    if let Some(detail) = detail {
        rows.save_detail(job.record.id, job.record.attempt, detail).await?;
    }
    done(rows, job).await
}

/// Ends a job that nobody finished; its open attempt is lost.
pub(super) async fn close_job(rows: &mut dyn Rows, job: &mut JobRow, now: Timestamp) -> Result<(), StoreError> {
    if job.record.state == JobState::Done {
        return Ok(());
    }
    lose_attempt(rows, job, now).await?;
    done(rows, job).await
}

async fn done(rows: &mut dyn Rows, job: &mut JobRow) -> Result<(), StoreError> {
    job.record.state = JobState::Done;
    job.record.expires_at = None;
    rows.save_job(job).await
}

/// Marks the current attempt lost if it is open.
pub(super) async fn lose_attempt(rows: &mut dyn Rows, job: &JobRow, now: Timestamp) -> Result<(), StoreError> {
    let current = rows.attempt(job.record.id, job.record.attempt).await?;
    if current.is_some_and(|current| current.state == AttemptState::Open) {
        rows.end_attempt(job.record.id, job.record.attempt, AttemptState::Lost, now).await?;
    }
    Ok(())
}

/// Ends the lease of a job before its time: the job is claimable at once.
pub(super) async fn end_lease(rows: &mut dyn Rows, job: &mut JobRow, now: Timestamp) -> Result<(), StoreError> {
    job.lease_ended = true;
    job.record.expires_at = job.record.expires_at.map(|expires_at| expires_at.min(now));
    rows.save_job(job).await
}

/// A failure that nobody measured.
pub(super) fn failure(kind: FailKind, message: &str) -> TrialEnd {
    TrialEnd {
        state: TrialState::Fail,
        values: Vec::new(),
        constraints: Vec::new(),
        fail: Some((kind, message.to_owned())),
        seconds: 0.0,
    }
}

/// Puts a trial into its end, at the next revision of its study, which the caller saves. Its job is not touched.
pub(super) async fn end_trial(
    rows: &mut dyn Rows,
    head: &mut StudyHead,
    trial: &mut TrialRow,
    end: &TrialEnd,
    now: Timestamp,
) -> Result<(), StoreError> {
    end_record(head, &mut trial.record, end, now);
    rows.save_trial(trial).await
}

/// What its end makes of a trial, which the caller saves.
pub(super) fn end_record(head: &mut StudyHead, record: &mut TrialRecord, end: &TrialEnd, now: Timestamp) {
    let revision = head.bump();
    record.state = end.state;
    record.values.clone_from(&end.values);
    record.constraints.clone_from(&end.constraints);
    record.fail = end.fail.as_ref().filter(|_| end.state == TrialState::Fail).map(|(kind, text)| (*kind, plain(text)));
    record.seconds = end.seconds;
    record.revision = revision;
    record.ended_revision = Some(revision);
    record.ended_at = Some(now);
}

/// Ends a trial and its job, whoever holds it.
pub(super) async fn abort_trial(
    rows: &mut dyn Rows,
    head: &mut StudyHead,
    trial: &mut TrialRow,
    end: &TrialEnd,
    now: Timestamp,
) -> Result<(), StoreError> {
    if let Some(id) = trial.record.job
        && let Some(mut job) = rows.job_for_update(id).await?
    {
        close_job(rows, &mut job, now).await?;
    }
    end_trial(rows, head, trial, end, now).await
}

/// Why a trial job with these attempts must not be handed out again, the open one counted as lost; `None` when it may.
pub(super) fn at_limit(attempts: &[AttemptRow], max_attempts: u32) -> Option<String> {
    let lost = || {
        attempts.iter().filter(|attempt| match attempt.state {
            AttemptState::Open | AttemptState::Lost => true,
            AttemptState::Finished | AttemptState::Released => false,
        })
    };
    let count = lost().count();
    let first = lost().next().map(|attempt| &attempt.worker);
    if lost().any(|attempt| Some(&attempt.worker) != first) {
        return Some("two different workers were lost while they ran it".to_owned());
    }
    (count >= max_attempts.max(1) as usize).then(|| format!("its worker was lost {count} times"))
}

/// Closes the jobs that a study in `state` has no use for.
pub(super) async fn close_unserved(
    rows: &mut dyn Rows,
    study: StudyId,
    state: StudyState,
    now: Timestamp,
) -> Result<(), StoreError> {
    for mut job in rows.open_jobs(study).await? {
        let served = match job.record.kind {
            JobKind::Describe => state == StudyState::Preparing,
            JobKind::Comparison => state == StudyState::Confirming,
            JobKind::Trial => true,
        };
        if !served {
            close_job(rows, &mut job, now).await?;
        }
    }
    Ok(())
}

/// A sentence for people without the one character that Postgres does not store.
pub(super) fn plain(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
