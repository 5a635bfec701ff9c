//! How often something is tried that went wrong before.

use std::time::Duration;

use super::run::Agent;

/// Pauses between tries of what needs the coordinator, and after an Acquire that came back empty at once.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// Longest pause after a job whose model is missing. Only a coordinator that keeps offering it makes it that long.
const LAST_MODEL_PAUSE: Duration = Duration::from_secs(30);

/// Start failures that end the agent, at least: one alone may be long ago.
const START_FAILURES: u32 = 3;

/// Pauses, each twice as long as the one before.
#[derive(Debug)]
pub(super) struct Pause {
    next: Duration,
    last: Duration,
}

impl Default for Pause {
    fn default() -> Self {
        Self { next: FIRST_PAUSE, last: LAST_PAUSE }
    }
}

impl Pause {
    /// Waits, unless the agent ends.
    pub(super) async fn wait(&mut self, agent: &Agent) {
        tokio::select! {
            () = agent.ending() => {}
            () = tokio::time::sleep(self.next) => {}
        }
        self.next = (self.next * 2).min(self.last);
    }
}

/// What went wrong since the last job that could be carried out.
#[derive(Debug)]
pub(super) struct Setbacks {
    start_failures: u32,
    /// When the first start failed.
    since: Option<tokio::time::Instant>,
    /// After a runner that could not be started.
    pub(super) start: Pause,
    /// After a model that was missing.
    pub(super) model: Pause,
}

impl Default for Setbacks {
    fn default() -> Self {
        let model = Pause { last: LAST_MODEL_PAUSE, ..Pause::default() };
        Self { start_failures: 0, since: None, start: Pause::default(), model }
    }
}

impl Setbacks {
    /// Counts a start that failed; true when nothing else has happened for longer than `patience`.
    pub(super) fn is_hopeless(&mut self, patience: Duration) -> bool {
        self.start_failures += 1;
        let since = *self.since.get_or_insert_with(tokio::time::Instant::now);
        self.start_failures >= START_FAILURES && since.elapsed() >= patience
    }
}
