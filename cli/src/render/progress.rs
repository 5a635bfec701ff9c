//! Progress of a search on stderr: a line per trial that ended, a bar that lives, best so far, time to go.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use fleetune_core::TrialState;
use fleetune_worker::agent::{AgentEvent, JobKind};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::search::Search;
use super::table::{number, seconds};
use crate::view::{StudyView, TrialView};

/// The display of one search.
pub struct Progress {
    bar: ProgressBar,
    search: Search,
    printed: std::collections::BTreeSet<i64>,
    doing: String,
    comparison: Option<Comparison>,
}

/// A comparison under way.
struct Comparison {
    began: Instant,
    cells: u32,
    left: u32,
}

impl Progress {
    /// For `study` as it stands; trials that ended before are not printed again.
    pub fn new(study: StudyView) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if std::io::stderr().is_terminal() {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        let mut progress = Self {
            bar,
            search: Search::new(study),
            printed: std::collections::BTreeSet::new(),
            doing: String::new(),
            comparison: None,
        };
        progress.set_style();
        progress
    }

    fn set_style(&mut self) {
        let template = match self.search.total() {
            Some(total) => {
                self.bar.set_length(total);
                "{bar:24} {pos}/{len}  {wide_msg}"
            }
            None => "{spinner} {pos} trials  {wide_msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style.progress_chars("█▉▊▋▌▍▎▏ "));
        }
    }

    /// A line above the bar.
    pub fn say(&self, line: &str) {
        if self.bar.is_hidden() {
            super::say(line);
        } else {
            self.bar.println(line);
        }
    }

    /// The study changed.
    pub fn study(&mut self, study: StudyView) {
        if study.state != self.search.study.state {
            match study.state.as_str() {
                "paused" => self.say(&format!("  paused; `fleetune study resume {}` goes on", study.name)),
                "active" if self.search.study.state == "paused" => self.say("  goes on"),
                _ => {}
            }
        }
        if study.obstacles != self.search.study.obstacles {
            for obstacle in &study.obstacles {
                self.say(&format!("  {obstacle}"));
            }
        }
        self.search.study = study;
        self.set_style();
        self.refresh();
    }

    /// A trial changed. `before` is the first number that this run may have to do with: older ones are only counted.
    pub fn trial(&mut self, trial: &TrialView, quiet: bool) {
        let ended = matches!(trial.state, TrialState::Complete | TrialState::Pruned | TrialState::Fail);
        if !ended || !self.printed.insert(trial.number) {
            return;
        }
        let is_best = self.search.ended(trial);
        if !quiet {
            self.say(&self.search.line(trial, is_best));
        }
        self.refresh();
    }

    /// What the worker of this process does.
    pub fn agent(&mut self, event: &AgentEvent) {
        match event {
            AgentEvent::JobStarted { kind: JobKind::Describe { .. }, .. } => {
                "reading the model".clone_into(&mut self.doing);
            }
            AgentEvent::JobStarted { kind: JobKind::Trial { number, .. }, .. } => {
                self.doing = format!("trial {number}");
            }
            AgentEvent::JobStarted { kind: JobKind::Comparison { cells_left, .. }, .. } => self.compare(*cells_left),
            AgentEvent::WaitingForDevice { device } => {
                self.say(&format!("  another measurement uses {device}; waiting for it"));
            }
            AgentEvent::CellStarted { cells_left, trial, .. } => {
                self.doing = format!("trial {trial} again, in a fresh process");
                if let Some(comparison) = &mut self.comparison {
                    comparison.left = *cells_left;
                }
            }
            AgentEvent::CellEnded { trial, result: Err(failure), .. } => {
                self.say(&format!("  trial {trial} failed when measured again: {}", failure.message));
            }
            AgentEvent::CellEnded { .. }
            | AgentEvent::DeviceReady { .. }
            | AgentEvent::JobEnded { .. }
            | AgentEvent::Loaded { .. }
            | AgentEvent::Registered { .. } => {}
            AgentEvent::Loading { progress } => {
                self.doing = with_part(&self.doing, format!("loading {:.0} %", progress * 100.0));
            }
            AgentEvent::Repetition { step, of, .. } => {
                let part = match step {
                    Some((step, value)) => {
                        format!("repetition {step}/{of}, {} {}", number(*value), self.search.study.unit)
                    }
                    None => "warm-up".to_owned(),
                };
                self.doing = with_part(&self.doing, part);
            }
            AgentEvent::Disconnected { message, .. } => {
                self.say(&format!("  the coordinator does not answer: {message}"));
            }
            AgentEvent::Idle { .. } => "waiting for a trial".clone_into(&mut self.doing),
            AgentEvent::RunnerMissing { message } | AgentEvent::ModelMissing { message, .. } => {
                self.say(&format!("  {message}"));
            }
            AgentEvent::Draining { .. } => self.say("  the worker takes no new trial"),
            AgentEvent::Spooled => self.say("  a result could not be delivered; it is kept and delivered later"),
        }
        self.refresh();
    }

    fn compare(&mut self, cells: u32) {
        let expected = self.search.typical().map(|typical| {
            let repetitions =
                f64::from(self.search.study.workload.map_or(1, |workload| workload.repetitions + workload.warmup));
            let warm = f64::from(self.search.study.workload.map_or(1, |workload| 1 + workload.warmup));
            format!(", about {}", seconds(typical * warm / repetitions * f64::from(cells)))
        });
        self.say(&format!(
            "  comparing the best with the default in up to {cells} fresh processes{}",
            expected.unwrap_or_default()
        ));
        self.comparison = Some(Comparison { began: Instant::now(), cells, left: cells });
    }

    fn refresh(&self) {
        self.bar.set_position(self.search.study.trials.ended().max(self.printed.len() as u64));
        let mut parts = Vec::new();
        parts.extend(self.search.best());
        parts.extend(self.eta().map(|eta| format!("ETA {}", seconds(eta))));
        if !self.doing.is_empty() {
            parts.push(self.doing.clone());
        }
        self.bar.set_message(parts.join(" · "));
    }

    /// Seconds to go: in the search by the median trial, in a comparison by its own pace.
    fn eta(&self) -> Option<f64> {
        if let Some(comparison) = &self.comparison {
            let done = comparison.cells.saturating_sub(comparison.left);
            let pace = comparison.began.elapsed().as_secs_f64() / f64::from(done.max(1));
            return (done > 0).then_some(pace * f64::from(comparison.left));
        }
        self.search.eta(self.search.study.trials.ended(), 1)
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn with_part(doing: &str, part: String) -> String {
    let base = doing.split(", ").next().unwrap_or_default();
    if base.is_empty() { part } else { format!("{base}, {part}") }
}
