//! The engine's objects with their lifetimes: back end, devices, model, context. All calls into llama.cpp that need
//! `unsafe` are here or next to a structure of their own.

use std::ffi::{CStr, CString, c_char, c_void};
use std::fs::File;
use std::marker::PhantomData;
use std::ptr::NonNull;

use fleetune_core::runner::{Device, DeviceKind, Engine};
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_sys_2 as sys;

use crate::events::{LoadingEvents, on_abort};
use crate::failure::{Failure, Stage, classify};
use crate::log;
use crate::settings::ContextFacts;

/// Version of the crate that carries the engine; a test compares it with the workspace's pin.
const CRATE_VERSION: &str = "0.1.161";

/// Starts the engine. Its log and its aborts are ours from here on.
pub(crate) fn start() -> Result<LlamaBackend, Failure> {
    log::install();
    // SAFETY: the callback is a plain function that lives as long as the process.
    unsafe { sys::ggml_set_abort_callback(Some(on_abort)) };
    LlamaBackend::init().map_err(|error| Failure::Engine(format!("the engine does not start: {error}")))
}

/// The engine in this binary.
pub(crate) fn describe_engine() -> Engine {
    // SAFETY: all three return NUL-terminated texts owned by the engine; the last one is rewritten by each call, and
    // copied before another.
    let (version, ggml_version, system_info) =
        unsafe { (text(sys::llama_version()), text(sys::ggml_version()), text(sys::llama_print_system_info())) };
    Engine {
        name: "llama.cpp".to_owned(),
        version,
        ggml_version,
        crate_version: CRATE_VERSION.to_owned(),
        system_info: system_info.trim().trim_end_matches('|').trim_end().to_owned(),
        build: env!("FLEETUNE_ENGINE_BUILD").to_owned(),
    }
}

/// Devices the engine can use, in its order.
pub(crate) fn devices(_backend: &LlamaBackend) -> Vec<Device> {
    // SAFETY: counts registered devices; the back end is initialised.
    let count = unsafe { sys::ggml_backend_dev_count() };
    (0..count).map(device).collect()
}

fn device(index: usize) -> Device {
    const MIB: usize = 1 << 20;
    let mut props = std::mem::MaybeUninit::<sys::ggml_backend_dev_props>::zeroed();
    // SAFETY: `index` is below the count, devices are never unregistered; the call fills the structure, of which all
    // zeros is a valid value; the texts belong to the device.
    unsafe {
        let device = sys::ggml_backend_dev_get(index);
        sys::ggml_backend_dev_get_props(device, props.as_mut_ptr());
        let props = props.assume_init();
        Device {
            name: text(props.name),
            description: text(props.description),
            backend: text(sys::ggml_backend_reg_name(sys::ggml_backend_dev_backend_reg(device))),
            kind: match props.type_ {
                sys::GGML_BACKEND_DEVICE_TYPE_GPU => DeviceKind::Gpu,
                sys::GGML_BACKEND_DEVICE_TYPE_IGPU => DeviceKind::Igpu,
                sys::GGML_BACKEND_DEVICE_TYPE_ACCEL => DeviceKind::Accel,
                sys::GGML_BACKEND_DEVICE_TYPE_META => DeviceKind::Meta,
                _ => DeviceKind::Cpu,
            },
            memory_total_mib: (props.memory_total / MIB) as u64,
            memory_free_mib: (props.memory_free / MIB) as u64,
            pci_id: Some(text(props.device_id)).filter(|id| !id.is_empty()),
        }
    }
}

/// Copies a text of the engine; empty for none.
///
/// # Safety
/// `pointer` is null or a NUL-terminated text that lives during the call.
unsafe fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: by this function's contract.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}

/// The engine's form of a path to a file that can be opened.
pub(crate) fn model_path(path: &str) -> Result<CString, Failure> {
    File::open(path).map_err(|source| Failure::ModelFile { path: path.to_owned(), source })?;
    CString::new(path).map_err(|error| Failure::ModelFile { path: path.to_owned(), source: error.into() })
}

/// A loaded model.
pub(crate) struct Model<'backend> {
    pointer: NonNull<sys::llama_model>,
    backend: PhantomData<&'backend LlamaBackend>,
}

impl<'backend> Model<'backend> {
    /// Loads the model, sending loading events when `loading` is given.
    pub(crate) fn load(
        _backend: &'backend LlamaBackend,
        path: &str,
        mut params: sys::llama_model_params,
        loading: Option<LoadingEvents>,
    ) -> Result<Self, Failure> {
        let c_path = model_path(path)?;
        let mut loading = loading;
        if let Some(events) = &mut loading {
            params.progress_callback = Some(on_progress);
            params.progress_callback_user_data = std::ptr::from_mut(events).cast();
        }
        // SAFETY: the path is NUL-terminated; the pointers inside `params` are null or outlive the call, which is the
        // only one that uses them.
        let pointer = unsafe { sys::llama_model_load_from_file(c_path.as_ptr(), params) };
        if let Some(failure) = loading.and_then(LoadingEvents::into_failure) {
            return Err(failure);
        }
        NonNull::new(pointer).map(|pointer| Self { pointer, backend: PhantomData }).ok_or_else(|| {
            let log = log::heard().problems();
            Failure::Load { kind: classify(Stage::Load, &log), log }
        })
    }

    pub(crate) fn as_ptr(&self) -> *mut sys::llama_model {
        self.pointer.as_ptr()
    }

    /// Layers, the output layer not counted.
    pub(crate) fn n_layer(&self) -> u32 {
        // SAFETY: the model lives as long as `self`.
        u32::try_from(unsafe { sys::llama_model_n_layer(self.as_ptr()) }).unwrap_or(0)
    }

    /// Tokens of the vocabulary.
    pub(crate) fn n_vocab(&self) -> i32 {
        // SAFETY: the model, and with it the vocabulary, lives as long as `self`.
        unsafe { sys::llama_vocab_n_tokens(sys::llama_model_get_vocab(self.as_ptr())) }
    }

    /// The token that begins a text, if the model wants one.
    pub(crate) fn begin_token(&self) -> Option<i32> {
        // SAFETY: as in `n_vocab`.
        let (wanted, token) = unsafe {
            let vocab = sys::llama_model_get_vocab(self.as_ptr());
            (sys::llama_vocab_get_add_bos(vocab), sys::llama_vocab_bos(vocab))
        };
        Some(token).filter(|token| wanted && (0..self.n_vocab()).contains(token))
    }

    /// Whether it generates text token by token, which is what is measured here.
    pub(crate) fn is_generator(&self) -> bool {
        // SAFETY: the model lives as long as `self`.
        unsafe { sys::llama_model_has_decoder(self.as_ptr()) && !sys::llama_model_has_encoder(self.as_ptr()) }
    }
}

impl Drop for Model<'_> {
    fn drop(&mut self) {
        // SAFETY: made by the engine, freed once; contexts borrow the model and are gone.
        unsafe { sys::llama_model_free(self.as_ptr()) };
    }
}

unsafe extern "C" fn on_progress(part: f32, user_data: *mut c_void) -> bool {
    // SAFETY: the pointer is the `LoadingEvents` in `Model::load`, to which nothing else points during the load; the
    // engine calls from one thread.
    unsafe { user_data.cast::<LoadingEvents>().as_mut() }.is_none_or(|events| events.progress(part))
}

/// A context of a model: KV cache and compute buffers.
pub(crate) struct Context<'model> {
    pointer: NonNull<sys::llama_context>,
    model: &'model Model<'model>,
}

impl<'model> Context<'model> {
    pub(crate) fn new(model: &'model Model<'model>, params: sys::llama_context_params) -> Result<Self, Failure> {
        // SAFETY: the model outlives the context by this type's lifetime; `params` holds no pointers of ours.
        let pointer = unsafe { sys::llama_init_from_model(model.as_ptr(), params) };
        NonNull::new(pointer).map(|pointer| Self { pointer, model }).ok_or_else(|| {
            let log = log::heard().problems();
            Failure::Context { kind: classify(Stage::Context, &log), log }
        })
    }

    /// What the context says about itself.
    pub(crate) fn facts(&self, has_gpu: bool) -> ContextFacts {
        let context = self.pointer.as_ptr();
        // SAFETY: the context lives as long as `self`.
        unsafe {
            ContextFacts {
                n_ctx: sys::llama_n_ctx(context),
                n_batch: sys::llama_n_batch(context),
                n_ubatch: sys::llama_n_ubatch(context),
                n_threads: sys::llama_n_threads(context),
                n_threads_batch: sys::llama_n_threads_batch(context),
                n_layer: self.model.n_layer(),
                has_gpu,
            }
        }
    }

    /// Empties the KV cache.
    pub(crate) fn clear(&mut self) {
        // SAFETY: the context lives as long as `self`; a model without memory gives null, which is left alone.
        unsafe {
            let memory = sys::llama_get_memory(self.pointer.as_ptr());
            if !memory.is_null() {
                sys::llama_memory_clear(memory, false);
            }
        }
    }

    /// Computes `tokens` at the end of what is cached; may return before a GPU is done.
    pub(crate) fn decode(&mut self, tokens: &mut [i32], phase: &'static str) -> Result<(), Failure> {
        let count = i32::try_from(tokens.len()).unwrap_or(i32::MAX);
        // SAFETY: the batch borrows `tokens` for this call alone.
        let code =
            unsafe { sys::llama_decode(self.pointer.as_ptr(), sys::llama_batch_get_one(tokens.as_mut_ptr(), count)) };
        if code == 0 {
            return Ok(());
        }
        let log = log::heard().problems();
        Err(Failure::Decode { kind: classify(Stage::Decode, &log), phase, code, log })
    }

    /// Waits until everything decoded is computed.
    pub(crate) fn synchronize(&mut self) {
        // SAFETY: the context lives as long as `self`.
        unsafe { sys::llama_synchronize(self.pointer.as_ptr()) };
    }

    /// The most likely token after the last one decoded: greedy sampling.
    pub(crate) fn sample(&mut self, phase: &'static str) -> Result<i32, Failure> {
        let count = usize::try_from(self.model.n_vocab()).unwrap_or(0);
        // SAFETY: the context lives as long as `self`; the pointer is null or the last token's logits, one for each
        // token of the vocabulary, which stay until the next decode.
        let logits = unsafe {
            let logits = sys::llama_get_logits_ith(self.pointer.as_ptr(), -1);
            if logits.is_null() { &[] } else { std::slice::from_raw_parts(logits, count) }
        };
        greedy(logits).ok_or(Failure::NonFinite { what: "a logit", phase })
    }
}

impl Drop for Context<'_> {
    fn drop(&mut self) {
        // SAFETY: made by the engine, freed once.
        unsafe { sys::llama_free(self.pointer.as_ptr()) };
    }
}

/// The index of the largest logit; `None` when there is none or one is not finite.
fn greedy(logits: &[f32]) -> Option<i32> {
    let mut best = (0_i32, *logits.first()?);
    let mut finite = true;
    for (token, &logit) in (0_i32..).zip(logits) {
        finite &= logit.is_finite();
        if logit > best.1 {
            best = (token, logit);
        }
    }
    finite.then_some(best.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crate_version_is_the_pinned_one() {
        let pin = format!("llama-cpp-sys-2 = \"={CRATE_VERSION}\"");
        assert!(include_str!("../../../Cargo.toml").contains(&pin), "{pin}");
    }

    #[test]
    fn abort_of_the_engine_is_announced_before_the_process_dies() {
        use std::os::unix::process::ExitStatusExt;

        const ABORT: &str = "FLEETUNE_TEST_ABORT";
        if std::env::var_os(ABORT).is_some() {
            let _backend = start().unwrap();
            // SAFETY: both texts are NUL-terminated, the format has no arguments.
            unsafe { sys::ggml_abort(c"file.c".as_ptr(), 7, c"boom".as_ptr()) };
        }
        let name = "engine::tests::abort_of_the_engine_is_announced_before_the_process_dies";
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact", "--nocapture"])
            .env(ABORT, "1")
            .output()
            .unwrap();
        let said = String::from_utf8(child.stdout).unwrap();
        assert!(said.contains(r#"{"event":"abort","message":"file.c:7: boom"}"#), "{said}");
        assert_eq!(child.status.signal(), Some(6));
    }

    #[test]
    fn greedy_takes_the_largest_and_refuses_garbage() {
        assert_eq!(greedy(&[-1.0, 3.0, 2.0]), Some(1));
        assert_eq!(greedy(&[f32::NAN, 1.0]), None);
        assert_eq!(greedy(&[1.0, f32::NEG_INFINITY]), None);
        assert_eq!(greedy(&[]), None);
    }
}
