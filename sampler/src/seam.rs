//! What goes into a sampler and what comes out.

use fleetune_core::study::StudyConfig;
use fleetune_core::{FailKind, Params, TrialNumber, Turn};
use rand::rngs::ChaCha8Rng;

/// Something a sampler may learn from; each has its own immutable revision.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The study was created or its configuration changed.
    Configured(Box<StudyConfig>),
    /// A trial entered `Running`.
    Started {
        /// The trial.
        number: TrialNumber,
        /// Its place in the order of starts.
        turn: Turn,
        /// Its parameters.
        params: Params,
    },
    /// A trial ended.
    Ended(Ended),
}

/// An ended trial.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// The trial.
    pub number: TrialNumber,
    /// Its parameters.
    pub params: Params,
    /// What came of it.
    pub outcome: Outcome,
    /// Step and value, ascending: the running median of repetitions, or a client's curve.
    pub series: Vec<(u32, f64)>,
    /// Repetitions it was to make.
    pub repetitions_planned: u32,
    /// Standard error of its first value over the repetitions made; `None` where there were fewer than two.
    pub standard_error: Option<f64>,
    /// How long it took.
    pub seconds: f64,
}

/// What came of a trial.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Ended with its values.
    Complete {
        /// One per objective; may be empty.
        values: Vec<f64>,
        /// Feasible where at most 0.
        constraints: Vec<f64>,
    },
    /// Stopped by the pruner.
    Pruned {
        /// The last entry of its series.
        value: Option<f64>,
        /// The last step it reported.
        last_step: Option<u32>,
        /// Feasible where at most 0.
        constraints: Vec<f64>,
    },
    /// Ended without a value.
    Failed {
        /// Why.
        kind: FailKind,
    },
}

/// A trial that entered `Running` before the asked turn and had not ended at the revision seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Running {
    /// Its place in the order of starts.
    pub turn: Turn,
    /// The trial.
    pub number: TrialNumber,
    /// The parameters it had.
    pub params: Params,
}

/// What is known about a configuration before it was run. Advice, never a wall.
///
/// A pure function; about 10 µs a call.
pub trait Estimate: Send + Sync {
    /// Need over capacity of each device, in an order that is always the same; above 1 it is not expected to fit.
    /// Empty when unknown.
    fn memory_ratios(&self, params: &Params) -> Vec<f64>;

    /// Need over capacity of the fullest device; `None` when unknown.
    fn memory_ratio(&self, params: &Params) -> Option<f64> {
        self.memory_ratios(params).into_iter().reduce(f64::max)
    }

    /// The value of the objective up to an unknown factor, positive; `None` when unknown.
    fn objective(&self, _params: &Params) -> Option<f64> {
        None
    }

    /// The settings that an engine would make of these, over the same parameters: two configurations with equal ones
    /// are one. `None` when unknown.
    fn effective(&self, _params: &Params) -> Option<Params> {
        None
    }
}

/// A question for parameters.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    /// The trial that is to run.
    pub number: TrialNumber,
    /// Parameters that are kept as they are; they passed `SearchSpace::check_fixed`.
    pub fixed: &'a Params,
    /// The running trials, by turn.
    pub running: &'a [Running],
    /// Knowledge about configurations, where there is some.
    pub estimate: Option<&'a dyn Estimate>,
}

/// Nothing is left to suggest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpaceExhausted {
    /// Grid search has seen everything.
    #[error("every allowed configuration has been tried")]
    AllTried,
    /// The fixed parameters leave nothing.
    #[error("no allowed configuration was found{}", if *.fixed { " with the fixed parameters" } else { "" })]
    NothingAllowed {
        /// Whether parameters were fixed.
        fixed: bool,
    },
}

/// Proposes parameters from what has been observed. Same arguments, same answer, on every machine.
pub trait Sampler: Send {
    /// Folds one event of the study into the state; in order of revision.
    fn observe(&mut self, event: &Event);

    /// Completes `ask.fixed` to exactly the active parameters of an allowed configuration. Never changes the state.
    fn suggest(&self, ask: &Ask<'_>, rng: &mut ChaCha8Rng) -> Result<Params, SpaceExhausted>;

    /// The trials that may be the answer, complete and feasible, best first, where the sampler can tell better than by
    /// their values: noise is in these. Empty where it cannot.
    fn ranking(&self, _estimate: Option<&dyn Estimate>) -> Vec<TrialNumber> {
        Vec::new()
    }
}
