//! What of a model fits a machine: how many layers go to GPUs for a context and a type of KV cache, and which of these
//! choices to start with.
//!
//! Arithmetic on estimates ([`Estimator`]); nothing is loaded or measured.

use fleetune_core::inventory::Inventory;
use fleetune_core::runner::{FlashAttn, KvType, Settings};
use fleetune_core::workload::Workload;

use crate::estimate::{DeviceMemory, Estimator, Place};
use crate::metadata::ModelMetadata;

/// Memory that stays free on each GPU where nobody says otherwise, MiB.
pub const DEFAULT_MARGIN_MIB: u64 = 500;
/// Context that a recommendation wants to hold where nobody names one, tokens.
pub const WANTED_CONTEXT: u32 = 8192;
/// Types of the KV cache that are compared, the most exact first.
const KV_TYPES: [KvType; 3] = [KvType::F16, KvType::Q8_0, KvType::Q4_0];
/// Elements of a block of a quantised cache; heads of other widths cannot have one.
const KV_BLOCK: u32 = 32;
/// Smallest context that is compared, tokens; doubled up to the model's own.
const SMALLEST_CONTEXT: u32 = 4096;

/// What is fixed; the rest is compared.
#[derive(Clone, Debug, Default)]
pub struct FitOptions {
    /// Tokens of context.
    pub context: Option<u32>,
    /// Type of both halves of the KV cache.
    pub kv: Option<KvType>,
    /// Layers on GPUs.
    pub layers: Option<u32>,
    /// Physical batch; absent: the engine's default.
    pub ubatch: Option<u32>,
    /// Memory that stays free on each GPU, MiB.
    pub margin_mib: u64,
}

/// One choice of context and KV cache, with as many layers on GPUs as fit.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit {
    /// The settings to ask the engine for.
    pub settings: Settings,
    /// Whether it fits at all: with no layer on a GPU, or with those that were fixed.
    pub fits: bool,
    /// Whether every layer is where the machine computes best: on GPUs, if it has any.
    pub whole: bool,
    /// The host's need, then each GPU's.
    pub memory: Vec<DeviceMemory>,
}

/// All choices, contexts ascending and the most exact cache first, and the place of the recommended one.
///
/// Recommended is, in this order: a choice with all layers on GPUs that holds the wanted context (the given one, else
/// [`WANTED_CONTEXT`] or the model's own if that is smaller), its cache as exact as possible, then its context as long
/// as possible; else the longest context with all layers on GPUs; else the most layers at the wanted context. `None`
/// where nothing fits. Nothing is compared for a model whose layout is unknown.
pub fn fits(model: &ModelMetadata, inventory: &Inventory, options: &FitOptions) -> (Vec<Fit>, Option<usize>) {
    let estimator = Estimator::new(model, inventory, &Workload::default());
    let all = if inventory.gpus.is_empty() { 0 } else { model.layers_to_offload() };
    let mut rows = Vec::new();
    for context in contexts(model, options) {
        for kv in kv_types(model, options) {
            let settings = |layers: u32| Settings {
                n_gpu_layers: i32::try_from(layers).ok(),
                n_ctx: Some(context),
                n_ubatch: options.ubatch,
                // The engine's `auto` would refuse a quantised cache on devices without a fused kernel.
                flash_attn: (kv != KvType::F16).then_some(FlashAttn::On),
                type_k: Some(kv),
                type_v: Some(kv),
                ..Settings::default()
            };
            let tried = |layers: u32| {
                let settings = settings(layers);
                let memory = estimator.estimate_settings(&settings).memory;
                // The margin is for what else uses a card that computes; a model beside it takes nothing from it.
                let margin = if layers == 0 { 0 } else { options.margin_mib };
                let fits = memory.iter().all(|device| has_room(device, inventory, margin));
                Fit { fits, whole: layers >= all, settings, memory }
            };
            let row = match options.layers {
                Some(layers) => tried(layers.min(all)),
                None => (0..=all).rev().map(tried).find(|fit| fit.fits).unwrap_or_else(|| tried(0)),
            };
            if !row.memory.is_empty() {
                rows.push(row);
            }
        }
    }
    let recommended = recommended(&rows, wanted(model, options));
    (rows, recommended)
}

/// Whether a memory holds its need and, on a GPU, the margin. A memory of unknown size holds anything.
fn has_room(device: &DeviceMemory, inventory: &Inventory, margin_mib: u64) -> bool {
    let left = match device.place {
        Place::Host => true,
        Place::Gpu(index) => inventory
            .gpus
            .get(index)
            .is_none_or(|gpu| gpu.vram_mib == 0 || device.need_mib + margin_mib as f64 <= gpu.vram_mib as f64),
    };
    left && device.ratio().is_none_or(|ratio| ratio <= 1.0)
}

fn wanted(model: &ModelMetadata, options: &FitOptions) -> u32 {
    let own = if model.context_length == 0 { WANTED_CONTEXT } else { model.context_length };
    options.context.unwrap_or(WANTED_CONTEXT.min(own))
}

fn contexts(model: &ModelMetadata, options: &FitOptions) -> Vec<u32> {
    if let Some(context) = options.context {
        return vec![context];
    }
    let own = if model.context_length == 0 { WANTED_CONTEXT } else { model.context_length };
    let doubled = std::iter::successors(Some(SMALLEST_CONTEXT), |context| context.checked_mul(2));
    doubled.take_while(|context| *context < own).chain([own]).collect()
}

fn kv_types(model: &ModelMetadata, options: &FitOptions) -> Vec<KvType> {
    let in_blocks = |width: u32| width.is_multiple_of(KV_BLOCK);
    let quantizable = in_blocks(model.key_length) && in_blocks(model.value_length);
    match options.kv {
        Some(kv) => vec![kv],
        None => KV_TYPES.into_iter().filter(|kv| quantizable || *kv == KvType::F16).collect(),
    }
}

fn recommended(rows: &[Fit], wanted: u32) -> Option<usize> {
    let context = |fit: &Fit| fit.settings.n_ctx.unwrap_or(0);
    let exactness = |fit: &Fit| fit.settings.type_k.map_or(0.0, bits);
    let fitting = || rows.iter().enumerate().filter(|(_, fit)| fit.fits);
    let whole = || fitting().filter(|(_, fit)| fit.whole);
    let best = whole()
        .filter(|(_, fit)| context(fit) >= wanted)
        .max_by(|(_, a), (_, b)| exactness(a).total_cmp(&exactness(b)).then(context(a).cmp(&context(b))))
        .or_else(|| {
            whole().max_by(|(_, a), (_, b)| context(a).cmp(&context(b)).then(exactness(a).total_cmp(&exactness(b))))
        })
        .or_else(|| {
            let key = |fit: &Fit| (context(fit) >= wanted, fit.settings.n_gpu_layers, std::cmp::Reverse(context(fit)));
            fitting().max_by(|(_, a), (_, b)| key(a).cmp(&key(b)).then(exactness(a).total_cmp(&exactness(b))))
        });
    best.map(|(index, _)| index)
}

fn bits(kv: KvType) -> f64 {
    crate::estimate::bytes_per_element(kv)
}

#[cfg(test)]
mod tests {
    use fleetune_core::inventory::{Cpu, Gpu};

    use super::*;
    use crate::layout::{Layer, LayerRun, Layout};

    const MIB: u64 = 1 << 20;

    /// 32 layers of 128 MiB with 8 heads of keys and values, as an 8B model at 4 bits has them.
    fn eight_b() -> ModelMetadata {
        let layer = Layer {
            bytes: 128 * MIB,
            active_bytes: 128 * MIB,
            active_elements: 218 * MIB,
            largest_bytes: 33 * MIB,
            k_width: 1024,
            v_width: 1024,
            ..Layer::default()
        };
        ModelMetadata {
            architecture: "llama".to_owned(),
            quantization: "Q4_K_M".to_owned(),
            block_count: 32,
            context_length: 131_072,
            embedding_length: 4096,
            feed_forward_length: 14_336,
            head_count: 32,
            head_count_kv: 8,
            key_length: 128,
            value_length: 128,
            vocab_size: 128_256,
            split_count: 1,
            layout: Some(Layout {
                runs: vec![LayerRun { count: 32, layer }],
                input_bytes: 282 * MIB,
                output_bytes: 411 * MIB,
                output_elements: 501 * MIB,
                feed_forward_width: 14_336,
                ..Layout::default()
            }),
            ..ModelMetadata::default()
        }
    }

    fn machine(vram_mib: &[u64]) -> Inventory {
        let gpu = |&vram_mib| Gpu { vendor: "nvidia".to_owned(), vram_mib, ..Gpu::default() };
        Inventory {
            ram_mib: 32 * 1024,
            cpu: Cpu { physical_cores: 8, logical_cpus: 16, ..Cpu::default() },
            gpus: vram_mib.iter().map(gpu).collect(),
            ..Inventory::default()
        }
    }

    fn options() -> FitOptions {
        FitOptions { margin_mib: DEFAULT_MARGIN_MIB, ..FitOptions::default() }
    }

    fn choice(vram_mib: &[u64], options: &FitOptions) -> Fit {
        let (rows, recommended) = fits(&eight_b(), &machine(vram_mib), options);
        rows[recommended.expect("something fits")].clone()
    }

    #[test]
    fn more_memory_means_a_longer_context_and_never_fewer_layers() {
        let sizes = [4, 6, 8, 12, 16, 24, 48].map(|gib| choice(&[gib * 1024], &options()));
        for pair in sizes.windows(2) {
            assert!(pair[0].settings.n_gpu_layers <= pair[1].settings.n_gpu_layers, "{pair:?}");
        }
        let whole: Vec<&Fit> = sizes.iter().filter(|fit| fit.whole).collect();
        assert!(whole.len() >= 4 && !sizes[0].whole, "{sizes:?}");
        assert!(whole.windows(2).all(|pair| pair[0].settings.n_ctx <= pair[1].settings.n_ctx
            || pair[0].settings.type_k != pair[1].settings.type_k));
    }

    #[test]
    fn margin_stays_free_on_every_gpu() {
        for (margin_mib, vram) in [(0, vec![8192]), (500, vec![8192]), (3000, vec![8192, 6144]), (500, vec![1024])] {
            let inventory = machine(&vram);
            let (rows, _) = fits(&eight_b(), &inventory, &FitOptions { margin_mib, ..FitOptions::default() });
            for fit in rows.iter().filter(|fit| fit.fits && fit.settings.n_gpu_layers != Some(0)) {
                for device in &fit.memory {
                    let Place::Gpu(gpu) = device.place else { continue };
                    assert!(device.need_mib + margin_mib as f64 <= vram[gpu] as f64, "{fit:?}");
                }
            }
        }
    }

    #[test]
    fn one_layer_more_would_not_fit() {
        let inventory = machine(&[4096]);
        let (rows, _) = fits(&eight_b(), &inventory, &options());
        let cut: Vec<&Fit> = rows.iter().filter(|fit| fit.fits && !fit.whole).collect();
        assert!(!cut.is_empty());
        for fit in cut {
            let layers = u32::try_from(fit.settings.n_gpu_layers.unwrap() + 1).unwrap();
            let more =
                FitOptions { context: fit.settings.n_ctx, kv: fit.settings.type_k, layers: Some(layers), ..options() };
            assert!(!fits(&eight_b(), &inventory, &more).0[0].fits, "{fit:?}");
        }
    }

    #[test]
    fn wanted_context_is_kept_by_a_coarser_cache_before_layers_leave_the_gpu() {
        // 24 layers' worth of cache: 16-bit floats do not fit beside the weights, coarser types do.
        let asked = FitOptions { context: Some(32_768), ..options() };
        let exact = choice(&[16 * 1024], &asked);
        assert_eq!((exact.whole, exact.settings.type_k), (true, Some(KvType::F16)));
        let coarse = choice(&[8 * 1024], &asked);
        assert_eq!((coarse.whole, coarse.settings.flash_attn), (true, Some(FlashAttn::On)), "{coarse:?}");
        assert_ne!(coarse.settings.type_k, Some(KvType::F16));
    }

    #[test]
    fn nothing_is_recommended_where_nothing_fits() {
        let poor = Inventory { ram_mib: 1024, ..machine(&[]) };
        let (rows, recommended) = fits(&eight_b(), &poor, &options());
        assert!(!rows.is_empty() && rows.iter().all(|fit| !fit.fits));
        assert_eq!(recommended, None);
        let unknown = ModelMetadata { layout: None, ..eight_b() };
        assert_eq!(fits(&unknown, &machine(&[8192]), &options()), (Vec::new(), None));
    }

    #[test]
    fn heads_that_are_no_blocks_get_no_quantised_cache() {
        let odd = ModelMetadata { key_length: 80, value_length: 80, ..eight_b() };
        let (rows, _) = fits(&odd, &machine(&[8192]), &options());
        assert!(rows.iter().all(|fit| fit.settings.type_k == Some(KvType::F16)));
    }
}
