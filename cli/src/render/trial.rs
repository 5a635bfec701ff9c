//! Trials.

use fleetune_core::measurement::{Metric, Summary};
use fleetune_core::value::params_line;
use fleetune_core::{Timestamp, TrialState};

use super::table::{number, pairs, seconds, table};
use crate::view::{AttemptView, TrialView};

/// What a trial came to, in a few words: its value, or why it has none.
pub fn outcome(trial: &TrialView) -> String {
    let values = trial.values.iter().map(|&value| number(value)).collect::<Vec<_>>().join(", ");
    match (trial.state, &trial.fail_kind) {
        (TrialState::Fail, Some(kind)) => kind.clone(),
        _ => values,
    }
}

/// A line per trial.
pub fn trials(trials: &[TrialView]) -> String {
    if trials.is_empty() {
        return "no trials".to_owned();
    }
    let rows = trials
        .iter()
        .map(|trial| {
            vec![
                trial.number.to_string(),
                trial.state.to_string(),
                outcome(trial),
                seconds(trial.seconds),
                trial.origin.clone(),
                params_line(&trial.params),
            ]
        })
        .collect();
    table(&["TRIAL", "STATE", "VALUE", "TIME", "ORIGIN", "PARAMETERS"], &["TRIAL", "VALUE", "TIME"], rows)
}

/// Everything about one trial.
pub fn trial(trial: &TrialView) -> String {
    let failed = match (&trial.fail_kind, &trial.fail_message) {
        (Some(kind), Some(message)) if !message.is_empty() => format!("{kind}: {message}"),
        (Some(kind), _) => kind.clone(),
        _ => String::new(),
    };
    let value = if trial.state == TrialState::Fail { String::new() } else { outcome(trial) };
    let mut text = pairs(&[
        ("trial", trial.number.to_string()),
        ("state", trial.state.to_string()),
        ("value", value),
        ("failed", failed),
        ("origin", trial.origin.clone()),
        ("parameters", params_line(&trial.params)),
        ("time", seconds(trial.seconds)),
        ("turn", trial.turn.map(|turn| turn.to_string()).unwrap_or_default()),
        ("seen", trial.seen.map(|seen| format!("revision {seen}")).unwrap_or_default()),
    ]);
    for attempt in &trial.attempts {
        text.push_str(&format!("\n\nattempt {} on worker {}: {}", attempt.attempt, attempt.worker, attempt.state));
        if let Some(began) = attempt.started_at_us {
            let after = |end: i64| format!(", {} later", seconds((end - began) as f64 / 1e6));
            let ended = attempt.ended_at_us.map(after).unwrap_or_default();
            text.push_str(&format!(" (began {}{ended})", Timestamp(began)));
        }
        text.push_str(&self::attempt(attempt));
    }
    text
}

fn attempt(attempt: &AttemptView) -> String {
    let Some(detail) = &attempt.detail else {
        return String::new();
    };
    let rows: Vec<Vec<String>> = Metric::ALL
        .into_iter()
        .filter_map(|metric| {
            let summary = Summary::of(detail.samples.get(metric))?;
            Some(vec![
                metric.to_string(),
                number(summary.median),
                number(summary.sd),
                number(summary.min),
                number(summary.max),
                summary.count.to_string(),
            ])
        })
        .collect();
    let mut text = String::new();
    if !rows.is_empty() {
        let header = ["METRIC", "MEDIAN", "SD", "MIN", "MAX", "SAMPLES"];
        text.push('\n');
        text.push_str(&table(&header, &header[1..], rows));
    }
    let effective = if detail.effective.is_null() { String::new() } else { detail.effective.to_string() };
    let facts = pairs(&[
        ("requested", params_line(&detail.requested)),
        ("effective", effective),
        ("engine", detail.engine.clone()),
        ("device", detail.device_class.clone()),
        ("waited", if detail.waited_s > 0.05 { seconds(detail.waited_s) } else { String::new() }),
        ("stopped by", if detail.stopped_by == "none" { String::new() } else { detail.stopped_by.clone() }),
    ]);
    text.push('\n');
    text.push_str(&facts);
    if !detail.stderr_tail.trim().is_empty() {
        text.push_str("\nstderr:\n");
        text.push_str(detail.stderr_tail.trim_end());
    }
    text
}
