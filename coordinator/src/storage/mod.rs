//! Durable home of studies, trials, jobs and workers.
//!
//! [`Store`] is the door. Behind it `operations` hold the rules over `rows`, which `sqlite` and `postgres` implement in
//! their own SQL; `queue` commits in groups.

mod access;
pub mod audit;
mod clock;
mod distributions;
mod draft;
mod engine;
mod error;
mod facts;
mod foreign;
mod look;
mod mutations;
mod operations;
mod packed;
mod postgres;
mod queue;
mod raw;
mod record;
mod regions;
mod rows;
mod shelf;
mod sqlite;
mod statistics;
mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod transfer;
mod url;

pub use engine::Heard;
pub use error::StoreError;
pub use foreign::{Attribute, FAIL_REASON, HeldTrial, Meaning, NewTrial, TrialMark, WholeTrial, constraint_values};
pub use record::*;
pub use statistics::Statistics;
pub use store::{PAGE, Store};
pub use transfer::{Copied, Examined};
