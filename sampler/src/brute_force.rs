//! Brute force: every allowed configuration once, in order, the last parameter fastest.
//!
//! The space is a tree whose branches are the values of the parameters that are there, as in Optuna's sampler of that
//! name. The state is what was tried and the first configuration of the order that was not.
//!
//! Departs from Optuna, which takes a random branch: the grid sampler does that, and an order can be followed by eye.

use std::ops::ControlFlow;

use fleetune_core::space::Visit;
use fleetune_core::{Params, SearchSpace};
use rand::rngs::ChaCha8Rng;

use crate::factory::SamplerError;
use crate::seam::{Ask, Event, Sampler, SpaceExhausted};
use crate::tried::Tried;

/// Most values of one parameter.
const MAX_VALUES: u64 = 100_000;
/// Values assigned by one walk before it gives up.
const WALK: u64 = 1_000_000;

#[derive(Debug)]
pub(crate) struct BruteForce {
    space: SearchSpace,
    tried: Tried,
    /// Every configuration before this was tried; `None` before the first was found.
    cursor: Option<Params>,
}

impl BruteForce {
    pub(crate) fn new(space: &SearchSpace) -> Result<Self, SamplerError> {
        for (name, parameter) in space.parameters() {
            let count = parameter.distribution().cardinality();
            let count = count.ok_or_else(|| SamplerError::Continuous { sampler: "brute-force", name: name.clone() })?;
            if count > MAX_VALUES {
                return Err(SamplerError::HugeRange { name: name.clone(), count });
            }
        }
        Ok(Self { space: space.clone(), tried: Tried::new(space), cursor: None })
    }

    /// The first configuration that `wanted` takes, from the cursor on if nothing is fixed.
    fn first(&self, fixed: &Params, wanted: &dyn Fn(&Params) -> bool) -> (Option<Params>, Visit) {
        let start = self.cursor.as_ref().filter(|_| fixed.is_empty());
        // Until the first configuration is reached, the walk goes down along the cursor.
        let descends = std::cell::Cell::new(true);
        let mut found = None;
        let ended = self.space.visit(
            fixed,
            WALK,
            &mut |name, distribution| {
                let from = start.filter(|_| descends.get()).and_then(|start| start.get(name));
                let all = (0..distribution.cardinality().unwrap_or(0)).map(|index| distribution.value_at(index));
                all.skip_while(|value| from.is_some_and(|from| from != value)).collect()
            },
            &mut |params| {
                descends.set(false);
                if wanted(params) {
                    found = Some(params.clone());
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            },
        );
        (found, ended)
    }
}

impl Sampler for BruteForce {
    fn observe(&mut self, event: &Event) {
        let Event::Ended(ended) = event else { return };
        self.tried.insert(&ended.params);
        let nobody = self.tried.keys_of(&[]);
        if self.cursor.as_ref().is_none_or(|cursor| self.tried.contains(cursor, &nobody))
            && let (Some(next), _) = self.first(&Params::new(), &|params| !self.tried.contains(params, &nobody))
        {
            self.cursor = Some(next);
        }
    }

    fn suggest(&self, ask: &Ask<'_>, _rng: &mut ChaCha8Rng) -> Result<Params, SpaceExhausted> {
        if self.space.check(ask.fixed).is_ok() {
            return Ok(ask.fixed.clone());
        }
        let busy = self.tried.keys_of(ask.running);
        match self.first(ask.fixed, &|params| !self.tried.contains(params, &busy)) {
            (Some(params), _) => Ok(params),
            (None, Visit::Complete) => Err(SpaceExhausted::AllTried),
            (None, Visit::Stopped | Visit::OutOfBudget) => {
                Err(SpaceExhausted::NothingAllowed { fixed: !ask.fixed.is_empty() })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::trial_rng;
    use crate::seam::{Ended, Outcome};
    use fleetune_core::value::params_line;
    use fleetune_core::{FailKind, TrialNumber};

    #[test]
    fn configurations_come_in_order() {
        let space = "[parameters]\na = ['x', 'y']\nb = { type = 'int', low = 1, high = 2, when = \"a == 'y'\" }\n\
                     c = { type = 'float', low = 0, high = 0.2, step = 0.1 }\n[[forbid]]\nif = \"a == 'x' && c > 0.15\"";
        let mut sampler = BruteForce::new(&SearchSpace::from_toml(space).unwrap()).unwrap();
        let mut lines = Vec::new();
        for number in 0.. {
            let ask = Ask { number: TrialNumber(number), fixed: &Params::new(), running: &[], estimate: None };
            let Ok(params) = sampler.suggest(&ask, &mut trial_rng(0, TrialNumber(0), &[])) else { break };
            lines.push(params_line(&params));
            sampler.observe(&Event::Ended(Ended {
                number: TrialNumber(number),
                params,
                outcome: Outcome::Failed { kind: FailKind::Error },
                series: Vec::new(),
                repetitions_planned: 1,
                standard_error: None,
                seconds: 1.0,
            }));
        }
        let expected = ["a=x c=0.0", "a=x c=0.1", "a=y b=1 c=0.0", "a=y b=1 c=0.1", "a=y b=1 c=0.2", "a=y b=2 c=0.0"];
        assert_eq!(lines[..6], expected);
        assert_eq!(lines.len(), 8);
    }
}
