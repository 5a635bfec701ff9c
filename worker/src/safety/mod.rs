//! Safety: which configurations are not run on which machines, as data: rules, and regions that the coordinator sends.
//!
//! The rules lie in `rules/default.toml`, compiled in. Nothing here knows any of them by name.

mod guard;
mod nearest;
mod rules;

pub use guard::{Guard, Objection};
pub use rules::{Rule, RuleError, Rules};
