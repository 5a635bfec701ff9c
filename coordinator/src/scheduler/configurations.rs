//! The parameters of many trials, as numbers: trials share names and distributions, which are kept once.

use std::sync::Arc;

use fleetune_core::{Distribution, Params};

use super::columns::Ragged;
use crate::storage::{Param, ParamSet, outward};

/// Shapes that are looked at for one to share. Studies have few; clients that make up their own may have any number.
const LOOKED_AT: usize = 16;

/// Parameters by row.
#[derive(Debug, Default)]
pub(super) struct Configurations {
    shapes: Vec<Shape>,
    /// Which shape a row has. Those after the last one have none.
    shape: Vec<u32>,
    internal: Ragged<f64>,
    /// The numbers of one row, here to be used again.
    row: Vec<f64>,
}

/// Names with their distributions, in order.
type Shape = Vec<(String, Arc<Distribution>)>;

impl Configurations {
    /// Makes room for `rows` rows of `parameters` parameters.
    pub fn reserve(&mut self, rows: usize, parameters: usize) {
        self.shape.reserve_exact(rows);
        self.internal.reserve(rows, parameters);
    }

    /// Sets the parameters of `row`; those of rows between are none.
    pub fn set(&mut self, row: usize, params: &ParamSet) {
        let shape = if params.is_empty() { 0 } else { self.shape_of(params) };
        if self.shape.len() <= row {
            self.shape.resize(row + 1, 0);
        }
        self.shape[row] = shape;
        self.row.clear();
        self.row.extend(params.values().map(|param| param.internal));
        self.internal.set(row, &self.row);
    }

    /// The parameters of `row`, as people write them.
    pub fn get(&self, row: usize) -> Option<Params> {
        let shape = self.shapes.get(*self.shape.get(row)? as usize).map_or(&[][..], Vec::as_slice);
        let params = shape.iter().zip(self.internal.get(row));
        Some(params.map(|((name, distribution), &internal)| (name.clone(), outward(distribution, internal))).collect())
    }

    fn shape_of(&mut self, params: &ParamSet) -> u32 {
        let has = |shape: &Shape| {
            let same = |((name, distribution), (own, param)): (&(String, Arc<Distribution>), (&String, &Param))| {
                name == own && (Arc::ptr_eq(distribution, &param.distribution) || *distribution == param.distribution)
            };
            shape.len() == params.len() && shape.iter().zip(params).all(same)
        };
        let newest = self.shapes.iter().enumerate().rev().take(LOOKED_AT);
        let known = newest.into_iter().find(|(_, shape)| has(shape)).map(|(index, _)| index);
        let index = known.unwrap_or_else(|| {
            self.shapes.push(params.iter().map(|(name, p)| (name.clone(), Arc::clone(&p.distribution))).collect());
            self.shapes.len() - 1
        });
        index as u32
    }
}

#[cfg(test)]
mod tests {
    use fleetune_core::distribution::FloatRange;

    use super::*;
    use crate::storage::external;

    fn set(names: &[&str], high: f64, internal: f64) -> ParamSet {
        let distribution = Arc::new(Distribution::Float(FloatRange::new(0.0, high, None, false).unwrap()));
        let param = Param { distribution, internal };
        names.iter().map(|name| ((*name).to_owned(), param.clone())).collect()
    }

    #[test]
    fn every_row_keeps_its_own_parameters() {
        let sets = [set(&["a", "b"], 1.0, 0.5), set(&["a"], 1.0, 0.25), set(&["a", "b"], 2.0, 1.5), ParamSet::new()];
        let mut all = Configurations::default();
        // From the last to the first, and each twice.
        for (row, params) in (0..100).map(|index| 99 - index).zip(sets.iter().cycle()) {
            all.set(row, params);
            all.set(row, params);
        }
        for (row, params) in (0..100).map(|index| 99 - index).zip(sets.iter().cycle()) {
            assert_eq!(all.get(row), Some(external(params)), "{row}");
        }
        assert_eq!(all.get(100), None);
        assert_eq!(all.shapes.len(), 3);
    }
}
