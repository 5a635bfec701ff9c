//! The settings as llama.cpp 0.6 takes them: gaps filled, limits applied, what has no effect at its default.
//!
//! Two requests that are equal here are one configuration. The reverse is not promised: where the outcome depends on
//! what the inventory does not tell (a GPU's kernels, the CPU's features), the request is kept.

use fleetune_core::inventory::{Gpu, Inventory};
use fleetune_core::runner::{FlashAttn, KvType, LoadMode, Settings, SplitMode};
use fleetune_core::workload::Workload;

use crate::metadata::ModelMetadata;

/// The engine pads a context to a multiple of this: `llama_context::llama_context`.
const CONTEXT_PADDING: u32 = 256;
/// Default of `llama_context_default_params`.
const DEFAULT_BATCH: u32 = 2048;
/// Default of `llama_context_default_params`.
const DEFAULT_UBATCH: u32 = 512;
/// Tokens from which operations on the host's weights go to a GPU: `GGML_OP_OFFLOAD_MIN_BATCH` in `ggml-cuda.cu`.
pub(super) const OFFLOAD_MIN_BATCH: u32 = 32;

/// The effective form of `settings`: every setting but `cpu_affinity` has a value.
pub fn effective(settings: &Settings, model: &ModelMetadata, inventory: &Inventory, workload: &Workload) -> Settings {
    let gpus = &inventory.gpus;
    let (n_ctx, n_batch, n_ubatch) = tokens(settings, workload);
    let layers = layers_on_gpu(settings, model, gpus);
    let host_computes = layers < model.layers_to_offload();
    // The first layer to go to a GPU is the output, which has no KV cache.
    let attends_on_gpu = layers > 1;
    let n_threads = settings.n_threads.unwrap_or_else(|| cores(inventory));
    let (split_mode, main_gpu) = split(settings, gpus.len(), layers);
    let op_offload =
        !host_computes || workload.prompt.min(n_ubatch) < OFFLOAD_MIN_BATCH || settings.op_offload.unwrap_or(true);
    Settings {
        n_gpu_layers: Some(i32::try_from(layers).unwrap_or(i32::MAX)),
        n_batch: Some(n_batch),
        n_ubatch: Some(n_ubatch),
        n_ctx: Some(n_ctx),
        n_threads: Some(n_threads),
        n_threads_batch: Some(settings.n_threads_batch.unwrap_or(n_threads)),
        flash_attn: Some(flash_attn(settings, model, gpus, attends_on_gpu)),
        type_k: Some(settings.type_k.unwrap_or_default()),
        type_v: Some(settings.type_v.unwrap_or_default()),
        offload_kqv: Some(!gpus.is_empty() && (!attends_on_gpu || settings.offload_kqv.unwrap_or(true))),
        op_offload: Some(!gpus.is_empty() && op_offload),
        split_mode: Some(split_mode),
        main_gpu: Some(main_gpu),
        load_mode: Some(load_mode(settings, gpus)),
        repack: Some(settings.repack.unwrap_or(true) && host_computes && can_repack(model, gpus)),
        cpu_affinity: settings.cpu_affinity.clone(),
    }
}

/// Context and batches. The batches are limited by the context before it is padded (`llama_context::llama_context`).
fn tokens(settings: &Settings, workload: &Workload) -> (u32, u32, u32) {
    let needed = workload.prompt.saturating_add(workload.gen_tokens);
    let n_ctx = settings.n_ctx.unwrap_or_else(|| padded(needed));
    let mut n_batch = settings.n_batch.unwrap_or(DEFAULT_BATCH).min(n_ctx);
    let n_ubatch = settings.n_ubatch.unwrap_or(DEFAULT_UBATCH).min(n_batch);
    // The runner hands over the prompt in pieces of n_batch: those it does not fill are the same.
    if n_batch >= workload.prompt {
        n_batch = workload.prompt.max(n_ubatch);
    }
    (padded(n_ctx), n_batch, n_ubatch)
}

fn padded(n_ctx: u32) -> u32 {
    n_ctx.checked_next_multiple_of(CONTEXT_PADDING).unwrap_or(n_ctx)
}

/// `llama_model::n_gpu_layers`: negative means all; without a device none.
fn layers_on_gpu(settings: &Settings, model: &ModelMetadata, gpus: &[Gpu]) -> u32 {
    let all = model.layers_to_offload();
    if gpus.is_empty() {
        return 0;
    }
    u32::try_from(settings.n_gpu_layers.unwrap_or(-1)).map_or(all, |layers| layers.min(all))
}

/// Threads where none are asked for: the runner's default, as that of llama.cpp's own programs. More than there are
/// CPUs are not cut, neither by the engine nor here.
pub(super) fn cores(inventory: &Inventory) -> u32 {
    inventory.cpu.physical_cores.clamp(1, inventory.cpu.logical_cpus.max(1))
}

/// `llama_prepare_model_devices` reads the main GPU with split mode `none` alone. Rows are split within offloaded
/// layers; with one GPU they still take kernels of their own.
fn split(settings: &Settings, gpus: usize, layers: u32) -> (SplitMode, u32) {
    let main_gpu = settings.main_gpu.unwrap_or(0);
    match (settings.split_mode.unwrap_or_default(), gpus) {
        (_, 0) => (SplitMode::None, 0),
        (SplitMode::None, _) => (SplitMode::None, main_gpu),
        (SplitMode::Row, _) if layers > 0 => (SplitMode::Row, 0),
        (SplitMode::Row | SplitMode::Layer, 1) => (SplitMode::None, 0),
        (SplitMode::Row | SplitMode::Layer, _) => (SplitMode::Layer, 0),
    }
}

/// `llama_init_from_model`, then `resolve_fused_ops`: fused where every layer's device can.
fn flash_attn(settings: &Settings, model: &ModelMetadata, gpus: &[Gpu], on_gpu: bool) -> FlashAttn {
    let asked = settings.flash_attn.unwrap_or_default();
    if model.architecture == "grok" {
        return FlashAttn::Off;
    }
    if asked != FlashAttn::Auto {
        return asked;
    }
    let (k, v) = (settings.type_k.unwrap_or_default(), settings.type_v.unwrap_or_default());
    if is_quantized(v) || !on_gpu || gpus.iter().all(|gpu| cuda_fuses(gpu, model, k, v)) {
        return FlashAttn::On;
    }
    FlashAttn::Auto
}

pub(super) fn is_quantized(kv: KvType) -> bool {
    !matches!(kv, KvType::F32 | KvType::F16 | KvType::Bf16)
}

/// Whether CUDA has a kernel in any case: `ggml_cuda_get_best_fattn_kernel`. Other widths depend on more.
fn cuda_fuses(gpu: &Gpu, model: &ModelMetadata, k: KvType, v: KvType) -> bool {
    const WIDTHS: [u32; 8] = [40, 64, 72, 80, 96, 112, 128, 256];
    gpu.vendor == "nvidia"
        && model.key_length == model.value_length
        && WIDTHS.contains(&model.key_length)
        && k != KvType::Iq4Nl
        && v != KvType::Iq4Nl
}

/// `load_tensors`: mapped unless a device cannot, which discrete GPUs, Apple's and the CPU can.
fn load_mode(settings: &Settings, gpus: &[Gpu]) -> LoadMode {
    let asked = settings.load_mode.unwrap_or_default();
    let all_map = gpus.iter().all(|gpu| matches!(gpu.vendor.as_str(), "nvidia" | "apple"));
    if asked == LoadMode::Auto && all_map { LoadMode::Mmap } else { asked }
}

/// Whether weights on the host are rearranged. `make_cpu_buft_list` puts a GPU's pinned memory first, so that beside a
/// GPU that has such memory they never are; Apple's have none.
pub(crate) fn can_repack(model: &ModelMetadata, gpus: &[Gpu]) -> bool {
    let by_name = || !matches!(model.quantization.as_str(), "F32" | "F16" | "BF16");
    let types = model.layout.as_ref().map_or_else(by_name, |layout| layout.rearrangeable);
    types && !gpus.iter().any(|gpu| matches!(gpu.vendor.as_str(), "nvidia" | "amd"))
}
