//! Memory that a configuration needs: weights, KV cache, compute buffers and what a process takes besides.
//!
//! Weights and caches follow the engine's allocation to the byte. Compute buffers follow the greatest of three moments
//! of its graph, found by measuring: inside the attention, inside the feed-forward layer, and at the output.

use fleetune_core::runner::{FlashAttn, KvType, Settings};

use super::effective::OFFLOAD_MIN_BATCH;
use super::facts::Facts;
use super::hardware::Machine;
use super::placement::{Placement, Span};
use super::{DeviceMemory, Place};

const MIB: f64 = 1_048_576.0;
/// What the runner takes beyond the engine's buffers: 14 MiB measured, and room for threads.
const PROCESS_MIB: f64 = 32.0;
/// Copies of a graph's inputs when the engine overlaps pieces: `GGML_SCHED_MAX_COPIES`.
const PIPELINE_COPIES: f64 = 4.0;
/// Rows of the embedding's width that live beside the largest operation of a feed-forward layer or the output.
const ROWS_BESIDE: f64 = 5.0;
/// The same inside the attention.
const ROWS_IN_ATTENTION: f64 = 6.0;
/// Rows of the feed-forward layer's width that live at once: gate, up and their product.
const FEED_FORWARD_ROWS: f64 = 3.0;

/// Elements and bytes of a block. Source: `ggml-common.h`.
pub(crate) fn bytes_per_element(kv: KvType) -> f64 {
    let (elements, bytes) = match kv {
        KvType::F32 => (1.0, 4.0),
        KvType::F16 | KvType::Bf16 => (1.0, 2.0),
        KvType::Q8_0 => (32.0, 34.0),
        KvType::Q5_1 => (32.0, 24.0),
        KvType::Q5_0 => (32.0, 22.0),
        KvType::Q4_1 => (32.0, 20.0),
        KvType::Q4_0 | KvType::Iq4Nl => (32.0, 18.0),
    };
    bytes / elements
}

/// The needs of `settings`, which are effective ones: the host's first, then each GPU's.
pub(super) fn needs(settings: &Settings, placement: &Placement, facts: &Facts, machine: &Machine) -> Vec<DeviceMemory> {
    let plan = Plan::new(settings, placement, facts);
    let mut gpus = vec![0.0; machine.gpus.len()];
    for (place, span) in placement.spans.iter().enumerate() {
        gpus[span.gpu] = plan.gpu(span, place == 0).total() / MIB + machine.gpus[span.gpu].context_mib;
    }
    let mut host = plan.host().total() / MIB + PROCESS_MIB;
    if machine.is_unified {
        host += gpus.iter().sum::<f64>();
    }
    let mut needs = vec![DeviceMemory { place: Place::Host, need_mib: host, capacity_mib: machine.ram_mib }];
    needs.extend(gpus.into_iter().zip(&machine.gpus).enumerate().map(|(index, (need_mib, gpu))| DeviceMemory {
        place: Place::Gpu(index),
        need_mib,
        capacity_mib: gpu.capacity_mib,
    }));
    needs
}

/// What one memory holds, bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Parts {
    pub(super) weights: f64,
    /// KV cache and recurrent state.
    pub(super) kv: f64,
    pub(super) compute: f64,
    /// Logits on their way back.
    pub(super) output: f64,
}

impl Parts {
    fn total(&self) -> f64 {
        self.weights + self.kv + self.compute + self.output
    }
}

/// All numbers in bytes.
pub(super) struct Plan<'a> {
    settings: &'a Settings,
    placement: &'a Placement,
    facts: &'a Facts,
    cells: f64,
    /// One 32-bit float for each token of a physical batch.
    column: f64,
    fused: bool,
    /// Attention of GPU layers is computed on the GPU.
    kv_on_gpu: bool,
    masks: f64,
    copies: f64,
}

impl<'a> Plan<'a> {
    pub(super) fn new(settings: &'a Settings, placement: &'a Placement, facts: &'a Facts) -> Self {
        // Sliding windows get the whole context: `swa_full` of `llama_context_default_params`, which the runner keeps.
        let cells = f64::from(settings.n_ctx.unwrap_or(0));
        let tokens = f64::from(settings.n_ubatch.unwrap_or(0)).min(cells);
        // Where `auto` is open it most likely comes to `on`.
        let fused = settings.flash_attn != Some(FlashAttn::Off);
        let kinds = if facts.window > 0.0 { 2.0 } else { 1.0 };
        Self {
            settings,
            placement,
            facts,
            cells,
            column: 4.0 * tokens,
            fused,
            kv_on_gpu: settings.offload_kqv == Some(true),
            // A mask is of 16 bits for fused attention, else of 32: `build_attn_inp_kq_mask`.
            masks: kinds * cells * tokens * if fused { 2.0 } else { 4.0 },
            copies: if placement.is_pipelined(settings) { PIPELINE_COPIES } else { 1.0 },
        }
    }

    fn kv(&self, layers: &std::ops::Range<usize>) -> f64 {
        let sums = self.facts.sums(layers);
        let k = sums.k * bytes_per_element(self.settings.type_k.unwrap_or_default());
        let v = sums.v * bytes_per_element(self.settings.type_v.unwrap_or_default());
        self.cells * (k + v) + sums.state
    }

    /// The attention's greatest moment, without masks.
    fn attention(&self) -> f64 {
        let facts = self.facts;
        let rows = ROWS_IN_ATTENTION * facts.embedding.max(facts.query);
        if !self.fused {
            return self.column * (self.cells * facts.heads + rows + 2.0 * facts.kv);
        }
        // `build_attn_mha` casts caches of 32 bits, whole.
        let cast = |kv: Option<KvType>| if kv == Some(KvType::F32) { 2.0 * self.cells * facts.kv } else { 0.0 };
        self.column * rows + cast(self.settings.type_k) + cast(self.settings.type_v)
    }

    fn feed_forward(&self) -> f64 {
        self.column * (FEED_FORWARD_ROWS * self.facts.feed_forward + ROWS_BESIDE * self.facts.embedding)
    }

    fn output(&self) -> f64 {
        self.column * (self.facts.vocabulary + ROWS_BESIDE * self.facts.embedding)
    }

    pub(super) fn host(&self) -> Parts {
        let facts = self.facts;
        let layers = 0..self.placement.host_layers;
        let mut weights = facts.input_bytes + facts.sums(&layers).bytes;
        let mut moment = self.column * facts.embedding;
        let mut kv = self.kv(&layers);
        if !layers.is_empty() {
            moment = moment.max(self.feed_forward()).max(self.attention());
        }
        if !self.kv_on_gpu {
            kv = self.kv(&(0..facts.layers()));
            moment = moment.max(self.attention());
        }
        if self.placement.host_output {
            let copied = self.settings.repack == Some(true) && facts.tied_rearranged;
            weights += facts.output_bytes - if copied { 0.0 } else { facts.tied_bytes };
            moment = moment.max(self.output());
        }
        Parts { weights, kv, compute: self.masks + moment, output: 4.0 * facts.vocabulary }
    }

    pub(super) fn gpu(&self, span: &Span, is_first: bool) -> Parts {
        let facts = self.facts;
        let mut weights = facts.sums(&span.layers).bytes + if span.output { facts.output_bytes } else { 0.0 };
        if self.placement.by_rows {
            let all = self.placement.host_layers..facts.layers();
            weights = span.share * (facts.sums(&all).bytes + facts.output_bytes);
        }
        let (mut kv, mut masks, mut moment) = (0.0, 0.0, 0.0_f64);
        if !span.layers.is_empty() {
            moment = self.feed_forward();
            if self.kv_on_gpu {
                kv = self.kv(&span.layers);
                masks = self.masks;
                moment = moment.max(self.attention());
            }
        }
        if span.output {
            moment = moment.max(self.output());
        }
        let is_offloaded = self.settings.op_offload == Some(true) && self.column >= 4.0 * f64::from(OFFLOAD_MIN_BATCH);
        if is_first && is_offloaded {
            moment = moment.max(self.offloaded());
        }
        Parts { weights, kv, compute: masks * self.copies + moment, output: 0.0 }
    }

    /// The greatest moment of operations on the host's weights, which come over one by one.
    fn offloaded(&self) -> f64 {
        let largest = self.facts.largest_before(self.placement.host_layers);
        let layer = if largest > 0.0 { largest + self.feed_forward() } else { 0.0 };
        let output = if self.placement.host_output { self.facts.output_bytes + self.output() } else { 0.0 };
        layer.max(output)
    }
}
