//! Random search: uniform over the allowed configurations, without accidental repeats in a finite space.

use fleetune_core::{Params, SearchSpace};
use rand::rngs::ChaCha8Rng;

use crate::draw;
use crate::seam::{Ask, Event, Sampler, SpaceExhausted};
use crate::tried::Tried;

#[derive(Debug)]
pub(crate) struct Random {
    space: SearchSpace,
    tried: Tried,
}

impl Random {
    pub(crate) fn new(space: &SearchSpace) -> Self {
        Self { space: space.clone(), tried: Tried::new(space) }
    }
}

impl Sampler for Random {
    fn observe(&mut self, event: &Event) {
        match event {
            Event::Ended(ended) => self.tried.insert(&ended.params),
            Event::Configured(_) | Event::Started { .. } => {}
        }
    }

    fn suggest(&self, ask: &Ask<'_>, rng: &mut ChaCha8Rng) -> Result<Params, SpaceExhausted> {
        if self.space.check(ask.fixed).is_ok() {
            return Ok(ask.fixed.clone());
        }
        match draw::fresh(&self.space, ask, &self.tried, rng)? {
            Some(params) => Ok(params),
            None => draw::configuration(&self.space, ask.fixed, rng),
        }
    }
}
