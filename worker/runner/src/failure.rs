//! Why a request failed, and what that says about its parameters.

use std::io;

use fleetune_core::runner::{Event, ProtocolError, bounded};
use fleetune_core::trial::FailKind;
use thiserror::Error;

/// A failed request. The engine's own words are in `log`: its last warnings and errors.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    #[error("cannot read the request: {0}")]
    Protocol(#[from] ProtocolError),
    #[error("cannot read the model `{path}`: {source}")]
    ModelFile { path: String, source: io::Error },
    #[error("the engine could not load the model: {log}")]
    Load { kind: FailKind, log: String },
    #[error("the engine makes no context with these settings: {log}")]
    Context { kind: FailKind, log: String },
    #[error("the engine failed in {phase} (code {code}): {log}")]
    Decode { kind: FailKind, phase: &'static str, code: i32, log: String },
    #[error("{0}")]
    Refused(String),
    #[error("{what} after {phase} is not a finite number: the weights or these settings produce garbage")]
    NonFinite { what: &'static str, phase: &'static str },
    #[error("{0}")]
    Engine(String),
    /// Nobody reads the answer any more.
    #[error("cannot write to stdout: {0}")]
    Output(io::Error),
}

impl Failure {
    pub(crate) fn kind(&self) -> FailKind {
        match self {
            Self::Load { kind, .. } | Self::Context { kind, .. } | Self::Decode { kind, .. } => *kind,
            Self::Refused(_) => FailKind::InvalidConfig,
            Self::NonFinite { .. } => FailKind::NonFinite,
            Self::Protocol(_) | Self::ModelFile { .. } | Self::Engine(_) | Self::Output(_) => FailKind::Error,
        }
    }

    pub(crate) fn event(&self) -> Event {
        Event::Error { kind: self.kind(), message: bounded(&self.to_string()) }
    }
}

/// Where the engine was when it gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Load,
    Context,
    Decode,
}

/// What kind of failure the engine's log describes.
pub(crate) fn classify(stage: Stage, log: &str) -> FailKind {
    const MEMORY: [&str; 10] = [
        "failed to allocate",
        "unable to allocate",
        "out of memory",
        "outofdevicememory",
        "outofhostmemory",
        "not enough memory",
        "cudamalloc failed",
        "hipmalloc failed",
        "bad_alloc",
        "insufficient memory",
    ];
    let log = log.to_lowercase();
    if MEMORY.iter().any(|sign| log.contains(sign)) {
        return FailKind::Oom;
    }
    match stage {
        Stage::Load if log.contains("main_gpu") => FailKind::InvalidConfig,
        Stage::Load | Stage::Decode => FailKind::Error,
        Stage::Context => FailKind::InvalidConfig,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_allocation_is_out_of_memory_wherever_it_happens() {
        let log = "alloc_tensor_range: failed to allocate CUDA0 buffer of size 123";
        for stage in [Stage::Load, Stage::Context, Stage::Decode] {
            assert_eq!(classify(stage, log), FailKind::Oom);
        }
        assert_eq!(classify(Stage::Load, "ggml_backend_cuda: cudaMalloc failed: out of memory"), FailKind::Oom);
    }

    #[test]
    fn refused_context_is_the_settings_fault_and_a_bad_file_is_not() {
        assert_eq!(
            classify(Stage::Context, "quantized V cache was requested, but this requires Flash Attention"),
            FailKind::InvalidConfig
        );
        assert_eq!(classify(Stage::Load, "invalid magic characters"), FailKind::Error);
        assert_eq!(
            classify(Stage::Load, "invalid value for main_gpu: 3 (available devices: 1)"),
            FailKind::InvalidConfig
        );
    }
}
