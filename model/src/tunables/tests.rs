use fleetune_core::runner::Settings;

use super::*;

const CPU_ONLY: &str = include_str!("../../tests/inventories/cpu-only.json");
const ONE_GPU: &str = include_str!("../../tests/inventories/one-gpu.json");
const TWO_GPUS: &str = include_str!("../../tests/inventories/two-gpus.json");
const WSL: &str = include_str!("../../tests/inventories/wsl.json");

/// Llama 3.1 8B in `Q4_K_M`.
fn small() -> ModelMetadata {
    ModelMetadata {
        architecture: "llama".into(),
        quantization: "Q4_K_M".into(),
        tensor_bytes: 4_912_898_304,
        file_bytes: 4_920_739_232,
        block_count: 32,
        context_length: 131_072,
        head_count: 32,
        head_count_kv: 8,
        key_length: 128,
        value_length: 128,
        ..ModelMetadata::default()
    }
}

/// Llama 3.1 70B in `Q4_K_M`.
fn large() -> ModelMetadata {
    ModelMetadata {
        tensor_bytes: 42_512_531_456,
        file_bytes: 42_520_395_584,
        block_count: 80,
        head_count: 64,
        ..small()
    }
}

fn made(model: &ModelMetadata, inventory: &str, prompt: u32) -> DefaultSpace {
    let inventory: Inventory = serde_json::from_str(inventory).unwrap();
    let workload = Workload { prompt, ..Workload::default() };
    default_space(model, &inventory, &workload)
}

fn searched(model: &ModelMetadata, inventory: &str) -> Vec<String> {
    made(model, inventory, 512).search_space().unwrap().parameters().keys().cloned().collect()
}

#[test]
fn searched_parameters_are_those_that_matter_on_the_machine() {
    let host = ["flash_attn", "load_mode", "n_batch", "n_threads", "n_threads_batch", "n_ubatch", "repack"];
    assert_eq!(searched(&small(), CPU_ONLY), host);
    assert_eq!(searched(&small(), ONE_GPU), ["flash_attn", "n_batch", "n_gpu_layers", "n_ubatch"]);
    assert_eq!(searched(&small(), WSL), ["flash_attn", "n_batch", "n_gpu_layers", "n_ubatch"]);
    let two = ["flash_attn", "main_gpu", "n_batch", "n_gpu_layers", "n_ubatch", "split_mode"];
    assert_eq!(searched(&small(), TWO_GPUS), two);
}

#[test]
fn model_that_does_not_fit_brings_the_host_into_the_search() {
    let mut expected = searched(&small(), CPU_ONLY);
    expected.extend(["n_gpu_layers", "offload_kqv", "op_offload"].map(str::to_owned));
    // Beside a GPU with pinned memory the engine rearranges nothing.
    expected.retain(|name| name != "repack");
    expected.sort();
    assert_eq!(searched(&large(), ONE_GPU), expected);
    // 42 GB in 32 GB of memory: not read whole.
    expected.retain(|name| name != "load_mode");
    assert_eq!(searched(&large(), WSL), expected);
}

#[test]
fn layers_are_split_over_two_gpus_where_one_is_too_small() {
    let space = made(&large(), TWO_GPUS, 512);
    assert!(space.toml.contains("choices = [\"layer\", \"row\"]"), "{}", space.toml);
    assert!(!space.toml.contains("main_gpu"), "{}", space.toml);
    assert!(made(&small(), TWO_GPUS, 512).toml.contains("choices = [\"layer\", \"row\", \"none\"]"));
}

#[test]
fn defaults_are_llama_cpps_own_and_lie_in_the_space() {
    for inventory in [CPU_ONLY, ONE_GPU, TWO_GPUS, WSL] {
        for model in [small(), large()] {
            for prompt in [1, 100, 512, 3000, 100_000] {
                let made = made(&model, inventory, prompt);
                let space = made.search_space().unwrap();
                let settings = Settings::from_params(&made.defaults).unwrap();
                assert_eq!((settings.n_batch, settings.n_ubatch), (Some(2048), Some(512)));
                assert_eq!(settings.n_ctx, Some((prompt + 128).next_multiple_of(256)));
                assert_eq!(settings.type_k.unwrap().as_str(), "f16");
                let mut chosen = made.defaults.clone();
                chosen.retain(|name, _| !made.fixed.contains_key(name));
                chosen.retain(|name, _| space.is_active(name, &made.defaults));
                space.check(&chosen).unwrap();
            }
        }
    }
}

#[test]
fn threads_reach_a_little_beyond_the_physical_cores() {
    let toml = made(&small(), CPU_ONLY, 512).toml;
    assert!(toml.contains("[parameters.n_threads]\ntype = \"int\"\nlow = 1\nhigh = 10\ndefault = 8\n"), "{toml}");
    assert!(toml.contains("[parameters.n_threads_batch]\ntype = \"int\"\nlow = 1\nhigh = 16\ndefault = 8\n"), "{toml}");
}

#[test]
fn single_cpu_leaves_no_threads_to_search() {
    let inventory = Inventory { ram_mib: 1 << 20, ..Inventory::default() };
    let made = default_space(&small(), &inventory, &Workload::default());
    assert_eq!(made.fixed["n_threads"], Value::Int(1));
    assert!(!made.toml.contains("n_threads"));
}

#[test]
fn batches_stop_at_the_prompt() {
    let line = |prompt: u32, name: &str| {
        let toml = made(&small(), CPU_ONLY, prompt).toml;
        let after = toml.split_once(&format!("[parameters.{name}]\n")).map(|(_, rest)| rest.to_owned());
        after.map_or_else(String::new, |rest| rest.lines().next().unwrap().to_owned())
    };
    assert_eq!(line(512, "n_batch"), "choices = [128, 256, 2048]");
    assert_eq!(line(512, "n_ubatch"), "choices = [64, 128, 256, 512]");
    assert_eq!(line(3000, "n_batch"), "choices = [128, 256, 512, 1024, 2048, 4096]");
    assert_eq!(line(3000, "n_ubatch"), "choices = [64, 128, 256, 512, 1024, 2048, 4096]");
    assert_eq!(line(16, "n_batch"), "", "one piece whatever the setting");
}

#[test]
fn settings_that_an_engine_does_not_take_are_left_out() {
    let inventory: Inventory = serde_json::from_str(TWO_GPUS).unwrap();
    let settings = ["n_batch", "main_gpu", "type_k", "type_v"].map(str::to_owned).to_vec();
    let options = SpaceOptions { quantized_kv: true, settings };
    let made = default_space_with(&small(), &inventory, &Workload::default(), &options);
    let searched: Vec<_> = made.search_space().unwrap().parameters().keys().cloned().collect();
    assert_eq!(searched, ["main_gpu", "n_batch", "type_k", "type_v"]);
    assert_eq!(made.defaults.keys().collect::<Vec<_>>(), ["main_gpu", "n_batch", "type_k", "type_v"]);
}

#[test]
fn quantised_caches_are_searched_only_on_request_and_with_flash_attention() {
    let inventory: Inventory = serde_json::from_str(CPU_ONLY).unwrap();
    let options = SpaceOptions { quantized_kv: true, ..SpaceOptions::default() };
    let made = default_space_with(&small(), &inventory, &Workload::default(), &options);
    let space = made.search_space().unwrap();
    assert_eq!(made.defaults["type_v"], Value::from("f16"));
    let mut params = made.defaults.clone();
    params.retain(|name, _| !made.fixed.contains_key(name));
    params.insert("type_v".into(), Value::from("q8_0"));
    assert!(space.forbidden_by(&params).is_none());
    params.insert("flash_attn".into(), Value::from("off"));
    assert_eq!(space.forbidden_by(&params).unwrap().why(), Some("a quantised V cache needs flash attention"));
    let odd = ModelMetadata { key_length: 80, ..small() };
    let made = default_space_with(&odd, &inventory, &Workload::default(), &options);
    assert!(made.fixed.contains_key("type_k"), "blocks of 32 do not fit into heads of 80");
}
