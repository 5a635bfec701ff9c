//! Listens to the engine's log: what it says about buffers, layers and flash attention is nowhere else to be read, and
//! its last warnings explain a failure. Warnings and a few facts go to stderr, the rest is dropped.

use std::collections::VecDeque;
use std::ffi::{CStr, c_char, c_void};
use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use fleetune_core::runner::{Buffer, LoadMode};
use llama_cpp_sys_2 as sys;

/// Warnings and errors that are kept.
const MAX_PROBLEMS: usize = 24;
/// A line is cut here, bytes.
const MAX_LINE: usize = 1024;
/// More buffers than any machine's devices make.
const MAX_BUFFERS: usize = 256;

/// What the engine has said so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Heard {
    /// Buffers in the order of their making; a compute buffer that is made again replaces the former.
    pub(crate) buffers: Vec<Buffer>,
    /// Layers on a GPU, and layers there are.
    pub(crate) offloaded: Option<(u32, u32)>,
    /// Whether flash attention was found to work, where it was to be found out.
    pub(crate) flash_attn: Option<bool>,
    /// How the file is really read.
    pub(crate) load_mode: Option<LoadMode>,
    /// The system did not let the model be locked into memory.
    pub(crate) lock_refused: bool,
    problems: VecDeque<String>,
}

#[derive(Default)]
struct Listener {
    heard: Heard,
    /// A line that has not ended yet, and how grave it is.
    line: String,
    grave: bool,
}

static LISTENER: Mutex<Option<Listener>> = Mutex::new(None);

fn listener() -> MutexGuard<'static, Option<Listener>> {
    LISTENER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Begins to listen; from here on nothing of the engine's log reaches stderr unfiltered.
pub(crate) fn install() {
    *listener() = Some(Listener::default());
    // SAFETY: the callback is a plain function that lives as long as the process, and ignores its user data.
    unsafe { sys::llama_log_set(Some(on_log), std::ptr::null_mut()) };
}

/// What has been heard so far.
pub(crate) fn heard() -> Heard {
    listener().as_ref().map(|listener| listener.heard.clone()).unwrap_or_default()
}

unsafe extern "C" fn on_log(level: sys::ggml_log_level, text: *const c_char, _user_data: *mut c_void) {
    if text.is_null() || level == sys::GGML_LOG_LEVEL_DEBUG {
        return;
    }
    // SAFETY: the engine passes a NUL-terminated text that lives during the call.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    if let Some(listener) = listener().as_mut() {
        // Without a reader of stderr the benchmark goes on.
        listener.hear(level, &text, &mut io::stderr());
    }
}

impl Listener {
    /// Takes in a piece of the log, and passes on to `out` what people should see of it.
    fn hear(&mut self, level: sys::ggml_log_level, text: &str, out: &mut impl Write) {
        if level != sys::GGML_LOG_LEVEL_CONT {
            self.grave = matches!(level, sys::GGML_LOG_LEVEL_WARN | sys::GGML_LOG_LEVEL_ERROR);
        }
        for part in text.split_inclusive('\n') {
            let room = MAX_LINE.saturating_sub(self.line.len());
            self.line.push_str(&part[..part.floor_char_boundary(room)]);
            if part.ends_with('\n') {
                let line = std::mem::take(&mut self.line);
                let fact = self.heard.line(line.trim(), self.grave);
                if (fact || self.grave) && !line.trim().is_empty() {
                    let _ = writeln!(out, "{}", line.trim_end());
                }
            }
        }
    }
}

impl Heard {
    /// Takes in one line; returns whether it was one of the facts.
    fn line(&mut self, line: &str, grave: bool) -> bool {
        if grave && !line.is_empty() {
            self.lock_refused |= line.contains("failed to mlock") || line.contains("mlock not supported");
            if self.problems.len() == MAX_PROBLEMS {
                self.problems.pop_front();
            }
            self.problems.push_back(line.to_owned());
        }
        if let Some(buffer) = buffer(line) {
            self.add_buffer(buffer);
            return true;
        }
        if let Some(offloaded) = offloaded(line) {
            self.offloaded = Some(offloaded);
            return true;
        }
        if let Some(mode) = between(line, "(load_mode = ", ")").and_then(LoadMode::from_name) {
            self.load_mode = Some(mode);
            return true;
        }
        if line.ends_with("Flash Attention enabled") {
            self.flash_attn = Some(true);
            return true;
        }
        if line.contains("Flash Attention not supported") {
            self.flash_attn = Some(false);
            return true;
        }
        false
    }

    fn add_buffer(&mut self, new: Buffer) {
        // Reserved once per shape of graph; the last one is the one in use.
        let same = |old: &Buffer| old.what == "compute" && new.what == "compute" && old.device == new.device;
        if let Some(position) = self.buffers.iter().position(same) {
            self.buffers[position] = new;
        } else if self.buffers.len() < MAX_BUFFERS {
            self.buffers.push(new);
        }
    }

    /// The last warnings and errors as one text.
    pub(crate) fn problems(&self) -> String {
        if self.problems.is_empty() {
            return "the engine gives no reason".to_owned();
        }
        self.problems.iter().map(String::as_str).collect::<Vec<_>>().join("; ")
    }
}

/// Reads `load_tensors:   CPU_Mapped model buffer size =   636.18 MiB`.
fn buffer(line: &str) -> Option<Buffer> {
    let (before, after) = line.split_once(" buffer size = ")?;
    let (_, names) = before.split_once(": ")?;
    let (device, what) = names.trim().split_once(' ')?;
    let mib = after.trim().strip_suffix("MiB")?.trim().parse().ok()?;
    Some(Buffer { device: device.to_owned(), what: what.trim().to_owned(), mib })
}

/// Reads `load_tensors: offloaded 33/33 layers to GPU`.
fn offloaded(line: &str) -> Option<(u32, u32)> {
    let (on_gpu, total) = between(line, "offloaded ", " layers to GPU")?.split_once('/')?;
    Some((on_gpu.parse().ok()?, total.parse().ok()?))
}

fn between<'a>(line: &'a str, before: &str, after: &str) -> Option<&'a str> {
    Some(line.split_once(before)?.1.split_once(after)?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_picked_out_of_the_log() {
        let mut listener = Listener::default();
        for text in [
            "load_tensors: loading model tensors, this can take a while... (load_mode = mmap)\n",
            "load_tensors: offloaded 12/33 layers to GPU\n",
            "load_tensors:   CPU_Mapped model buffer size =   636.18 MiB\n",
            "llama_kv_cache:      CUDA0 KV buffer size =    88.00 MiB\n",
            "sched_reserve:      CUDA0 compute buffer size =   300.00 MiB\n",
            "sched_reserve:      CUDA0 compute buffer size =   66.50 MiB\n",
            "sched_reserve: Flash Attention ",
        ] {
            listener.hear(sys::GGML_LOG_LEVEL_INFO, text, &mut io::sink());
        }
        listener.hear(sys::GGML_LOG_LEVEL_CONT, "enabled\n", &mut io::sink());
        let heard = listener.heard;
        assert_eq!((heard.offloaded, heard.flash_attn), (Some((12, 33)), Some(true)));
        assert_eq!(heard.load_mode, Some(LoadMode::Mmap));
        let buffers: Vec<_> = heard.buffers.iter().map(|b| (b.device.as_str(), b.what.as_str(), b.mib)).collect();
        assert_eq!(buffers, [("CPU_Mapped", "model", 636.18), ("CUDA0", "KV", 88.0), ("CUDA0", "compute", 66.5)]);
        assert_eq!(heard.problems(), "the engine gives no reason");
    }

    #[test]
    fn only_the_last_problems_are_kept() {
        let mut listener = Listener::default();
        for number in 0..100 {
            listener.hear(sys::GGML_LOG_LEVEL_ERROR, &format!("problem {number}\n"), &mut io::sink());
        }
        let mut shown = Vec::new();
        listener.hear(sys::GGML_LOG_LEVEL_WARN, "warning: failed to mlock 5-byte buffer\n", &mut shown);
        listener.hear(sys::GGML_LOG_LEVEL_INFO, "print_info: n_rot = 32\n", &mut shown);
        assert_eq!(shown, b"warning: failed to mlock 5-byte buffer\n");
        assert!(listener.heard.lock_refused);
        assert!(listener.heard.problems().starts_with("problem 77; problem 78"));
    }
}
