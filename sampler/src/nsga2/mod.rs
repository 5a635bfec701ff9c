//! NSGA-II: a population that is bred toward the Pareto front.
//!
//! Source: Deb et al. 2002. One or more objectives; constraints by domination: what violates less is better than any
//! loss. With more than three objectives the parents are chosen by reference points (NSGA-III, Deb and Jain 2014).

mod breed;
mod niche;
mod sampler;

pub(crate) use sampler::NsgaIi;
