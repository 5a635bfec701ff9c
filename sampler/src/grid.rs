//! Grid search: every allowed configuration once, in an order shuffled by the seed.
//!
//! A configuration is a number in mixed radix, one digit a parameter; digits of parameters that are off are 0, so that
//! each configuration has one number. A seeded permutation of the numbers gives the order without a table of them. The
//! state is the set of what was tried and the length of the tried prefix of that order.

use std::ops::ControlFlow;

use fleetune_core::space::Visit;
use fleetune_core::{Params, SearchSpace};
use rand::rngs::ChaCha8Rng;

use crate::factory::SamplerError;
use crate::rng::fnv;
use crate::seam::{Ask, Event, Sampler, SpaceExhausted};
use crate::tried::Tried;

/// Positions looked at before the shuffled order is given up for a systematic walk: when clauses leave next to nothing.
const SCAN: u64 = 20_000;
/// Values assigned by the systematic walk.
const WALK: u64 = 1_000_000;

#[derive(Debug)]
pub(crate) struct Grid {
    space: SearchSpace,
    /// Values per parameter, in the order of the space.
    radices: Vec<u64>,
    order: Permutation,
    tried: Tried,
    /// Every position before this is no configuration or was tried.
    cursor: u64,
}

impl Grid {
    pub(crate) fn new(space: &SearchSpace, seed: u64) -> Result<Self, SamplerError> {
        let mut radices = Vec::new();
        let mut size = 1_u64;
        for name in space.order() {
            let count = space.parameters()[name].distribution().cardinality();
            let count = count.ok_or_else(|| SamplerError::Continuous { sampler: "grid", name: name.clone() })?;
            size = size.checked_mul(count).filter(|size| *size < 1 << 62).ok_or(SamplerError::HugeGrid)?;
            radices.push(count);
        }
        let order = Permutation::new(size, seed);
        Ok(Self { space: space.clone(), radices, order, tried: Tried::new(space), cursor: 0 })
    }

    /// The configuration at `position` of the shuffled order, if there is one and it is allowed.
    fn at(&self, position: u64) -> Option<Params> {
        let mut number = self.order.apply(position);
        let mut params = Params::new();
        for (name, radix) in self.space.order().iter().zip(&self.radices) {
            let digit = number % radix;
            number /= radix;
            if self.space.is_active(name, &params) {
                params.insert(name.clone(), self.space.parameters()[name].distribution().value_at(digit));
            } else if digit != 0 {
                return None;
            }
        }
        self.space.forbidden_by(&params).is_none().then_some(params)
    }
}

impl Sampler for Grid {
    fn observe(&mut self, event: &Event) {
        let Event::Ended(ended) = event else { return };
        self.tried.insert(&ended.params);
        let nobody = self.tried.keys_of(&[]);
        let end = self.order.size.min(self.cursor + SCAN);
        while self.cursor < end && self.at(self.cursor).is_none_or(|params| self.tried.contains(&params, &nobody)) {
            self.cursor += 1;
        }
    }

    fn suggest(&self, ask: &Ask<'_>, _rng: &mut ChaCha8Rng) -> Result<Params, SpaceExhausted> {
        if self.space.check(ask.fixed).is_ok() {
            return Ok(ask.fixed.clone());
        }
        let busy = self.tried.keys_of(ask.running);
        let wanted = |params: &Params| {
            ask.fixed.iter().all(|(name, value)| params.get(name) == Some(value)) && !self.tried.contains(params, &busy)
        };
        let end = self.order.size.min(self.cursor + SCAN);
        if let Some(params) = (self.cursor..end).filter_map(|position| self.at(position)).find(&wanted) {
            return Ok(params);
        }
        if end == self.order.size {
            return Err(SpaceExhausted::AllTried);
        }
        let mut found = None;
        let ended = self.space.visit(
            ask.fixed,
            WALK,
            &mut |_, distribution| {
                let count = distribution.cardinality().unwrap_or(0).min(WALK);
                (0..count).map(|index| distribution.value_at(index)).collect()
            },
            &mut |params| {
                if wanted(params) {
                    found = Some(params.clone());
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            },
        );
        match (found, ended) {
            (Some(params), _) => Ok(params),
            (None, Visit::Complete) => Err(SpaceExhausted::AllTried),
            (None, Visit::Stopped | Visit::OutOfBudget) => {
                Err(SpaceExhausted::NothingAllowed { fixed: !ask.fixed.is_empty() })
            }
        }
    }
}

/// A seeded permutation of 0..size: a Feistel network on the next even number of bits, walked until inside.
#[derive(Debug)]
struct Permutation {
    size: u64,
    half_bits: u32,
    keys: [u64; 6],
}

impl Permutation {
    fn new(size: u64, seed: u64) -> Self {
        let bits = u64::BITS - size.saturating_sub(1).leading_zeros();
        let key = |round: u64| fnv(seed.to_le_bytes().into_iter().chain(round.to_le_bytes()));
        Self { size, half_bits: bits.div_ceil(2).max(1), keys: std::array::from_fn(|round| key(round as u64)) }
    }

    fn apply(&self, position: u64) -> u64 {
        let mut number = position;
        loop {
            number = self.round_trip(number);
            if number < self.size {
                return number;
            }
        }
    }

    fn round_trip(&self, number: u64) -> u64 {
        let mask = (1_u64 << self.half_bits) - 1;
        let (mut left, mut right) = (number >> self.half_bits, number & mask);
        for key in self.keys {
            let mut mixed = (right ^ key).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            (left, right) = (right, left ^ ((mixed ^ (mixed >> 32)) & mask));
        }
        (left << self.half_bits) | right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permutation_takes_every_place_once() {
        for size in [1, 2, 3, 7, 64, 1_000] {
            let permutation = Permutation::new(size, 7);
            let mut places = (0..size).map(|position| permutation.apply(position)).collect::<Vec<_>>();
            places.sort_unstable();
            assert_eq!(places, (0..size).collect::<Vec<_>>());
        }
        let order = |seed| (0..100).map(|position| Permutation::new(100, seed).apply(position)).collect::<Vec<_>>();
        assert_ne!(order(1), order(2));
    }
}
