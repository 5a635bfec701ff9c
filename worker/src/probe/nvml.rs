//! The one door to NVIDIA's management library. A machine without the driver simply has no such GPUs.

use std::sync::OnceLock;

use fleetune_core::gauges::DeviceGauges;
use fleetune_core::inventory::Gpu;
use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};
use serde::Serialize;

/// What a GPU does at one moment; what the driver does not tell is missing.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct GpuReading {
    /// Position in the driver's order.
    pub index: u32,
    /// Degrees Celsius.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature_c: Option<u32>,
    /// Clock of the compute units, MHz.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_mhz: Option<u32>,
    /// Power at this moment, watts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power_w: Option<f64>,
    /// Power cap, watts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power_cap_w: Option<f64>,
    /// Memory in use by everybody, MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_used_mib: Option<u64>,
    /// Why the clock is lower than it could be, as the driver names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttle: Option<String>,
}

/// The GPUs that the driver knows; none without a driver.
pub(super) fn gpus() -> Vec<Gpu> {
    let Ok(nvml) = Nvml::init() else { return Vec::new() };
    let driver = nvml.sys_driver_version().unwrap_or_default();
    each(&nvml, |index, device| Gpu {
        index,
        name: device.name().unwrap_or_else(|_| "NVIDIA GPU".to_owned()),
        vendor: "nvidia".to_owned(),
        uuid: device.uuid().unwrap_or_default(),
        vram_mib: device.memory_info().map_or(0, |memory| memory.total >> 20),
        driver: driver.clone(),
    })
}

/// What the GPUs do now, for whoever looks at the fleet. The driver is asked every few seconds, so it stays open.
pub(super) fn gauges() -> Vec<DeviceGauges> {
    static DRIVER: OnceLock<Option<Nvml>> = OnceLock::new();
    let Some(nvml) = DRIVER.get_or_init(|| Nvml::init().ok()) else { return Vec::new() };
    each(nvml, |index, device| DeviceGauges {
        device: index,
        memory_used_bytes: device.memory_info().ok().map(|memory| memory.used),
        utilization: device.utilization_rates().ok().map(|rates| f64::from(rates.gpu) / 100.0),
        temperature_celsius: device.temperature(TemperatureSensor::Gpu).ok().map(f64::from),
        power_watts: device.power_usage().ok().map(|milliwatts| f64::from(milliwatts) / 1000.0),
    })
}

/// What the GPUs do now.
pub(super) fn readings() -> Vec<GpuReading> {
    let Ok(nvml) = Nvml::init() else { return Vec::new() };
    let watts = |milliwatts: u32| f64::from(milliwatts) / 1000.0;
    each(&nvml, |index, device| GpuReading {
        index,
        temperature_c: device.temperature(TemperatureSensor::Gpu).ok(),
        clock_mhz: device.clock_info(Clock::SM).ok(),
        power_w: device.power_usage().ok().map(watts),
        power_cap_w: device.power_management_limit().ok().map(watts),
        memory_used_mib: device.memory_info().ok().map(|memory| memory.used >> 20),
        throttle: device.current_throttle_reasons().ok().map(|reasons| format!("{reasons:?}")),
    })
}

fn each<T>(nvml: &Nvml, read: impl Fn(u32, &nvml_wrapper::Device<'_>) -> T) -> Vec<T> {
    let count = nvml.device_count().unwrap_or(0);
    (0..count).filter_map(|index| nvml.device_by_index(index).ok().map(|device| read(index, &device))).collect()
}
