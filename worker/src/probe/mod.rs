//! The facts of this machine: operating system, WSL, processor, memory, GPUs.
//!
//! Reading is never fatal: what cannot be found out is missing from the inventory. What needs judgement is a pure
//! function over the texts that were read, so that recorded machines test it.

mod cpu;
mod memory;
mod nvml;
mod system;
mod wsl;

pub use cpu::{CpuFacts, parse_cpuinfo};
pub use memory::{MemoryTexts, available_bytes, usable_ram_mib};
pub use nvml::GpuReading;
pub use system::{Probe, SystemProbe};
pub use wsl::{WslFacts, detect};
