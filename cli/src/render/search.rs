//! How far a search is: the best so far, time to go, a line for each trial that ended.

use fleetune_core::TrialState;
use fleetune_core::value::params_line;

use super::table::number;
use super::trial::outcome;
use crate::view::{StudyView, TrialView};

/// A search as seen so far.
pub struct Search {
    /// As it is now.
    pub study: StudyView,
    best: Option<(i64, f64)>,
    seconds: Vec<f64>,
}

impl Search {
    /// Nothing of `study` is seen yet.
    pub fn new(study: StudyView) -> Self {
        Self { study, best: None, seconds: Vec::new() }
    }

    /// Takes note of a trial that ended; whether it is the best so far.
    pub fn ended(&mut self, trial: &TrialView) -> bool {
        if trial.seconds > 0.0 {
            self.seconds.push(trial.seconds);
        }
        trial.state == TrialState::Complete && self.takes_lead(trial)
    }

    fn takes_lead(&mut self, trial: &TrialView) -> bool {
        let feasible = trial.constraints.iter().all(|&constraint| constraint <= 0.0);
        // Among several objectives none leads alone.
        let [direction] = self.study.directions.as_slice() else {
            return false;
        };
        let Some(value) = trial.values.first().copied().filter(|_| feasible) else {
            return false;
        };
        let maximize = direction == "maximize";
        let better = self.best.is_none_or(|(_, best)| if maximize { value > best } else { value < best });
        if better {
            self.best = Some((trial.number, value));
        }
        better
    }

    /// The line of a trial that ended.
    pub fn line(&self, trial: &TrialView, is_best: bool) -> String {
        let mut why = String::new();
        let result = match trial.state {
            TrialState::Complete => with_unit(outcome(trial), &self.study.unit),
            TrialState::Pruned if trial.values.is_empty() => "pruned".to_owned(),
            TrialState::Pruned => format!("pruned at {}", outcome(trial)),
            TrialState::Fail => {
                let message = trial.fail_message.as_deref().unwrap_or_default();
                let first = message.lines().next().unwrap_or_default();
                why = first.chars().take(100).collect();
                outcome(trial)
            }
            TrialState::Waiting | TrialState::Running => String::new(),
        };
        let mark = if is_best { "*" } else { " " };
        let what = if trial.origin == "default" { "default: " } else { "" };
        let params = params_line(&trial.params);
        let why = if why.is_empty() { why } else { format!("\n      {why}") };
        format!("{mark} trial {:<4} {result:<18} {what}{params}{why}", trial.number)
    }

    /// Trials that will have ended when the budget is used up: those skipped before their start come on top.
    pub fn total(&self) -> Option<u64> {
        self.study.budget.trials.map(|trials| u64::from(trials) + self.study.trials.skipped.min(u64::from(trials)))
    }

    /// The best so far, for people.
    pub fn best(&self) -> Option<String> {
        let (trial, value) = self.best?;
        Some(format!("best {} (trial {trial})", with_unit(number(value), &self.study.unit)))
    }

    /// Seconds that a trial takes.
    pub fn typical(&self) -> Option<f64> {
        fleetune_core::measurement::median(&self.seconds)
    }

    /// Seconds to go after `ended` trials, while so many run at once.
    pub fn eta(&self, ended: u64, at_once: u64) -> Option<f64> {
        let typical = self.typical()? / at_once.max(1) as f64;
        let by_trials = self.total().map(|total| total.saturating_sub(ended) as f64 * typical);
        let left = |budget: f64| (budget - self.study.spent_s).max(0.0) / at_once.max(1) as f64;
        let by_time = self.study.budget.seconds.map(left);
        match (by_trials, by_time) {
            (Some(trials), Some(time)) => Some(trials.min(time)),
            (one, other) => one.or(other),
        }
    }
}

fn with_unit(value: String, unit: &str) -> String {
    if unit.is_empty() { value } else { format!("{value} {unit}") }
}
