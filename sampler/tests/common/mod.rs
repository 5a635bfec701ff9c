//! A study without a coordinator: asks, runs, ends.

use fleetune_core::study::{Budget, PrunerConfig, SamplerConfig, StudyConfig};
use fleetune_core::{Direction, Params, SearchSpace, TrialNumber, Turn};
use fleetune_sampler::{Ask, Ended, Event, Outcome, Running, Sampler, SpaceExhausted, build, trial_rng};

/// A study in one process.
pub struct Study {
    pub sampler: Box<dyn Sampler>,
    pub seed: u64,
    pub events: Vec<Event>,
    pub running: Vec<Running>,
    next: i64,
}

pub fn config(space: &SearchSpace, sampler: SamplerConfig, seed: u64) -> StudyConfig {
    StudyConfig {
        directions: vec![Direction::Minimize],
        space: Some(space.clone()),
        sampler,
        pruner: PrunerConfig::None,
        budget: Budget::default(),
        planned_trials: None,
        seed,
        benchmark: None,
        earlier: Vec::new(),
    }
}

impl Study {
    pub fn new(space: &SearchSpace, sampler: SamplerConfig, seed: u64) -> Self {
        Self::of(&config(space, sampler, seed))
    }

    pub fn of(config: &StudyConfig) -> Self {
        let (sampler, seed) = (build(config).unwrap(), config.seed);
        Self { sampler, seed, events: Vec::new(), running: Vec::new(), next: 0 }
    }

    /// The answer to a question, without starting a trial.
    pub fn peek(&self, fixed: &Params) -> Result<Params, SpaceExhausted> {
        let number = TrialNumber(self.next);
        let ask = Ask { number, fixed, running: &self.running, estimate: None };
        self.sampler.suggest(&ask, &mut trial_rng(self.seed, number, &[]))
    }

    /// Starts a trial.
    pub fn ask(&mut self, fixed: &Params) -> Result<Running, SpaceExhausted> {
        let params = self.peek(fixed)?;
        let trial = Running { turn: Turn(self.next), number: TrialNumber(self.next), params };
        self.next += 1;
        self.running.push(trial.clone());
        Ok(trial)
    }

    /// Ends the running trial at `index`.
    pub fn tell(&mut self, index: usize, outcome: impl FnOnce(&Params) -> Outcome) {
        let trial = self.running.remove(index);
        let outcome = outcome(&trial.params);
        let (number, params) = (trial.number, trial.params);
        let ended = Ended {
            number,
            params,
            outcome,
            series: Vec::new(),
            repetitions_planned: 1,
            standard_error: None,
            seconds: 1.0,
        };
        self.events.push(Event::Ended(ended));
        self.sampler.observe(self.events.last().unwrap());
    }
}

pub fn complete(value: f64) -> Outcome {
    Outcome::Complete { values: vec![value], constraints: Vec::new() }
}
