//! Quasi-random search: trial i is point i of a scrambled Sobol sequence, whatever came of the others.
//!
//! Workers so agree without talking, and a search that stops anywhere has covered the space evenly. Each parameter with
//! more than one value has a coordinate of its own, in the order of the space; the rest beyond 50 are uniform. What a
//! clause forbids, was tried or runs gives way to a point far down the sequence, at last to a random configuration.

use fleetune_core::{Params, SearchSpace};
use rand::rngs::ChaCha8Rng;

use crate::draw;
use crate::qmc::{MAX_DIMENSIONS, Sobol};
use crate::rng::unit;
use crate::seam::{Ask, Event, Sampler, SpaceExhausted};
use crate::tried::Tried;

/// Points tried for one trial, and their distance in the sequence: beyond any search of usual length.
const TRIES: u32 = 32;
const STRIDE: u32 = 1 << 24;

#[derive(Debug)]
pub(crate) struct Qmc {
    space: SearchSpace,
    /// Parameters with a coordinate, by coordinate.
    axes: Vec<String>,
    sobol: Sobol,
    tried: Tried,
}

impl Qmc {
    pub(crate) fn new(space: &SearchSpace, seed: u64) -> Self {
        let varied = |name: &&String| !space.parameters()[*name].distribution().is_single();
        let axes = space.order().iter().filter(varied).take(MAX_DIMENSIONS).cloned().collect::<Vec<_>>();
        Self { space: space.clone(), sobol: Sobol::new(axes.len(), seed), axes, tried: Tried::new(space) }
    }

    /// The configuration of a point around `fixed`; `None` for one that is forbidden.
    fn at(&self, index: u32, fixed: &Params, rng: &mut ChaCha8Rng) -> Option<Params> {
        let point = self.sobol.point(index);
        let mut params = Params::new();
        for name in self.space.order() {
            if !self.space.is_active(name, &params) {
                continue;
            }
            let axis = self.axes.iter().position(|axis| axis == name);
            let value = fixed.get(name).cloned().unwrap_or_else(|| {
                let u = axis.map_or_else(|| unit(rng), |axis| point[axis]);
                draw::at(self.space.parameters()[name].distribution(), u)
            });
            params.insert(name.clone(), value);
        }
        let is_allowed =
            fixed.keys().all(|name| params.contains_key(name)) && self.space.forbidden_by(&params).is_none();
        is_allowed.then_some(params)
    }
}

impl Sampler for Qmc {
    fn observe(&mut self, event: &Event) {
        let Event::Ended(ended) = event else { return };
        self.tried.insert(&ended.params);
    }

    fn suggest(&self, ask: &Ask<'_>, rng: &mut ChaCha8Rng) -> Result<Params, SpaceExhausted> {
        if self.space.check(ask.fixed).is_ok() {
            return Ok(ask.fixed.clone());
        }
        let busy = self.tried.keys_of(ask.running);
        // The sequence begins anew after 2^32 trials.
        let number = ask.number.0 as u32;
        let points = (0..TRIES).map(|attempt| number.wrapping_add(attempt * STRIDE));
        let mut made = points.filter_map(|index| self.at(index, ask.fixed, rng));
        if let Some(params) = made.find(|params| !self.tried.contains(params, &busy)) {
            return Ok(params);
        }
        match draw::fresh(&self.space, ask, &self.tried, rng)? {
            Some(params) => Ok(params),
            None => draw::configuration(&self.space, ask.fixed, rng),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::trial_rng;
    use fleetune_core::TrialNumber;

    fn suggest(space: &str, seed: u64, number: i64) -> Params {
        let sampler = Qmc::new(&SearchSpace::from_toml(space).unwrap(), seed);
        let number = TrialNumber(number);
        let ask = Ask { number, fixed: &Params::new(), running: &[], estimate: None };
        sampler.suggest(&ask, &mut trial_rng(seed, number, &[])).unwrap()
    }

    #[test]
    fn two_to_the_k_trials_meet_every_cell_once() {
        let space =
            "[parameters]\na = { type = 'float', low = 0, high = 64 }\nb = { type = 'int', low = 0, high = 63 }";
        let cells = |name: &str, seed| {
            let cell = |number| suggest(space, seed, number)[name].as_f64().unwrap() as usize;
            let mut cells = (0..64).map(cell).collect::<Vec<_>>();
            cells.sort_unstable();
            cells
        };
        for seed in [0, 9] {
            assert_eq!(cells("a", seed), (0..64).collect::<Vec<_>>());
            assert_eq!(cells("b", seed), (0..64).collect::<Vec<_>>());
        }
        assert_ne!(suggest(space, 0, 3), suggest(space, 1, 3));
    }

    #[test]
    fn sixty_parameters_are_no_trouble() {
        let parameter = |index| format!("p{index:02} = {{ type = 'float', low = 0, high = 1 }}");
        let space = format!("[parameters]\n{}", (0..60).map(parameter).collect::<Vec<_>>().join("\n"));
        let params = suggest(&space, 1, 5);
        assert_eq!(params.len(), 60);
        assert!(params.values().all(|value| (0.0..=1.0).contains(&value.as_f64().unwrap())));
    }
}
