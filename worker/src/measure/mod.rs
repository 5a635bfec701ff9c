//! Turns what a runner says into samples and steps. Pure, except for reading the load of the machine.

mod collect;
mod load;

pub use collect::{Collector, Observation, Step};
pub use load::{Load, load_now, parse_loadavg};
