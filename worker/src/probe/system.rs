//! Reads the machine the worker runs on.

use std::fs;
use std::path::Path;
use std::process::Command;

use fleetune_core::Inventory;
use fleetune_core::gauges::{Gauges, MAX_DEVICES};
use fleetune_core::inventory::{Cpu, Gpu};

use super::{GpuReading, MemoryTexts, WslFacts, available_bytes, detect, nvml, parse_cpuinfo, usable_ram_mib};
use crate::measure::load_now;

/// Tells what a machine is. A simulated one is chosen by name, never fallen back to.
pub trait Probe: Send + Sync {
    /// The machine's facts. Blocks for as long as a driver takes to start, up to seconds.
    fn inventory(&self) -> Inventory;

    /// What the GPUs do at this moment; empty where no driver tells.
    fn gpu_readings(&self) -> Vec<GpuReading>;

    /// What the machine does at this moment, for whoever looks at the fleet.
    fn gauges(&self) -> Gauges;
}

/// The real machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemProbe;

impl Probe for SystemProbe {
    fn inventory(&self) -> Inventory {
        let kernel = kernel();
        let wsl = detect(&WslFacts {
            kernel_release: kernel.clone(),
            has_dxg: Path::new("/dev/dxg").exists(),
            has_run_wsl: Path::new("/run/WSL").exists(),
            has_mnt_wsl: Path::new("/mnt/wsl").exists(),
            has_variable: ["WSL_DISTRO_NAME", "WSL_INTEROP"].iter().any(|name| std::env::var_os(name).is_some()),
        });
        Inventory {
            os: std::env::consts::OS.to_owned(),
            kernel,
            host: host(),
            boot_id: text("/proc/sys/kernel/random/boot_id"),
            wsl,
            cpu: cpu(),
            ram_mib: ram_mib(),
            gpus: gpus(),
        }
    }

    fn gpu_readings(&self) -> Vec<GpuReading> {
        nvml::readings()
    }

    fn gauges(&self) -> Gauges {
        let mut devices = nvml::gauges();
        devices.truncate(MAX_DEVICES);
        Gauges {
            load: load_now().map(|load| load.one_minute),
            memory_available_bytes: available_bytes(&text("/proc/meminfo")),
            devices,
        }
    }
}

/// The file's text without surrounding space; empty when it cannot be read.
fn text(path: &str) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// What a program prints; empty when it is not there or fails. Only used where no file tells.
fn printed(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    match output {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Ok(_) | Err(_) => String::new(),
    }
}

fn kernel() -> String {
    let release = text("/proc/sys/kernel/osrelease");
    if release.is_empty() && cfg!(unix) { printed("uname", &["-r"]) } else { release }
}

#[cfg(unix)]
fn host() -> String {
    nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(not(unix))]
fn host() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_default()
}

fn cpu() -> Cpu {
    let logical = std::thread::available_parallelism().map_or(1, |count| count.get() as u32);
    if cfg!(target_os = "macos") {
        let cores = printed("sysctl", &["-n", "hw.physicalcpu"]).parse().unwrap_or(logical);
        return Cpu {
            model: printed("sysctl", &["-n", "machdep.cpu.brand_string"]),
            physical_cores: cores.max(1),
            logical_cpus: logical,
        };
    }
    let mut facts = parse_cpuinfo(&text("/proc/cpuinfo"));
    if facts.physical_cores.is_none() {
        facts.physical_cores = cores_from_sysfs();
    }
    let model = if facts.model.is_empty() { std::env::consts::ARCH.to_owned() } else { facts.model };
    Cpu { model, physical_cores: facts.physical_cores.unwrap_or(logical).max(1), logical_cpus: affinity(logical) }
}

/// CPUs that this process may use by its affinity, without the quota of a container.
#[cfg(target_os = "linux")]
fn affinity(fallback: u32) -> u32 {
    use nix::sched::{CpuSet, sched_getaffinity};
    let Ok(set) = sched_getaffinity(nix::unistd::Pid::from_raw(0)) else { return fallback };
    let count = (0..CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false)).count() as u32;
    // The smaller one: `available_parallelism` also knows the quota of a control group.
    count.clamp(1, fallback.max(1))
}

#[cfg(not(target_os = "linux"))]
fn affinity(fallback: u32) -> u32 {
    fallback
}

/// Distinct sibling lists, one per core: what ARM machines tell instead of `core id`.
fn cores_from_sysfs() -> Option<u32> {
    let mut cores = std::collections::BTreeSet::new();
    for entry in fs::read_dir("/sys/devices/system/cpu").ok()?.flatten() {
        let siblings = entry.path().join("topology/thread_siblings_list");
        if let Ok(list) = fs::read_to_string(siblings) {
            cores.insert(list.trim().to_owned());
        }
    }
    (!cores.is_empty()).then_some(cores.len() as u32)
}

fn ram_mib() -> u64 {
    if cfg!(target_os = "macos") {
        return printed("sysctl", &["-n", "hw.memsize"]).parse::<u64>().map_or(0, |bytes| bytes >> 20);
    }
    usable_ram_mib(&MemoryTexts {
        meminfo: text("/proc/meminfo"),
        limits: ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"].map(text).into(),
    })
}

fn gpus() -> Vec<Gpu> {
    nvml::gpus()
}
