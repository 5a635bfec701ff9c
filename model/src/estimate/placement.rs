//! Which layer is computed where: llama.cpp's `load_tensors`, for settings in their effective form.

use std::ops::Range;

use fleetune_core::runner::{Settings, SplitMode};

use super::facts::Facts;
use super::hardware::Machine;

/// The layers of one GPU.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Span {
    /// Its place in the inventory.
    pub(super) gpu: usize,
    pub(super) layers: Range<usize>,
    /// Whether it computes the output.
    pub(super) output: bool,
    /// The part of the rows it holds with split mode `row`.
    pub(super) share: f64,
}

/// Who computes what.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Placement {
    /// Layers before this one are the host's.
    pub(super) host_layers: usize,
    /// Whether the host computes the output.
    pub(super) host_output: bool,
    /// The GPUs the engine uses, in its order, even those without a layer.
    pub(super) spans: Vec<Span>,
    /// Rows of weights are spread over the GPUs.
    pub(super) by_rows: bool,
}

impl Placement {
    /// `None` for a main GPU that does not exist: the engine refuses it.
    pub(super) fn new(settings: &Settings, facts: &Facts, machine: &Machine) -> Option<Self> {
        let used: Range<usize> = match settings.split_mode {
            Some(SplitMode::None) if !machine.gpus.is_empty() => {
                let main = settings.main_gpu.unwrap_or(0) as usize;
                (main < machine.gpus.len()).then_some(main..main + 1)?
            }
            _ => 0..machine.gpus.len(),
        };
        let all = facts.layers() + 1;
        let on_gpu = if used.is_empty() {
            0
        } else {
            usize::try_from(settings.n_gpu_layers.unwrap_or(-1)).unwrap_or(all).min(all)
        };
        let host_layers = all - on_gpu;
        // The engine splits by free memory and compares in 32 bits.
        let weights = |gpu: usize| machine.gpus[gpu].vram_mib.max(1) as f32;
        let total: f32 = used.clone().map(weights).sum();
        let (mut sum, mut next, last) = (0.0_f32, 0_usize, used.end);
        let spans = used.map(|gpu| {
            let begin = next;
            sum += weights(gpu);
            while next < on_gpu && (gpu + 1 == last || (next as f32 / on_gpu as f32) < sum / total) {
                next += 1;
            }
            Span {
                gpu,
                layers: (host_layers + begin).min(all - 1)..(host_layers + next).min(all - 1),
                output: begin < next && next == on_gpu,
                share: f64::from(weights(gpu) / total),
            }
        });
        Some(Self {
            spans: spans.collect(),
            host_layers: host_layers.min(all - 1),
            host_output: on_gpu == 0,
            by_rows: settings.split_mode == Some(SplitMode::Row) && on_gpu > 0,
        })
    }

    /// Whether the engine overlaps the pieces of a prompt: several GPUs, everything on them, split by layers.
    pub(super) fn is_pipelined(&self, settings: &Settings) -> bool {
        self.spans.len() > 1
            && self.host_layers == 0
            && settings.split_mode == Some(SplitMode::Layer)
            && settings.offload_kqv == Some(true)
    }
}
