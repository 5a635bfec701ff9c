use std::collections::BTreeMap;
use std::io::Cursor;

use super::*;
use crate::gguf::MetaValue;
use crate::synth::{SynthQuant, SynthSize, SynthSpec};

fn tensor(name: &str, dimensions: &[u64], bytes: u64) -> TensorInfo {
    TensorInfo {
        name: name.to_owned(),
        dimensions: dimensions.to_vec(),
        tensor_type: TensorType::F16,
        offset: 0,
        elements: dimensions.iter().product(),
        bytes: Some(bytes),
    }
}

fn metadata(pairs: &[(&str, MetaValue)], tensors: Vec<TensorInfo>) -> ModelMetadata {
    let pairs: BTreeMap<String, MetaValue> =
        pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    ModelMetadata::from_header(&Header { version: 3, pairs, tensors, data_start: 0, file_size: 0 })
}

fn layers(model: &ModelMetadata) -> Vec<Layer> {
    model.layout.as_ref().unwrap().layers().collect()
}

fn unsigned(value: u64) -> MetaValue {
    MetaValue::Unsigned(value)
}

fn array(integers: &[i64]) -> MetaValue {
    MetaValue::Array { len: integers.len() as u64, integers: integers.to_vec() }
}

#[test]
fn layout_accounts_for_every_byte_of_a_file() {
    let mut file = Vec::new();
    SynthSpec { size: SynthSize::M15, quant: SynthQuant::Q4_0, seed: 1 }.write(&mut file).unwrap();
    let model = ModelMetadata::from_header(&Header::read(&mut Cursor::new(file)).unwrap());
    let layout = model.layout.as_ref().unwrap();
    let sum: u64 = layout.layers().map(|layer| layer.bytes).sum();
    assert_eq!(sum + layout.input_bytes + layout.output_bytes, model.tensor_bytes);
    assert_eq!((layout.runs.len(), layout.layers().count()), (1, 6));
    assert_eq!(layout.tied_bytes, layout.input_bytes);
    assert!(layout.rearrangeable && layout.tied_rearranged);
    assert_eq!((layout.feed_forward_width, layout.window), (768, 0));
    let cache: u64 = layout.layers().map(|layer| 2 * u64::from(layer.k_width + layer.v_width)).sum();
    assert_eq!(cache, model.kv_bytes_per_token());
}

#[test]
fn metadata_from_before_the_layout_still_reads() {
    let old = r#"{"architecture":"llama","block_count":4,"tensor_bytes":7}"#;
    let model: ModelMetadata = serde_json::from_str(old).unwrap();
    assert_eq!((model.block_count, model.layout.is_none()), (4, true));
}

#[test]
fn layout_survives_json() {
    let model = metadata(
        &[("general.architecture", MetaValue::Text("llama".into()))],
        vec![tensor("blk.0.attn_k.weight", &[8, 8], 128), tensor("blk.1.attn_k.weight", &[8, 8], 72)],
    );
    let back: ModelMetadata = serde_json::from_str(&serde_json::to_string(&model).unwrap()).unwrap();
    assert_eq!(back, model);
    assert_eq!(layers(&back).len(), 2);
}

#[test]
fn only_chosen_experts_are_active() {
    let model = metadata(
        &[
            ("general.architecture", MetaValue::Text("qwen3moe".into())),
            ("qwen3moe.expert_count", unsigned(8)),
            ("qwen3moe.expert_used_count", unsigned(2)),
        ],
        vec![
            tensor("blk.0.ffn_up_exps.weight", &[16, 32, 8], 8192),
            tensor("blk.0.ffn_gate_inp.weight", &[16, 8], 256),
        ],
    );
    let layer = layers(&model)[0];
    assert_eq!((layer.bytes, layer.active_bytes, layer.largest_bytes), (8448, 2048 + 256, 8192));
    assert_eq!(layer.active_elements, 16 * 32 * 2 + 16 * 8);
    assert_eq!(model.layout.unwrap().feed_forward_width, 64);
}

#[test]
fn windows_follow_the_file_or_the_architecture() {
    let four = || (0..4).map(|layer| tensor(&format!("blk.{layer}.attn_k.weight"), &[8, 8], 128)).collect();
    let windowed = |model: &ModelMetadata| layers(model).iter().map(|layer| layer.windowed).collect::<Vec<_>>();
    let model = |architecture: &str, more: &[(&str, MetaValue)]| {
        let mut pairs = vec![("general.architecture", MetaValue::Text(architecture.into()))];
        pairs.extend_from_slice(more);
        metadata(&pairs, four())
    };
    let gemma2 = model("gemma2", &[("gemma2.attention.sliding_window", unsigned(4096))]);
    assert_eq!(windowed(&gemma2), [true, false, true, false]);
    assert_eq!(gemma2.layout.unwrap().window, 4096);
    let listed = model(
        "gemma4",
        &[
            ("gemma4.attention.sliding_window", unsigned(512)),
            ("gemma4.attention.sliding_window_pattern", array(&[1, 1, 0, 1])),
        ],
    );
    assert_eq!(windowed(&listed), [true, true, false, true]);
    // Files of many architectures carry the key; the engine reads it for a few.
    assert_eq!(windowed(&model("qwen2", &[("qwen2.attention.sliding_window", unsigned(4096))])), [false; 4]);
}

#[test]
fn caches_belong_to_the_layers_that_attend() {
    let model = metadata(
        &[
            ("general.architecture", MetaValue::Text("granitehybrid".into())),
            ("granitehybrid.embedding_length", unsigned(64)),
            ("granitehybrid.attention.head_count", unsigned(4)),
            ("granitehybrid.attention.head_count_kv", array(&[0, 2, 4])),
            ("granitehybrid.ssm.conv_kernel", unsigned(4)),
            ("granitehybrid.ssm.inner_size", unsigned(128)),
            ("granitehybrid.ssm.state_size", unsigned(16)),
            ("granitehybrid.ssm.group_count", unsigned(1)),
        ],
        vec![
            tensor("blk.0.ssm_in.weight", &[8, 8], 128),
            tensor("blk.1.attn_k.weight", &[8, 8], 128),
            tensor("blk.2.attn_k.weight", &[8, 8], 128),
        ],
    );
    let all = layers(&model);
    assert_eq!(all.iter().map(|layer| layer.k_width).collect::<Vec<_>>(), [0, 32, 64]);
    assert_eq!(all[0].state_bytes, 4 * (3 * (128 + 32) + 128 * 16));
    assert_eq!(all[1].state_bytes, 0);
}

#[test]
fn latent_attention_caches_keys_alone() {
    let model = metadata(
        &[
            ("general.architecture", MetaValue::Text("deepseek2".into())),
            ("deepseek2.attention.head_count_kv", unsigned(1)),
            ("deepseek2.attention.key_length", unsigned(576)),
            ("deepseek2.attention.value_length", unsigned(512)),
            ("deepseek2.attention.key_length_mla", unsigned(192)),
        ],
        vec![tensor("blk.0.attn_kv_a_mqa.weight", &[8, 8], 128)],
    );
    assert_eq!((layers(&model)[0].k_width, layers(&model)[0].v_width), (576, 0));
}

#[test]
fn incomplete_and_absurd_files_have_no_layout() {
    let one = || vec![tensor("blk.0.attn_k.weight", &[8, 8], 128)];
    assert!(metadata(&[("split.count", unsigned(3))], one()).layout.is_none());
    assert!(metadata(&[], vec![tensor("output.weight", &[8, 8], 128)]).layout.is_none());
    assert!(metadata(&[], vec![tensor("blk.18446744073709551615.x", &[8], 8)]).layout.is_none());
    assert!(metadata(&[], vec![tensor("blk.600.attn_k.weight", &[8, 8], 128)]).layout.is_none());
    let many = [("general.architecture", MetaValue::Text("x".into())), ("x.block_count", unsigned(u64::MAX))];
    assert!(metadata(&many, one()).layout.is_none());
    let unknown = TensorInfo { bytes: None, ..tensor("blk.0.attn_k.weight", &[8, 8], 128) };
    assert!(metadata(&[], vec![unknown]).layout.is_none());
}

#[test]
fn absurd_runs_are_cut() {
    let run = LayerRun { count: u32::MAX, layer: Layer::default() };
    assert_eq!(Layout { runs: vec![run; 3], ..Layout::default() }.layers().count(), MAX_LAYERS);
}
