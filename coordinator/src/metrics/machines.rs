//! What the machines of workers do, as they told this process.

use fleetune_core::gauges::Gauges;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry, Unit};

use super::Float;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Machine {
    worker: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Device {
    worker: String,
    device: u32,
}

/// The measures.
#[derive(Default)]
pub(super) struct Machines {
    load: Family<Machine, Float>,
    memory: Family<Machine, Float>,
    device_memory: Family<Device, Float>,
    utilization: Family<Device, Float>,
    temperature: Family<Device, Float>,
    power: Family<Device, Float>,
}

impl Machines {
    /// None told yet.
    pub fn register(registry: &mut Registry) -> Self {
        let new = Self::default();
        let help = "Processes that ran or wanted to on a worker over one minute";
        registry.register("worker_load1", help, new.load.clone());
        let help = "Memory that programs of a worker can still get";
        registry.register_with_unit("worker_memory_available", help, Unit::Bytes, new.memory.clone());
        let help = "Memory of a GPU in use by everybody";
        registry.register_with_unit("worker_device_memory_used", help, Unit::Bytes, new.device_memory.clone());
        let help = "Part of the time in which a GPU is at work";
        registry.register_with_unit(
            "worker_device_utilization",
            help,
            Unit::Other("ratio".to_owned()),
            new.utilization.clone(),
        );
        let help = "Temperature of a GPU";
        registry.register_with_unit("worker_device_temperature", help, Unit::Celsius, new.temperature.clone());
        let help = "Power that a GPU takes";
        registry.register_with_unit("worker_device_power", help, Unit::Other("watts".to_owned()), new.power.clone());
        new
    }

    /// Takes in what a worker told; what it did not tell has no measure.
    pub fn set(&self, worker: &str, gauges: &Gauges) {
        let machine = Machine { worker: worker.to_owned() };
        if let Some(load) = gauges.load {
            self.load.get_or_create(&machine).set(load);
        }
        if let Some(bytes) = gauges.memory_available_bytes {
            self.memory.get_or_create(&machine).set(bytes as f64);
        }
        for told in &gauges.devices {
            let device = Device { worker: worker.to_owned(), device: told.device };
            let values = [
                (&self.device_memory, told.memory_used_bytes.map(|bytes| bytes as f64)),
                (&self.utilization, told.utilization),
                (&self.temperature, told.temperature_celsius),
                (&self.power, told.power_watts),
            ];
            for (family, value) in values {
                if let Some(value) = value {
                    family.get_or_create(&device).set(value);
                }
            }
        }
    }
}
