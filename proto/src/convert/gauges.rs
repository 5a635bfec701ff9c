//! What machines do.

use fleetune_core::gauges::{DeviceGauges, Gauges, MAX_DEVICES};

use super::Invalid;
use crate::v1;

/// The gauges of a heartbeat.
pub fn gauges(wire: v1::Gauges) -> Result<Gauges, Invalid> {
    if wire.devices.len() > MAX_DEVICES {
        return Err(Invalid::new("gauges.devices", format!("has more than {MAX_DEVICES} entries")));
    }
    let devices = wire.devices.into_iter().map(|wire| {
        Ok(DeviceGauges {
            device: wire.device,
            memory_used_bytes: wire.memory_used_bytes,
            utilization: finite("gauges.devices.utilization", wire.utilization)?,
            temperature_celsius: finite("gauges.devices.temperature_celsius", wire.temperature_celsius)?,
            power_watts: finite("gauges.devices.power_watts", wire.power_watts)?,
        })
    });
    Ok(Gauges {
        load: finite("gauges.load", wire.load)?,
        memory_available_bytes: wire.memory_available_bytes,
        devices: devices.collect::<Result<_, _>>()?,
    })
}

fn finite(field: &str, number: Option<f64>) -> Result<Option<f64>, Invalid> {
    match number {
        Some(number) if !number.is_finite() => Err(Invalid::new(field, "is no finite number")),
        number => Ok(number),
    }
}

/// Gauges as they are told.
pub fn gauges_to_wire(gauges: &Gauges) -> v1::Gauges {
    let devices = gauges.devices.iter().map(|device| v1::DeviceGauges {
        device: device.device,
        memory_used_bytes: device.memory_used_bytes,
        utilization: device.utilization,
        temperature_celsius: device.temperature_celsius,
        power_watts: device.power_watts,
    });
    v1::Gauges { load: gauges.load, memory_available_bytes: gauges.memory_available_bytes, devices: devices.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gauges_survive_the_wire_and_nonsense_does_not() {
        let device =
            DeviceGauges { device: 1, memory_used_bytes: Some(7), power_watts: Some(99.5), ..DeviceGauges::default() };
        let told = Gauges { load: Some(0.25), memory_available_bytes: None, devices: vec![device] };
        assert_eq!(gauges(gauges_to_wire(&told)), Ok(told.clone()));
        let odd = v1::Gauges { load: Some(f64::NAN), ..v1::Gauges::default() };
        assert!(gauges(odd).is_err());
        let many = v1::Gauges { devices: vec![v1::DeviceGauges::default(); MAX_DEVICES + 1], ..v1::Gauges::default() };
        assert!(gauges(many).is_err());
    }
}
