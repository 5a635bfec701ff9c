//! From the wire to the shapes that are printed.

use fleetune_proto::{convert, v1};

use crate::error::{CliError, CliResult, Exit};
use crate::view::{AttemptView, ChildView, Counts, IncidentView, RegionView, ScheduleView, StudyView, TrialView};

/// An answer that lacks what every coordinator sends.
pub fn incomplete() -> CliError {
    CliError::new(Exit::Unexpected, "the coordinator's answer is incomplete")
}

/// What the gate between wire and domain lets through.
pub fn checked<T>(converted: Result<T, convert::Invalid>) -> CliResult<T> {
    converted.map_err(|error| incomplete().because(error))
}

/// Microseconds since 1970.
pub fn micros(at: Option<&prost_types::Timestamp>) -> Option<i64> {
    at.map(|at| convert::timestamp(at).0)
}

/// A study.
pub fn study(wire: Option<v1::Study>) -> CliResult<StudyView> {
    let wire = wire.ok_or_else(incomplete)?;
    let config = checked(convert::config(wire.config.ok_or_else(incomplete)?))?;
    let counts = wire.counts.unwrap_or_default();
    let benchmark = config.benchmark;
    let note = serde_json::from_str::<serde_json::Value>(&wire.description_json).unwrap_or_default();
    let given = serde_json::from_value(note["given"].clone()).unwrap_or_default();
    Ok(StudyView {
        name: wire.name,
        state: checked(convert::study_state(wire.state))?.to_string(),
        reason: wire.reason,
        metric: benchmark.as_ref().map(|benchmark| benchmark.objective.to_string()),
        unit: benchmark.as_ref().map(|benchmark| benchmark.objective.unit().to_owned()).unwrap_or_default(),
        directions: config.directions.iter().map(ToString::to_string).collect(),
        model: benchmark.as_ref().map(|benchmark| benchmark.model.clone()),
        workload: benchmark.as_ref().map(|benchmark| benchmark.workload),
        timeout_s: benchmark.as_ref().map(|benchmark| benchmark.timeout_s),
        confirm: benchmark.as_ref().is_some_and(|benchmark| benchmark.confirm),
        prior: benchmark.as_ref().is_some_and(|benchmark| benchmark.prior),
        allow_wsl_unsafe: benchmark.as_ref().is_some_and(|benchmark| benchmark.allow_wsl_unsafe),
        ignore_regions: benchmark.as_ref().is_some_and(|benchmark| benchmark.ignore_regions),
        fixed: benchmark.map(|benchmark| benchmark.fixed).unwrap_or_default(),
        space: config.space,
        given,
        sampler: config.sampler.name().to_owned(),
        pruner: config.pruner.name().to_owned(),
        seed: config.seed,
        warm_start: config.earlier.into_iter().map(|earlier| earlier.name).collect(),
        budget: config.budget,
        trials: Counts {
            waiting: counts.waiting,
            running: counts.running,
            complete: counts.complete,
            pruned: counts.pruned,
            fail: counts.fail,
            skipped: counts.skipped,
        },
        spent_s: wire.spent_s,
        per: Some(wire.per).filter(|per| !per.is_empty()),
        parent: Some(wire.parent).filter(|parent| !parent.is_empty()),
        class: Some(wire.class).filter(|class| !class.is_empty()),
        children: wire.children.into_iter().map(child).collect::<CliResult<_>>()?,
        connected_workers: wire.connected_workers,
        selected_workers: wire.selected_workers,
        schedule: ScheduleView::from(&convert::schedule(wire.schedule.unwrap_or_default())),
        pin: wire.pin.map(convert::pin),
        baseline_note: note["baseline_note"].as_str().unwrap_or_default().to_owned(),
        obstacles: wire.obstacles,
        left_out: wire.left_out,
        created_at_us: wire.created_at.as_ref().map_or(0, |at| convert::timestamp(at).0),
    })
}

fn child(wire: v1::ChildStudy) -> CliResult<ChildView> {
    let best = wire.best.unwrap_or_default();
    let study = study(wire.study)?;
    Ok(ChildView {
        class: study.class.unwrap_or_default(),
        name: study.name,
        state: study.state,
        unit: study.unit,
        trials: study.trials,
        spent_s: study.spent_s,
        winner: best.trial,
        best: best.value,
        baseline: best.baseline,
        gain: best.gain,
        obstacles: study.obstacles,
    })
}

/// An unsafe region.
pub fn region(wire: Option<v1::UnsafeRegion>) -> CliResult<RegionView> {
    let region = checked(convert::region(wire.ok_or_else(incomplete)?))?;
    let incident = |incident: &fleetune_core::region::Incident| IncidentView {
        kind: incident.kind.to_string(),
        worker: incident.worker.0.clone(),
        study: incident.study.clone(),
        trial: incident.trial.0,
        attempt: incident.attempt.0,
        at_us: Some(incident.at.0),
        settings: incident.settings.clone(),
        message: incident.message.clone(),
    };
    Ok(RegionView {
        id: region.id,
        why: region.why(),
        evidence: region.evidence.iter().map(incident).collect(),
        device_class: region.device_class,
        model_hash: region.model_hash,
        settings: region.settings,
    })
}

/// A trial.
pub fn trial(wire: v1::Trial) -> CliResult<TrialView> {
    let (fail_kind, fail_message) = match wire.failure {
        None => (None, None),
        Some(failure) => (Some(checked(convert::fail_kind(failure.kind))?.to_string()), Some(failure.message)),
    };
    let attempts = wire
        .attempts
        .into_iter()
        .map(|attempt| {
            Ok(AttemptView {
                attempt: attempt.attempt,
                worker: attempt.worker,
                state: attempt.state,
                started_at_us: micros(attempt.started_at.as_ref()),
                ended_at_us: micros(attempt.ended_at.as_ref()),
                detail: attempt.detail.map(convert::detail).transpose().map_err(|error| incomplete().because(error))?,
            })
        })
        .collect::<CliResult<_>>()?;
    let origin = v1::TrialOrigin::try_from(wire.origin).unwrap_or_default().as_str_name();
    Ok(TrialView {
        number: wire.number,
        state: checked(convert::trial_state(wire.state))?,
        origin: origin.trim_start_matches("TRIAL_ORIGIN_").to_lowercase(),
        params: checked(convert::params(wire.params))?,
        values: wire.values,
        constraints: wire.constraints,
        fail_kind,
        fail_message,
        steps: wire.steps.iter().map(|step| (step.step, step.value)).collect(),
        attempt: wire.attempt,
        seconds: wire
            .measured
            .and_then(|measured| convert::duration("measured", measured).ok())
            .map_or(0.0, |measured| measured.as_secs_f64()),
        started_at_us: micros(wire.started_at.as_ref()),
        ended_at_us: micros(wire.ended_at.as_ref()),
        turn: wire.turn,
        seen: wire.seen,
        attempts,
    })
}
