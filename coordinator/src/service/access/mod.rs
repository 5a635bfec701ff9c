//! Who may call: tokens, the table of roles, and the gate that every call passes.

mod gate;
mod rules;
mod tokens;

pub use gate::{Gate, pass};
pub use rules::{Rule, Who, rule};
pub use tokens::{Caller, Tokens};
