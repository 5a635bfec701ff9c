//! Settings with every gap filled, and their form in the engine's two parameter structures.

use fleetune_core::Workload;
use fleetune_core::runner::{
    CpuList, EffectiveSettings, FlashAttn, KvType, LoadMode, MAX_THREADS, MAX_WORKLOAD_TOKENS, Settings, SplitMode,
};
use llama_cpp_sys_2 as sys;

use crate::failure::Failure;
use crate::log::Heard;

/// The engine pads a context to a multiple of this.
const CONTEXT_PADDING: u32 = 256;
/// llama.cpp's default for both programs and library.
const DEFAULT_BATCH: u32 = 2048;
/// llama.cpp's default.
const DEFAULT_UBATCH: u32 = 512;

/// Settings without gaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    n_gpu_layers: i32,
    pub(crate) n_batch: u32,
    n_ubatch: u32,
    n_ctx: u32,
    n_threads: u32,
    n_threads_batch: u32,
    flash_attn: FlashAttn,
    type_k: KvType,
    type_v: KvType,
    offload_kqv: bool,
    op_offload: bool,
    split_mode: SplitMode,
    main_gpu: u32,
    load_mode: LoadMode,
    repack: bool,
    pub(crate) cpu_affinity: Option<CpuList>,
}

/// What the context says about itself once it exists.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ContextFacts {
    pub(crate) n_ctx: u32,
    pub(crate) n_batch: u32,
    pub(crate) n_ubatch: u32,
    pub(crate) n_threads: i32,
    pub(crate) n_threads_batch: i32,
    /// Layers of the model, the output layer not counted.
    pub(crate) n_layer: u32,
    /// Whether the engine has a GPU at all.
    pub(crate) has_gpu: bool,
}

impl Resolved {
    /// Fills the gaps of `settings` for `workload`; `cores` are the physical cores at hand.
    pub(crate) fn new(settings: &Settings, workload: &Workload, cores: u32) -> Result<Self, Failure> {
        let refuse = |why: String| Err(Failure::Refused(why));
        if workload.prompt == 0 || workload.gen_tokens == 0 || workload.repetitions == 0 {
            return refuse("a workload needs at least one prompt token, generated token and repetition".to_owned());
        }
        let needed = workload.prompt.saturating_add(workload.gen_tokens);
        if needed > MAX_WORKLOAD_TOKENS {
            return refuse(format!("the workload has {needed} tokens; at most {MAX_WORKLOAD_TOKENS} are measured"));
        }
        let n_ctx = settings.n_ctx.unwrap_or_else(|| needed.next_multiple_of(CONTEXT_PADDING));
        if n_ctx < needed {
            return refuse(format!(
                "n_ctx is {n_ctx}, but the workload needs {needed} tokens of context ({} prompt + {} generated)",
                workload.prompt, workload.gen_tokens
            ));
        }
        let n_threads = settings.n_threads.unwrap_or(cores);
        let n_batch = settings.n_batch.unwrap_or(DEFAULT_BATCH);
        let resolved = Self {
            n_gpu_layers: settings.n_gpu_layers.unwrap_or(-1),
            n_batch,
            n_ubatch: settings.n_ubatch.unwrap_or(DEFAULT_UBATCH),
            n_ctx,
            n_threads,
            n_threads_batch: settings.n_threads_batch.unwrap_or(n_threads),
            flash_attn: settings.flash_attn.unwrap_or_default(),
            type_k: settings.type_k.unwrap_or_default(),
            type_v: settings.type_v.unwrap_or_default(),
            offload_kqv: settings.offload_kqv.unwrap_or(true),
            op_offload: settings.op_offload.unwrap_or(true),
            split_mode: settings.split_mode.unwrap_or_default(),
            main_gpu: settings.main_gpu.unwrap_or(0),
            load_mode: settings.load_mode.unwrap_or_default(),
            repack: settings.repack.unwrap_or(true),
            cpu_affinity: settings.cpu_affinity.clone(),
        };
        // Settings from a request were checked as JSON only; these values would abort or crash the engine.
        if [resolved.n_batch, resolved.n_ubatch, resolved.n_threads, resolved.n_threads_batch].contains(&0) {
            return refuse("n_batch, n_ubatch, n_threads and n_threads_batch must be at least 1".to_owned());
        }
        if resolved.n_threads.max(resolved.n_threads_batch) > MAX_THREADS {
            return refuse(format!("n_threads and n_threads_batch can be at most {MAX_THREADS}"));
        }
        Ok(resolved)
    }

    pub(crate) fn model_params(&self) -> sys::llama_model_params {
        // SAFETY: returns a plain structure by value.
        let mut params = unsafe { sys::llama_model_default_params() };
        params.n_gpu_layers = self.n_gpu_layers;
        params.split_mode = match self.split_mode {
            SplitMode::None => sys::LLAMA_SPLIT_MODE_NONE,
            SplitMode::Layer => sys::LLAMA_SPLIT_MODE_LAYER,
            SplitMode::Row => sys::LLAMA_SPLIT_MODE_ROW,
        };
        params.main_gpu = i32::try_from(self.main_gpu).unwrap_or(i32::MAX);
        params.load_mode = match self.load_mode {
            LoadMode::Auto => sys::LLAMA_LOAD_MODE_AUTO,
            LoadMode::None => sys::LLAMA_LOAD_MODE_NONE,
            LoadMode::Mmap => sys::LLAMA_LOAD_MODE_MMAP,
            LoadMode::Mlock => sys::LLAMA_LOAD_MODE_MLOCK,
            LoadMode::MmapMlock => sys::LLAMA_LOAD_MODE_MMAP_MLOCK,
            LoadMode::Dio => sys::LLAMA_LOAD_MODE_DIRECT_IO,
        };
        params.use_extra_bufts = self.repack;
        params
    }

    pub(crate) fn context_params(&self) -> sys::llama_context_params {
        // SAFETY: returns a plain structure by value.
        let mut params = unsafe { sys::llama_context_default_params() };
        params.n_ctx = self.n_ctx;
        params.n_batch = self.n_batch;
        params.n_ubatch = self.n_ubatch;
        params.n_threads = i32::try_from(self.n_threads).unwrap_or(i32::MAX);
        params.n_threads_batch = i32::try_from(self.n_threads_batch).unwrap_or(i32::MAX);
        params.flash_attn_type = match self.flash_attn {
            FlashAttn::Auto => sys::LLAMA_FLASH_ATTN_TYPE_AUTO,
            FlashAttn::On => sys::LLAMA_FLASH_ATTN_TYPE_ENABLED,
            FlashAttn::Off => sys::LLAMA_FLASH_ATTN_TYPE_DISABLED,
        };
        params.type_k = ggml_type(self.type_k);
        params.type_v = ggml_type(self.type_v);
        params.offload_kqv = self.offload_kqv;
        params.op_offload = self.op_offload;
        params
    }

    /// What became of the settings: from the context where it can be asked, else from the log. What can have no effect
    /// without a GPU reads the same whatever was asked.
    pub(crate) fn effective(&self, context: ContextFacts, heard: &Heard) -> EffectiveSettings {
        let (layers_on_gpu, layers_total) = heard.facts.offloaded.unwrap_or((0, context.n_layer + 1));
        let gpu = context.has_gpu;
        EffectiveSettings {
            n_ctx: context.n_ctx,
            n_batch: context.n_batch,
            n_ubatch: context.n_ubatch,
            n_threads: context.n_threads,
            n_threads_batch: context.n_threads_batch,
            flash_attn: self.flash_attn,
            flash_attn_resolved: match self.flash_attn {
                FlashAttn::On => Some(true),
                FlashAttn::Off => Some(false),
                FlashAttn::Auto => heard.facts.flash_attn,
            },
            type_k: self.type_k,
            type_v: self.type_v,
            n_gpu_layers: if gpu { self.n_gpu_layers } else { 0 },
            layers_on_gpu: if gpu { layers_on_gpu } else { 0 },
            layers_total,
            offload_kqv: gpu && self.offload_kqv,
            op_offload: gpu && self.op_offload,
            split_mode: if gpu { self.split_mode } else { SplitMode::None },
            main_gpu: if gpu { i32::try_from(self.main_gpu).unwrap_or(i32::MAX) } else { 0 },
            load_mode: self.effective_load_mode(heard),
            repack: self.repack && heard.facts.is_rearranged(),
            cpu_affinity: self.cpu_affinity.clone(),
            buffers: heard.facts.buffers.clone(),
        }
    }

    fn effective_load_mode(&self, heard: &Heard) -> LoadMode {
        match (heard.facts.load_mode.unwrap_or(self.load_mode), heard.lock_refused) {
            (LoadMode::Mlock, true) => LoadMode::None,
            (LoadMode::MmapMlock, true) => LoadMode::Mmap,
            (mode, _) => mode,
        }
    }
}

fn ggml_type(kv: KvType) -> sys::ggml_type {
    match kv {
        KvType::F32 => sys::GGML_TYPE_F32,
        KvType::F16 => sys::GGML_TYPE_F16,
        KvType::Bf16 => sys::GGML_TYPE_BF16,
        KvType::Q8_0 => sys::GGML_TYPE_Q8_0,
        KvType::Q5_1 => sys::GGML_TYPE_Q5_1,
        KvType::Q5_0 => sys::GGML_TYPE_Q5_0,
        KvType::Q4_1 => sys::GGML_TYPE_Q4_1,
        KvType::Q4_0 => sys::GGML_TYPE_Q4_0,
        KvType::Iq4Nl => sys::GGML_TYPE_IQ4_NL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(settings: &Settings) -> Result<Resolved, Failure> {
        Resolved::new(settings, &Workload { prompt: 500, gen_tokens: 100, repetitions: 1, warmup: 0 }, 6)
    }

    #[test]
    fn gaps_are_filled_as_llama_cpp_fills_them() {
        let resolved = resolve(&Settings::default()).unwrap();
        assert_eq!((resolved.n_ctx, resolved.n_batch, resolved.n_ubatch), (768, 2048, 512));
        assert_eq!((resolved.n_threads, resolved.n_threads_batch), (6, 6));
        assert_eq!(resolved.model_params().n_gpu_layers, -1);
        let one = Settings { n_threads: Some(1), ..Settings::default() };
        assert_eq!(resolve(&one).unwrap().n_threads_batch, 1);
    }

    #[test]
    fn context_below_the_workload_is_refused_with_both_numbers() {
        let message = resolve(&Settings { n_ctx: Some(512), ..Settings::default() }).unwrap_err().to_string();
        assert!(message.contains("512") && message.contains("600"), "{message}");
        assert!(resolve(&Settings { n_batch: Some(0), ..Settings::default() }).is_err());
        assert!(resolve(&Settings { n_threads: Some(513), ..Settings::default() }).is_err());
    }

    #[test]
    fn without_a_gpu_its_settings_make_no_difference() {
        let facts = ContextFacts { n_layer: 4, ..ContextFacts::default() };
        let asked = Settings {
            n_gpu_layers: Some(3),
            offload_kqv: Some(false),
            split_mode: Some(SplitMode::Row),
            ..Settings::default()
        };
        let effective = |settings: &Settings| resolve(settings).unwrap().effective(facts, &Heard::default());
        assert_eq!(effective(&asked), effective(&Settings::default()));
        assert_eq!(effective(&asked).layers_total, 5);
    }
}
