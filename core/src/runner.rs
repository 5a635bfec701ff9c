//! The line protocol between worker and runner: one request line on stdin, event lines on stdout, each one JSON object.
//!
//! The runner is a child process that holds the engine; it may abort, leak or hang. A conversation is one request and
//! then events up to [`Event::Info`], [`Event::Described`], [`Event::Done`] or [`Event::Error`], the last line of a
//! runner that was not killed. [`Event::Abort`] announces that the engine is about to end the process.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::trial::FailKind;
use crate::workload::Workload;

mod cpu_list;
mod engine_log;
mod settings;

pub use cpu_list::{CpuList, InvalidCpuList, MAX_CPU};
pub use engine_log::EngineLog;
pub use settings::{FlashAttn, InvalidSetting, KvType, LoadMode, MAX_THREADS, SETTING_NAMES, Settings, SplitMode};

/// Longest line of the protocol in bytes, newline not counted. A reader gives up on a longer one.
pub const MAX_LINE_BYTES: usize = 1 << 20;

/// Longest message inside an event, bytes; longer ones are cut by [`bounded`].
pub const MAX_MESSAGE_BYTES: usize = 8 << 10;

/// Longest workload in tokens, prompt and generated together.
pub const MAX_WORKLOAD_TOKENS: u32 = 1 << 24;

/// What the worker asks of a runner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    /// The engine's version and the devices it sees. No model is loaded. Answered by [`Event::Info`].
    Info,
    /// The engine's view of a model. Answered by [`Event::Described`].
    Describe {
        /// Path of the model file.
        model: String,
        /// Context to plan for when the engine proposes a fit; `None` is the model's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        n_ctx: Option<u32>,
    },
    /// One benchmark. Answered by [`Event::Loading`], [`Event::Loaded`], [`Event::Repetition`]s and [`Event::Done`].
    Bench {
        /// Path of the model file.
        model: String,
        /// What differs from the engine's defaults.
        settings: Settings,
        /// What is measured, and how often.
        workload: Workload,
        /// Chooses the random tokens.
        #[serde(default)]
        seed: u64,
    },
}

/// What the runner says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Answer to [`Request::Info`].
    Info {
        /// The engine in this binary.
        engine: Engine,
        /// Devices the engine can use, in its order.
        devices: Vec<Device>,
        /// Names of the settings it takes; empty means all.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        settings: Vec<String>,
    },
    /// Answer to [`Request::Describe`].
    Described(Described),
    /// The model is being read; at most a few a second.
    Loading {
        /// Part that is done, 0 to 1.
        progress: f64,
    },
    /// Model and context exist.
    Loaded {
        /// Seconds from the start of reading until the context could compute.
        load_s: f64,
        /// The settings as the engine took them.
        effective: Box<EffectiveSettings>,
    },
    /// One repetition is done.
    Repetition(Repetition),
    /// The benchmark is complete.
    Done {
        /// Highest resident memory of the runner, MiB.
        ram_peak_mib: f64,
        /// Memory the engine took on GPUs, MiB, all together; `None` without a GPU.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        vram_peak_mib: Option<f64>,
    },
    /// The request failed; nothing follows.
    Error {
        /// `oom`, `invalid_config`, `non_finite` or `error`.
        kind: FailKind,
        /// What failed, why, what to do.
        message: String,
    },
    /// The engine found a broken invariant and ends the process with SIGABRT.
    Abort {
        /// The engine's words.
        message: String,
    },
}

/// The engine inside a runner. Speeds of different engines are never compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Engine {
    /// `llama.cpp`.
    pub name: String,
    /// Version as the engine tells it, for example `0.6.0-dev`.
    pub version: String,
    /// Version of the tensor library.
    pub ggml_version: String,
    /// Version of the crate that carries the engine's source.
    pub crate_version: String,
    /// CPU features that are compiled in and found, and threading, as the engine prints them; no thread counts.
    pub system_info: String,
    /// How it was built: target, `native` or `portable`, back ends.
    pub build: String,
}

impl Engine {
    /// Everything about the engine that can change a speed, as one line: what a study is pinned to.
    pub fn fingerprint(&self) -> String {
        let Self { name, version, ggml_version, crate_version, system_info, build } = self;
        format!("{name} {version}, ggml {ggml_version}, crate {crate_version}, {build}, {system_info}")
    }
}

/// A device of the engine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// The engine's name, for example `CUDA0`.
    pub name: String,
    /// What the driver calls it.
    pub description: String,
    /// Back end, for example `CUDA`.
    pub backend: String,
    /// Kind of device.
    pub kind: DeviceKind,
    /// Memory, MiB.
    pub memory_total_mib: u64,
    /// Free memory when asked, MiB.
    pub memory_free_mib: u64,
    /// PCI address where the back end tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pci_id: Option<String>,
}

/// What sort of device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// The processor.
    #[default]
    Cpu,
    /// A GPU with its own memory.
    Gpu,
    /// A GPU that shares the host's memory.
    Igpu,
    /// Something else that takes operations, for example a matrix library.
    Accel,
    /// Several devices as one.
    Meta,
}

/// The engine's view of a model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Described {
    /// One line, for example `llama 1B Q4_0`.
    pub description: String,
    /// Parameters.
    pub n_params: u64,
    /// Bytes of all tensors.
    pub size_bytes: u64,
    /// Layers, the output layer not counted.
    pub n_layer: u32,
    /// Trained context.
    pub n_ctx_train: u32,
    /// Width of the embedding.
    pub n_embd: u32,
    /// Attention heads.
    pub n_head: u32,
    /// Heads of keys and values.
    pub n_head_kv: u32,
    /// Tokens of the vocabulary.
    pub n_vocab: u32,
    /// Whether the file brings a chat template.
    pub has_chat_template: bool,
    /// Settings the engine itself proposes so that the model fits into the GPUs' memory; `None` without a GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fit: Option<Settings>,
}

/// The settings as the engine took them. Two requests with the same ones are one configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EffectiveSettings {
    /// Context, padded by the engine.
    pub n_ctx: u32,
    /// Logical batch.
    pub n_batch: u32,
    /// Physical batch.
    pub n_ubatch: u32,
    /// Threads of decode.
    pub n_threads: i32,
    /// Threads of prefill.
    pub n_threads_batch: i32,
    /// Requested flash attention; see `flash_attn_resolved`.
    pub flash_attn: FlashAttn,
    /// What `auto` came to, where the engine says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flash_attn_resolved: Option<bool>,
    /// Type of the K cache.
    pub type_k: KvType,
    /// Type of the V cache.
    pub type_v: KvType,
    /// Requested layers on GPUs; negative means all.
    pub n_gpu_layers: i32,
    /// Layers that really are on a GPU, the output layer counted; 0 without one.
    pub layers_on_gpu: u32,
    /// Layers there are to offload, the output layer counted.
    pub layers_total: u32,
    /// KV cache and its operations on the GPU.
    pub offload_kqv: bool,
    /// Operations of host tensors on the GPU.
    pub op_offload: bool,
    /// How several GPUs share the model.
    pub split_mode: SplitMode,
    /// GPU of the whole model when it is not split.
    pub main_gpu: i32,
    /// How the file is read.
    pub load_mode: LoadMode,
    /// Weights rearranged for the CPU.
    pub repack: bool,
    /// CPUs the process is bound to; `None` is all it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_affinity: Option<CpuList>,
    /// Buffers of the engine, in the order it made them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub buffers: Vec<Buffer>,
}

/// One buffer of the engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Buffer {
    /// The engine's name of the buffer's type, for example `CUDA0`, `CPU_REPACK`.
    pub device: String,
    /// `model`, `KV`, `compute`, `output`, as the engine prints it.
    pub what: String,
    /// Size, MiB.
    pub mib: f64,
}

/// What one repetition measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Repetition {
    /// From 0; warm-up and counted repetitions each have their own count.
    pub index: u32,
    /// Whether it is discarded.
    pub warmup: bool,
    /// Prompt tokens over the wall time of the prompt alone.
    pub prefill_tok_s: f64,
    /// Generated tokens over the wall time of generation alone.
    pub decode_tok_s: f64,
    /// First prefill call to first sampled token, milliseconds.
    pub ttft_ms: f64,
    /// Mean time between generated tokens, milliseconds.
    pub itl_ms: f64,
}

/// Why a line of the protocol was refused.
#[derive(Debug, Error)]
pub enum ProtocolError {
    /// Longer than [`MAX_LINE_BYTES`].
    #[error("line of {bytes} bytes is longer than the protocol allows ({MAX_LINE_BYTES})")]
    TooLong {
        /// Length of the line.
        bytes: usize,
    },
    /// Not JSON, or not a message of this protocol.
    #[error("line is not a message of the runner's protocol: {source} (in `{excerpt}`)")]
    Malformed {
        /// What the JSON reader says.
        source: serde_json::Error,
        /// The line's beginning.
        excerpt: String,
    },
}

impl Request {
    /// Reads a request from one line.
    pub fn from_line(line: &str) -> Result<Self, ProtocolError> {
        parse(line)
    }

    /// The request as one line, without newline.
    pub fn to_line(&self) -> String {
        to_line(self)
    }
}

impl Event {
    /// Reads an event from one line.
    pub fn from_line(line: &str) -> Result<Self, ProtocolError> {
        parse(line)
    }

    /// The event as one line, without newline.
    pub fn to_line(&self) -> String {
        to_line(self)
    }

    /// Whether nothing follows this event.
    pub fn is_last(&self) -> bool {
        match self {
            Self::Info { .. } | Self::Described(_) | Self::Done { .. } | Self::Error { .. } | Self::Abort { .. } => {
                true
            }
            Self::Loading { .. } | Self::Loaded { .. } | Self::Repetition(_) => false,
        }
    }
}

/// `text` cut to [`MAX_MESSAGE_BYTES`] at a character, with a mark where something is missing.
pub fn bounded(text: &str) -> String {
    const MARK: &str = " [...]";
    if text.len() <= MAX_MESSAGE_BYTES {
        return text.to_owned();
    }
    format!("{}{MARK}", &text[..text.floor_char_boundary(MAX_MESSAGE_BYTES - MARK.len())])
}

fn parse<'de, T: Deserialize<'de>>(line: &'de str) -> Result<T, ProtocolError> {
    const EXCERPT_BYTES: usize = 200;
    if line.len() > MAX_LINE_BYTES {
        return Err(ProtocolError::TooLong { bytes: line.len() });
    }
    serde_json::from_str(line).map_err(|source| ProtocolError::Malformed {
        source,
        excerpt: line[..line.floor_char_boundary(EXCERPT_BYTES)].to_owned(),
    })
}

fn to_line<T: Serialize>(message: &T) -> String {
    // Numbers, text and enums only: no map with keys other than text, which is all that could fail.
    serde_json::to_string(message).expect("a message of the protocol has a JSON form")
}

#[cfg(test)]
mod tests;
