//! The answer: ranking, gain, command line.

use std::collections::BTreeSet;

use super::table::{number, table};
use crate::view::{BestView, ComparisonView, FamilyBestView, TrialView};

/// The best configurations, what the comparison said, and the command to use.
pub fn best(best: &BestView) -> String {
    if best.trials.is_empty() {
        return "no trial has completed yet".to_owned();
    }
    let mut text = ranking(best);
    text.push_str("\n\n");
    text.push_str(&announcement(best));
    if let Some(command) = &best.llama_server {
        text.push_str("\n\n");
        text.push_str(command);
        if let Some(note) = &best.llama_server_note {
            text.push_str(&format!("\n({note})"));
        }
    }
    text
}

/// The answer for each class of workers.
pub fn family_best(family: &FamilyBestView) -> String {
    if family.classes.is_empty() {
        return format!("study `{}` has met no worker yet", family.study);
    }
    let answers = family.classes.iter().map(|answer| format!("{}\n\n{}", answer.study, best(answer)));
    answers.collect::<Vec<_>>().join("\n\n\n")
}

fn ranking(best: &BestView) -> String {
    let mut shown: Vec<&TrialView> = best.trials.iter().collect();
    // What to use and what to compare with are always there.
    for trial in [&best.winner, &best.baseline].into_iter().flatten() {
        if shown.iter().all(|known| known.number != trial.number) {
            shown.push(trial);
        }
    }
    // A parameter with one value in all of them tells nothing.
    let names: BTreeSet<&String> = shown.iter().flat_map(|trial| trial.params.keys()).collect();
    let varied: Vec<&String> = names
        .into_iter()
        .filter(|name| shown.iter().any(|trial| trial.params.get(*name) != shown[0].params.get(*name)))
        .collect();
    let value = if best.unit.is_empty() { "VALUE".to_owned() } else { best.unit.to_uppercase() };
    let base = best.baseline.as_ref().and_then(|trial| trial.values.first().copied());
    let mut header = vec!["", "#", "TRIAL", value.as_str()];
    header.extend(base.map(|_| "VS DEFAULT"));
    let minimized = best.directions.first().is_some_and(|direction| direction == "minimize");
    let winner = best.winner.as_ref().map(|winner| winner.number);
    header.extend(varied.iter().map(|name| name.as_str()));
    let rows = shown
        .iter()
        .map(|trial| {
            let rank = best.trials.iter().position(|ranked| ranked.number == trial.number);
            let own = trial.values.first().copied().unwrap_or(f64::NAN);
            let is_default = best.baseline.as_ref().is_some_and(|baseline| baseline.number == trial.number);
            let versus = base.map(|base| match is_default {
                true => baseline_name(best).trim_start_matches("the ").to_owned(),
                // Above 0 is faster, whichever way the metric counts.
                false if minimized => format!("{:+.1} %", (base / own - 1.0) * 100.0),
                false => format!("{:+.1} %", (own / base - 1.0) * 100.0),
            });
            let mut row = vec![
                if winner == Some(trial.number) { "use".to_owned() } else { String::new() },
                rank.map_or_else(|| "-".to_owned(), |rank| (rank + 1).to_string()),
                trial.number.to_string(),
                number(own),
            ];
            row.extend(versus);
            row.extend(varied.iter().map(|name| trial.params.get(*name).map(ToString::to_string).unwrap_or_default()));
            row
        })
        .collect();
    let right: Vec<&str> = vec!["#", "TRIAL", value.as_str(), "VS DEFAULT"];
    table(&header, &right, rows)
}

/// What the comparison proved, in a sentence that promises nothing else.
fn announcement(best: &BestView) -> String {
    let winner = best.winner.as_ref();
    let Some(comparison) = best.comparison else {
        if best.state == "confirming" {
            return "The best are being compared with the default in fresh processes.".to_owned();
        }
        return match (winner, &best.baseline) {
            (Some(_), Some(_)) if best.trials.len() == 1 => {
                "Only the default configuration was measured; there is nothing to compare it with.".to_owned()
            }
            (Some(winner), Some(baseline)) if winner.number == baseline.number => {
                "The default configuration measured best; nothing faster was found.".to_owned()
            }
            // What clients measure has no default.
            (Some(winner), None) if best.unit.is_empty() => format!("Trial {} measured best.", winner.number),
            (Some(winner), _) => {
                format!(
                    "Trial {} measured best. It was not compared with the default in fresh processes.",
                    winner.number
                )
            }
            (None, _) => String::new(),
        };
    };
    let ComparisonView { challenger, gain, proven, .. } = comparison;
    let base = baseline_name(best);
    let Some(challenger) = challenger else {
        return match winner {
            Some(_) => format!("No other configuration was left after the comparison; {base} stays."),
            None => "Every configuration failed when it was measured again; nothing can be recommended.".to_owned(),
        };
    };
    let Some(gain) = gain else {
        return match comparison.baseline {
            Some(_) => format!("Trial {challenger} is what is left: {base} failed when it was measured again."),
            None => format!("Trial {challenger} is the best. There is no default to compare it with."),
        };
    };
    let percent = |ratio: f64| format!("{:+.1} %", (ratio - 1.0) * 100.0);
    let interval = format!("95 % interval {} to {}", percent(gain.low), percent(gain.high));
    let pairs = format!("{} paired rounds in fresh processes", gain.pairs);
    let ratio = percent(gain.ratio);
    if proven {
        format!("Trial {challenger} is faster than {base}: {ratio} ({interval}; {pairs}).")
    } else {
        format!(
            "No gain over {base} is proven: trial {challenger} came to {ratio} ({interval}; {pairs}). Keep it as it is."
        )
    }
}

/// What the others are compared with.
fn baseline_name(best: &BestView) -> &'static str {
    match &best.baseline {
        Some(trial) if trial.origin == "engine_fit" => "the engine's own fit",
        _ => "the default",
    }
}
