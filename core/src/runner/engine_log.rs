//! What llama.cpp's log says about buffers, layers and flash attention: nowhere else is it to be read.

use super::{Buffer, LoadMode};

/// More buffers than any machine's devices make.
const MAX_BUFFERS: usize = 256;

/// The facts of a log, gathered line by line.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EngineLog {
    /// Buffers in the order of their making; a compute buffer that is made again replaces the former.
    pub buffers: Vec<Buffer>,
    /// Layers on a GPU, and layers there are.
    pub offloaded: Option<(u32, u32)>,
    /// Whether flash attention was found to work, where it was to be found out.
    pub flash_attn: Option<bool>,
    /// How the file is really read.
    pub load_mode: Option<LoadMode>,
}

impl EngineLog {
    /// Takes in one line; returns whether it was one of the facts.
    pub fn line(&mut self, line: &str) -> bool {
        if let Some(buffer) = buffer(line) {
            self.add_buffer(buffer);
        } else if let Some(offloaded) = offloaded(line) {
            self.offloaded = Some(offloaded);
        } else if let Some(mode) = between(line, "(load_mode = ", ")").and_then(LoadMode::from_name) {
            self.load_mode = Some(mode);
        } else if line.ends_with("Flash Attention enabled") {
            self.flash_attn = Some(true);
        } else if line.contains("Flash Attention not supported") {
            self.flash_attn = Some(false);
        } else {
            return false;
        }
        true
    }

    /// Forgets the buffers of a context that is gone; those of the model stay.
    pub fn new_context(&mut self) {
        self.buffers.retain(|buffer| buffer.what == "model");
    }

    /// What lies on GPUs of these names, MiB; `None` without a GPU.
    pub fn vram_mib(&self, gpus: &[String]) -> Option<f64> {
        // Pinned host memory is called `CUDA_Host`, without the device's number.
        let on_gpu = |buffer: &&Buffer| gpus.iter().any(|gpu| buffer.device.starts_with(gpu.as_str()));
        (!gpus.is_empty()).then(|| self.buffers.iter().filter(on_gpu).map(|buffer| buffer.mib).sum())
    }

    /// Whether weights lie in an order of the CPU's own.
    pub fn is_rearranged(&self) -> bool {
        let kinds = ["REPACK", "AMX", "KLEIDIAI", "AARCH64", "HBM"];
        self.buffers.iter().any(|buffer| kinds.iter().any(|kind| buffer.device.contains(kind)))
    }

    fn add_buffer(&mut self, new: Buffer) {
        // Reserved once per shape of graph; the last one is the one in use.
        let same = |old: &Buffer| old.what == "compute" && new.what == "compute" && old.device == new.device;
        if let Some(position) = self.buffers.iter().position(same) {
            self.buffers[position] = new;
        } else if self.buffers.len() < MAX_BUFFERS {
            self.buffers.push(new);
        }
    }
}

/// Reads `load_tensors:   CPU_Mapped model buffer size =   636.18 MiB`.
fn buffer(line: &str) -> Option<Buffer> {
    let (before, after) = line.split_once(" buffer size = ")?;
    let (_, names) = before.split_once(": ")?;
    let (device, what) = names.trim().split_once(' ')?;
    let mib = after.trim().strip_suffix("MiB")?.trim().parse().ok()?;
    Some(Buffer { device: device.to_owned(), what: what.trim().to_owned(), mib })
}

/// Reads `load_tensors: offloaded 33/33 layers to GPU`.
fn offloaded(line: &str) -> Option<(u32, u32)> {
    let (on_gpu, total) = between(line, "offloaded ", " layers to GPU")?.split_once('/')?;
    Some((on_gpu.parse().ok()?, total.parse().ok()?))
}

fn between<'a>(line: &'a str, before: &str, after: &str) -> Option<&'a str> {
    Some(line.split_once(before)?.1.split_once(after)?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_picked_out_of_the_log() {
        let mut log = EngineLog::default();
        for line in [
            "load_tensors: loading model tensors, this can take a while... (load_mode = mmap)",
            "load_tensors: offloaded 12/33 layers to GPU",
            "load_tensors:   CPU_Mapped model buffer size =   636.18 MiB",
            "load_tensors:        CUDA0 model buffer size =   100.00 MiB",
            "llama_kv_cache:      CUDA0 KV buffer size =    88.00 MiB",
            "sched_reserve:      CUDA0 compute buffer size =   300.00 MiB",
            "sched_reserve:      CUDA0 compute buffer size =   66.50 MiB",
            "sched_reserve:  CUDA_Host compute buffer size =    6.00 MiB",
            "sched_reserve: Flash Attention enabled",
        ] {
            assert!(log.line(line), "{line}");
        }
        assert!(!log.line("print_info: n_rot = 32") && !log.is_rearranged());
        assert_eq!((log.offloaded, log.flash_attn), (Some((12, 33)), Some(true)));
        assert_eq!(log.load_mode, Some(LoadMode::Mmap));
        let buffers: Vec<_> = log.buffers.iter().map(|b| (b.device.as_str(), b.what.as_str(), b.mib)).collect();
        assert_eq!(buffers[3..], [("CUDA0", "compute", 66.5), ("CUDA_Host", "compute", 6.0)]);
        assert_eq!(log.vram_mib(&["CUDA0".to_owned()]), Some(254.5));
        assert_eq!(log.vram_mib(&[]), None);
        log.new_context();
        assert!(log.line("load_tensors:          AMX model buffer size =     8.15 MiB") && log.is_rearranged());
        assert_eq!(log.vram_mib(&["CUDA0".to_owned()]), Some(100.0));
    }
}
