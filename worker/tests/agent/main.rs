//! The agent against a coordinator of its tests, with the scripted runner as engine.
#![cfg(unix)]

mod coordinator;
mod drain;
mod jobs;
mod machine;
mod models;
mod outage;
mod world;
