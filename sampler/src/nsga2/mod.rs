//! NSGA-II: a population that is bred toward the Pareto front.
//!
//! Source: Deb et al. 2002. One or more objectives; constraints by domination: what violates less is better than any
//! loss. More than three objectives are better served by reference points (NSGA-III), which this is not.

mod breed;
mod sampler;

pub(crate) use sampler::NsgaIi;
