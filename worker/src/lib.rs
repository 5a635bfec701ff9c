//! The agent on a GPU machine: leases jobs, runs llama.cpp in child processes, measures, reports.
//!
//! It only dials out. The engine lives in a child (`fleetune-runner`); whatever happens to it, the agent goes on.
//! Parsing arguments and opening connections is the business of whoever starts an [`agent::Agent`].

pub mod adapter;
pub mod agent;
pub mod client;
pub mod executor;
pub mod identity;
pub mod lock;
pub mod measure;
pub mod models;
pub mod probe;
pub mod safety;
