//! The distributions known to this process. They are written once and never change, so a cache cannot be stale.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use fleetune_core::{Distribution, StudyId};

use super::error::StoreError;
use super::packed::{distribution_ids, pack_params, unpack_params};
use super::record::{Param, ParamSet};

/// What is committed, for all transactions.
#[derive(Default)]
pub(super) struct DistributionCache {
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    ids: HashMap<i64, Arc<Distribution>>,
    bodies: HashMap<(StudyId, String), i64>,
    /// By where they lie in memory, which spares their JSON: those that trials are started with, kept so that nothing
    /// else comes to lie there.
    places: HashMap<(StudyId, usize), (Arc<Distribution>, i64)>,
}

/// Distributions known by their place, at most; then they are learned anew.
const PLACES: usize = 4_096;

/// The cache as one transaction sees it: with what it has inserted itself.
pub(super) struct Distributions {
    cache: Arc<DistributionCache>,
    fresh: Vec<(StudyId, String, i64, Arc<Distribution>)>,
}

impl Distributions {
    pub fn new(cache: &Arc<DistributionCache>) -> Self {
        Self { cache: Arc::clone(cache), fresh: Vec::new() }
    }

    /// The id of a distribution of `study` that was looked up before.
    pub fn id_of(&self, study: StudyId, wanted: &Arc<Distribution>) -> Option<i64> {
        let known = self.cache.known.read().unwrap_or_else(PoisonError::into_inner);
        known.places.get(&place(study, wanted)).map(|(_, id)| *id)
    }

    /// The id of a distribution of `study`, by its JSON.
    pub fn id_of_body(&self, study: StudyId, wanted: &Arc<Distribution>, body: &str) -> Option<i64> {
        if let Some(fresh) = self.fresh.iter().find(|fresh| fresh.0 == study && fresh.1 == body) {
            return Some(fresh.2);
        }
        let mut known = self.cache.known.write().unwrap_or_else(PoisonError::into_inner);
        let id = known.bodies.get(&(study, body.to_owned())).copied()?;
        if known.places.len() >= PLACES {
            known.places.clear();
        }
        known.places.insert(place(study, wanted), (Arc::clone(wanted), id));
        Some(id)
    }

    /// Takes note of a distribution that this transaction inserted.
    pub fn inserted(&mut self, study: StudyId, body: String, id: i64, distribution: &Arc<Distribution>) {
        self.fresh.push((study, body, id, Arc::clone(distribution)));
    }

    /// Takes note of a distribution read from a row that another transaction committed.
    pub fn loaded(&self, study: StudyId, id: i64, body: String) -> Result<(), StoreError> {
        let distribution = parse(id, &body)?;
        let mut known = self.cache.known.write().unwrap_or_else(PoisonError::into_inner);
        known.ids.entry(id).or_insert_with(|| Arc::new(distribution));
        known.bodies.insert((study, body), id);
        Ok(())
    }

    /// The distribution `id`, whose JSON is `body`. Read anew unless it is known.
    pub fn read(&self, id: i64, body: &str) -> Result<Arc<Distribution>, StoreError> {
        let known = self.cache.known.read().unwrap_or_else(PoisonError::into_inner);
        match known.ids.get(&id) {
            Some(known) => Ok(Arc::clone(known)),
            None => parse(id, body).map(Arc::new),
        }
    }

    /// Shares what this transaction inserted; called after its commit.
    pub fn publish(self) {
        let mut known = self.cache.known.write().unwrap_or_else(PoisonError::into_inner);
        for (study, body, id, distribution) in self.fresh {
            known.ids.insert(id, distribution);
            known.bodies.insert((study, body), id);
        }
    }

    /// Ids in `packed` columns that must be loaded before [`Self::unpack`].
    pub fn missing<'a>(&self, packed: impl Iterator<Item = &'a [u8]>) -> Vec<i64> {
        let known = self.cache.known.read().unwrap_or_else(PoisonError::into_inner);
        let ids = packed.flat_map(distribution_ids);
        let is_missing = |id: &i64| !known.ids.contains_key(id) && !self.fresh.iter().any(|fresh| fresh.2 == *id);
        let mut missing: Vec<i64> = ids.filter(is_missing).collect();
        missing.sort_unstable();
        missing.dedup();
        missing
    }

    /// Parameters of a packed column.
    pub fn unpack(&self, bytes: &[u8]) -> Result<ParamSet, StoreError> {
        let corrupt = |why: &str| StoreError::Corrupt { what: "parameters".to_owned(), why: why.to_owned() };
        let packed = unpack_params(bytes).ok_or_else(|| corrupt("the bytes end early"))?;
        let known = self.cache.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut params = BTreeMap::new();
        for (name, id, internal) in packed {
            let fresh = || self.fresh.iter().find(|fresh| fresh.2 == id).map(|fresh| &fresh.3);
            let distribution =
                known.ids.get(&id).or_else(fresh).cloned().ok_or_else(|| corrupt("a distribution is missing"))?;
            params.insert(name, Param { distribution, internal });
        }
        Ok(params)
    }
}

fn parse(id: i64, body: &str) -> Result<Distribution, StoreError> {
    serde_json::from_str(body)
        .map_err(|error| StoreError::Corrupt { what: format!("distribution {id}"), why: error.to_string() })
}

fn place(study: StudyId, distribution: &Arc<Distribution>) -> (StudyId, usize) {
    (study, Arc::as_ptr(distribution).addr())
}

/// A packed column of `params`; `ids` in their order.
pub(super) fn pack(params: &ParamSet, ids: &[i64]) -> Vec<u8> {
    let entries: Vec<_> =
        params.iter().zip(ids).map(|((name, param), id)| (name.as_str(), *id, param.internal)).collect();
    pack_params(entries.into_iter())
}

/// The JSON under which a distribution is stored.
pub(super) fn body(distribution: &Distribution) -> Result<String, StoreError> {
    serde_json::to_string(distribution)
        .map_err(|error| StoreError::Corrupt { what: "distribution".to_owned(), why: error.to_string() })
}
