//! The search space of a study: parameters, conditions, forbidden combinations and measured constraints.
//!
//! A [`SearchSpace`] is valid by construction: it was parsed from TOML or JSON or built in code, its expressions
//! compiled, its conditions ordered, and at least one configuration of it is known to be allowed. Drawing
//! configurations is the sampler's business; this module answers what is allowed.

mod error;
mod exclusion;
mod expression;
mod model;
mod parse;
mod query;
mod search;
#[cfg(test)]
mod tests;

pub use error::SpaceError;
pub use exclusion::{Bound, Exclusion};
pub use model::{Constraint, Forbid, Parameter, SearchSpace, SpaceBuilder};
pub use search::Visit;

/// Most parameters of one space.
pub const MAX_PARAMETERS: usize = 200;
/// Most forbid clauses of one space; constraints have the same limit.
pub const MAX_CLAUSES: usize = 200;
/// Longest search space file, bytes.
pub const MAX_FILE_BYTES: usize = 1 << 20;
/// Longest expression, bytes. The CEL parser panics when it renders a syntax error beyond column 65,535.
pub const MAX_EXPRESSION_BYTES: usize = 4 << 10;
/// Allowed configurations are counted up to here.
pub const MAX_COUNTED: u64 = 100_000;
