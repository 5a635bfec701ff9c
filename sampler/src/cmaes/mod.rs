//! CMA-ES: a normal distribution that moves toward the better of its own draws and takes their shape.
//!
//! The strategy is Hansen's tutorial (arXiv:1604.00772), with a margin for grids (arXiv:2205.13482) and restarts with
//! twice the population. Categories without an order are uniform. One objective.

mod evolution;
mod margin;
mod matrix;
mod sampler;

pub use evolution::Evolution;
pub use margin::{Grid, correct};
pub(crate) use sampler::CmaEs;
