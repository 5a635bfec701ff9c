//! The parameters of a space as columns, and configurations as rows.

use std::collections::BTreeMap;

use fleetune_core::{Params, SearchSpace};

use super::column::Column;
use crate::tried::{Key, bits};

/// Those parameters of a space that have more than one value, by name.
#[derive(Clone, Debug)]
pub(super) struct Columns {
    pub(super) list: Vec<Column>,
    of: BTreeMap<String, usize>,
    /// Name and column in the order of the space.
    pub(super) order: Vec<(String, usize)>,
    /// Place of each column among all parameters by name.
    places: Vec<usize>,
    /// Whether the space has neither conditions nor forbidding clauses.
    pub(super) is_plain: bool,
}

impl Columns {
    /// `ordered`: whether numeric choices in order count as numbers.
    pub(super) fn new(space: &SearchSpace, ordered: bool) -> Self {
        let (mut list, mut of, mut places) = (Vec::new(), BTreeMap::new(), Vec::new());
        for (place, (name, parameter)) in space.parameters().iter().enumerate() {
            if !parameter.distribution().is_single() {
                of.insert(name.clone(), list.len());
                places.push(place);
                list.push(Column::new(parameter.distribution(), ordered));
            }
        }
        let order = space.order().iter().filter_map(|name| Some((name.clone(), *of.get(name)?))).collect();
        let is_plain =
            space.forbids().is_empty() && space.parameters().values().all(|parameter| parameter.when().is_none());
        Self { list, of, order, places, is_plain }
    }

    /// Puts raw numbers, one per column, into the key of a configuration that has all parameters.
    pub(super) fn fill(&self, key: &mut Key, raw: &[f64]) {
        for (place, raw) in self.places.iter().zip(raw) {
            key[*place] = bits(*raw);
        }
    }

    /// The column of a parameter; `None` for one value only.
    pub(super) fn of(&self, name: &str) -> Option<usize> {
        self.of.get(name).copied()
    }

    /// One raw number per column; NaN where the parameter is off or is none of ours.
    pub(super) fn encode(&self, params: &Params) -> Vec<f64> {
        let raw = |(name, column): (&String, &usize)| {
            params.get(name).map_or(f64::NAN, |value| self.list[*column].encode(value))
        };
        self.of.iter().map(raw).collect()
    }

    /// The configuration around `fixed` whose other active parameters are `raw(column)`, in the order of the space.
    /// `None` where a parameter is fixed that is off.
    pub(super) fn configuration(
        &self,
        space: &SearchSpace,
        fixed: &Params,
        mut raw: impl FnMut(usize) -> f64,
    ) -> Option<Params> {
        let mut params = Params::new();
        let mut kept = 0;
        for name in space.order() {
            if !space.is_active(name, &params) {
                continue;
            }
            let value = match (fixed.get(name), self.of(name)) {
                (Some(value), _) => {
                    kept += 1;
                    value.clone()
                }
                (None, Some(column)) => self.list[column].decode(raw(column)),
                (None, None) => space.parameters()[name].distribution().value_at(0),
            };
            params.insert(name.clone(), value);
        }
        (kept == fixed.len()).then_some(params)
    }
}
