//! Importances, fronts, sensitivity.

use fleetune_core::value::params_line;

use super::table::{number, table};
use crate::view::{FrontView, ImportancesView, SensitivityView};

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// Which parameters matter.
pub fn importances(found: &ImportancesView) -> String {
    let conditional = found.parameters.iter().any(|parameter| parameter.active < 1.0);
    let mut header = vec!["PARAMETER", "IMPORTANCE", "95 % INTERVAL"];
    if conditional {
        header.push("THERE IN");
    }
    let rows = found.parameters.iter().map(|parameter| {
        let interval = format!("{} to {}", percent(parameter.low), percent(parameter.high));
        let mut row = vec![parameter.name.clone(), percent(parameter.importance), interval];
        if conditional {
            row.push(percent(parameter.active));
        }
        row
    });
    let text = table(&header, &["IMPORTANCE", "95 % INTERVAL", "THERE IN"], rows.collect());
    format!("{text}\n\n{} trials, method {}", found.trials, found.method)
}

/// The trials that no other beats.
pub fn front(front: &FrontView) -> String {
    if front.trials.is_empty() {
        return "no feasible trial has completed yet".to_owned();
    }
    let names = (0..front.directions.len()).map(|objective| format!("VALUE {objective}")).collect::<Vec<_>>();
    let mut header = vec!["", "TRIAL"];
    header.extend(names.iter().map(String::as_str));
    header.push("PARAMETERS");
    let mut right = vec!["TRIAL"];
    right.extend(names.iter().map(String::as_str));
    let rows = front.trials.iter().map(|trial| {
        let mark = if front.knee == Some(trial.number) { "knee" } else { "" };
        let mut row = vec![mark.to_owned(), trial.number.to_string()];
        row.extend(trial.values.iter().map(|value| number(*value)));
        row.push(params_line(&trial.params));
        row
    });
    let mut text = table(&header, &right, rows.collect());
    if let Some(hypervolume) = front.hypervolume {
        let corner = front.reference.iter().map(|limit| number(*limit)).collect::<Vec<_>>().join(", ");
        text.push_str(&format!("\n\nhypervolume {} up to ({corner})", number(hypervolume)));
    }
    text
}

/// What each change of one parameter is predicted to cost.
pub fn sensitivity(found: &SensitivityView) -> String {
    let rows = found.changes.iter().map(|change| {
        let worse = if change.loss.is_finite() { format!("{:+.1} %", change.loss * 100.0) } else { "-".to_owned() };
        let predicted = format!("{} ± {}", number(change.predicted), number(change.sd));
        vec![change.name.clone(), change.from.to_string(), change.to.to_string(), predicted, worse]
    });
    let header = ["PARAMETER", "FROM", "TO", "PREDICTED", "WORSE BY"];
    let text = table(&header, &["FROM", "TO", "PREDICTED", "WORSE BY"], rows.collect());
    let outlook = found.outlook;
    let stop = if outlook.may_stop { "; the search may stop" } else { "" };
    format!(
        "trial {}, predicted {}: {}\n\n{text}\n\nfurther search is expected to gain less than {}{stop}",
        found.number,
        number(found.predicted),
        params_line(&found.params),
        percent(outlook.relative),
    )
}
