//! The default sampler: Bayesian optimisation by Gaussian processes.
//!
//! One process models the objective, one whether a configuration runs at all, one each measured constraint; the
//! configuration with the largest expected improvement, weighed by the probability that it is feasible, is suggested.
//! What it does not do, others do: many trials or parameters go to the tree-structured Parzen estimator, small finite
//! spaces to grid search.

mod candidates;
mod cost;
mod encode;
mod fits;
mod gp;
mod history;
mod kernel;
mod knowledge;
mod lbfgs;
mod linalg;
mod models;
mod objective;
mod sampler;
mod several;
mod start;
mod transform;
mod view;
mod warm;

pub(crate) use sampler::Auto;
