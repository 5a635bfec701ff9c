//! The comparison at the end of a search: is the best configuration really faster than the baseline, and by how much.
//!
//! Two stages, both of interleaved rounds in fresh processes: rounds of halving choose one challenger, then fresh
//! paired rounds of challenger against baseline estimate the gain. Estimating it from the rounds that chose would bias
//! it upward. Everything is a fold over finished rounds.

mod plan;
mod student;

pub use plan::{Cell, Gain, Next, Plan, Round, Verdict, Winner};
pub use student::t_quantile;
