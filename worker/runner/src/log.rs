//! Listens to the engine's log: for its facts, and because its last warnings explain a failure. Warnings and facts go to
//! stderr, the rest is dropped.

use std::collections::VecDeque;
use std::ffi::{CStr, c_char, c_void};
use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use fleetune_core::runner::EngineLog;
use llama_cpp_sys_2 as sys;

/// Warnings and errors that are kept.
const MAX_PROBLEMS: usize = 24;
/// A line is cut here, bytes.
const MAX_LINE: usize = 1024;

/// What the engine has said so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Heard {
    /// What it said of buffers, layers and flash attention.
    pub(crate) facts: EngineLog,
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
        self.facts.line(line)
    }

    /// The last warnings and errors as one text.
    pub(crate) fn problems(&self) -> String {
        if self.problems.is_empty() {
            return "the engine gives no reason".to_owned();
        }
        self.problems.iter().map(String::as_str).collect::<Vec<_>>().join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fact_in_pieces_is_one_line() {
        let mut listener = Listener::default();
        listener.hear(sys::GGML_LOG_LEVEL_INFO, "sched_reserve: Flash Attention ", &mut io::sink());
        listener.hear(sys::GGML_LOG_LEVEL_CONT, "enabled\n", &mut io::sink());
        assert_eq!(listener.heard.facts.flash_attn, Some(true));
        assert_eq!(listener.heard.problems(), "the engine gives no reason");
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
