//! What all estimates of one model share: sums over its layers, and the widths of its rows.

use std::ops::Range;

use crate::layout::{Layer, Layout};
use crate::metadata::ModelMetadata;

/// Sums over consecutive layers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sums {
    /// Number of layers.
    pub(super) layers: f64,
    /// Bytes of weights.
    pub(super) bytes: f64,
    /// Bytes of weights that one token passes.
    pub(super) active_bytes: f64,
    /// Elements of matrices that one token passes.
    pub(super) active_elements: f64,
    /// Elements of K for one token of context.
    pub(super) k: f64,
    /// Elements of V for one token of context.
    pub(super) v: f64,
    /// The part of `k` in layers with a sliding window.
    pub(super) windowed_k: f64,
    /// The part of `v` in layers with a sliding window.
    pub(super) windowed_v: f64,
    /// Layers that attend to the context.
    pub(super) attending: f64,
    /// Bytes of recurrent state.
    pub(super) state: f64,
}

impl Sums {
    fn with(&self, layer: &Layer) -> Self {
        let (k, v) = (f64::from(layer.k_width), f64::from(layer.v_width));
        let windowed = if layer.windowed { 1.0 } else { 0.0 };
        Self {
            layers: self.layers + 1.0,
            bytes: self.bytes + layer.bytes as f64,
            active_bytes: self.active_bytes + layer.active_bytes as f64,
            active_elements: self.active_elements + layer.active_elements as f64,
            k: self.k + k,
            v: self.v + v,
            windowed_k: self.windowed_k + k * windowed,
            windowed_v: self.windowed_v + v * windowed,
            attending: self.attending + if layer.k_width > 0 { 1.0 } else { 0.0 },
            state: self.state + layer.state_bytes as f64,
        }
    }

    fn minus(&self, other: &Self) -> Self {
        // Rounding of absurdly large sums must not make a difference negative.
        let minus = |a: f64, b: f64| (a - b).max(0.0);
        Self {
            layers: minus(self.layers, other.layers),
            bytes: minus(self.bytes, other.bytes),
            active_bytes: minus(self.active_bytes, other.active_bytes),
            active_elements: minus(self.active_elements, other.active_elements),
            k: minus(self.k, other.k),
            v: minus(self.v, other.v),
            windowed_k: minus(self.windowed_k, other.windowed_k),
            windowed_v: minus(self.windowed_v, other.windowed_v),
            attending: minus(self.attending, other.attending),
            state: minus(self.state, other.state),
        }
    }
}

/// A model, ready for arithmetic. Floats throughout: exact below 2^53, and nothing overflows.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// Sums over the layers before the n-th.
    before: Vec<Sums>,
    /// Largest tensor of the layers before the n-th, bytes.
    largest_before: Vec<f64>,
    pub(super) input_bytes: f64,
    /// What follows the last layer, the output matrix included.
    pub(super) output_bytes: f64,
    pub(super) output_elements: f64,
    /// The part of `output_bytes` that the host has already, since it is the embedding.
    pub(super) tied_bytes: f64,
    /// Whether a CPU would make a rearranged copy of it nevertheless.
    pub(super) tied_rearranged: bool,
    pub(super) vocabulary: f64,
    pub(super) embedding: f64,
    pub(super) feed_forward: f64,
    pub(super) heads: f64,
    /// Elements of all queries of one token.
    pub(super) query: f64,
    /// Elements of K, or of V where wider, of one token in one layer.
    pub(super) kv: f64,
    pub(super) window: f64,
    /// Experts there are over experts that compute a token.
    pub(super) expert_share: f64,
}

impl Facts {
    /// `None` for a model without layers.
    pub(super) fn new(model: &ModelMetadata, layout: &Layout) -> Option<Self> {
        let mut before = vec![Sums::default()];
        let mut largest_before = vec![0.0_f64];
        let (mut sums, mut largest, mut kv) = (Sums::default(), 0.0_f64, 0_u32);
        for layer in layout.layers() {
            sums = sums.with(&layer);
            largest = largest.max(layer.largest_bytes as f64);
            kv = kv.max(layer.k_width).max(layer.v_width);
            before.push(sums);
            largest_before.push(largest);
        }
        let heads = f64::from(model.head_count);
        (before.len() > 1).then(|| Self {
            before,
            largest_before,
            input_bytes: layout.input_bytes as f64,
            output_bytes: layout.output_bytes as f64 + layout.tied_bytes as f64,
            output_elements: layout.output_elements as f64,
            tied_bytes: layout.tied_bytes as f64,
            tied_rearranged: layout.tied_rearranged,
            vocabulary: f64::from(model.vocab_size),
            embedding: f64::from(model.embedding_length),
            feed_forward: f64::from(layout.feed_forward_width),
            heads,
            query: heads * f64::from(model.key_length),
            kv: f64::from(kv),
            window: f64::from(layout.window),
            expert_share: f64::from(model.expert_count.max(1)) / f64::from(model.expert_used_count.max(1)),
        })
    }

    /// Layers, the output layer not counted.
    pub(super) fn layers(&self) -> usize {
        self.before.len() - 1
    }

    /// Sums over `layers`; bounds beyond the last layer are cut.
    pub(super) fn sums(&self, layers: &Range<usize>) -> Sums {
        let at = |layer: usize| &self.before[layer.min(self.layers())];
        at(layers.end).minus(at(layers.start.min(layers.end)))
    }

    /// Bytes of the largest tensor in the layers before `layer`.
    pub(super) fn largest_before(&self, layer: usize) -> f64 {
        self.largest_before[layer.min(self.layers())]
    }
}
