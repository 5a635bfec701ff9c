//! What predicts the loss of a configuration.

use fleetune_core::Params;

/// Predicts the loss of configurations.
pub trait Surrogate {
    /// The expected loss of `params` and its standard deviation, that of the noise not counted.
    fn mean_sd(&self, params: &Params) -> (f64, f64);
}
