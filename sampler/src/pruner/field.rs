//! What the rules read.

use fleetune_core::{Direction, Revision, TrialNumber, TrialState};

/// Step and value, ascending by step.
pub type Series<'a> = &'a [(u32, f64)];

/// The trials of a study.
#[derive(Clone, Debug)]
pub struct Field<'a> {
    /// Name of the study.
    pub study: &'a str,
    /// Those that were started, by number.
    pub trials: Vec<Candidate<'a>>,
    /// Repetitions of a whole trial, where the steps are repeated measurements; none where they are a curve.
    pub repetitions: Option<u32>,
}

/// A trial as the rules see it.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Which.
    pub number: TrialNumber,
    /// Where it stands.
    pub state: TrialState,
    /// When it ended.
    pub ended: Option<Revision>,
    /// Its objective, once complete.
    pub value: Option<f64>,
    /// Whether it kept its constraints.
    pub feasible: bool,
    /// What was reported: repetitions one by one, or the curve.
    pub steps: Series<'a>,
    /// The running median of repetitions, or the curve. As long as `steps`.
    pub series: Series<'a>,
}

impl Candidate<'_> {
    /// The largest step reported.
    pub(super) fn last_step(&self) -> Option<u32> {
        self.series.last().map(|(step, _)| *step)
    }
}

impl<'a> Field<'a> {
    /// The complete trials.
    pub(super) fn complete(&self) -> impl Iterator<Item = &Candidate<'a>> {
        self.trials.iter().filter(|trial| trial.state == TrialState::Complete)
    }

    /// The complete, feasible trial with the best value, the first on ties.
    pub(super) fn best(&self, direction: Direction) -> Option<&Candidate<'a>> {
        let mut best: Option<(&Candidate<'a>, f64)> = None;
        for trial in self.complete().filter(|trial| trial.feasible) {
            let Some(value) = trial.value.filter(|value| !value.is_nan()) else { continue };
            if best.is_none_or(|(_, least)| direction.better(value, least)) {
                best = Some((trial, value));
            }
        }
        best.map(|(trial, _)| trial)
    }

    /// Last step of the trial that completed first, of those that reported anything, and the field without the trials
    /// that had ended by then: rules that measure by the length of a trial had judged none of them.
    ///
    /// Departs from Optuna, whose rules take the largest last step among the trials that happen to be complete when a
    /// process first asks: the first one is the same for every process, and for ever.
    pub(super) fn since_first_complete(&self) -> Option<(u32, Self)> {
        let ended = self.complete().filter_map(|trial| Some((trial.ended?, trial.number, trial.last_step()?)));
        let (first, _, last_step) = ended.min()?;
        let later = self.trials.iter().filter(|trial| trial.ended.is_none_or(|ended| ended > first));
        Some((last_step, Field { trials: later.copied().collect(), ..*self }))
    }
}

/// At which steps a rule looks.
pub(super) struct Checks {
    pub(super) warmup_steps: u32,
    pub(super) interval_steps: u32,
}

impl Checks {
    /// Whether the last step is past the warm-up and the first report within its interval.
    pub(super) fn looks_at(&self, own: Series<'_>) -> bool {
        let Some(((step, _), before)) = own.split_last() else { return false };
        if *step < self.warmup_steps {
            return false;
        }
        let interval = self.interval_steps.max(1);
        let begin = (step - self.warmup_steps) / interval * interval + self.warmup_steps;
        before.last().is_none_or(|(other, _)| *other < begin)
    }
}
