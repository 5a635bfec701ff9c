//! The lines of `study watch`: one for each change that people care about.

use std::collections::BTreeMap;

use fleetune_core::TrialState;
use fleetune_core::value::params_line;

use super::search::Search;
use super::table::seconds;
use crate::view::{StudyView, TrialView};

/// What a watcher has seen.
pub struct Watching {
    search: Search,
    /// Where each trial stood last: state and attempt.
    known: BTreeMap<i64, (TrialState, u32)>,
    /// Trials that were there in the beginning: what became of them is no news.
    before: usize,
    /// All of them were seen.
    begun: bool,
}

impl Watching {
    /// Begins with `study` as it is now.
    pub fn new(study: StudyView) -> Self {
        let before = (study.trials.ended() + study.trials.running + study.trials.waiting) as usize;
        Self { search: Search::new(study), known: BTreeMap::new(), before, begun: false }
    }

    /// The study changed, or it is what it was.
    pub fn study(&mut self, study: &StudyView) -> Vec<String> {
        let old = std::mem::replace(&mut self.search.study, study.clone());
        let mut lines = Vec::new();
        if !self.begun {
            self.begun = self.known.len() >= self.before;
            if self.begun {
                lines.push(format!("{}: {}", state(study), self.progress()));
                lines.extend(study.obstacles.iter().map(|obstacle| format!("  no worker gets a trial: {obstacle}")));
            }
            return lines;
        }
        if (&study.state, &study.reason) != (&old.state, &old.reason) {
            lines.push(state(study));
        }
        let news = study.obstacles.iter().filter(|obstacle| !old.obstacles.contains(obstacle));
        lines.extend(news.map(|obstacle| format!("  no worker gets a trial: {obstacle}")));
        lines
    }

    /// A trial changed.
    pub fn trial(&mut self, trial: &TrialView) -> Vec<String> {
        let now = (trial.state, trial.attempt);
        let old = self.known.insert(trial.number, now);
        if old == Some(now) {
            return Vec::new();
        }
        let line = match trial.state {
            TrialState::Waiting => format!("  trial {:<4} waits", trial.number),
            TrialState::Running => {
                let again = if trial.attempt > 1 { format!(", attempt {}", trial.attempt) } else { String::new() };
                format!("  trial {:<4} {:<18} {}", trial.number, format!("started{again}"), params_line(&trial.params))
            }
            TrialState::Complete | TrialState::Pruned | TrialState::Fail => {
                let is_best = self.search.ended(trial);
                let line = self.search.line(trial, is_best);
                // Why it failed stands on a line of its own.
                let (line, why) = line.split_at(line.find('\n').unwrap_or(line.len()));
                format!("{line}  [{}]{why}", self.progress())
            }
        };
        if self.begun { vec![line] } else { Vec::new() }
    }

    /// `13/30 trials, best 0.52 (trial 7), ETA 40s`.
    fn progress(&self) -> String {
        let at = |state: TrialState| self.known.values().filter(|(known, _)| *known == state).count() as u64;
        let ended = at(TrialState::Complete) + at(TrialState::Pruned) + at(TrialState::Fail);
        let of = self.search.total().map(|total| format!("/{total}")).unwrap_or_default();
        let mut parts = vec![format!("{ended}{of} trials")];
        parts.extend(self.search.best());
        if self.search.study.state == "active" {
            let eta = self.search.eta(ended, at(TrialState::Running)).filter(|&eta| eta > 0.0);
            parts.extend(eta.map(|eta| format!("ETA {}", seconds(eta))));
        }
        parts.join(", ")
    }
}

fn state(study: &StudyView) -> String {
    let reason = if study.reason.is_empty() { String::new() } else { format!(" ({})", study.reason) };
    format!("study `{}` is {}{reason}", study.name, study.state)
}
