//! Which trials of Optuna's protocol nobody works on any more: their clients have no lease and give no other sign of life
//! than their connection and what they write.
//!
//! A trial is given up on once, for a whole period, no connection of this process held it and nobody wrote to it. Writes
//! through other processes are seen by its revision, and connections to them by the revisions that those take for it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use fleetune_core::{Revision, StudyId, TrialId};
use tokio_util::sync::CancellationToken;

use super::engine::Engine;
use super::error::EngineError;
use crate::storage::HeldTrial;

/// Trials read at a time.
const PAGE: u32 = 1_000;

/// Most trials that are kept track of, and most that are known to be held.
const MAX_TRIALS: usize = 200_000;

/// Connections that are known to hold one trial, at most.
const LINES: usize = 4;

/// Looks in a period, and how far apart they are at most and at least.
const LOOKS: u32 = 10;
const LOOK_AT_MOST: Duration = Duration::from_secs(15);
const LOOK_AT_LEAST: Duration = Duration::from_millis(50);

/// A client's connection: there until it is closed.
#[derive(Clone, Debug, Default)]
pub struct Line(Weak<()>);

impl Line {
    /// The connection that owns `end`.
    pub fn new(end: &Arc<()>) -> Self {
        Self(Arc::downgrade(end))
    }

    fn is_open(&self) -> bool {
        self.0.strong_count() > 0
    }

    fn is(&self, other: &Self) -> bool {
        self.0.ptr_eq(&other.0)
    }
}

/// Which trials clients of this process hold, and over which connections they wrote last.
#[derive(Default)]
pub(super) struct Holders(Mutex<Table>);

#[derive(Default)]
struct Table {
    lines: HashMap<TrialId, Held>,
    /// Counts the looks, so that what is noted during one is not taken for gone.
    look: u64,
    /// Whether a line could not be noted: its trial would look like one without.
    is_overfull: bool,
}

/// Who holds a trial.
#[derive(Default)]
struct Held {
    /// The connections over which it was written to last, the newest at the end: a second one takes it from nobody.
    lines: Vec<Line>,
    /// The look during or after which it was noted.
    look: u64,
}

impl Held {
    fn is_open(&self) -> bool {
        self.lines.iter().any(Line::is_open)
    }

    fn note(&mut self, line: Line, look: u64) {
        self.look = look;
        if self.lines.last().is_some_and(|last| last.is(&line)) {
            return;
        }
        self.lines.retain(|known| known.is_open() && !known.is(&line));
        if self.lines.len() >= LINES {
            self.lines.remove(0);
        }
        self.lines.push(line);
    }
}

impl Holders {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, trial: TrialId, line: Line) {
        let mut table = self.table();
        if table.lines.len() >= MAX_TRIALS && !table.lines.contains_key(&trial) {
            table.lines.retain(|_, held| held.is_open());
            if table.lines.len() >= MAX_TRIALS {
                if !table.is_overfull {
                    tracing::warn!(
                        limit = MAX_TRIALS,
                        "too many held trials: silent ones are not failed until a restart"
                    );
                }
                table.is_overfull = true;
                return;
            }
        }
        let look = table.look;
        table.lines.entry(trial).or_default().note(line, look);
    }

    fn forget(&self, trial: TrialId) {
        self.table().lines.remove(&trial);
    }

    /// Begins a look; what is noted from now on outlives it.
    fn begin(&self) {
        self.table().look += 1;
    }

    fn is_held(&self, trial: TrialId) -> bool {
        let table = self.table();
        table.is_overfull || table.lines.get(&trial).is_some_and(Held::is_open)
    }

    /// Forgets what was noted before the look and is not among `running`.
    fn keep(&self, running: &HashSet<TrialId>) {
        let mut table = self.table();
        let now = table.look;
        table.lines.retain(|trial, held| held.is_open() && (held.look >= now || running.contains(trial)));
    }
}

impl Engine {
    /// Notes that the client at the other end of `line` holds a running trial.
    pub fn note_holder(&self, trial: TrialId, line: Option<Line>) {
        if let Some(line) = line.filter(|_| self.options.optuna_silence.is_some()) {
            self.holders.note(trial, line);
        }
    }

    /// Notes that nobody holds a trial any more.
    pub fn note_end(&self, trial: TrialId) {
        self.holders.forget(trial);
    }

    /// Fails silent trials until `stop`, where the options say so.
    pub(crate) async fn fail_silent_trials(self, stop: CancellationToken) {
        let Some(silence) = self.options.optuna_silence else { return };
        let mut watch = Silence::new(silence);
        let every = watch.every();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(every) => {}
            }
            if let Err(error) = watch.look(&self, Instant::now()).await {
                tracing::warn!(%error, "could not look for silent trials");
                // Clients could not write either.
                watch.begin_anew();
            }
        }
    }
}

/// Since when each trial without a connection has been silent.
struct Silence {
    period: Duration,
    silent: HashMap<TrialId, (Revision, Instant)>,
    looked_at: Option<Instant>,
    shown_at: Option<Instant>,
}

impl Silence {
    fn new(period: Duration) -> Self {
        Self { period, silent: HashMap::new(), looked_at: None, shown_at: None }
    }

    fn every(&self) -> Duration {
        (self.period / LOOKS).clamp(LOOK_AT_LEAST, LOOK_AT_MOST)
    }

    fn begin_anew(&mut self) {
        self.silent.clear();
    }

    async fn look(&mut self, engine: &Engine, now: Instant) -> Result<(), EngineError> {
        // While this process was stopped or starved nobody could write through it.
        if self.looked_at.is_some_and(|at| now.duration_since(at) > self.period / 2 + self.every()) {
            self.begin_anew();
        }
        self.looked_at = Some(now);
        engine.holders.begin();
        let mut running = HashSet::new();
        let mut held_here: HashMap<StudyId, Vec<TrialId>> = HashMap::new();
        let mut silent = HashMap::new();
        let mut above = TrialId(0);
        loop {
            let page = engine.store.held_trials(above, PAGE).await?;
            for trial in &page {
                running.insert(trial.id);
                if engine.holders.is_held(trial.id) {
                    held_here.entry(trial.study).or_default().push(trial.id);
                    continue;
                }
                let known = self.silent.get(&trial.id).filter(|(revision, _)| *revision == trial.revision);
                let since = known.map_or(now, |(_, since)| *since);
                if now.duration_since(since) < self.period {
                    silent.insert(trial.id, (trial.revision, since));
                } else {
                    self.give_up(engine, *trial).await?;
                }
            }
            match page.last() {
                Some(last) if page.len() as u32 >= PAGE && running.len() < MAX_TRIALS => above = last.id,
                // Those beyond have their turn when the ones before them have ended.
                Some(_) | None => break,
            }
        }
        if running.len() < MAX_TRIALS {
            engine.holders.keep(&running);
        }
        self.silent = silent;
        // Three times a period: one that is lost or late does no harm.
        if self.shown_at.is_none_or(|at| now.duration_since(at) >= (self.period / 3).saturating_sub(self.every() / 2)) {
            self.shown_at = Some(now);
            for (study, trials) in held_here {
                engine.store.show_life(study, trials).await?;
            }
        }
        Ok(())
    }

    async fn give_up(&self, engine: &Engine, held: HeldTrial) -> Result<(), EngineError> {
        let HeldTrial { id, study, .. } = held;
        let why = format!(
            "its client is gone: no connection held it, and nothing was written to it for {} s",
            self.period.as_secs_f64()
        );
        let Some((number, may_be_over)) = engine.store.fail_silent(held, why, engine.now()).await? else {
            return Ok(());
        };
        tracing::info!(%study, %number, trial = %id, "a silent trial of an Optuna client was failed");
        engine.noted();
        if may_be_over {
            engine.conclude(study).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIAL: TrialId = TrialId(1);

    #[test]
    fn a_line_holds_its_trials_until_it_is_closed() {
        let (holders, end) = (Holders::default(), Arc::new(()));
        holders.note(TRIAL, Line::new(&end));
        assert!(holders.is_held(TRIAL) && !holders.is_held(TrialId(2)));
        drop(end);
        assert!(!holders.is_held(TRIAL));
    }

    #[test]
    fn a_second_line_takes_a_trial_from_nobody() {
        let (holders, first, second) = (Holders::default(), Arc::new(()), Arc::new(()));
        holders.note(TRIAL, Line::new(&first));
        holders.note(TRIAL, Line::new(&second));
        drop(second);
        assert!(holders.is_held(TRIAL));
        for _ in 0..2 * LINES {
            holders.note(TRIAL, Line::new(&Arc::new(())));
        }
        assert!(holders.is_held(TRIAL));
        drop(first);
        assert!(!holders.is_held(TRIAL));
    }

    #[test]
    fn what_is_noted_during_a_look_outlives_it() {
        let (holders, end) = (Holders::default(), Arc::new(()));
        holders.note(TRIAL, Line::new(&end));
        holders.begin();
        holders.note(TrialId(2), Line::new(&end));
        holders.keep(&HashSet::new());
        assert!(!holders.is_held(TRIAL) && holders.is_held(TrialId(2)));
        holders.begin();
        holders.keep(&HashSet::from([TrialId(2)]));
        assert!(holders.is_held(TrialId(2)));
    }

    #[test]
    fn where_a_line_could_not_be_noted_every_trial_counts_as_held() {
        let (holders, end) = (Holders::default(), Arc::new(()));
        for id in 0..=MAX_TRIALS as i64 {
            holders.note(TrialId(id), Line::new(&end));
        }
        assert_eq!(holders.table().lines.len(), MAX_TRIALS);
        assert!(holders.is_held(TrialId(MAX_TRIALS as i64)));
    }
}
