//! The pull loop: register, lease a job, carry it out, report, end it; heartbeats meanwhile.
//!
//! One job at a time. A job ends early when its lease is lost, a person cancels it, the pruner has seen enough, or the
//! agent is told to stop; the child is gone before anything is said about it. A machine that cannot run any job ends the
//! agent, not the trial: the job is given back.

mod comparison;
mod config;
mod describe;
mod event;
mod gauge;
mod heartbeat;
mod leases;
mod machine;
mod measurement;
mod pull;
mod run;
mod session;
mod setbacks;
mod spool;
mod trial;

pub use config::{AgentConfig, AgentError, Unusable};
pub use event::{AgentEvent, JobEnd, JobKind};
pub use run::Agent;
