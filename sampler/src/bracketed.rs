//! A sampler for each bracket of Hyperband: what a trial was worth is comparable within its bracket alone, since others
//! stop their trials elsewhere.
//!
//! As Optuna runs its samplers beside Hyperband. Where the most steps of a trial are not given, they are those of the
//! first complete one; until then all trials count as of the first bracket.

use fleetune_core::study::HyperbandConfig;
use fleetune_core::{Params, TrialNumber};
use rand::rngs::ChaCha8Rng;

use crate::pruner::{bracket_of, brackets};
use crate::seam::{Ask, Ended, Event, Outcome, Sampler, SpaceExhausted};

/// Makes a sampler without history.
pub(crate) type Fresh = Box<dyn Fn() -> Box<dyn Sampler> + Send>;

pub(crate) struct Bracketed {
    options: HyperbandConfig,
    study: String,
    fresh: Fresh,
    /// Steps of a whole trial, once they are known.
    max_resource: Option<u32>,
    /// By bracket; one until it is known how many there are.
    samplers: Vec<Box<dyn Sampler>>,
    /// What was seen until then.
    before: Vec<Event>,
}

impl Bracketed {
    /// `study`: its name, by which trials are dealt.
    pub(crate) fn new(options: HyperbandConfig, study: &str, fresh: Fresh) -> Self {
        let samplers = vec![fresh()];
        let mut bracketed =
            Self { options, study: study.to_owned(), fresh, max_resource: None, samplers, before: Vec::new() };
        if let Some(max_resource) = options.max_resource {
            bracketed.part(max_resource);
        }
        bracketed
    }

    /// Deals what was seen to brackets.
    fn part(&mut self, max_resource: u32) {
        self.max_resource = Some(max_resource);
        self.samplers = (0..brackets(self.options, max_resource)).map(|_| (self.fresh)()).collect();
        for event in std::mem::take(&mut self.before) {
            self.deal(&event);
        }
    }

    fn deal(&mut self, event: &Event) {
        match event {
            Event::Ended(Ended { number, .. }) | Event::Started { number, .. } => {
                let bracket = self.bracket(*number);
                self.samplers[bracket].observe(event);
            }
            Event::Configured(_) => self.samplers.iter_mut().for_each(|sampler| sampler.observe(event)),
        }
    }

    fn bracket(&self, number: TrialNumber) -> usize {
        self.max_resource.map_or(0, |most| bracket_of(self.options, most, &self.study, number))
    }
}

impl Sampler for Bracketed {
    fn observe(&mut self, event: &Event) {
        if self.max_resource.is_some() {
            return self.deal(event);
        }
        self.before.push(event.clone());
        match event {
            Event::Ended(Ended { outcome: Outcome::Complete { .. }, series, .. }) if !series.is_empty() => {
                let last_step = series.last().map_or(0, |(step, _)| *step);
                self.part(last_step.saturating_add(1));
            }
            Event::Ended(_) | Event::Started { .. } | Event::Configured(_) => self.samplers[0].observe(event),
        }
    }

    fn suggest(&self, ask: &Ask<'_>, rng: &mut ChaCha8Rng) -> Result<Params, SpaceExhausted> {
        let bracket = self.bracket(ask.number);
        let own = ask.running.iter().filter(|trial| self.bracket(trial.number) == bracket);
        let running = own.cloned().collect::<Vec<_>>();
        self.samplers[bracket].suggest(&Ask { running: &running, ..*ask }, rng)
    }
}

#[cfg(test)]
mod tests {
    use fleetune_core::study::{Budget, PrunerConfig, SamplerConfig, StudyConfig};
    use fleetune_core::{Direction, SearchSpace};

    use super::*;
    use crate::{build_for, trial_rng};

    fn config(pruner: PrunerConfig) -> StudyConfig {
        let space = "[parameters]\nx = { type = 'float', low = 0, high = 1 }\nk = { choices = ['a', 'b'] }";
        StudyConfig {
            directions: vec![Direction::Minimize],
            space: Some(SearchSpace::from_toml(space).unwrap()),
            sampler: SamplerConfig::Tpe,
            pruner,
            budget: Budget::default(),
            planned_trials: None,
            seed: 3,
            benchmark: None,
            earlier: Vec::new(),
        }
    }

    /// A trial of nine steps that ended with its distance from 0.3.
    fn ended(number: i64, params: Params) -> Event {
        let value = (params["x"].as_f64().unwrap() - 0.3).abs();
        Event::Ended(Ended {
            number: TrialNumber(number),
            params,
            outcome: Outcome::Complete { values: vec![value], constraints: Vec::new() },
            series: (0..9).map(|step| (step, value)).collect(),
            repetitions_planned: 1,
            standard_error: None,
            seconds: 1.0,
        })
    }

    fn suggest(sampler: &dyn Sampler, number: i64) -> Params {
        let number = TrialNumber(number);
        let ask = Ask { number, fixed: &Params::new(), running: &[], estimate: None };
        sampler.suggest(&ask, &mut trial_rng(3, number, &[])).unwrap()
    }

    #[test]
    fn a_suggestion_depends_on_the_trials_of_its_bracket_alone() {
        for max_resource in [Some(9), None] {
            let options = HyperbandConfig { max_resource, ..HyperbandConfig::default() };
            let mut all = build_for(&config(PrunerConfig::Hyperband(options)), "s").unwrap();
            let mut events = Vec::new();
            for number in 0..120 {
                let event = ended(number, suggest(all.as_ref(), number));
                all.observe(&event);
                events.push(event);
            }
            let bracket = |number| bracket_of(options, 9, "s", TrialNumber(number));
            assert_eq!(brackets(options, 9), 3);
            for number in 120..126 {
                let mut own = build_for(&config(PrunerConfig::None), "s").unwrap();
                let of_bracket = (0..120).filter(|trial| bracket(*trial) == bracket(number));
                of_bracket.for_each(|trial| own.observe(&events[trial as usize]));
                assert_eq!(suggest(all.as_ref(), number), suggest(own.as_ref(), number));
            }
        }
    }
}
