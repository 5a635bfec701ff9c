//! Pure search: history in, suggestion out; pruners; the statistics of the confirmation.
//!
//! No async, IO, clock or environment. Randomness is an argument, exponentials and logarithms come from `libm`, and no
//! hash order reaches a random stream, so that the same history gives the same suggestion on every machine.

pub mod analysis;
mod auto;
mod axis;
mod bracketed;
mod brute_force;
pub mod cmaes;
pub mod confirmation;
mod draw;
mod factory;
mod grid;
mod nsga2;
mod numeric;
pub mod pruner;
mod qmc;
mod qmc_sampler;
mod random;
mod rng;
mod seam;
pub mod tpe;
mod tried;

pub use factory::{SamplerError, build, build_for};
pub use pruner::{Pruner, build_pruner};
pub use rng::trial_rng;
pub use seam::{Ask, Ended, Estimate, Event, Outcome, Running, Sampler, SpaceExhausted};

/// Stamped on every trial; changes whenever a suggestion for the same history may change.
pub const VERSION: &str = "3";
