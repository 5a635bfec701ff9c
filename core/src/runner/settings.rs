//! The engine's settings as types, and how parameters become settings.
//!
//! Every field is optional: what is absent is left to the engine. Only what can be checked without a model or a
//! machine is checked here; the engine refuses the rest as `invalid_config`.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::cpu_list::CpuList;
use crate::value::{Params, Value};

/// Every name that [`Settings::from_params`] knows, in the order of the fields.
pub const SETTING_NAMES: [&str; 16] = [
    "n_gpu_layers",
    "n_batch",
    "n_ubatch",
    "n_ctx",
    "n_threads",
    "n_threads_batch",
    "flash_attn",
    "type_k",
    "type_v",
    "offload_kqv",
    "op_offload",
    "split_mode",
    "main_gpu",
    "load_mode",
    "repack",
    "cpu_affinity",
];

/// Names that llama.cpp's programs, Ollama or people use for one of [`SETTING_NAMES`]; only for hints.
const OTHER_NAMES: [(&str, &str); 17] = [
    ("ngl", "n_gpu_layers"),
    ("gpu_layers", "n_gpu_layers"),
    ("num_gpu", "n_gpu_layers"),
    ("batch_size", "n_batch"),
    ("ubatch_size", "n_ubatch"),
    ("ctx_size", "n_ctx"),
    ("num_ctx", "n_ctx"),
    ("threads", "n_threads"),
    ("num_thread", "n_threads"),
    ("threads_batch", "n_threads_batch"),
    ("fa", "flash_attn"),
    ("cache_type_k", "type_k"),
    ("cache_type_v", "type_v"),
    ("kv_offload", "offload_kqv"),
    ("mmap", "load_mode"),
    ("mlock", "load_mode"),
    ("cpu_mask", "cpu_affinity"),
];

/// Highest context or batch that is passed on, tokens.
const MAX_TOKENS: i64 = 1 << 24;
/// Most threads: the engine's own bound (`GGML_MAX_N_THREADS`), which it does not check itself.
pub const MAX_THREADS: u32 = 512;
/// Above any model's layers.
const MAX_LAYERS: i64 = 1 << 16;
/// Above any machine's GPUs.
const MAX_GPUS: i64 = 255;

/// Declares an enum whose names are the same in JSON, parameters and llama.cpp's flags.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $text)] $variant,)+
        }

        impl $name {
            /// Every value.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The name in JSON, in parameters and in llama.cpp's flags.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }

            /// The value called `name`.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.as_str() == name)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

named! {
    /// Fused attention.
    FlashAttn {
        /// The engine decides.
        #[default]
        Auto = "auto",
        /// Fused.
        On = "on",
        /// Not fused; excludes a quantised V cache.
        Off = "off",
    }
}

named! {
    /// Type of one half of the KV cache.
    KvType {
        /// 32-bit floats.
        F32 = "f32",
        /// 16-bit floats; the engine's default.
        #[default]
        F16 = "f16",
        /// 16-bit brain floats.
        Bf16 = "bf16",
        /// 8 bits.
        Q8_0 = "q8_0",
        /// 5 bits with a minimum.
        Q5_1 = "q5_1",
        /// 5 bits.
        Q5_0 = "q5_0",
        /// 4 bits with a minimum.
        Q4_1 = "q4_1",
        /// 4 bits.
        Q4_0 = "q4_0",
        /// 4 bits, non-linear.
        Iq4Nl = "iq4_nl",
    }
}

named! {
    /// How several GPUs share a model.
    SplitMode {
        /// One GPU only.
        None = "none",
        /// Whole layers; the engine's default.
        #[default]
        Layer = "layer",
        /// Rows of the weights.
        Row = "row",
    }
}

named! {
    /// How the file reaches memory.
    LoadMode {
        /// Mapped, unless a device cannot.
        #[default]
        Auto = "auto",
        /// Read into memory.
        None = "none",
        /// Mapped.
        Mmap = "mmap",
        /// Read and locked into memory.
        Mlock = "mlock",
        /// Mapped and locked into memory.
        MmapMlock = "mmap+mlock",
        /// Read past the page cache.
        Dio = "dio",
    }
}

/// What differs from the engine's defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Layers on GPUs; negative means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n_gpu_layers: Option<i32>,
    /// Logical batch of the prompt, tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n_batch: Option<u32>,
    /// Physical batch, tokens; the engine takes at most `n_batch`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n_ubatch: Option<u32>,
    /// Context, tokens; absent, it is what the workload needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n_ctx: Option<u32>,
    /// Threads of decode; absent, one per physical core, as llama.cpp's own programs do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n_threads: Option<u32>,
    /// Threads of prefill; absent, they are `n_threads`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n_threads_batch: Option<u32>,
    /// Fused attention.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flash_attn: Option<FlashAttn>,
    /// Type of the K cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub type_k: Option<KvType>,
    /// Type of the V cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub type_v: Option<KvType>,
    /// KV cache and its operations on the GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offload_kqv: Option<bool>,
    /// Operations of host tensors on the GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub op_offload: Option<bool>,
    /// How several GPUs share the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split_mode: Option<SplitMode>,
    /// GPU of the whole model with split mode `none`, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub main_gpu: Option<u32>,
    /// How the file reaches memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_mode: Option<LoadMode>,
    /// Weights rearranged for the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repack: Option<bool>,
    /// CPUs the engine may run on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_affinity: Option<CpuList>,
}

/// Why parameters are no settings.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidSetting {
    /// No setting has this name.
    #[error("llama.cpp setting `{name}` is unknown{}", nearest.map(|n| format!("; did you mean `{n}`?")).unwrap_or_default())]
    Unknown {
        /// The name that was given.
        name: String,
        /// A known name that is near to it.
        nearest: Option<&'static str>,
    },
    /// The setting cannot have this value.
    #[error("llama.cpp setting `{name}` cannot be `{value}`: it is {expected}")]
    Value {
        /// The setting.
        name: &'static str,
        /// What was given.
        value: String,
        /// What it may be.
        expected: String,
    },
}

impl Settings {
    /// Reads settings out of parameters. A `null` leaves the setting to the engine.
    pub fn from_params(params: &Params) -> Result<Self, InvalidSetting> {
        let mut settings = Self::default();
        for (name, value) in params {
            let Some(known) = SETTING_NAMES.into_iter().find(|known| known == name) else {
                return Err(InvalidSetting::Unknown {
                    name: name.chars().take(100).collect(),
                    nearest: nearest_setting(name),
                });
            };
            if *value != Value::Null {
                settings.set(known, value)?;
            }
        }
        Ok(settings)
    }

    fn set(&mut self, name: &'static str, value: &Value) -> Result<(), InvalidSetting> {
        match name {
            "n_gpu_layers" => self.n_gpu_layers = Some(int(name, value, -1, MAX_LAYERS)? as i32),
            "n_batch" => self.n_batch = Some(int(name, value, 1, MAX_TOKENS)? as u32),
            "n_ubatch" => self.n_ubatch = Some(int(name, value, 1, MAX_TOKENS)? as u32),
            "n_ctx" => self.n_ctx = Some(int(name, value, 1, MAX_TOKENS)? as u32),
            "n_threads" => self.n_threads = Some(int(name, value, 1, MAX_THREADS.into())? as u32),
            "n_threads_batch" => self.n_threads_batch = Some(int(name, value, 1, MAX_THREADS.into())? as u32),
            "flash_attn" => self.flash_attn = Some(flash_attn(name, value)?),
            "type_k" => self.type_k = Some(one_of(name, value, KvType::ALL, KvType::as_str)?),
            "type_v" => self.type_v = Some(one_of(name, value, KvType::ALL, KvType::as_str)?),
            "offload_kqv" => self.offload_kqv = Some(bool(name, value)?),
            "op_offload" => self.op_offload = Some(bool(name, value)?),
            "split_mode" => self.split_mode = Some(one_of(name, value, SplitMode::ALL, SplitMode::as_str)?),
            "main_gpu" => self.main_gpu = Some(int(name, value, 0, MAX_GPUS)? as u32),
            "load_mode" => self.load_mode = Some(one_of(name, value, LoadMode::ALL, LoadMode::as_str)?),
            "repack" => self.repack = Some(bool(name, value)?),
            "cpu_affinity" => self.cpu_affinity = Some(cpus(name, value)?),
            _ => unreachable!("`{name}` is one of SETTING_NAMES"),
        }
        Ok(())
    }

    /// The settings as parameters; [`Settings::from_params`] reads them back.
    pub fn to_params(&self) -> Params {
        let number = |n: Option<u32>| n.map(|n| Value::Int(i64::from(n)));
        let all = [
            ("n_gpu_layers", self.n_gpu_layers.map(|n| Value::Int(i64::from(n)))),
            ("n_batch", number(self.n_batch)),
            ("n_ubatch", number(self.n_ubatch)),
            ("n_ctx", number(self.n_ctx)),
            ("n_threads", number(self.n_threads)),
            ("n_threads_batch", number(self.n_threads_batch)),
            ("flash_attn", self.flash_attn.map(|v| Value::from(v.as_str()))),
            ("type_k", self.type_k.map(|v| Value::from(v.as_str()))),
            ("type_v", self.type_v.map(|v| Value::from(v.as_str()))),
            ("offload_kqv", self.offload_kqv.map(Value::Bool)),
            ("op_offload", self.op_offload.map(Value::Bool)),
            ("split_mode", self.split_mode.map(|v| Value::from(v.as_str()))),
            ("main_gpu", number(self.main_gpu)),
            ("load_mode", self.load_mode.map(|v| Value::from(v.as_str()))),
            ("repack", self.repack.map(Value::Bool)),
            ("cpu_affinity", self.cpu_affinity.as_ref().map(|v| Value::Text(v.to_string()))),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }

    /// Flags of a `llama-server` of the engine's version that ask for the same. What is its default anyway is left out,
    /// which is shorter and understood by more versions.
    ///
    /// `-lm` replaced `--mmap`, `--no-mmap` and `--mlock` in llama.cpp 0.5; an older server knows only those.
    pub fn llama_server_args(&self) -> Vec<String> {
        let mut args = Vec::new();
        let mut pair = |flag: &str, value: Option<String>| {
            if let Some(value) = value {
                args.extend([flag.to_owned(), value]);
            }
        };
        pair("-ngl", self.n_gpu_layers.map(|n| if n < 0 { "all".to_owned() } else { n.to_string() }));
        pair("-b", self.n_batch.map(|n| n.to_string()));
        pair("-ub", self.n_ubatch.map(|n| n.to_string()));
        pair("-c", self.n_ctx.map(|n| n.to_string()));
        pair("-t", self.n_threads.map(|n| n.to_string()));
        pair("-tb", self.n_threads_batch.map(|n| n.to_string()));
        pair("-fa", self.flash_attn.filter(|&v| v != FlashAttn::Auto).map(|v| v.to_string()));
        pair("-ctk", self.type_k.filter(|&v| v != KvType::F16).map(|v| v.to_string()));
        pair("-ctv", self.type_v.filter(|&v| v != KvType::F16).map(|v| v.to_string()));
        pair("-sm", self.split_mode.filter(|&v| v != SplitMode::Layer).map(|v| v.to_string()));
        pair("-mg", self.main_gpu.filter(|&n| n != 0).map(|n| n.to_string()));
        pair("-lm", self.load_mode.filter(|&v| v != LoadMode::Auto).map(|v| v.to_string()));
        pair("-C", self.cpu_affinity.as_ref().map(CpuList::hex_mask));
        let switches =
            [(self.offload_kqv, "-nkvo"), (self.op_offload, "--no-op-offload"), (self.repack, "--no-repack")];
        args.extend(switches.into_iter().filter(|(on, _)| *on == Some(false)).map(|(_, off)| off.to_owned()));
        args
    }
}

/// The known setting that `name` probably means.
fn nearest_setting(name: &str) -> Option<&'static str> {
    /// Jaro-Winkler similarity below which two names have nothing to do with each other.
    const NEAR: f64 = 0.8;
    let lower = name.to_lowercase().replace('-', "_");
    let plain = lower.trim_matches('_');
    if let Some((_, known)) = OTHER_NAMES.iter().find(|(other, _)| *other == plain) {
        return Some(known);
    }
    SETTING_NAMES
        .into_iter()
        .map(|known| (strsim::jaro_winkler(known, plain), known))
        .filter(|(similarity, _)| *similarity >= NEAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

fn refuse(name: &'static str, value: &Value, expected: String) -> InvalidSetting {
    InvalidSetting::Value { name, value: value.to_string().chars().take(100).collect(), expected }
}

fn int(name: &'static str, value: &Value, low: i64, high: i64) -> Result<i64, InvalidSetting> {
    value
        .as_i64()
        .filter(|int| (low..=high).contains(int))
        .ok_or_else(|| refuse(name, value, format!("a whole number from {low} to {high}")))
}

fn bool(name: &'static str, value: &Value) -> Result<bool, InvalidSetting> {
    match value {
        Value::Bool(bool) => Ok(*bool),
        Value::Int(1) => Ok(true),
        Value::Int(0) => Ok(false),
        Value::Text(text) if text == "on" => Ok(true),
        Value::Text(text) if text == "off" => Ok(false),
        Value::Null | Value::Int(_) | Value::Float(_) | Value::Text(_) => {
            Err(refuse(name, value, "`true` or `false`".to_owned()))
        }
    }
}

fn flash_attn(name: &'static str, value: &Value) -> Result<FlashAttn, InvalidSetting> {
    match value {
        Value::Bool(true) => Ok(FlashAttn::On),
        Value::Bool(false) => Ok(FlashAttn::Off),
        Value::Null | Value::Int(_) | Value::Float(_) | Value::Text(_) => {
            one_of(name, value, FlashAttn::ALL, FlashAttn::as_str)
        }
    }
}

fn one_of<T: Copy>(
    name: &'static str,
    value: &Value,
    all: &[T],
    as_str: fn(T) -> &'static str,
) -> Result<T, InvalidSetting> {
    all.iter().copied().find(|one| value.as_str() == Some(as_str(*one))).ok_or_else(|| {
        let names: Vec<_> = all.iter().map(|one| format!("`{}`", as_str(*one))).collect();
        refuse(name, value, format!("one of {}", names.join(", ")))
    })
}

fn cpus(name: &'static str, value: &Value) -> Result<CpuList, InvalidSetting> {
    // A single CPU on a command line looks like a number.
    value
        .to_string()
        .parse()
        .map_err(|_| refuse(name, value, "a set of CPUs such as `0-3,8`, or a mask such as `0x10f`".to_owned()))
}
