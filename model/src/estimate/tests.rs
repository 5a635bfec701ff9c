use std::collections::BTreeMap;

use fleetune_core::inventory::{Cpu, Gpu, Wsl};
use fleetune_core::runner::{FlashAttn, KvType, LoadMode, SplitMode};
use fleetune_core::value::Value;
use serde::Deserialize;

use super::memory::{Parts, Plan};
use super::*;
use crate::layout::{Layer, LayerRun, Layout};

const MIB: f64 = 1_048_576.0;

mod effective;
mod properties;

/// Buffers that the engine made, by `model/tests/fixtures/measure_buffers.py`.
#[derive(Deserialize)]
struct Measured {
    models: BTreeMap<String, ModelMetadata>,
    runs: Vec<Run>,
}

#[derive(Deserialize)]
struct Run {
    model: String,
    settings: Settings,
    mib: BTreeMap<String, f64>,
}

fn measured() -> Measured {
    serde_json::from_str(include_str!("../../tests/fixtures/buffers.json")).unwrap()
}

fn gpu(name: &str, vram_mib: u64) -> Gpu {
    Gpu { name: name.into(), vendor: "nvidia".into(), vram_mib, ..Gpu::default() }
}

fn machine(gpus: Vec<Gpu>) -> Inventory {
    Inventory {
        cpu: Cpu { model: "AMD Ryzen 9".into(), physical_cores: 16, logical_cpus: 32 },
        ram_mib: 65_536,
        gpus,
        wsl: Wsl::default(),
        ..Inventory::default()
    }
}

/// Llama 3.1 8B in `Q4_K_M`, its two kinds of layers taken as one.
fn llama_8b() -> ModelMetadata {
    let layer = Layer {
        bytes: 132_000_000,
        active_bytes: 132_000_000,
        active_elements: 218_103_808,
        largest_bytes: 48_168_960,
        k_width: 1024,
        v_width: 1024,
        ..Layer::default()
    };
    ModelMetadata {
        architecture: "llama".into(),
        quantization: "Q4_K_M".into(),
        block_count: 32,
        embedding_length: 4096,
        head_count: 32,
        head_count_kv: 8,
        key_length: 128,
        value_length: 128,
        vocab_size: 128_256,
        layout: Some(Layout {
            runs: vec![LayerRun { count: 32, layer }],
            input_bytes: 295_501_824,
            output_bytes: 430_940_160,
            output_elements: 525_336_576,
            rearrangeable: true,
            feed_forward_width: 14_336,
            ..Layout::default()
        }),
        ..ModelMetadata::default()
    }
}

fn is_near(mib: f64, expected: f64) -> bool {
    (mib - expected).abs() < 1e-6
}

fn workload(prompt: u32, gen_tokens: u32) -> Workload {
    Workload { prompt, gen_tokens, ..Workload::default() }
}

/// What the host and each used GPU hold.
fn parts(model: &ModelMetadata, inventory: &Inventory, settings: &Settings) -> (Parts, Vec<Parts>) {
    let facts = Facts::new(model, model.layout.as_ref().unwrap()).unwrap();
    let machine = Machine::new(inventory);
    let settings = super::effective(settings, model, inventory, &workload(64, 64));
    let placement = Placement::new(&settings, &facts, &machine).unwrap();
    let plan = Plan::new(&settings, &placement, &facts);
    let gpus = placement.spans.iter().enumerate().map(|(place, span)| plan.gpu(span, place == 0)).collect();
    (plan.host(), gpus)
}

/// The settings of a measured run: its weights were not rearranged.
fn as_run(settings: &Settings) -> Settings {
    Settings { repack: Some(false), ..settings.clone() }
}

#[test]
fn weights_caches_and_outputs_are_the_engines_own() {
    let measured = measured();
    assert!(measured.runs.len() > 200);
    for run in &measured.runs {
        let model = &measured.models[&run.model];
        let (host, _) = parts(model, &machine(Vec::new()), &as_run(&run.settings));
        for (what, bytes) in [("model", host.weights), ("KV", host.kv), ("output", host.output)] {
            let (mib, expected) = (bytes / MIB, run.mib[what]);
            assert!(
                (mib - expected).abs() <= 0.01 + expected * 1e-3,
                "{} {:?} {what}: {mib} {expected}",
                run.model,
                run.settings
            );
        }
    }
}

#[test]
fn compute_buffers_are_within_a_few_percent_of_the_engines() {
    let measured = measured();
    let mut errors: Vec<f64> = Vec::new();
    for run in &measured.runs {
        let model = &measured.models[&run.model];
        let (host, _) = parts(model, &machine(Vec::new()), &as_run(&run.settings));
        let error = host.compute / MIB / run.mib["compute"] - 1.0;
        assert!((-0.07..=0.05).contains(&error), "{} {:?}: {error:+.3}", run.model, run.settings);
        errors.push(error.abs());
    }
    errors.sort_by(f64::total_cmp);
    assert!(errors[errors.len() / 2] < 0.001, "median {}", errors[errors.len() / 2]);
    assert!(errors[errors.len() * 9 / 10] < 0.03, "nine tenths {}", errors[errors.len() * 9 / 10]);
}

/// `llama-fit-params` of llama.cpp 0.7 on this model, no GPU.
#[test]
fn whole_8b_model_needs_what_the_engines_own_fit_says() {
    let model = llama_8b();
    let settings = Settings { n_ctx: Some(8192), ..Settings::default() };
    let (host, _) = parts(&model, &machine(Vec::new()), &settings);
    assert!(is_near(host.kv / MIB, 1024.0));
    assert!((host.compute / MIB - 298.0).abs() < 1.0, "{}", host.compute / MIB);
    let quantised = Settings { type_k: Some(KvType::Q8_0), type_v: Some(KvType::Q8_0), ..settings.clone() };
    assert!(is_near(parts(&model, &machine(Vec::new()), &quantised).0.kv / MIB, 544.0));
    let large = Settings { n_ubatch: Some(2048), ..settings };
    let compute = parts(&model, &machine(Vec::new()), &large).0.compute / MIB;
    assert!((compute - 1194.0).abs() < 2.0, "{compute}");
}

/// The log of a 35B Command-R on two GPUs in llama.cpp's pull request 6122: CUDA0 12 of 40 layers.
#[test]
fn published_buffers_of_two_gpus_are_met() {
    let layer = Layer { bytes: 480_000_000, k_width: 8192, v_width: 8192, ..Layer::default() };
    let model = ModelMetadata {
        embedding_length: 8192,
        head_count: 64,
        key_length: 128,
        vocab_size: 256_000,
        block_count: 40,
        layout: Some(Layout {
            runs: vec![LayerRun { count: 40, layer }],
            tied_bytes: 1_720_320_000,
            feed_forward_width: 22_528,
            ..Layout::default()
        }),
        ..ModelMetadata::default()
    };
    // Free memory, not all of it, decides; the smaller one also drives the screen.
    let inventory = machine(vec![gpu("RTX 4070 Ti", 9_900), gpu("RTX 3090 Ti", 24_000)]);
    let settings = Settings { n_ctx: Some(4096), flash_attn: Some(FlashAttn::Off), ..Settings::default() };
    let (host, gpus) = parts(&model, &inventory, &settings);
    assert_eq!((gpus[0].kv / MIB, gpus[1].kv / MIB), (1536.0, 3584.0));
    assert!((gpus[0].compute / MIB - 672.01).abs() < 0.1, "{}", gpus[0].compute / MIB);
    assert!(is_near(host.kv, 0.0));
}

#[test]
fn weights_on_the_host_pass_through_the_first_gpu() {
    let model = llama_8b();
    let inventory = machine(vec![gpu("RTX 3090", 24_576)]);
    let of = |op_offload| Settings { n_gpu_layers: Some(0), op_offload: Some(op_offload), ..Settings::default() };
    let compute = |settings| parts(&model, &inventory, &settings).1[0].compute / MIB;
    // The output matrix of 411 MiB and 512 rows of logits.
    assert!(compute(of(true)) > 411.0, "{}", compute(of(true)));
    assert!(is_near(compute(of(false)), 0.0));
}

#[test]
fn ratio_is_that_of_the_fullest_memory() {
    let model = llama_8b();
    let inventory = machine(vec![gpu("RTX 3060", 12_288), gpu("RTX 3090", 24_576)]);
    let estimator = Estimator::new(&model, &inventory, &workload(512, 128));
    let estimation = estimator.estimate_settings(&Settings {
        split_mode: Some(SplitMode::None),
        n_ctx: Some(65_536),
        ..Settings::default()
    });
    assert_eq!(estimation.memory.len(), 3);
    let ratio = estimation.memory_ratio.unwrap();
    assert_eq!(Some(ratio), estimation.memory[1].ratio());
    assert!(ratio > 1.0 && estimation.memory[2].need_mib == 0.0, "{estimation:?}");
    let spread = estimator.estimate_settings(&Settings { n_ctx: Some(65_536), ..Settings::default() });
    assert!(spread.memory_ratio.unwrap() < 0.9, "{spread:?}");
}

#[test]
fn wsl_leaves_less_memory_of_a_gpu() {
    let mut inventory = machine(vec![gpu("RTX 3060", 12_288)]);
    let ratio = |inventory: &Inventory| {
        Estimator::new(&llama_8b(), inventory, &Workload::default())
            .estimate_settings(&Settings::default())
            .memory_ratio
    };
    let bare = ratio(&inventory);
    inventory.wsl.detected = true;
    assert!(ratio(&inventory) > bare);
}

#[test]
fn unified_memory_is_filled_by_both() {
    let apple = Gpu { name: "Apple M2 Max".into(), vendor: "apple".into(), vram_mib: 49_152, ..Gpu::default() };
    let estimator = Estimator::new(&llama_8b(), &machine(vec![apple]), &Workload::default());
    let memory = estimator.estimate_settings(&Settings::default()).memory;
    assert!(memory[0].need_mib > memory[1].need_mib);
}

#[test]
fn gpu_is_faster_and_every_layer_counts() {
    let estimator = Estimator::new(&llama_8b(), &machine(vec![gpu("RTX 3090", 24_576)]), &Workload::default());
    let speeds = |layers| {
        let settings = Settings { n_gpu_layers: Some(layers), op_offload: Some(false), ..Settings::default() };
        let estimation = estimator.estimate_settings(&settings);
        (estimation.decode_tok_s.unwrap(), estimation.prefill_tok_s.unwrap())
    };
    for layers in 0..33 {
        let (less, more) = (speeds(layers), speeds(layers + 1));
        assert!(more.0 > less.0 && more.1 > less.1, "{layers}: {less:?} {more:?}");
    }
    assert!(speeds(33).0 > 5.0 * speeds(0).0);
    assert!(estimator.knows_the_hardware());
}

#[test]
fn decode_on_a_known_gpu_is_of_the_right_size() {
    let estimator =
        Estimator::new(&llama_8b(), &machine(vec![gpu("NVIDIA GeForce RTX 3090", 24_576)]), &workload(512, 128));
    let decode = estimator.estimate_settings(&Settings::default()).decode_tok_s.unwrap();
    // llama-bench reports 110 to 150 for this model and card.
    assert!((80.0..200.0).contains(&decode), "{decode}");
}

#[test]
fn threads_help_until_memory_or_cores_are_used_up() {
    let estimator = Estimator::new(&llama_8b(), &machine(Vec::new()), &Workload::default());
    let speeds = |threads| {
        let settings = Settings { n_threads: Some(threads), ..Settings::default() };
        let estimation = estimator.estimate_settings(&settings);
        (estimation.decode_tok_s.unwrap(), estimation.prefill_tok_s.unwrap())
    };
    assert!(speeds(2).0 > 1.5 * speeds(1).0);
    assert!(speeds(16).0 < 1.1 * speeds(8).0, "two channels of memory feed four cores");
    assert!(speeds(16).1 > 1.8 * speeds(8).1);
    assert!(speeds(64).1 < speeds(32).1 && speeds(64).0 < speeds(32).0);
}

#[test]
fn large_batches_speed_up_prefill_on_a_gpu() {
    let estimator = Estimator::new(&llama_8b(), &machine(vec![gpu("RTX 3090", 24_576)]), &workload(2048, 64));
    let prefill = |ubatch| {
        let settings = Settings { n_ubatch: Some(ubatch), ..Settings::default() };
        estimator.estimate_settings(&settings).prefill_tok_s.unwrap()
    };
    assert!(prefill(64) < prefill(128) && prefill(128) < prefill(512) && prefill(512) < prefill(2048));
}

#[test]
fn without_a_layout_only_settings_are_known() {
    let model = ModelMetadata { layout: None, split_count: 3, ..llama_8b() };
    let estimation = Estimator::new(&model, &machine(Vec::new()), &Workload::default()).estimate(&Params::new());
    assert_eq!((estimation.memory_ratio, estimation.decode_tok_s, estimation.prefill_tok_s), (None, None, None));
    assert_eq!(estimation.effective["n_gpu_layers"], Value::Int(0));
}

#[test]
fn parameters_that_are_no_settings_are_left_alone() {
    let params: Params = [("temperature".to_owned(), Value::Float(0.7))].into();
    let estimation = Estimator::new(&llama_8b(), &machine(Vec::new()), &Workload::default()).estimate(&params);
    assert_eq!((estimation.memory_ratio, &estimation.effective), (None, &params));
}
