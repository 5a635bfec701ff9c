//! What a worker's machine does at one moment.

use serde::{Deserialize, Serialize};

/// Devices of one machine that are told of, at most.
pub const MAX_DEVICES: usize = 64;

/// What a machine does at one moment; what it does not tell is missing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Gauges {
    /// Processes that ran or wanted to over the last minute, on average.
    pub load: Option<f64>,
    /// Memory that programs can still get, bytes.
    pub memory_available_bytes: Option<u64>,
    /// Its GPUs.
    pub devices: Vec<DeviceGauges>,
}

/// What a GPU does at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DeviceGauges {
    /// Position in the driver's order, as in the inventory.
    pub device: u32,
    /// Memory in use by everybody, bytes.
    pub memory_used_bytes: Option<u64>,
    /// Part of the last sample period in which it was at work, 0 to 1.
    pub utilization: Option<f64>,
    /// Degrees Celsius.
    pub temperature_celsius: Option<f64>,
    /// Power at this moment, watts.
    pub power_watts: Option<f64>,
}
