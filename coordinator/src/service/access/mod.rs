//! Who may call: tokens, the table of roles, and the gate that every call passes.

mod gate;
mod limits;
mod rules;
mod tokens;

pub use gate::{Gate, pass};
pub use limits::{CALLS_PER_SECOND, Limits};
pub use rules::{Rule, Who, rule};
pub use tokens::{Caller, Tokens};
