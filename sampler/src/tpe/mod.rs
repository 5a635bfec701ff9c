//! The multivariate tree-structured Parzen estimator with constant liar.
//!
//! The formulas are Optuna 5.0's, with departures that are options; see [`TpeOptions`]. Good trials make the density
//! l, the others g; of candidates drawn from l the one with the largest l/g is suggested.

mod acquisition;
mod column;
mod history;
mod options;
mod optuna5;
mod parzen;
mod sampler;
mod split;
mod subset;

pub use column::Column;
pub use history::Fate;
pub use options::{LeastBandwidth, ParzenOptions, TpeOptions};
pub(crate) use optuna5::Optuna5;
pub use parzen::{Parzen, recency_weights};
pub(crate) use sampler::Tpe;
pub(crate) use split::better;
pub use split::{Split, best_rows, split};
