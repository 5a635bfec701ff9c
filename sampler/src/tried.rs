//! Which configurations were tried. Equal configurations have equal keys; nothing iterates over them.

use std::collections::HashSet;

use fleetune_core::{Params, SearchSpace};

use crate::seam::Running;

/// Internal values by parameter in name order as bits; a parameter that is not there has bits no value has.
pub(crate) type Key = Box<[u64]>;

const ABSENT: u64 = u64::MAX;

/// What stands for an internal value in a key.
pub(crate) fn bits(internal: f64) -> u64 {
    // −0.0 is 0.0.
    (internal + 0.0).to_bits()
}

/// Keys of the configurations that ended.
#[derive(Clone, Debug)]
pub(crate) struct Tried {
    space: SearchSpace,
    ended: HashSet<Key>,
}

impl Tried {
    pub(crate) fn new(space: &SearchSpace) -> Self {
        Self { space: space.clone(), ended: HashSet::new() }
    }

    /// What equal configurations have in common.
    pub(crate) fn key(&self, params: &Params) -> Key {
        let bits = |(name, parameter): (&String, &fleetune_core::space::Parameter)| {
            let internal = params.get(name).and_then(|value| parameter.distribution().to_internal(value).ok());
            internal.map_or(ABSENT, bits)
        };
        self.space.parameters().iter().map(bits).collect()
    }

    pub(crate) fn insert(&mut self, params: &Params) {
        let key = self.key(params);
        self.ended.insert(key);
    }

    pub(crate) fn keys_of(&self, running: &[Running]) -> HashSet<Key> {
        running.iter().map(|trial| self.key(&trial.params)).collect()
    }

    pub(crate) fn contains(&self, params: &Params, busy: &HashSet<Key>) -> bool {
        self.contains_key(&self.key(params), busy)
    }

    pub(crate) fn contains_key(&self, key: &Key, busy: &HashSet<Key>) -> bool {
        self.ended.contains(key) || busy.contains(key)
    }
}
