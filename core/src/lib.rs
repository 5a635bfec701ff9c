//! The words of fleetune as types: distributions, search spaces, studies, trials, measurements, inventories and the
//! line protocol between worker and runner.
//!
//! Nothing here does IO, reads a clock or draws a random number. Every other package may depend on this one; it
//! depends on none of ours.

pub mod access;
pub mod distribution;
pub mod gauges;
pub mod ids;
pub mod inventory;
pub mod measurement;
pub mod region;
pub mod runner;
pub mod schedule;
pub mod selector;
pub mod space;
pub mod study;
pub mod trial;
pub mod url;
pub mod value;
pub mod visible_model;
pub mod workload;

pub use access::Role;
pub use distribution::Distribution;
pub use ids::{Attempt, JobId, LeaseToken, Revision, StudyId, Timestamp, TrialId, TrialNumber, Turn, WorkerId};
pub use inventory::Inventory;
pub use measurement::{Metric, Samples};
pub use schedule::Schedule;
pub use space::SearchSpace;
pub use study::{Direction, StudyState};
pub use trial::{FailKind, TrialState};
pub use value::{Params, Value};
pub use visible_model::VisibleModel;
pub use workload::{Objective, Workload};
