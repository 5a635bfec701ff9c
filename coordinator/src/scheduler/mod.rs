//! The use cases: create, ask, report, tell, acquire, conclude. Knows neither SQL nor the wire.

mod access;
mod analysis;
mod ask;
mod best;
mod board;
mod comparison;
mod configurations;
mod desk;
mod engine;
mod error;
mod estimate;
mod foreign;
mod guest;
mod history;
mod lifecycle;
mod live;
mod observe;
mod obstacle;
mod outcome;
mod prepare;
mod share;
mod silence;
mod trials;
mod work;

pub use analysis::{Front, Sensitivity};
pub use ask::ClientLease;
pub use best::{Best, Comparison};
pub use comparison::{Cell, NextRound, Spec as ComparisonSpec};
pub use engine::{Engine, EngineOptions, StudySummary};
pub use error::EngineError;
pub use foreign::OptunaTimes;
pub use live::Verification;
pub use outcome::Tell;
pub use prepare::Described;
pub use silence::Line;
pub use work::{Acquired, Assignment, Work};
