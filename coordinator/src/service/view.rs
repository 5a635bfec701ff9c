//! From what is stored to what is sent.

use std::collections::BTreeMap;

use fleetune_core::measurement::AttemptDetail;
use fleetune_proto::{convert, v1};

use crate::scheduler::{Best, Child, Comparison, StudySummary};
use crate::storage::{AttemptRecord, Family, HeldJob, Lease, Origin, TrialRecord, WorkerRecord, external};

/// A study.
pub fn study(summary: &StudySummary) -> v1::Study {
    let record = &summary.record;
    let counts = summary.counts;
    v1::Study {
        id: record.id.0,
        name: record.name.clone(),
        state: convert::study_state_to_wire(record.state).into(),
        reason: record.reason.clone(),
        config: Some(convert::config_to_wire(&record.config)),
        pin: record.pin.as_ref().map(convert::pin_to_wire),
        revision: record.revision.0,
        created_at: Some(convert::timestamp_to_wire(record.created_at)),
        counts: Some(v1::TrialCounts {
            waiting: counts.waiting,
            running: counts.running,
            complete: counts.complete,
            pruned: counts.pruned,
            fail: counts.fail,
            skipped: counts.skipped,
        }),
        description_json: record.description.as_ref().map(ToString::to_string).unwrap_or_default(),
        obstacles: summary.obstacles.clone(),
        spent_s: summary.spent_s,
        parent: summary.parent.clone(),
        left_out: summary.left_out.clone(),
        connected_workers: summary.connected,
        selected_workers: summary.selected,
        per: record.family.as_ref().map(|family| family.per().name()).unwrap_or_default(),
        class: record.family.as_ref().and_then(Family::class).unwrap_or_default().to_owned(),
        children: Vec::new(),
        schedule: Some(convert::schedule_to_wire(&record.schedule)),
    }
}

/// A child as its parent shows it.
pub fn child(child: &Child) -> v1::ChildStudy {
    let value = |trial: &Option<TrialRecord>| trial.as_ref().and_then(|trial| trial.values.first().copied());
    let best = &child.best;
    let gain = best.comparison.as_ref().and_then(|comparison| comparison.verdict.gain.as_ref());
    v1::ChildStudy {
        study: Some(study(&child.summary)),
        best: Some(v1::BestSummary {
            value: value(&best.winner),
            trial: best.winner.as_ref().map(|trial| trial.number.0),
            baseline: value(&best.baseline),
            gain: gain.filter(|gain| gain.low > 1.0).map(|gain| gain.ratio),
        }),
    }
}

/// A trial without its attempts.
pub fn trial(record: &TrialRecord) -> v1::Trial {
    let is_waiting = record.params.is_empty();
    let params = if is_waiting { record.fixed.clone() } else { external(&record.params) };
    v1::Trial {
        id: record.id.0,
        number: record.number.0,
        state: convert::trial_state_to_wire(record.state).into(),
        origin: origin(record.origin).into(),
        params: convert::params_to_wire(&params),
        values: record.values.clone(),
        constraints: record.constraints.clone(),
        failure: record.fail.as_ref().map(|(kind, message)| v1::Failure {
            kind: convert::fail_kind_to_wire(*kind).into(),
            message: message.clone(),
        }),
        steps: record.steps.iter().map(|&(step, value)| v1::Step { step, value }).collect(),
        attempt: record.attempt.0,
        held: record.is_held(),
        created_at: Some(convert::timestamp_to_wire(record.created_at)),
        started_at: record.started_at.map(convert::timestamp_to_wire),
        ended_at: record.ended_at.map(convert::timestamp_to_wire),
        measured: Some(convert::duration_to_wire(record.seconds)),
        revision: record.revision.0,
        turn: record.turn.map(|turn| turn.0),
        seen: record.seen.map(|seen| seen.0),
        sampler_version: record.sampler.clone(),
        attempts: Vec::new(),
        user_attributes: BTreeMap::new(),
    }
}

/// An execution.
pub fn attempt(record: &AttemptRecord) -> v1::AttemptRecord {
    // A detail of another shape (an older program's) is left out rather than refused.
    let detail = serde_json::from_value::<AttemptDetail>(record.detail.clone()).ok();
    v1::AttemptRecord {
        attempt: record.attempt.0,
        worker: record.worker.0.clone(),
        state: record.state.as_str().to_owned(),
        started_at: Some(convert::timestamp_to_wire(record.started_at)),
        ended_at: record.ended_at.map(convert::timestamp_to_wire),
        detail: detail.as_ref().map(convert::detail_to_wire),
    }
}

/// A lease.
pub fn lease(lease: &Lease) -> v1::Lease {
    v1::Lease {
        token: lease.token.to_string(),
        expires_at: Some(convert::timestamp_to_wire(lease.expires_at)),
        attempt: lease.token.attempt.0,
    }
}

/// The answer of a study.
pub fn best(best: &Best) -> v1::BestResponse {
    v1::BestResponse {
        trials: best.trials.iter().map(trial).collect(),
        baseline: best.baseline.as_ref().map(trial),
        comparison: best.comparison.as_ref().map(comparison),
        winner: best.winner.as_ref().map(trial),
    }
}

fn comparison(comparison: &Comparison) -> v1::ComparisonVerdict {
    let gain = comparison.verdict.gain.as_ref();
    v1::ComparisonVerdict {
        challenger: comparison.challenger.map(|number| number.0),
        baseline: comparison.baseline.map(|number| number.0),
        gain: gain.map(|gain| v1::Gain { ratio: gain.ratio, low: gain.low, high: gain.high, pairs: gain.rounds }),
        proven: gain.is_some_and(|gain| gain.low > 1.0),
        rounds: comparison.rounds,
    }
}

/// A worker.
pub fn worker(record: &WorkerRecord, alive: bool) -> v1::Worker {
    v1::Worker {
        id: record.id.0.clone(),
        name: record.name.clone(),
        labels: record.labels.clone(),
        inventory_json: serde_json::to_string(&record.inventory).unwrap_or_default(),
        executors: record.executors.clone(),
        version: record.version.clone(),
        draining: record.draining,
        registered_at: Some(convert::timestamp_to_wire(record.registered_at)),
        last_seen: Some(convert::timestamp_to_wire(record.last_seen)),
        device_class: record.device_class(),
        models: record.models.iter().map(convert::model_to_wire).collect(),
        alive,
        jobs: Vec::new(),
        gauges: None,
    }
}

/// A job that a worker holds.
pub fn held_job(held: &HeldJob) -> v1::HeldJob {
    v1::HeldJob {
        study: held.study.clone(),
        kind: held.kind.as_str().to_owned(),
        trial: held.trial.map(|number| number.0),
        attempt: held.attempt.0,
        expires_at: Some(convert::timestamp_to_wire(held.expires_at)),
    }
}

fn origin(origin: Origin) -> v1::TrialOrigin {
    match origin {
        Origin::Sampled => v1::TrialOrigin::Sampled,
        Origin::Default => v1::TrialOrigin::Default,
        Origin::EngineFit => v1::TrialOrigin::EngineFit,
        Origin::Enqueued => v1::TrialOrigin::Enqueued,
        Origin::Client => v1::TrialOrigin::Client,
    }
}
