//! Safety rules: which configurations are not run on which machines, as data.
//!
//! The rules lie in `rules/default.toml`, compiled in. Nothing here knows any of them by name.

mod nearest;
mod rules;

pub use rules::{Rule, RuleError, Rules};
