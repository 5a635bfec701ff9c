//! Optuna's own databases (its `RDBStorage`): read as they are, written so that Optuna opens them.
//!
//! Knows Optuna's tables as its versions from 3.0 on have them, on `SQLite` and on Postgres. What a distribution or an
//! attribute says is not looked at: both are text here. Nothing that is read is ever changed.

mod connection;
mod error;
mod model;
mod reader;
mod times;
mod writer;

pub use error::RdbError;
pub use model::{Param, Study, Trial};
pub use reader::{Reader, Trials};
pub use writer::Writer;
