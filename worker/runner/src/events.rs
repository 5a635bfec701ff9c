//! The one door to stdout: event lines, each flushed.

use std::ffi::{CStr, c_char};
use std::io::{self, Write};
use std::time::{Duration, Instant};

use fleetune_core::runner::{Event, bounded};

use crate::failure::Failure;

/// At most this often a loading event is sent.
const LOADING_INTERVAL: Duration = Duration::from_millis(250);

/// Writes one event line.
pub(crate) fn emit(event: &Event) -> Result<(), Failure> {
    let mut line = event.to_line();
    line.push('\n');
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes()).and_then(|()| out.flush()).map_err(Failure::Output)
}

/// Registered with the engine: announces that it is about to abort the process.
pub(crate) unsafe extern "C" fn on_abort(message: *const c_char) {
    let text = if message.is_null() {
        "the engine aborts without a message".to_owned()
    } else {
        // SAFETY: ggml passes a NUL-terminated buffer on its own stack, alive during the call.
        unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned()
    };
    // The process ends either way.
    let _ = emit(&Event::Abort { message: bounded(&text) });
}

/// Loading events that are neither too many nor sent to nobody.
pub(crate) struct LoadingEvents {
    last: Option<Instant>,
    failed: Option<Failure>,
}

impl LoadingEvents {
    pub(crate) fn new() -> Self {
        Self { last: None, failed: None }
    }

    /// Returns whether loading goes on.
    pub(crate) fn progress(&mut self, part: f32) -> bool {
        if self.last.is_some_and(|last| last.elapsed() < LOADING_INTERVAL) {
            return true;
        }
        self.last = Some(Instant::now());
        match emit(&Event::Loading { progress: f64::from(part.clamp(0.0, 1.0)) }) {
            Ok(()) => true,
            Err(failure) => {
                self.failed = Some(failure);
                false
            }
        }
    }

    /// The failure that stopped the loading, if one of ours did.
    pub(crate) fn into_failure(self) -> Option<Failure> {
        self.failed
    }
}
