//! What is known of a study's trials, in columns, kept current by revision.
//!
//! Everything a suggestion, a verdict or a ranking reads comes from here; SQL is asked only for what changed.

mod guests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use fleetune_core::measurement::Summary;
use fleetune_core::workload::running_median;
use fleetune_core::{FailKind, Params, Revision, SearchSpace, TrialNumber, TrialState, Turn};
use fleetune_sampler::pruner::{Candidate, Field};
use fleetune_sampler::{Ended, Event, Outcome, Running};

use super::columns::{Ragged, Whole};
use super::configurations::Configurations;
use super::guest::Distributions;
use crate::storage::{Origin, TrialCounts, TrialRecord, external};

/// What the steps of a study's trials are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// An executor measures: step k, from 1, is repetition k alone; the series is their running median.
    Repetitions,
    /// Told by clients: the series is the curve as it is.
    Curve,
}

impl StepKind {
    /// The series that samplers and pruners read.
    pub fn series(self, steps: &[(u32, f64)]) -> Vec<(u32, f64)> {
        match self {
            Self::Curve => steps.to_vec(),
            Self::Repetitions => {
                let values: Vec<f64> = steps.iter().map(|&(_, value)| value).collect();
                steps.iter().map(|&(step, _)| step).zip(running_median(&values)).collect()
            }
        }
    }

    /// The standard error of the last entry of the series: of a median, for which that of the mean is too small by
    /// √(π/2). `None` for curves and below two repetitions.
    fn standard_error(self, steps: &[(u32, f64)]) -> Option<f64> {
        let values: Vec<f64> = steps.iter().map(|&(_, value)| value).collect();
        let summary = Summary::of(&values).filter(|summary| summary.count >= 2 && self == Self::Repetitions)?;
        Some(std::f64::consts::FRAC_PI_2.sqrt() * summary.sd / (summary.count as f64).sqrt())
    }
}

/// The columns, indexed by trial number.
#[derive(Debug)]
pub struct History {
    steps: StepKind,
    repetitions: u32,
    objectives: usize,
    space: Option<SearchSpace>,
    state: Vec<TrialState>,
    origin: Vec<Origin>,
    fail: Vec<Option<FailKind>>,
    values: Ragged<f64>,
    constraints: Ragged<f64>,
    seconds: Vec<f64>,
    turn: Whole,
    /// Suggested by a sampler of ours. Otherwise its parameters count when it ends.
    sampled: Vec<bool>,
    /// Its parameters, or what it fixes while it waits, are such as the space has.
    fits: Vec<bool>,
    started: Whole,
    ended: Whole,
    params: Configurations,
    /// What queue entries fix.
    fixed: Vec<Option<Box<Params>>>,
    /// The repetitions one by one; nothing where they are the series.
    reported: Ragged<(u32, f64)>,
    series: Ragged<(u32, f64)>,
    standard_error: Vec<Option<f64>>,
    waiting: BTreeSet<TrialNumber>,
    running: BTreeMap<Turn, TrialNumber>,
    totals: Totals,
    /// The parameters that all completed and pruned trials have, with the same distribution. None before the first.
    common: Option<Distributions>,
}

/// A trial started or ended; in order of revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Happened {
    revision: Revision,
    ended: bool,
    number: TrialNumber,
}

/// What would take a look at every trial.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    started: u32,
    /// Queue entries that were skipped before they were started.
    skipped_waiting: u32,
    /// Of those that ended.
    ended: TrialCounts,
    seconds: f64,
    /// The lowest and the highest first value of complete, feasible trials.
    feasible: Option<(f64, f64)>,
}

impl History {
    /// No trial yet. `repetitions`: planned for each trial, 1 where steps are a curve.
    pub fn new(steps: StepKind, repetitions: u32) -> Self {
        Self {
            steps,
            repetitions,
            objectives: 1,
            space: None,
            state: Vec::new(),
            origin: Vec::new(),
            fail: Vec::new(),
            values: Ragged::default(),
            constraints: Ragged::default(),
            seconds: Vec::new(),
            turn: Whole::default(),
            sampled: Vec::new(),
            fits: Vec::new(),
            started: Whole::default(),
            ended: Whole::default(),
            params: Configurations::default(),
            fixed: Vec::new(),
            reported: Ragged::default(),
            series: Ragged::default(),
            standard_error: Vec::new(),
            waiting: BTreeSet::new(),
            running: BTreeMap::new(),
            totals: Totals::default(),
            common: None,
        }
    }

    /// Trials that other programs sampled must fit `space`, and bring a value for each of `objectives`, to count.
    #[must_use]
    pub fn of(mut self, space: Option<SearchSpace>, objectives: usize) -> Self {
        self.space = space;
        self.objectives = objectives;
        self
    }

    /// Makes room for `trials` trials: columns that grow by themselves take up to twice what they need.
    pub fn reserve(&mut self, trials: usize) {
        let parameters = self.space.as_ref().map_or(0, |space| space.parameters().len());
        self.state.reserve_exact(trials);
        self.origin.reserve_exact(trials);
        self.fail.reserve_exact(trials);
        self.values.reserve(trials, self.objectives);
        self.constraints.reserve(trials, 0);
        self.seconds.reserve_exact(trials);
        self.turn.reserve(trials);
        self.sampled.reserve_exact(trials);
        self.fits.reserve_exact(trials);
        self.started.reserve(trials);
        self.ended.reserve(trials);
        self.params.reserve(trials, parameters);
        self.fixed.reserve_exact(trials);
        self.reported.reserve(trials, 0);
        self.series.reserve(trials, 0);
        self.standard_error.reserve_exact(trials);
    }

    /// Takes in trials that changed, whatever their order, and returns the events after `known` with their revisions,
    /// in that order. Of a trial that is there twice (it changed between two pages) the newest record counts.
    pub fn absorb(&mut self, changed: Vec<&TrialRecord>, known: Revision) -> Vec<(Revision, Event)> {
        let mut happened = self.take_in(changed, known);
        happened.sort_unstable();
        happened.iter().filter_map(|happened| Some((happened.revision, self.event(happened)?))).collect()
    }

    /// As [`Self::absorb`], but gives what happened without a word of it, in no order.
    pub fn take_in(&mut self, mut changed: Vec<&TrialRecord>, known: Revision) -> Vec<Happened> {
        // By number first: columns grow densely even when a page brings a later trial before an earlier one.
        changed.sort_by_key(|trial| (trial.number, Reverse(trial.revision)));
        changed.dedup_by_key(|trial| trial.number);
        let mut happened = Vec::new();
        for trial in changed {
            self.place(trial);
            let number = trial.number;
            if let Some(revision) = trial.started_revision.filter(|revision| *revision > known) {
                happened.push(Happened { revision, ended: false, number });
            }
            if let Some(revision) = trial.ended_revision.filter(|revision| *revision > known && trial.turn.is_some()) {
                happened.push(Happened { revision, ended: true, number });
            }
        }
        happened
    }

    /// What a sampler is told of it, as far as it concerns one.
    pub fn event(&self, happened: &Happened) -> Option<Event> {
        let (number, row) = (happened.number, row(happened.number));
        if happened.ended {
            return self.fits[row].then(|| Event::Ended(self.ended_event(number)));
        }
        let started = || {
            let turn = self.turn(row).unwrap_or_default();
            Event::Started { number, turn, params: self.params(number).unwrap_or_default() }
        };
        self.sampled[row].then(started)
    }

    fn place(&mut self, trial: &TrialRecord) {
        let row = usize::try_from(trial.number.0).unwrap_or(0);
        while self.state.len() <= row {
            self.state.push(TrialState::Waiting);
            self.origin.push(Origin::Sampled);
            self.fail.push(None);
            self.seconds.push(0.0);
            self.sampled.push(false);
            self.fits.push(true);
            self.fixed.push(None);
            self.standard_error.push(None);
        }
        self.add_up(row, trial);
        self.narrow(row, trial);
        self.state[row] = trial.state;
        self.origin[row] = trial.origin;
        self.fail[row] = trial.fail.as_ref().map(|(kind, _)| *kind);
        self.values.set(row, &trial.values);
        self.constraints.set(row, &trial.constraints);
        self.seconds[row] = trial.seconds;
        if let Some(before) = self.turn(row).filter(|_| trial.turn.is_none()) {
            // It was put back into the queue.
            self.running.remove(&before);
        }
        self.turn.set(row, trial.turn.map(|turn| turn.0));
        self.sampled[row] = trial.seen.is_some();
        self.started.set(row, trial.started_revision.map(|revision| revision.0));
        self.ended.set(row, trial.ended_revision.map(|revision| revision.0));
        self.params.set(row, &trial.params);
        self.fixed[row] = (!trial.fixed.is_empty()).then(|| Box::new(trial.fixed.clone()));
        self.fits[row] = self.sampled[row] || self.space.as_ref().is_none_or(|space| fit(space, trial));
        if self.steps == StepKind::Repetitions {
            self.reported.set(row, &trial.steps);
        }
        self.series.set(row, &self.steps.series(&trial.steps));
        self.standard_error[row] = self.steps.standard_error(&trial.steps);
        if trial.state == TrialState::Waiting {
            self.waiting.insert(trial.number);
        } else {
            self.waiting.remove(&trial.number);
        }
        if let Some(turn) = trial.turn {
            if trial.state == TrialState::Running {
                self.running.insert(turn, trial.number);
            } else {
                self.running.remove(&turn);
            }
        }
    }

    /// Brings the totals from what is known of the trial at `row` to `trial`.
    fn add_up(&mut self, row: usize, trial: &TrialRecord) {
        let totals = &mut self.totals;
        // A trial may be put back into the queue.
        totals.started += u32::from(trial.turn.is_some());
        totals.started -= u32::from(self.turn.get(row).is_some());
        totals.seconds += trial.seconds - self.seconds[row];
        if self.state[row].is_ended() || !trial.state.is_ended() {
            return;
        }
        let kind = trial.fail.as_ref().map(|(kind, _)| *kind);
        totals.skipped_waiting += u32::from(trial.turn.is_none() && kind.is_some_and(FailKind::is_skip));
        totals.ended.add(trial.state, kind, 1);
        let is_feasible = trial.constraints.iter().all(|&constraint| constraint <= 0.0);
        let value = trial.values.first().filter(|value| is_feasible && !value.is_nan());
        if let Some(&value) = value.filter(|_| trial.state == TrialState::Complete) {
            let (low, high) = totals.feasible.unwrap_or((value, value));
            totals.feasible = Some((low.min(value), high.max(value)));
        }
    }

    pub fn ended_event(&self, number: TrialNumber) -> Ended {
        let row = row(number);
        let outcome = match self.state[row] {
            TrialState::Complete if !self.is_ranked(row) => Outcome::Failed { kind: FailKind::NonFinite },
            TrialState::Complete => Outcome::Complete {
                values: self.values.get(row).to_vec(),
                constraints: self.constraints.get(row).to_vec(),
            },
            TrialState::Pruned => Outcome::Pruned {
                value: self.values.get(row).first().copied().filter(|value| value.is_finite()),
                last_step: self.series.get(row).last().map(|&(step, _)| step),
                constraints: self.constraints.get(row).to_vec(),
            },
            TrialState::Fail | TrialState::Waiting | TrialState::Running => {
                Outcome::Failed { kind: self.fail[row].unwrap_or(FailKind::Error) }
            }
        };
        Ended {
            number,
            params: self.params.get(row).unwrap_or_default(),
            outcome,
            series: self.series.get(row).iter().copied().filter(|(_, value)| !value.is_nan()).collect(),
            repetitions_planned: self.repetitions,
            standard_error: self.standard_error[row],
            seconds: self.seconds[row],
        }
    }

    /// What the steps of this study are.
    pub fn step_kind(&self) -> StepKind {
        self.steps
    }

    /// How many trials have a number.
    pub fn len(&self) -> usize {
        self.state.len()
    }

    /// Where the parameters of a trial come from.
    pub fn origin(&self, number: TrialNumber) -> Option<Origin> {
        self.origin.get(row(number)).copied()
    }

    /// The parameters of a trial.
    pub fn params(&self, number: TrialNumber) -> Option<Params> {
        self.params.get(row(number))
    }

    /// What a queue entry fixes.
    pub fn fixed(&self, number: TrialNumber) -> Option<&Params> {
        self.fixed.get(row(number))?.as_deref()
    }

    /// Numbers of queue entries, lowest first.
    pub fn waiting(&self) -> impl Iterator<Item = TrialNumber> + '_ {
        self.waiting.iter().copied().filter(|&number| self.fits[row(number)])
    }

    /// Whether the parameters of a trial are such as the space has.
    pub fn fits(&self, number: TrialNumber) -> bool {
        self.fits.get(row(number)).is_some_and(|&fits| fits)
    }

    /// Running trials that a sampler of ours suggested, by turn.
    pub fn running(&self) -> Vec<Running> {
        self.running
            .iter()
            .filter(|&(_, &number)| self.sampled[row(number)])
            .map(|(&turn, &number)| Running { turn, number, params: self.params(number).unwrap_or_default() })
            .collect()
    }

    /// Whether any trial runs.
    pub fn any_running(&self) -> bool {
        !self.running.is_empty()
    }

    /// Trials that were started, those skipped before their start left out, and the skipped ones.
    pub fn started_and_skipped(&self) -> (u32, u32) {
        let skipped = u32::try_from(self.totals.ended.skipped).unwrap_or(u32::MAX) - self.totals.skipped_waiting;
        (self.totals.started.saturating_sub(skipped), skipped)
    }

    /// Trials by state.
    pub fn counts(&self) -> TrialCounts {
        let (waiting, running) = (self.waiting.len() as u64, self.running.len() as u64);
        TrialCounts { waiting, running, ..self.totals.ended }
    }

    /// Seconds stored in trials.
    pub fn spent_s(&self) -> f64 {
        self.totals.seconds
    }

    /// The lowest and the highest first value of complete, feasible trials; none without any.
    pub fn feasible_range(&self) -> Option<(f64, f64)> {
        self.totals.feasible
    }

    /// What pruners compare with: the trials of the study called `study` that were started.
    pub fn field<'a>(&'a self, study: &'a str) -> Field<'a> {
        let trials = (0..self.len()).filter(|&row| self.turn.get(row).is_some()).map(|row| self.candidate(row));
        let repetitions = match self.steps {
            StepKind::Repetitions => Some(self.repetitions),
            StepKind::Curve => None,
        };
        Field { study, trials: trials.collect(), repetitions }
    }

    fn candidate(&self, row: usize) -> Candidate<'_> {
        Candidate {
            number: TrialNumber(row as i64),
            state: self.state[row],
            ended: self.ended.get(row).map(Revision),
            value: self.values.get(row).first().copied().filter(|_| self.state[row] == TrialState::Complete),
            feasible: self.is_feasible(row),
            steps: if self.steps == StepKind::Repetitions { self.reported.get(row) } else { self.series.get(row) },
            series: self.series.get(row),
        }
    }

    /// When the trial at `row` entered RUNNING.
    fn turn(&self, row: usize) -> Option<Turn> {
        self.turn.get(row).map(Turn)
    }

    /// Whether a completed trial has the values that a comparison needs.
    fn is_ranked(&self, row: usize) -> bool {
        let values = self.values.get(row);
        values.len() == self.objectives && values.iter().all(|value| value.is_finite())
    }

    fn is_feasible(&self, row: usize) -> bool {
        self.constraints.get(row).iter().all(|&constraint| constraint <= 0.0)
    }

    /// Complete, feasible trials with their first value, by number.
    pub fn feasible(&self) -> impl Iterator<Item = (TrialNumber, f64)> + '_ {
        (0..self.len()).filter_map(|row| {
            let value = *self.values.get(row).first()?;
            (self.state[row] == TrialState::Complete && self.is_feasible(row) && !value.is_nan())
                .then_some((TrialNumber(row as i64), value))
        })
    }

    /// Everything a recomputation needs of the trials that took a turn, in order of turns:
    /// number, turn, started and ended revision.
    pub fn turns(&self) -> Vec<(TrialNumber, Turn)> {
        let mut turns: Vec<_> =
            (0..self.len()).filter_map(|row| Some((TrialNumber(row as i64), self.turn(row)?))).collect();
        turns.sort_by_key(|&(_, turn)| turn);
        turns
    }

    /// The trials that ran for `turn` as seen at `seen`: smaller turns not ended by then.
    pub fn running_at(&self, turn: Turn, seen: Revision) -> Vec<Running> {
        let mut running: Vec<_> = (0..self.len())
            .filter_map(|row| {
                let own = self.turn(row)?;
                let open = self.ended.get(row).is_none_or(|ended| Revision(ended) > seen);
                (own < turn && open && self.sampled[row]).then(|| Running {
                    turn: own,
                    number: TrialNumber(row as i64),
                    params: self.params.get(row).unwrap_or_default(),
                })
            })
            .collect();
        running.sort_by_key(|running| running.turn);
        running
    }
}

/// Whether a trial that no sampler of ours suggested is one that could have been.
fn fit(space: &SearchSpace, trial: &TrialRecord) -> bool {
    match trial.state {
        TrialState::Waiting if trial.origin != Origin::Enqueued => true,
        TrialState::Waiting => space.check_fixed(&trial.fixed).is_ok_and(|fixed| fixed == trial.fixed),
        TrialState::Running | TrialState::Complete | TrialState::Pruned | TrialState::Fail => {
            space.check(&external(&trial.params)).is_ok()
        }
    }
}

fn row(number: TrialNumber) -> usize {
    usize::try_from(number.0).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use fleetune_core::{Attempt, StudyId, Timestamp, TrialId};

    use super::*;

    /// Trial 0, RUNNING since revision 2.
    fn running() -> TrialRecord {
        TrialRecord {
            id: TrialId(1),
            study: StudyId(1),
            number: TrialNumber(0),
            state: TrialState::Running,
            origin: Origin::Sampled,
            fixed: Params::new(),
            params: BTreeMap::new(),
            values: Vec::new(),
            constraints: Vec::new(),
            fail: None,
            job: None,
            attempt: Attempt(0),
            turn: Some(Turn(0)),
            seen: Some(Revision(1)),
            sampler: String::new(),
            revision: Revision(2),
            started_revision: Some(Revision(2)),
            ended_revision: None,
            created_at: Timestamp(0),
            started_at: Some(Timestamp(0)),
            ended_at: None,
            seconds: 0.0,
            steps: Vec::new(),
        }
    }

    #[test]
    fn the_standard_error_is_that_of_repetitions() {
        let steps = [(1, 1.0), (2, 3.0), (3, 2.0), (4, 2.0)];
        let error = StepKind::Repetitions.standard_error(&steps).unwrap();
        assert!((error - 0.816_496_580_927_726 / 2.0 * 1.253_314_137_315_5).abs() < 1e-12, "{error}");
        assert_eq!(StepKind::Repetitions.standard_error(&steps[..1]), None);
        assert_eq!(StepKind::Curve.standard_error(&steps), None);
    }

    #[test]
    fn a_trial_that_changed_between_two_pages_starts_once_and_ends_once() {
        let ended = TrialRecord {
            state: TrialState::Complete,
            values: vec![1.0],
            revision: Revision(3),
            ended_revision: Some(Revision(3)),
            ..running()
        };
        for pages in [[running(), ended.clone()], [ended, running()]] {
            let mut history = History::new(StepKind::Curve, 1);
            let events = history.absorb(pages.iter().collect(), Revision(1));
            assert!(
                matches!(&events[..], [(Revision(2), Event::Started { .. }), (Revision(3), Event::Ended(_))]),
                "{events:?}"
            );
            assert!(!history.any_running());
        }
    }
}
