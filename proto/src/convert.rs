//! The gate between wire and domain. From the wire every conversion checks; to the wire none can fail.
//!
//! Functions are named after what they give: `value(wire)` gives the domain's, `value_to_wire(domain)` the wire's.

mod config;
mod detail;
mod enums;
mod space;
mod value;

pub use config::{benchmark, benchmark_to_wire, budget, budget_to_wire, config, config_to_wire, pin, pin_to_wire};
pub use detail::{detail, detail_to_wire};
pub use enums::{
    direction, direction_to_wire, fail_kind, fail_kind_to_wire, objective, objective_to_wire, study_state,
    study_state_to_wire, trial_state, trial_state_to_wire,
};
pub use space::{distribution, distribution_to_wire, space, space_to_wire};
pub use value::{
    duration, duration_to_wire, params, params_to_wire, timestamp, timestamp_to_wire, token, value, value_to_wire,
};

/// A message that means nothing in the domain.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("field `{field}`: {why}")]
pub struct Invalid {
    /// The field, as in the .proto file; dotted when nested.
    pub field: String,
    /// What is wrong with it.
    pub why: String,
    /// What to do, where that is known.
    pub hint: Option<String>,
}

impl Invalid {
    /// The complaint `why` about `field`.
    pub fn new(field: impl Into<String>, why: impl std::fmt::Display) -> Self {
        Self { field: field.into(), why: why.to_string(), hint: None }
    }

    /// A field that must be set and is not.
    pub fn missing(field: impl Into<String>) -> Self {
        Self::new(field, "must be set")
    }
}
