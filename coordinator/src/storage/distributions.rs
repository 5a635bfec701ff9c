//! The distributions known to this process. They are written once and never change, so a cache cannot be stale.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use fleetune_core::{Distribution, StudyId};

use super::error::StoreError;
use super::packed::{pack_params, unpack_params};
use super::record::{Param, ParamSet};

/// What is committed, for all transactions.
#[derive(Default)]
pub(super) struct DistributionCache {
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    by_id: HashMap<i64, Arc<Distribution>>,
    by_body: HashMap<(StudyId, String), i64>,
}

/// The cache as one transaction sees it: with what it has inserted itself.
pub(super) struct Distributions {
    cache: Arc<DistributionCache>,
    fresh: Vec<(StudyId, String, i64, Arc<Distribution>)>,
}

impl Distributions {
    pub fn new(cache: &Arc<DistributionCache>) -> Self {
        Self { cache: Arc::clone(cache), fresh: Vec::new() }
    }

    /// The id of a distribution of `study`, by its JSON.
    pub fn id_of(&self, study: StudyId, body: &str) -> Option<i64> {
        if let Some(fresh) = self.fresh.iter().find(|fresh| fresh.0 == study && fresh.1 == body) {
            return Some(fresh.2);
        }
        let known = self.cache.known.read().unwrap_or_else(PoisonError::into_inner);
        known.by_body.get(&(study, body.to_owned())).copied()
    }

    /// Takes note of a distribution that this transaction inserted.
    pub fn inserted(&mut self, study: StudyId, body: String, id: i64, distribution: &Arc<Distribution>) {
        self.fresh.push((study, body, id, Arc::clone(distribution)));
    }

    /// Takes note of a distribution read from a row that another transaction committed.
    pub fn loaded(&self, study: StudyId, id: i64, body: String) -> Result<(), StoreError> {
        let distribution = parse(id, &body)?;
        let mut known = self.cache.known.write().unwrap_or_else(PoisonError::into_inner);
        known.by_id.entry(id).or_insert_with(|| Arc::new(distribution));
        known.by_body.insert((study, body), id);
        Ok(())
    }

    /// The distribution `id`, whose JSON is `body`. Read anew unless it is known.
    pub fn read(&self, id: i64, body: &str) -> Result<Arc<Distribution>, StoreError> {
        let known = self.cache.known.read().unwrap_or_else(PoisonError::into_inner);
        match known.by_id.get(&id) {
            Some(known) => Ok(Arc::clone(known)),
            None => parse(id, body).map(Arc::new),
        }
    }

    /// Shares what this transaction inserted; called after its commit.
    pub fn publish(self) {
        let mut known = self.cache.known.write().unwrap_or_else(PoisonError::into_inner);
        for (study, body, id, distribution) in self.fresh {
            known.by_id.insert(id, distribution);
            known.by_body.insert((study, body), id);
        }
    }

    /// Ids in `packed` columns that must be loaded before [`Self::unpack`].
    pub fn missing<'a>(&self, packed: impl Iterator<Item = &'a [u8]>) -> Vec<i64> {
        let known = self.cache.known.read().unwrap_or_else(PoisonError::into_inner);
        let ids = packed.filter_map(unpack_params).flatten().map(|(_, id, _)| id);
        let is_missing = |id: &i64| !known.by_id.contains_key(id) && !self.fresh.iter().any(|fresh| fresh.2 == *id);
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
                known.by_id.get(&id).or_else(fresh).cloned().ok_or_else(|| corrupt("a distribution is missing"))?;
            params.insert(name, Param { distribution, internal });
        }
        Ok(params)
    }
}

fn parse(id: i64, body: &str) -> Result<Distribution, StoreError> {
    serde_json::from_str(body)
        .map_err(|error| StoreError::Corrupt { what: format!("distribution {id}"), why: error.to_string() })
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
