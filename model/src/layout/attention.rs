//! What each layer keeps of the context: widths of K and V, recurrent state, sliding window.

use crate::gguf::{Header, MetaValue, TensorInfo};
use crate::metadata::ModelMetadata;

use super::{Layer, part_of};

/// Architectures whose layers have a sliding window by a rule of their own: every n-th layer sees the whole context,
/// the first of n or the last. Source: `load_swa_pattern` in `src/models/*.cpp` of llama.cpp 0.6.
const PATTERNS: [(&str, u64, bool); 15] = [
    ("afmoe", 4, false),
    ("cohere2", 4, false),
    ("cohere2moe", 4, true),
    ("exaone-moe", 4, false),
    ("exaone4", 4, false),
    ("gemma2", 2, false),
    ("gemma3", 6, false),
    ("gemma3n", 5, false),
    ("gpt-oss", 2, false),
    ("laguna", 4, true),
    ("llama4", 4, false),
    ("mellum", 4, false),
    ("muse-glimmer", 4, false),
    ("olmo2", 4, false),
    ("smallthinker", 4, true),
];
/// Architectures whose files say for each layer whether it has a window.
const LISTED: [&str; 8] = ["dots3note", "gemma4", "granite-swa", "maple", "mimo2", "plamo3", "spark2_5", "step35"];

pub(super) struct Attention<'a> {
    header: &'a Header,
    model: &'a ModelMetadata,
    /// Layers with a KV cache of their own come before this one.
    kv_end: usize,
    /// Latent attention: the cache holds K alone, V is a part of it.
    latent: bool,
    window: u32,
}

impl<'a> Attention<'a> {
    pub(super) fn of(header: &'a Header, model: &'a ModelMetadata, layers: usize) -> Self {
        let mut attention = Self { header, model, kv_end: layers, latent: false, window: 0 };
        let without = attention.number("attention.shared_kv_layers").max(attention.number("nextn_predict_layers"));
        attention.kv_end = layers.saturating_sub(without as usize);
        attention.latent = attention.number("attention.key_length_mla") > 0;
        let known = LISTED.contains(&model.architecture.as_str()) || attention.pattern().is_some();
        attention.window = if known { small(attention.number("attention.sliding_window")) } else { 0 };
        attention
    }

    pub(super) fn window(&self) -> u32 {
        self.window
    }

    /// Adds to `layer` what it keeps of the context.
    pub(super) fn complete(&self, mut layer: Layer, index: usize, tensors: &[&TensorInfo]) -> Layer {
        let has = |prefixes: &[&str]| {
            tensors.iter().any(|tensor| prefixes.iter().any(|prefix| part_of(&tensor.name).starts_with(prefix)))
        };
        let recurrent = has(&["ssm_", "time_mix_", "shortconv."]);
        // Linear attention has a fused `attn_qkv` and no cache.
        let separate = has(&["attn_k.", "attn_kv_a", "attn_k_b"]);
        layer.windowed = self.is_windowed(index);
        if (separate || (has(&["attn_qkv."]) && !recurrent)) && index < self.kv_end {
            let heads = self.heads(index);
            let width = |key: &str, whole: u32| {
                let own = if layer.windowed { self.number(key) } else { 0 };
                heads.saturating_mul(if own > 0 { small(own) } else { whole })
            };
            layer.k_width = width("attention.key_length_swa", self.model.key_length);
            if !self.latent {
                layer.v_width = width("attention.value_length_swa", self.model.value_length);
            }
        }
        if recurrent {
            layer.state_bytes = self.state_bytes();
        }
        layer
    }

    fn heads(&self, layer: usize) -> u32 {
        let own = self.header.integer_of_layer(&self.key("attention.head_count_kv"), layer);
        own.map_or(self.model.head_count_kv, small)
    }

    fn is_windowed(&self, layer: usize) -> bool {
        if self.window == 0 {
            return false;
        }
        let key = self.key("attention.sliding_window_pattern");
        if let Some(MetaValue::Array { integers, .. }) = self.header.pairs.get(&key) {
            return integers.get(layer).is_some_and(|int| *int != 0);
        }
        let Some((period, dense_first)) = self.pattern() else { return false };
        let period = self.header.integer(&key).unwrap_or(period);
        match (layer as u64).checked_rem(period) {
            None => true,
            Some(place) if dense_first => place != 0,
            Some(place) => place + 1 < period,
        }
    }

    fn pattern(&self) -> Option<(u64, bool)> {
        let own = PATTERNS.iter().find(|(name, _, _)| *name == self.model.architecture);
        own.map(|(_, period, dense_first)| (*period, *dense_first))
    }

    /// Convolution and state of a recurrent layer, 32-bit floats. Source: `llama_hparams::n_embd_r` and `n_embd_s`.
    fn state_bytes(&self) -> u64 {
        let number = |key: &str| self.number(key);
        let embedding = u64::from(self.model.embedding_length);
        let less_one = |key: &str| number(key).saturating_sub(1);
        let elements = if number("wkv.head_size") > 0 {
            let shifts = number("token_shift_count");
            let shifts = if shifts == 0 { 2 } else { shifts };
            shifts.saturating_add(number("wkv.head_size")).saturating_mul(embedding)
        } else if number("shortconv.l_cache") > 0 {
            less_one("shortconv.l_cache").saturating_mul(embedding)
        } else {
            let (inner, state) = (number("ssm.inner_size"), number("ssm.state_size"));
            let groups = number("ssm.group_count").saturating_mul(state).saturating_mul(2);
            let convolution = less_one("ssm.conv_kernel").saturating_mul(inner.saturating_add(groups));
            convolution.saturating_add(inner.saturating_mul(state))
        };
        elements.saturating_mul(4)
    }

    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.model.architecture)
    }

    fn number(&self, key: &str) -> u64 {
        self.header.integer(&self.key(key)).unwrap_or(0)
    }
}

fn small(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
