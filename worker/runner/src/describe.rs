//! The engine's view of a model, without reading its weights; and what the engine proposes so that it fits.

use std::ffi::c_char;
use std::ptr::null_mut;

use fleetune_core::runner::{Described, DeviceKind, Settings};
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_sys_2 as sys;

use crate::engine::{self, Model};
use crate::failure::Failure;

/// Memory that the proposal leaves free on each device: llama.cpp's default (`-fitt 1024`).
const FIT_MARGIN_BYTES: usize = 1 << 30;
/// Context below which the proposal does not go: llama.cpp's default (`-fitc 4096`).
const FIT_MIN_CONTEXT: u32 = 4096;
/// `COMMON_PARAMS_FIT_STATUS_SUCCESS`.
const FIT_SUCCESS: i32 = 0;

/// Answers a describe request.
pub(crate) fn run(backend: &LlamaBackend, path: &str, n_ctx: Option<u32>) -> Result<Described, Failure> {
    // SAFETY: returns a plain structure by value.
    let mut params = unsafe { sys::llama_model_default_params() };
    params.no_alloc = true;
    params.load_mode = sys::LLAMA_LOAD_MODE_NONE;
    let model = Model::load(backend, path, params, None)?;
    let pointer = model.as_ptr();
    let number = |value: i32| u32::try_from(value).unwrap_or(0);
    // SAFETY: the model lives until the end of this function.
    let described = unsafe {
        Described {
            description: description(pointer),
            n_params: sys::llama_model_n_params(pointer),
            size_bytes: sys::llama_model_size(pointer),
            n_layer: model.n_layer(),
            n_ctx_train: number(sys::llama_model_n_ctx_train(pointer)),
            n_embd: number(sys::llama_model_n_embd(pointer)),
            n_head: number(sys::llama_model_n_head(pointer)),
            n_head_kv: number(sys::llama_model_n_head_kv(pointer)),
            n_vocab: number(model.n_vocab()),
            has_chat_template: !sys::llama_model_chat_template(pointer, std::ptr::null()).is_null(),
            fit: None,
        }
    };
    drop(model);
    let has_gpu =
        engine::devices(backend).iter().any(|device| matches!(device.kind, DeviceKind::Gpu | DeviceKind::Igpu));
    let fit = if has_gpu { fit(path, n_ctx)? } else { None };
    Ok(Described { fit, ..described })
}

/// # Safety
/// `model` is a live model.
unsafe fn description(model: *const sys::llama_model) -> String {
    let mut text = [0_u8; 256];
    // SAFETY: by this function's contract; the engine writes at most the buffer's length, with a NUL.
    unsafe { sys::llama_model_desc(model, text.as_mut_ptr().cast::<c_char>(), text.len()) };
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    String::from_utf8_lossy(&text[..end]).into_owned()
}

/// Layers that fit onto the GPUs, as llama.cpp's own programs choose them. `None` when nothing fits, and when the
/// proposal needs a placement of single tensors or an uneven split, which settings cannot express.
fn fit(path: &str, n_ctx: Option<u32>) -> Result<Option<Settings>, Failure> {
    let c_path = engine::model_path(path)?;
    // SAFETY: these return plain values.
    let (mut model, mut context, devices, overrides) = unsafe {
        (
            sys::llama_model_default_params(),
            sys::llama_context_default_params(),
            sys::llama_max_devices(),
            sys::llama_max_tensor_buft_overrides(),
        )
    };
    context.n_ctx = n_ctx.unwrap_or(0);
    let mut split = vec![0.0_f32; devices];
    let mut margins = vec![FIT_MARGIN_BYTES; devices];
    let empty = sys::llama_model_tensor_buft_override { pattern: std::ptr::null(), buft: null_mut() };
    let mut placements = vec![empty; overrides];
    // SAFETY: every pointer is to a buffer of the length that the engine asks for, alive during the call.
    let status = unsafe {
        sys::llama_rs_fit_params(
            c_path.as_ptr(),
            &raw mut model,
            &raw mut context,
            split.as_mut_ptr(),
            placements.as_mut_ptr(),
            margins.as_mut_ptr(),
            FIT_MIN_CONTEXT,
            std::ptr::null(),
            sys::GGML_LOG_LEVEL_ERROR,
        )
    };
    // The engine borrows the logger for its search.
    crate::log::install();
    let placed = placements.iter().any(|placement| !placement.pattern.is_null());
    let split_at_all = split.iter().filter(|share| **share > 0.0).count() > 1;
    if status != FIT_SUCCESS || placed || split_at_all {
        return Ok(None);
    }
    Ok(Some(Settings { n_gpu_layers: Some(model.n_gpu_layers.max(-1)), ..Settings::default() }))
}
