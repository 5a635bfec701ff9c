//! Studies.

use fleetune_core::value::params_line;

use super::table::{number, pairs, seconds, table};
use crate::view::{ChildView, StudyView, VerifyView};

/// A line per study.
pub fn studies(studies: &[StudyView]) -> String {
    if studies.is_empty() {
        return "no studies yet; `fleetune tune MODEL` makes one".to_owned();
    }
    let rows = studies
        .iter()
        .map(|study| {
            let of = study.budget.trials.map(|trials| format!("/{trials}")).unwrap_or_default();
            vec![
                study.name.clone(),
                study.state.clone(),
                study.metric.clone().unwrap_or_default(),
                study.model.as_ref().map(|_| study.schedule.priority.to_string()).unwrap_or_default(),
                format!("{}{of}", study.trials.ended()),
                study.trials.fail.to_string(),
                seconds(study.spent_s),
            ]
        })
        .collect();
    let right = ["PRIORITY", "TRIALS", "FAILED", "SPENT"];
    table(&["STUDY", "STATE", "METRIC", "PRIORITY", "TRIALS", "FAILED", "SPENT"], &right, rows)
}

/// Everything about one study.
pub fn study(study: &StudyView) -> String {
    let trials = &study.trials;
    let mut counted = vec![format!("{} complete", trials.complete)];
    for (count, name) in
        [(trials.pruned, "pruned"), (trials.fail, "failed"), (trials.running, "running"), (trials.waiting, "waiting")]
    {
        if count > 0 {
            counted.push(format!("{count} {name}"));
        }
    }
    let mut budget = Vec::new();
    budget.extend(study.budget.trials.map(|trials| format!("{trials} trials")));
    budget.extend(study.budget.seconds.map(|time| format!("{} in trials", seconds(time))));
    budget.extend(study.budget.target.map(|target| format!("target {target}")));
    let workload = study.workload.map(|workload| {
        format!(
            "{} prompt + {} generated tokens, {} repetitions after {} warm-up",
            workload.prompt, workload.gen_tokens, workload.repetitions, workload.warmup
        )
    });
    let reason = if study.reason.is_empty() { String::new() } else { format!(" ({})", study.reason) };
    let pin = study.pin.as_ref();
    let mut text = pairs(&[
        ("study", study.name.clone()),
        ("state", format!("{}{reason}", study.state)),
        ("model", study.model.clone().unwrap_or_default()),
        ("metric", metric(study)),
        ("workload", workload.unwrap_or_default()),
        ("trials", counted.join(", ")),
        ("spent", seconds(study.spent_s)),
        ("budget", budget.join(", ")),
        ("workers", workers(study)),
        ("family", family(study)),
        ("sampler", format!("{}, pruner {}, seed {}", study.sampler, study.pruner, study.seed)),
        ("fixed", params_line(&study.fixed)),
        ("engine", pin.map(|pin| pin.engine.clone()).unwrap_or_default()),
        ("device", pin.map(|pin| pin.device_class.clone()).unwrap_or_default()),
        ("baseline", study.baseline_note.clone()),
    ]);
    if let Some(space) = &study.space {
        let rows = space.parameters().iter().map(|(name, parameter)| {
            let when = parameter.when().map(|when| format!("when {when}")).unwrap_or_default();
            vec![name.clone(), parameter.distribution().to_string(), when]
        });
        text.push_str("\n\n");
        text.push_str(&table(&["PARAMETER", "SEARCHED", ""], &[], rows.collect()));
        for forbid in space.forbids() {
            let why = forbid.why().map(|why| format!(" ({why})")).unwrap_or_default();
            text.push_str(&format!("\nnever: {}{why}", forbid.expression()));
        }
        for constraint in space.constraints() {
            let expression = constraint.expression().unwrap_or("told by the client");
            text.push_str(&format!("\nconstraint {}: {expression} <= 0", constraint.name()));
        }
    }
    if !study.children.is_empty() {
        text.push_str("\n\n");
        text.push_str(&children(&study.children));
    }
    for obstacle in &study.obstacles {
        text.push_str(&format!("\n\nno worker gets a trial: {obstacle}"));
    }
    for worker in &study.left_out {
        text.push_str(&format!("\n\nleft out: {worker}"));
    }
    text
}

/// Its claim to workers, as far as it is not the usual one.
fn workers(study: &StudyView) -> String {
    let mut parts = Vec::new();
    if study.schedule.priority != 0 {
        parts.push(format!("priority {}", study.schedule.priority));
    }
    parts.extend(study.schedule.max_parallel.map(|limit| format!("at most {limit} trials at once")));
    parts.extend(study.schedule.selector.as_ref().map(|selector| {
        format!("where {selector} ({} of {} connected)", study.selected_workers, study.connected_workers)
    }));
    parts.join(", ")
}

/// Whether it has children, or is one.
fn family(study: &StudyView) -> String {
    match (&study.per, &study.class) {
        (Some(per), None) => format!("a study per {per}, {} so far", study.children.len()),
        (Some(per), Some(class)) => {
            let parent = study.parent.as_ref().map(|parent| format!(", of study `{parent}`")).unwrap_or_default();
            format!("for {per} {class}{parent}")
        }
        (None, _) => String::new(),
    }
}

/// What became of each class of workers.
fn children(children: &[ChildView]) -> String {
    let rows = children.iter().map(|child| {
        let unit = if child.unit.is_empty() { String::new() } else { format!(" {}", child.unit) };
        vec![
            child.class.clone(),
            child.state.clone(),
            child.trials.ended().to_string(),
            child.best.map(|best| format!("{}{unit}", number(best))).unwrap_or_default(),
            child.gain.map(|gain| format!("{:+.1} %", (gain - 1.0) * 100.0)).unwrap_or_default(),
            child.name.clone(),
        ]
    });
    table(&["CLASS", "STATE", "TRIALS", "BEST", "GAIN", "STUDY"], &["TRIALS", "BEST", "GAIN"], rows.collect())
}

fn metric(study: &StudyView) -> String {
    match &study.metric {
        Some(metric) => format!("{metric}, {} ({})", study.directions.join(", "), study.unit),
        None => study.directions.join(", "),
    }
}

/// What a verification found.
pub fn verify(found: &VerifyView) -> String {
    let mut text = format!("{} trials recomputed, {} not this sampler's work", found.checked, found.skipped);
    if found.mismatches.is_empty() {
        text.push_str("; all as stored");
    }
    for mismatch in &found.mismatches {
        text.push_str(&format!(
            "\ntrial {}: stored {}, recomputed {}",
            mismatch.number,
            params_line(&mismatch.stored),
            params_line(&mismatch.recomputed)
        ));
    }
    text
}
