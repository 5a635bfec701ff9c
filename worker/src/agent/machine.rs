//! Which GPUs of the machine the engine can use.

use fleetune_core::inventory::Gpu;
use fleetune_core::runner::{Device, DeviceKind};

/// The GPUs that count: those of the driver that the engine sees too, else the engine's own view of them.
///
/// An engine without GPU support has none, whatever the machine holds: nothing is measured on them.
pub(super) fn usable_gpus(of_driver: &[Gpu], of_engine: &[Device]) -> Vec<Gpu> {
    let seen: Vec<&Device> =
        of_engine.iter().filter(|device| matches!(device.kind, DeviceKind::Gpu | DeviceKind::Igpu)).collect();
    let mut left: Vec<&Gpu> = of_driver.iter().collect();
    let mut usable = Vec::with_capacity(seen.len());
    for (index, device) in (0u32..).zip(seen) {
        // In the driver's order, since some may be hidden from the engine (`CUDA_VISIBLE_DEVICES`).
        let position = left.iter().position(|gpu| device.description.contains(&gpu.name));
        usable.push(match position {
            Some(position) => Gpu { index, ..left.remove(position).clone() },
            None => Gpu {
                index,
                name: device.description.clone(),
                vendor: vendor(device).to_owned(),
                uuid: device.pci_id.clone().unwrap_or_default(),
                vram_mib: device.memory_total_mib,
                driver: String::new(),
            },
        });
    }
    usable
}

fn vendor(device: &Device) -> &'static str {
    let text = format!("{} {}", device.backend, device.description).to_lowercase();
    [
        ("nvidia", "nvidia"),
        ("cuda", "nvidia"),
        ("rocm", "amd"),
        ("amd", "amd"),
        ("radeon", "amd"),
        ("apple", "apple"),
        ("metal", "apple"),
        ("intel", "intel"),
    ]
    .into_iter()
    .find(|(word, _)| text.contains(word))
    .map_or("", |(_, vendor)| vendor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(description: &str, kind: DeviceKind) -> Device {
        Device { description: description.into(), kind, memory_total_mib: 100, ..Device::default() }
    }

    #[test]
    fn engine_decides_which_gpus_count() {
        let gpu = |index, name: &str| Gpu { index, name: name.into(), uuid: format!("GPU-{index}"), ..Gpu::default() };
        let driver = [gpu(0, "NVIDIA A"), gpu(1, "NVIDIA B")];
        let cpu = device("EPYC", DeviceKind::Cpu);
        assert!(usable_gpus(&driver, std::slice::from_ref(&cpu)).is_empty());
        let second_only = usable_gpus(&driver, &[cpu, device("NVIDIA B", DeviceKind::Gpu)]);
        assert_eq!(second_only, [Gpu { index: 0, ..driver[1].clone() }]);
        let radeon = usable_gpus(&[], &[device("AMD Radeon", DeviceKind::Gpu)]);
        assert_eq!((radeon[0].vendor.as_str(), radeon[0].vram_mib), ("amd", 100));
    }
}
