//! Where a model's bytes lie, layer by layer: what an estimate needs beyond the plain facts of [`ModelMetadata`].
//!
//! Taken from the table of tensors rather than from architecture and quantisation, so that it is right for every mix of
//! types and for architectures nobody here has heard of. Goes over the wire as JSON; equal neighbours are one run, and
//! at most [`MAX_LAYERS`] layers are kept, so that it stays small whatever the file says.

use serde::{Deserialize, Serialize};

use crate::gguf::{Header, TensorInfo, TensorType};
use crate::metadata::ModelMetadata;

mod attention;

use attention::Attention;

/// Most layers the engine loads: llama.cpp's `LLAMA_MAX_LAYERS`.
pub const MAX_LAYERS: usize = 512;

/// What one layer holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Layer {
    /// Bytes of its weights.
    pub bytes: u64,
    /// Bytes of the weights that one token passes: all but the experts that are not chosen.
    pub active_bytes: u64,
    /// Elements of the matrices that one token passes.
    pub active_elements: u64,
    /// Bytes of its largest tensor.
    pub largest_bytes: u64,
    /// Elements of K that the cache keeps for one token; 0 for a layer without a cache of its own.
    pub k_width: u32,
    /// Elements of V that the cache keeps for one token.
    pub v_width: u32,
    /// Bytes of a state whose size does not depend on the context.
    pub state_bytes: u64,
    /// Sees a sliding window of the context only.
    pub windowed: bool,
}

/// Consecutive layers that are alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LayerRun {
    /// How many.
    pub count: u32,
    /// What each of them holds.
    pub layer: Layer,
}

/// Bytes and widths of a whole model in one file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Layout {
    /// The layers, first to last.
    pub runs: Vec<LayerRun>,
    /// Bytes of what turns tokens into embeddings; always on the host.
    pub input_bytes: u64,
    /// Bytes of what follows the last layer; the embedding not counted, even where it is the output matrix.
    pub output_bytes: u64,
    /// Elements of the output matrix.
    pub output_elements: u64,
    /// Bytes of the embedding where it is the output matrix too; else 0.
    pub tied_bytes: u64,
    /// Whether a CPU would keep a rearranged copy of that embedding.
    pub tied_rearranged: bool,
    /// Whether some weights are of a type that some CPU computes with in an order of its own.
    pub rearrangeable: bool,
    /// Widest row inside the feed-forward layers that a token passes: one dense layer, or its experts together.
    pub feed_forward_width: u32,
    /// Tokens of the sliding window; 0 where no layer has one.
    pub window: u32,
}

/// Types that ggml 0.26 rearranges on one CPU or another (`repack.cpp`, `amx.cpp`, `kleidiai.cpp`).
const REARRANGEABLE: [&str; 11] =
    ["Q4_0", "Q4_1", "Q8_0", "Q2_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "MXFP4", "Q1_0"];
/// Those that it rearranges on any x86 with AVX2.
const COMMONLY_REARRANGED: [&str; 4] = ["Q4_0", "Q4_K", "IQ4_NL", "MXFP4"];

impl Layout {
    /// Reads the layout out of `header`; `None` where this file is not the whole model, has no or too many layers, or
    /// holds a type of unknown size.
    pub fn from_header(header: &Header, model: &ModelMetadata) -> Option<Self> {
        if model.split_count > 1 || header.tensors.iter().any(|tensor| tensor.bytes.is_none()) {
            return None;
        }
        let named = header.tensors.iter().filter_map(|tensor| layer_of(&tensor.name)).max().map_or(0, |last| last + 1);
        let count = named.max(model.block_count as usize);
        if named == 0 || count > MAX_LAYERS {
            return None;
        }
        let mut tensors: Vec<Vec<&TensorInfo>> = vec![Vec::new(); count];
        let mut layout = Self::default();
        for tensor in &header.tensors {
            match layer_of(&tensor.name) {
                Some(layer) => tensors[layer].push(tensor),
                None => layout.add_outside(tensor),
            }
        }
        layout.tie(header);
        let attention = Attention::of(header, model, count);
        let layers = tensors.iter().enumerate().map(|(index, own)| {
            let width = own.iter().map(|tensor| feed_forward_width(tensor, model)).max().unwrap_or(0);
            layout.feed_forward_width = layout.feed_forward_width.max(width);
            layout.rearrangeable |= own.iter().any(|tensor| is_one_of(tensor.tensor_type, &REARRANGEABLE));
            attention.complete(weights(own, model), index, own)
        });
        let runs = runs(layers);
        layout.runs = runs;
        layout.window = if layout.layers().any(|layer| layer.windowed) { attention.window() } else { 0 };
        Some(layout)
    }

    /// The layers, one by one; never more than [`MAX_LAYERS`].
    pub fn layers(&self) -> impl Iterator<Item = Layer> {
        let runs =
            self.runs.iter().flat_map(|run| std::iter::repeat_n(run.layer, (run.count as usize).min(MAX_LAYERS)));
        runs.take(MAX_LAYERS)
    }

    fn add_outside(&mut self, tensor: &TensorInfo) {
        const INPUT: [&str; 4] = ["token_embd", "per_layer_token_embd", "position_embd", "token_types"];
        let bytes = tensor.bytes.unwrap_or(0);
        if INPUT.iter().any(|input| tensor.name.starts_with(input)) {
            self.input_bytes = self.input_bytes.saturating_add(bytes);
            return;
        }
        self.output_bytes = self.output_bytes.saturating_add(bytes);
        if tensor.name == "output.weight" {
            self.output_elements = tensor.elements;
        }
    }

    /// Without an output matrix the engine takes the embedding.
    fn tie(&mut self, header: &Header) {
        let embedding = header.tensors.iter().find(|tensor| tensor.name == "token_embd.weight");
        if let Some(embedding) = embedding.filter(|_| self.output_elements == 0) {
            self.output_elements = embedding.elements;
            self.tied_bytes = embedding.bytes.unwrap_or(0);
            self.tied_rearranged = is_one_of(embedding.tensor_type, &COMMONLY_REARRANGED);
        }
    }
}

/// The layer a tensor belongs to: 7 for `blk.7.attn_q.weight`.
fn layer_of(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split('.').next()?.parse().ok().filter(|layer| *layer < usize::MAX)
}

/// The part of a tensor's name behind the layer: `attn_q.weight`.
fn part_of(name: &str) -> &str {
    name.splitn(3, '.').nth(2).unwrap_or_default()
}

fn is_one_of(tensor_type: TensorType, names: &[&str]) -> bool {
    tensor_type.name().is_some_and(|name| names.contains(&name))
}

fn is_expert(part: &str) -> bool {
    part.contains("_exps.")
}

fn weights(tensors: &[&TensorInfo], model: &ModelMetadata) -> Layer {
    let mut layer = Layer::default();
    for tensor in tensors {
        let bytes = tensor.bytes.unwrap_or(0);
        let active = |whole: u64| if is_expert(part_of(&tensor.name)) { chosen(whole, model) } else { whole };
        layer.bytes = layer.bytes.saturating_add(bytes);
        layer.active_bytes = layer.active_bytes.saturating_add(active(bytes));
        layer.largest_bytes = layer.largest_bytes.max(bytes);
        if tensor.dimensions.len() > 1 {
            layer.active_elements = layer.active_elements.saturating_add(active(tensor.elements));
        }
    }
    layer
}

/// The share of the experts that compute a token.
fn chosen(whole: u64, model: &ModelMetadata) -> u64 {
    let (used, all) = (model.expert_used_count.min(model.expert_count), model.expert_count);
    if used == 0 { whole } else { (u128::from(whole) * u128::from(used) / u128::from(all)) as u64 }
}

fn feed_forward_width(tensor: &TensorInfo, model: &ModelMetadata) -> u32 {
    let width = match part_of(&tensor.name) {
        "ffn_up.weight" | "ffn_gate.weight" => tensor.dimensions.get(1).copied().unwrap_or(0),
        "ffn_up_exps.weight" | "ffn_gate_exps.weight" | "ffn_gate_up_exps.weight" => {
            tensor.dimensions.get(1).copied().unwrap_or(0).saturating_mul(u64::from(model.expert_used_count.max(1)))
        }
        _ => 0,
    };
    u32::try_from(width).unwrap_or(u32::MAX)
}

fn runs(layers: impl Iterator<Item = Layer>) -> Vec<LayerRun> {
    let mut runs: Vec<LayerRun> = Vec::new();
    for layer in layers {
        match runs.last_mut() {
            Some(last) if last.layer == layer => last.count += 1,
            _ => runs.push(LayerRun { count: 1, layer }),
        }
    }
    runs
}

#[cfg(test)]
mod tests;
