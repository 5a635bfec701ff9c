//! The facts of a model that the rest of fleetune asks for, taken from its GGUF header.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::gguf::{Header, TensorType, file_type_name};
use crate::layout::Layout;

/// What the header of a model file says. Goes over the wire as JSON.
///
/// A number is 0 or `None` where the file does not tell; of a number that differs between layers it is the largest.
/// For a model in several files, everything about tensors speaks of this file alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelMetadata {
    /// Architecture, for example `llama`.
    pub architecture: String,
    /// The model's own name.
    pub name: Option<String>,
    /// Quantisation, for example `Q4_K_M`; where the file does not tell, the type of most of its bytes.
    pub quantization: String,
    /// Number of parameters.
    pub parameters: u64,
    /// Bytes of all tensors.
    pub tensor_bytes: u64,
    /// Length of the file.
    pub file_bytes: u64,
    /// Number of tensors.
    pub tensor_count: u64,
    /// Layers, the output layer not counted.
    pub block_count: u32,
    /// Trained context, tokens.
    pub context_length: u32,
    /// Width of the embedding.
    pub embedding_length: u32,
    /// Width inside the feed-forward layers.
    pub feed_forward_length: u32,
    /// Attention heads.
    pub head_count: u32,
    /// Heads of keys and values.
    pub head_count_kv: u32,
    /// Width of one head's key.
    pub key_length: u32,
    /// Width of one head's value.
    pub value_length: u32,
    /// Tokens of the vocabulary.
    pub vocab_size: u32,
    /// Experts; 0 for a dense model.
    pub expert_count: u32,
    /// Experts that compute each token.
    pub expert_used_count: u32,
    /// Files the model is split into; 1 for a whole one.
    pub split_count: u32,
    /// Where the bytes lie; `None` where this file does not tell of the whole model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layout: Option<Layout>,
}

impl ModelMetadata {
    /// Picks the facts out of `header`.
    pub fn from_header(header: &Header) -> Self {
        let architecture = header.text("general.architecture").unwrap_or_default().to_owned();
        let integer = |key: &str| small(header.integer(&format!("{architecture}.{key}")));
        let embedding_length = integer("embedding_length");
        let head_count = integer("attention.head_count");
        let or = |value: u32, other: u32| if value == 0 { other } else { value };
        let head_width = embedding_length.checked_div(head_count).unwrap_or(0);
        let vocab_size = or(integer("vocab_size"), small(header.array_len("tokenizer.ggml.tokens")));
        let mut model = Self {
            name: header.text("general.name").map(str::to_owned),
            quantization: quantization(header),
            parameters: header.tensors.iter().map(|tensor| tensor.elements).fold(0, u64::saturating_add),
            tensor_bytes: header.tensors.iter().filter_map(|tensor| tensor.bytes).fold(0, u64::saturating_add),
            file_bytes: header.file_size,
            tensor_count: header.tensors.len() as u64,
            block_count: integer("block_count"),
            context_length: integer("context_length"),
            embedding_length,
            feed_forward_length: integer("feed_forward_length"),
            head_count,
            head_count_kv: or(integer("attention.head_count_kv"), head_count),
            key_length: or(integer("attention.key_length"), head_width),
            value_length: or(integer("attention.value_length"), head_width),
            vocab_size,
            expert_count: integer("expert_count"),
            expert_used_count: integer("expert_used_count"),
            split_count: small(header.integer("split.count")).max(1),
            architecture,
            layout: None,
        };
        model.layout = Layout::from_header(header, &model);
        model
    }

    /// Layers that can go to a GPU, as the engine counts them: all, and the output layer.
    pub fn layers_to_offload(&self) -> u32 {
        self.block_count.saturating_add(1)
    }

    /// Bytes of the KV cache for one token of context with 16-bit floats. An upper bound for models whose layers
    /// differ, or share or compress their cache.
    pub fn kv_bytes_per_token(&self) -> u64 {
        let row = u64::from(self.head_count_kv) * (u64::from(self.key_length) + u64::from(self.value_length));
        u64::from(self.block_count).saturating_mul(row).saturating_mul(2)
    }
}

fn small(value: Option<u64>) -> u32 {
    value.map_or(0, |value| u32::try_from(value).unwrap_or(u32::MAX))
}

fn quantization(header: &Header) -> String {
    if let Some(name) = header.integer("general.file_type").and_then(file_type_name) {
        return name.to_owned();
    }
    let mut bytes: BTreeMap<TensorType, u64> = BTreeMap::new();
    for tensor in &header.tensors {
        let sum = bytes.entry(tensor.tensor_type).or_default();
        *sum = sum.saturating_add(tensor.bytes.unwrap_or(0));
    }
    bytes.into_iter().max_by_key(|(_, bytes)| *bytes).map(|(kind, _)| kind.to_string()).unwrap_or_default()
}
