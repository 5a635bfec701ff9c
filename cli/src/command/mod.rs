//! The verbs, a file per noun.

pub mod completions;
pub mod config;
pub mod db;
pub mod man;
pub mod model;
pub mod proxy;
pub mod region;
pub mod serve;
pub mod study;
pub mod token;
pub mod trial;
pub mod tune;
pub mod worker;
