//! The multivariate tree-structured Parzen estimator with constant liar.
//!
//! The formulas are Optuna 5.0's, with departures that are options; see [`TpeOptions`]. Good trials make the density
//! l, the others g; of candidates drawn from l the one with the largest l/g is suggested.

mod acquisition;
mod column;
mod columns;
mod digits;
mod history;
mod kernel;
mod lanes;
mod observations;
mod options;
mod optuna5;
mod order;
mod parzen;
mod sampler;
mod split;
mod subset;
mod sum;

pub use column::Column;
pub use history::Fate;
pub use observations::Observations;
pub use options::{LeastBandwidth, ParzenOptions, TpeOptions};
pub(crate) use optuna5::Optuna5;
pub use order::Weights;
pub use parzen::{Parzen, RunningRow};
pub(crate) use sampler::Tpe;
pub(crate) use split::better;
pub use split::{Split, best_rows, split};
