//! Which rows a process is fitted to, and the memory of fits that were made.
//!
//! Kernels are fitted at fixed counts of rows, from fixed starts: they depend on what was seen, never on which questions
//! were asked. The memory only saves work: a fit is looked up by everything that goes into it.

use std::cell::RefCell;
use std::collections::VecDeque;

use fleetune_core::TrialNumber;

use super::gp::{Hyper, Observations, Prior};
use super::kernel::Dimension;
use super::transform::Shape;
use crate::rng::{trial_rng, unit};

/// Up to so many rows there is a fit at every count, from there on 25 while they double.
const EVERY: usize = 50;
const FITS_PER_DOUBLING: usize = 25;
/// Most rows of a fit: its time grows with their cube.
const MOST_ROWS: usize = 100;
/// Most rows of a fit that only has to tell shapes of values apart.
const MOST_SKETCHED: usize = 48;
/// Fits remembered: those of a few models.
const REMEMBERED: usize = 12;

/// The memory of fits.
#[derive(Debug)]
pub(super) struct Fits {
    seed: u64,
    made: RefCell<VecDeque<(Observations, Prior, Hyper)>>,
    chosen: RefCell<VecDeque<(Observations, Shape)>>,
}

impl Fits {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, made: RefCell::default(), chosen: RefCell::default() }
    }

    /// The kernel for `count` rows, fitted to `observations` of some of them; these are named by their index.
    pub(super) fn hyper(
        &self,
        dimensions: &[Dimension],
        count: usize,
        prior: Prior,
        observations: &dyn Fn(&[usize]) -> Observations,
    ) -> Hyper {
        let rows = rows_of_fit(count);
        let data = observations(&rows);
        let known = |made: &(Observations, Prior, Hyper)| {
            made.1 == prior && made.2.kernel.dimensions == dimensions && made.0.same(&data)
        };
        if let Some((_, _, hyper)) = self.made.borrow().iter().find(|made| known(made)) {
            return hyper.clone();
        }
        let mut rng = trial_rng(self.seed, TrialNumber(rows.len() as i64), &["fit"]);
        let hyper = Hyper::fit(dimensions, &data, &prior, &mut || unit(&mut rng));
        let mut made = self.made.borrow_mut();
        if made.len() == REMEMBERED {
            made.pop_front();
        }
        made.push_back((data, prior, hyper.clone()));
        hyper
    }

    /// The shape that `choose` finds best for observations, remembered.
    pub(super) fn shape(&self, values: Observations, choose: impl FnOnce() -> Shape) -> Shape {
        if let Some((_, shape)) = self.chosen.borrow().iter().find(|(known, _)| known.same(&values)) {
            return *shape;
        }
        let shape = choose();
        let mut chosen = self.chosen.borrow_mut();
        if chosen.len() == REMEMBERED {
            chosen.pop_front();
        }
        chosen.push_back((values, shape));
        shape
    }
}

/// The rows of a fit that only has to tell models apart, of `rows`.
pub(super) fn sketched(rows: &[usize]) -> Vec<usize> {
    let kept = rows.len().min(MOST_SKETCHED);
    (0..kept).map(|index| rows[index * rows.len() / kept]).collect()
}

/// The rows of the last fit at or before `count` rows: all, or where those are many an even choice.
pub(super) fn rows_of_fit(count: usize) -> Vec<usize> {
    let step = if count <= EVERY { 1 } else { count.div_ceil(FITS_PER_DOUBLING) };
    let fitted = count - count % step;
    let kept = fitted.min(MOST_ROWS);
    (0..kept).map(|index| index * fitted / kept.max(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fits_are_made_at_fixed_counts() {
        assert_eq!(rows_of_fit(0), Vec::<usize>::new());
        assert_eq!(rows_of_fit(50), (0..50).collect::<Vec<_>>());
        assert_eq!(rows_of_fit(52), rows_of_fit(51));
        assert_eq!(rows_of_fit(480).len(), MOST_ROWS);
        assert!(rows_of_fit(480).windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(rows_of_fit(495), rows_of_fit(480));
    }
}
