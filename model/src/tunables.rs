//! Decides which settings are worth a search for a model on a machine, and what they are when nobody searches.
//!
//! Only what can change the speed there is searched: no GPU layers without a GPU, no threads for a model that lies on
//! the GPU whole, no batch above the prompt. What changes the *quality* of the answers (types of the KV cache) is
//! searched only on request; what this module cannot judge (CPU affinity, which needs the topology) not at all. Both
//! can be put into a space by hand.

use fleetune_core::inventory::{Gpu, Inventory};
use fleetune_core::space::{SearchSpace, SpaceError};
use fleetune_core::value::{Params, Value};
use fleetune_core::workload::Workload;

use crate::estimate::can_repack;
use crate::metadata::ModelMetadata;

mod writer;

use writer::SpaceWriter;

/// The engine pads a context to a multiple of this.
const CONTEXT_PADDING: u32 = 256;
/// llama.cpp's default logical batch.
const DEFAULT_BATCH: u32 = 2048;
/// llama.cpp's default physical batch.
const DEFAULT_UBATCH: u32 = 512;
/// Batches that are tried. Kernels are made for powers of two; values between them only blur the search.
const BATCHES: [u32; 6] = [128, 256, 512, 1024, 2048, 4096];
/// Physical batches that are tried.
const UBATCHES: [u32; 7] = [64, 128, 256, 512, 1024, 2048, 4096];
/// Above this many threads their number is searched on a logarithmic scale.
const MANY_THREADS: u32 = 16;
/// Memory of a GPU that compute buffers and the driver take, MiB: what llama.cpp's own fit leaves free.
const VRAM_MARGIN_MIB: u64 = 1024;
/// The same under WSL, where the last GiB that the driver calls free cannot be had.
const VRAM_MARGIN_WSL_MIB: u64 = 2048;

/// What is searched by default, and the settings without a search.
#[derive(Clone, Debug, PartialEq)]
pub struct DefaultSpace {
    /// The searched parameters as a search space file.
    pub toml: String,
    /// llama.cpp's own defaults on this machine: a value for every searched parameter, and `fixed`.
    pub defaults: Params,
    /// The part of `defaults` that every trial carries, since it is not searched.
    pub fixed: Params,
}

/// What may be searched beyond speed at equal quality, and what at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpaceOptions {
    /// The settings that the engine takes; empty means all. Others are neither searched nor have a default.
    pub settings: Vec<String>,
    /// Search 8-bit KV caches too. They save memory and can be faster, at some cost in quality.
    pub quantized_kv: bool,
}

impl DefaultSpace {
    /// The space behind `toml`.
    pub fn search_space(&self) -> Result<SearchSpace, Box<SpaceError>> {
        SearchSpace::from_toml(&self.toml).map_err(Box::new)
    }
}

/// The default space of `model` on the machine of `inventory` for `workload`.
pub fn default_space(model: &ModelMetadata, inventory: &Inventory, workload: &Workload) -> DefaultSpace {
    default_space_with(model, inventory, workload, &SpaceOptions::default())
}

/// The same, with more than speed at equal quality.
pub fn default_space_with(
    model: &ModelMetadata,
    inventory: &Inventory,
    workload: &Workload,
    options: &SpaceOptions,
) -> DefaultSpace {
    let plan = Plan::new(model, inventory, workload);
    let mut space = SpaceWriter::new(&options.settings);
    space.fix("n_ctx", Value::Int(i64::from(plan.n_ctx)));
    batches(&mut space, workload.prompt);
    // `auto` is `on` wherever the device can; a third choice would be measured twice.
    space.choose("flash_attn", &["auto", "off"].map(Value::from), &Value::from("auto"));
    threads(&mut space, &plan, inventory);
    if plan.gpus.is_empty() {
        space.fix("n_gpu_layers", Value::Int(0));
    } else {
        gpus(&mut space, &plan, model);
    }
    host(&mut space, &plan, model, inventory);
    kv_types(&mut space, model, options);
    space.finish()
}

/// What can be said about model and machine together.
struct Plan<'a> {
    gpus: &'a [Gpu],
    n_ctx: u32,
    /// Part of the work is done by the CPU, because there is no GPU or because not everything fits.
    on_host: bool,
    /// The whole model fits onto the smallest GPU.
    fits_one: bool,
}

impl<'a> Plan<'a> {
    fn new(model: &ModelMetadata, inventory: &'a Inventory, workload: &Workload) -> Self {
        let n_ctx = workload.prompt.saturating_add(workload.gen_tokens).next_multiple_of(CONTEXT_PADDING);
        let kv_bytes = model.kv_bytes_per_token().saturating_mul(u64::from(n_ctx));
        let needed_mib = model.tensor_bytes.saturating_add(kv_bytes) >> 20;
        let margin = if inventory.wsl.detected { VRAM_MARGIN_WSL_MIB } else { VRAM_MARGIN_MIB };
        let usable = |gpu: &Gpu| gpu.vram_mib.saturating_sub(margin);
        let all: u64 = inventory.gpus.iter().map(usable).fold(0, u64::saturating_add);
        Self {
            gpus: &inventory.gpus,
            n_ctx,
            on_host: needed_mib > all || inventory.gpus.is_empty(),
            fits_one: inventory.gpus.iter().map(usable).min().is_some_and(|least| needed_mib <= least),
        }
    }
}

/// Sizes of the pieces in which a prompt is computed. Pieces of the prompt's length and above are one and the same.
fn batches(space: &mut SpaceWriter<'_>, prompt: u32) {
    let choices = |all: &[u32], default: u32| -> Vec<u32> {
        let whole = if default >= prompt { Some(default) } else { all.iter().copied().find(|size| *size >= prompt) };
        let mut sizes: Vec<u32> = all.iter().copied().filter(|size| *size < prompt).chain(whole).collect();
        if !sizes.contains(&default) {
            sizes.push(default);
        }
        sizes.sort_unstable();
        sizes
    };
    let values = |sizes: Vec<u32>| sizes.into_iter().map(|size| Value::Int(i64::from(size))).collect::<Vec<_>>();
    let n_batch = space.choose("n_batch", &values(choices(&BATCHES, DEFAULT_BATCH)), &i64::from(DEFAULT_BATCH).into());
    let n_ubatch =
        space.choose("n_ubatch", &values(choices(&UBATCHES, DEFAULT_UBATCH)), &i64::from(DEFAULT_UBATCH).into());
    if n_batch && n_ubatch {
        space.forbid("n_ubatch > n_batch", "the engine takes at most n_batch tokens at once");
    }
}

fn threads(space: &mut SpaceWriter<'_>, plan: &Plan<'_>, inventory: &Inventory) {
    let logical = inventory.cpu.logical_cpus.max(1);
    let cores = inventory.cpu.physical_cores.clamp(1, logical);
    let default = i64::from(cores);
    // Decode waits for memory: hardware threads of a busy core add nothing, but a few more can hide latencies.
    let decode = cores.saturating_add((cores / 4).max(1)).min(logical);
    if plan.on_host {
        space.range("n_threads", 1, i64::from(decode), decode > MANY_THREADS, default);
        space.range("n_threads_batch", 1, i64::from(logical), logical > MANY_THREADS, default);
    } else {
        space.fix("n_threads", Value::Int(default));
        space.fix("n_threads_batch", Value::Int(default));
    }
}

fn gpus(space: &mut SpaceWriter<'_>, plan: &Plan<'_>, model: &ModelMetadata) {
    let layers = i64::from(model.layers_to_offload());
    space.range("n_gpu_layers", 0, layers, false, layers);
    let on_off = [true, false].map(Value::Bool);
    if plan.on_host {
        space.choose("offload_kqv", &on_off, &Value::Bool(true));
        space.choose("op_offload", &on_off, &Value::Bool(true));
    }
    if plan.gpus.len() > 1 {
        let one = plan.fits_one.then_some("none");
        let modes: Vec<Value> = ["layer", "row"].into_iter().chain(one).map(Value::from).collect();
        space.choose("split_mode", &modes, &Value::from("layer"));
        let alike =
            plan.gpus.windows(2).all(|pair| (&pair[0].name, pair[0].vram_mib) == (&pair[1].name, pair[1].vram_mib));
        if plan.fits_one && !alike {
            let last = plan.gpus.len() as i64 - 1;
            // Split over the GPUs, by layers or by rows, none of them is the main one.
            if space.range("main_gpu", 0, last, false, 0) && space.searches("split_mode") {
                space.when("split_mode == 'none'");
            }
        }
    }
}

/// What matters for weights that the CPU computes with.
fn host(space: &mut SpaceWriter<'_>, plan: &Plan<'_>, model: &ModelMetadata, inventory: &Inventory) {
    let auto = Value::from("auto");
    let file_mib = model.file_bytes >> 20;
    let fits_ram = file_mib.saturating_mul(5) / 4 <= inventory.ram_mib;
    if plan.on_host && fits_ram {
        space.choose("load_mode", &[auto.clone(), Value::from("none")], &auto);
    } else {
        space.fix("load_mode", auto);
    }
    // Rearranged weights are a second copy in memory.
    if plan.on_host && fits_ram && can_repack(model, plan.gpus) {
        space.choose("repack", &[true, false].map(Value::Bool), &Value::Bool(true));
    }
}

fn kv_types(space: &mut SpaceWriter<'_>, model: &ModelMetadata, options: &SpaceOptions) {
    /// Elements in a block of the quantised types.
    const BLOCK: u32 = 32;
    let f16 = Value::from("f16");
    let possible = |width: u32| width > 0 && width.is_multiple_of(BLOCK);
    if !options.quantized_kv || !possible(model.key_length) || !possible(model.value_length) {
        space.fix("type_k", f16.clone());
        space.fix("type_v", f16);
        return;
    }
    let types = [f16.clone(), Value::from("q8_0")];
    space.choose("type_k", &types, &f16);
    if space.choose("type_v", &types, &f16) && space.searches("flash_attn") {
        space.forbid("type_v != 'f16' && flash_attn == 'off'", "a quantised V cache needs flash attention");
    }
}

#[cfg(test)]
mod tests;
