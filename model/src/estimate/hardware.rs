//! What a machine can hold and how fast it is, as far as its inventory tells.
//!
//! Peaks are the vendors' published figures. What is in no table gets a stand-in: then only ratios between
//! configurations mean anything.

use fleetune_core::inventory::{Gpu, Inventory};

use super::effective::cores;

/// Memory of a GPU that the desktop and the driver keep, MiB.
const VRAM_MARGIN_MIB: u64 = 256;
/// The same under WSL, where the last 1.5 to 2 GiB that the driver calls free cannot be had.
const VRAM_MARGIN_WSL_MIB: u64 = 1536;
/// What the process takes on a GPU beyond the engine's buffers (context, kernels, pools of scratch memory), MiB, by
/// vendor. Not measured: published figures range from 200 to 600.
const CONTEXTS_MIB: [(&str, f64); 3] = [("nvidia", 450.0), ("amd", 350.0), ("apple", 64.0)];
/// The same for other vendors.
const OTHER_CONTEXT_MIB: f64 = 256.0;
/// Bytes a second between host and GPU: 16 lanes of the fourth generation, at some 70 % of their peak.
const PCIE_BYTES_S: f64 = 22.0e9;

/// GPU, memory bandwidth in GB/s, dense 16-bit matrix arithmetic in Tflop/s: peaks from the vendors' data sheets. The
/// longest name that occurs in the device's as whole words counts.
const GPUS: &[(&str, f64, f64)] = &[
    ("B200", 8000.0, 2250.0),
    ("H200", 4800.0, 989.0),
    ("GH200", 4000.0, 989.0),
    ("H100", 3350.0, 989.0),
    ("H100 PCIe", 2000.0, 756.0),
    ("A100", 1555.0, 312.0),
    ("A100-SXM4-80GB", 2039.0, 312.0),
    ("A100 80GB PCIe", 1935.0, 312.0),
    ("A40", 696.0, 150.0),
    ("A30", 933.0, 165.0),
    ("A10", 600.0, 125.0),
    ("A10G", 600.0, 70.0),
    ("L40S", 864.0, 362.0),
    ("L40", 864.0, 181.0),
    ("L4", 300.0, 121.0),
    ("V100", 900.0, 125.0),
    ("T4", 320.0, 65.0),
    ("P100", 732.0, 19.0),
    ("P40", 347.0, 12.0),
    ("RTX PRO 6000", 1792.0, 500.0),
    ("RTX 6000 Ada", 960.0, 364.0),
    ("RTX A6000", 768.0, 155.0),
    ("RTX A5000", 768.0, 111.0),
    ("RTX A4000", 448.0, 77.0),
    ("RTX 5090", 1792.0, 210.0),
    ("RTX 5080", 960.0, 113.0),
    ("RTX 5070 Ti", 896.0, 88.0),
    ("RTX 5070", 672.0, 62.0),
    ("RTX 5060 Ti", 448.0, 47.0),
    ("RTX 5060", 448.0, 38.0),
    ("RTX 4090", 1008.0, 165.0),
    ("RTX 4080", 717.0, 97.0),
    ("RTX 4080 SUPER", 736.0, 104.0),
    ("RTX 4070", 504.0, 58.0),
    ("RTX 4070 SUPER", 504.0, 71.0),
    ("RTX 4070 Ti", 504.0, 80.0),
    ("RTX 4070 Ti SUPER", 672.0, 88.0),
    ("RTX 4060 Ti", 288.0, 44.0),
    ("RTX 4060", 272.0, 30.0),
    ("RTX 3090 Ti", 1008.0, 80.0),
    ("RTX 3090", 936.0, 71.0),
    ("RTX 3080 Ti", 912.0, 68.0),
    ("RTX 3080", 760.0, 60.0),
    ("RTX 3070 Ti", 608.0, 43.0),
    ("RTX 3070", 448.0, 41.0),
    ("RTX 3060 Ti", 448.0, 32.0),
    ("RTX 3060", 360.0, 25.0),
    ("RTX 3050", 224.0, 18.0),
    ("RTX 2080 Ti", 616.0, 54.0),
    ("RTX 2080", 448.0, 40.0),
    ("RTX 2070", 448.0, 30.0),
    ("RTX 2060", 336.0, 26.0),
    ("GTX 1080 Ti", 484.0, 11.0),
    ("GTX 1080", 320.0, 9.0),
    ("GTX 1070", 256.0, 6.5),
    ("MI300X", 5300.0, 1307.0),
    ("MI250X", 3277.0, 383.0),
    ("MI210", 1638.0, 181.0),
    ("MI100", 1229.0, 185.0),
    ("RX 9070 XT", 640.0, 195.0),
    ("RX 7900 XTX", 960.0, 123.0),
    ("RX 7900 XT", 800.0, 103.0),
    ("RX 7800 XT", 624.0, 75.0),
    ("RX 7600", 288.0, 43.0),
    ("RX 6900 XT", 512.0, 46.0),
    ("RX 6800 XT", 512.0, 41.0),
    ("RX 6700 XT", 384.0, 26.0),
    ("Arc A770", 560.0, 140.0),
    ("Arc B580", 456.0, 117.0),
    ("M1", 68.0, 2.6),
    ("M1 Pro", 200.0, 5.2),
    ("M1 Max", 400.0, 10.4),
    ("M1 Ultra", 800.0, 20.8),
    ("M2", 100.0, 3.6),
    ("M2 Pro", 200.0, 6.8),
    ("M2 Max", 400.0, 13.6),
    ("M2 Ultra", 800.0, 27.2),
    ("M3", 100.0, 4.1),
    ("M3 Pro", 150.0, 7.4),
    ("M3 Max", 400.0, 16.4),
    ("M3 Ultra", 819.0, 32.8),
    ("M4", 120.0, 4.6),
    ("M4 Pro", 273.0, 9.2),
    ("M4 Max", 546.0, 18.4),
];
/// Stand-in for a GPU in no table.
const OTHER_GPU: (f64, f64) = (500.0, 50.0);
/// Laptop GPUs bear the names of faster ones.
const LAPTOP_SHARE: f64 = 0.6;
/// Memory bandwidth of a server's CPU, GB/s: eight channels of DDR4. Their names.
const SERVER: (f64, [&str; 4]) = (160.0, ["EPYC", "Xeon", "Threadripper", "Neoverse"]);
/// Memory bandwidth of other CPUs, GB/s: two channels.
const DESKTOP_GB_S: f64 = 50.0;

/// A GPU as far as estimates go.
#[derive(Clone, Debug)]
pub(super) struct GpuFacts {
    pub(super) vram_mib: u64,
    /// What the engine can have of it.
    pub(super) capacity_mib: f64,
    /// What the process takes beyond the engine's buffers.
    pub(super) context_mib: f64,
    pub(super) bytes_s: f64,
    pub(super) flop_s: f64,
}

/// A machine as far as estimates go.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub(super) ram_mib: f64,
    pub(super) cores: f64,
    pub(super) logical: f64,
    pub(super) host_bytes_s: f64,
    pub(super) link_bytes_s: f64,
    /// GPUs take their memory from the host's.
    pub(super) is_unified: bool,
    pub(super) gpus: Vec<GpuFacts>,
    known: bool,
}

impl Machine {
    pub(super) fn new(inventory: &Inventory) -> Self {
        let margin = if inventory.wsl.detected { VRAM_MARGIN_WSL_MIB } else { VRAM_MARGIN_MIB };
        let peaks: Vec<Option<(f64, f64)>> = inventory.gpus.iter().map(|gpu| peaks(&gpu.name)).collect();
        let gpus = inventory.gpus.iter().zip(&peaks).map(|(gpu, peaks)| facts(gpu, *peaks, margin));
        let is_unified = !inventory.gpus.is_empty() && inventory.gpus.iter().all(|gpu| gpu.vendor == "apple");
        let server = SERVER.1.iter().any(|name| inventory.cpu.model.contains(name));
        let host_gb_s = if server { SERVER.0 } else { DESKTOP_GB_S };
        let gpus: Vec<GpuFacts> = gpus.collect();
        let host_bytes_s = if is_unified { gpus[0].bytes_s } else { host_gb_s * 1e9 };
        Self {
            ram_mib: inventory.ram_mib as f64,
            cores: f64::from(cores(inventory)),
            logical: f64::from(inventory.cpu.logical_cpus.max(1)),
            host_bytes_s,
            link_bytes_s: if is_unified { host_bytes_s } else { PCIE_BYTES_S },
            is_unified,
            gpus,
            known: !peaks.is_empty() && peaks.iter().all(Option::is_some),
        }
    }

    pub(super) fn is_known(&self) -> bool {
        self.known
    }
}

fn facts(gpu: &Gpu, peaks: Option<(f64, f64)>, margin: u64) -> GpuFacts {
    let (gb_s, tflop_s) = peaks.unwrap_or(OTHER_GPU);
    let context = CONTEXTS_MIB.iter().find(|(vendor, _)| *vendor == gpu.vendor);
    GpuFacts {
        vram_mib: gpu.vram_mib,
        capacity_mib: gpu.vram_mib.saturating_sub(margin) as f64,
        context_mib: context.map_or(OTHER_CONTEXT_MIB, |(_, mib)| *mib),
        bytes_s: gb_s * 1e9,
        flop_s: tflop_s * 1e12,
    }
}

/// Bandwidth and arithmetic of the GPU called `name`.
fn peaks(name: &str) -> Option<(f64, f64)> {
    let whole_words = |known: &str| {
        name.match_indices(known).any(|(at, _)| {
            let is_part = |neighbour: Option<char>| neighbour.is_some_and(char::is_alphanumeric);
            !is_part(name[..at].chars().next_back()) && !is_part(name[at + known.len()..].chars().next())
        })
    };
    let best = GPUS.iter().filter(|(known, _, _)| whole_words(known)).max_by_key(|(known, _, _)| known.len())?;
    let share = if name.contains("Laptop") { LAPTOP_SHARE } else { 1.0 };
    Some((best.1 * share, best.2 * share))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_known_name_decides() {
        let gb_s = |name: &str| peaks(name).map(|(gb_s, _)| gb_s);
        assert_eq!(gb_s("NVIDIA GeForce RTX 4070"), Some(504.0));
        assert_eq!(gb_s("NVIDIA GeForce RTX 4070 Ti SUPER"), Some(672.0));
        assert_eq!(gb_s("NVIDIA A100-SXM4-80GB"), Some(2039.0));
        assert_eq!(gb_s("NVIDIA H100 80GB HBM3"), Some(3350.0));
        assert_eq!(gb_s("Apple M2 Max"), Some(400.0));
        assert_eq!(gb_s("NVIDIA RTX A1000"), None);
        assert!(gb_s("NVIDIA GeForce RTX 4090 Laptop GPU") < gb_s("NVIDIA GeForce RTX 4090"));
    }
}
