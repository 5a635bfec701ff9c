//! Facts of a machine: what selectors and safety rules see, and what decides whether two machines are alike.

use serde::{Deserialize, Serialize};

/// Everything a worker knows about its machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Inventory {
    /// `linux`, `macos`, `windows`.
    pub os: String,
    /// Kernel release, as `uname -r` prints it.
    pub kernel: String,
    /// Host name.
    pub host: String,
    /// Changes with every boot; empty where the system does not tell.
    pub boot_id: String,
    /// What speaks for the Windows Subsystem for Linux.
    pub wsl: Wsl,
    /// The processor.
    pub cpu: Cpu,
    /// Memory of the machine (or of the container, when that is less), MiB.
    pub ram_mib: u64,
    /// GPUs that can compute, in the driver's order. None is fine.
    pub gpus: Vec<Gpu>,
}

/// Three facts rather than one flag, since each of them alone can mislead.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wsl {
    /// The verdict.
    pub detected: bool,
    /// The kernel release contains `WSL` or `microsoft`.
    pub kernel_says_so: bool,
    /// `/dev/dxg`, the paravirtual GPU, exists.
    pub has_dxg: bool,
}

/// The processor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    /// Model name, as the system tells it.
    pub model: String,
    /// Cores, not counting hardware threads of the same core; at least 1.
    pub physical_cores: u32,
    /// Hardware threads this process may use; at least 1.
    pub logical_cpus: u32,
}

/// One GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// Position in the driver's order, from 0.
    pub index: u32,
    /// Model name.
    pub name: String,
    /// `nvidia`, `amd`, `apple`, `intel`.
    pub vendor: String,
    /// The driver's persistent id; empty where there is none.
    pub uuid: String,
    /// Memory, MiB.
    pub vram_mib: u64,
    /// Driver version, for example `580.95.05`.
    pub driver: String,
}

impl Inventory {
    /// What two machines must share for their speeds to be comparable: GPU model × count × driver major, CPU model ×
    /// physical cores, WSL or not.
    pub fn device_class(&self) -> String {
        let mut parts = Vec::new();
        let mut rest: &[Gpu] = &self.gpus;
        while let Some(first) = rest.first() {
            let alike = rest.iter().take_while(|gpu| gpu.name == first.name && gpu.driver == first.driver).count();
            let driver = first.driver.split('.').next().unwrap_or_default();
            parts.push(format!("{alike}x{} driver {driver}", first.name));
            rest = &rest[alike..];
        }
        parts.push(format!("{} {} cores", self.cpu.model, self.cpu.physical_cores));
        if self.wsl.detected {
            parts.push("WSL".to_owned());
        }
        parts.join(" + ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_class_counts_equal_gpus_and_names_wsl() {
        let gpu = |index| Gpu { index, name: "RTX 3090".into(), driver: "580.95.05".into(), ..Gpu::default() };
        let inventory = Inventory {
            gpus: vec![gpu(0), gpu(1)],
            cpu: Cpu { model: "Ryzen 9".into(), physical_cores: 16, logical_cpus: 32 },
            wsl: Wsl { detected: true, ..Wsl::default() },
            ..Inventory::default()
        };
        assert_eq!(inventory.device_class(), "2xRTX 3090 driver 580 + Ryzen 9 16 cores + WSL");
    }
}
