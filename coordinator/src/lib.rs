//! The coordinator: keeps studies and trials in SQLite or Postgres, decides what to try next, leases jobs to workers.
//!
//! Knows nothing of workers but the protocol they speak.

mod coordinator;
pub mod metrics;
pub mod scheduler;
mod server;
pub mod service;
pub mod storage;
pub mod transport;

pub use coordinator::Coordinator;
pub use server::{Server, ServerError, TlsError, TlsFiles};
