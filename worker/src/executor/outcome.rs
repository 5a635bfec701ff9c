//! What the end of a child means. Pure, so that a table tests it.

use std::time::Duration;

use fleetune_core::FailKind;
use fleetune_core::runner::Event;

use super::{Cause, Exit, Failure, Garbage, Stop};

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The runner said that it is done.
    Done,
    /// It was ended from outside.
    Stopped(Stop),
    /// It has no result.
    Failed(Failure),
}

/// Everything that is known about the end of a child.
#[derive(Debug)]
pub struct Facts<'a> {
    /// Why it ended, as far as the worker had a hand in it.
    pub cause: &'a Cause,
    /// How it left.
    pub exit: Exit,
    /// The last event, when it was one after which nothing follows.
    pub last: Option<&'a Event>,
    /// The end of its stderr.
    pub stderr: &'a str,
    /// What it was allowed.
    pub time_limit: Duration,
}

/// What engines, drivers and allocators say when memory is short. Lower case.
const OUT_OF_MEMORY: [&str; 9] = [
    "out of memory",
    "outofmemory",
    "out_of_device_memory",
    "out_of_host_memory",
    "failed to allocate",
    "unable to allocate",
    "cannot allocate memory",
    "std::bad_alloc",
    "cudaerrormemoryallocation",
];

/// Whether a text speaks of memory that was short.
pub(crate) fn says_out_of_memory(text: &str) -> bool {
    let text = text.to_lowercase();
    OUT_OF_MEMORY.iter().any(|phrase| text.contains(phrase))
}

/// Says how a run ended.
pub fn classify(facts: &Facts<'_>) -> Ended {
    let failed = |kind, message: String| Ended::Failed(Failure::new(kind, message));
    // What was measured counts even when the engine's farewell fails, and even when it came with the time limit.
    if let Some(Event::Done { .. }) = facts.last
        && !matches!(facts.cause, Cause::Stopped(_))
    {
        return Ended::Done;
    }
    match facts.cause {
        Cause::Stopped(stop) => return Ended::Stopped(*stop),
        Cause::TimeLimit => {
            let seconds = facts.time_limit.as_secs_f64();
            return failed(
                FailKind::Timeout,
                format!(
                    "the run took longer than its limit of {seconds} s and was ended; raise `--timeout-per-trial` if it may"
                ),
            );
        }
        Cause::Garbage(Garbage::NonFinite(_)) => {
            let Cause::Garbage(garbage) = facts.cause else { unreachable!("matched above") };
            return failed(FailKind::NonFinite, garbage.to_string());
        }
        Cause::Garbage(garbage) => {
            let message = format!("the runner does not keep to the protocol: {garbage}; is it of this version?");
            return failed(FailKind::Error, message);
        }
        Cause::Exited => {}
    }
    match facts.last {
        Some(Event::Error { kind, message }) => return failed(*kind, message.clone()),
        Some(Event::Abort { message }) => return died("the engine aborted", message, facts.stderr),
        Some(Event::Info { .. } | Event::Described(_)) => return Ended::Done,
        Some(Event::Done { .. } | Event::Loading { .. } | Event::Loaded { .. } | Event::Repetition(_)) | None => {}
    }
    match facts.exit {
        Exit::Signal(number) if number == SIGKILL => failed(
            FailKind::Oom,
            "the runner was killed from outside, most likely by the kernel for lack of memory (`dmesg` says); use fewer \
             layers on the CPU, a smaller context or a smaller model"
                .to_owned(),
        ),
        Exit::Signal(number) => died(&format!("the runner died by {}", signal_name(number)), "", facts.stderr),
        Exit::Code(0) => failed(FailKind::Crash, "the runner left without a result".to_owned()),
        Exit::Code(code) => died(&format!("the runner left with exit code {code} and no result"), "", facts.stderr),
        Exit::Unknown => failed(FailKind::Error, "the runner's end could not be observed".to_owned()),
    }
}

/// Crash, or out of memory when the last words say so.
fn died(what: &str, words: &str, stderr: &str) -> Ended {
    /// As many last lines of stderr may give the reason; earlier ones can be warnings that were survived.
    const LAST_LINES: usize = 20;
    let lines: Vec<_> = stderr.lines().rev().filter(|line| !line.trim().is_empty()).take(LAST_LINES).collect();
    let memory = says_out_of_memory(words) || lines.iter().any(|line| says_out_of_memory(line));
    let words = if words.is_empty() { lines.first().copied().unwrap_or("") } else { words };
    let said = if words.is_empty() { String::new() } else { format!(": {}", words.trim()) };
    let kind = if memory { FailKind::Oom } else { FailKind::Crash };
    Ended::Failed(Failure::new(kind, format!("{what}{said}")))
}

/// POSIX fixes these numbers.
const SIGKILL: i32 = 9;

fn signal_name(number: i32) -> String {
    #[cfg(unix)]
    if let Ok(signal) = nix::sys::signal::Signal::try_from(number) {
        return signal.as_str().to_owned();
    }
    format!("signal {number}")
}

#[cfg(test)]
mod tests {
    use fleetune_core::runner::ProtocolError;

    use super::*;

    fn outcome(cause: &Cause, exit: Exit, last: Option<&Event>, stderr: &str) -> Ended {
        classify(&Facts { cause, exit, last, stderr, time_limit: Duration::from_mins(1) })
    }

    fn kind(cause: &Cause, exit: Exit, last: Option<&Event>, stderr: &str) -> FailKind {
        match outcome(cause, exit, last, stderr) {
            Ended::Failed(failure) => failure.kind,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_end_has_its_kind() {
        let exited = Cause::Exited;
        let error = |kind| Event::Error { kind, message: "m".into() };
        let abort = |message: &str| Event::Abort { message: message.into() };
        let garbage = Cause::Garbage(Garbage::Line(ProtocolError::TooLong { bytes: 1 }));
        let nan = Cause::Garbage(Garbage::NonFinite("{}".into()));
        let survived = format!("warning: failed to allocate pinned memory\n{}", "fine\n".repeat(30));
        for (cause, exit, last, stderr, expected) in [
            (&exited, Exit::Code(1), Some(error(FailKind::Oom)), "", FailKind::Oom),
            (&exited, Exit::Code(1), Some(error(FailKind::InvalidConfig)), "", FailKind::InvalidConfig),
            (&exited, Exit::Code(0), Some(error(FailKind::NonFinite)), "", FailKind::NonFinite),
            (&exited, Exit::Signal(6), Some(abort("GGML_ASSERT(x) failed")), "", FailKind::Crash),
            (&exited, Exit::Signal(6), Some(abort("CUDA error: out of memory")), "", FailKind::Oom),
            (&exited, Exit::Signal(6), None, "terminate called after std::bad_alloc\n", FailKind::Oom),
            (&exited, Exit::Signal(6), None, "ggml.c: assertion\n", FailKind::Crash),
            (&exited, Exit::Signal(6), None, survived.as_str(), FailKind::Crash),
            (&exited, Exit::Signal(9), None, "", FailKind::Oom),
            (&exited, Exit::Signal(11), None, "", FailKind::Crash),
            (&exited, Exit::Signal(4), None, "", FailKind::Crash),
            (&exited, Exit::Code(0), None, "", FailKind::Crash),
            (&exited, Exit::Code(3), None, "", FailKind::Crash),
            (&Cause::TimeLimit, Exit::Signal(9), None, "", FailKind::Timeout),
            (&Cause::TimeLimit, Exit::Signal(15), Some(error(FailKind::Error)), "", FailKind::Timeout),
            (&garbage, Exit::Signal(15), None, "", FailKind::Error),
            (&nan, Exit::Signal(15), None, "", FailKind::NonFinite),
        ] {
            assert_eq!(kind(cause, exit, last.as_ref(), stderr), expected, "{cause:?} {exit:?} {last:?}");
        }
    }

    #[test]
    fn done_counts_unless_the_run_was_stopped() {
        let done = Event::Done { ram_peak_mib: 1.0, vram_peak_mib: None };
        assert_eq!(outcome(&Cause::Exited, Exit::Code(0), Some(&done), ""), Ended::Done);
        assert_eq!(outcome(&Cause::TimeLimit, Exit::Signal(9), Some(&done), ""), Ended::Done);
        for stop in [Stop::Pruned, Stop::Cancelled, Stop::Lost, Stop::Released] {
            let ended = outcome(&Cause::Stopped(stop), Exit::Signal(15), Some(&done), "");
            assert_eq!(ended, Ended::Stopped(stop));
        }
    }

    #[test]
    fn crash_names_the_signal_and_the_last_words() {
        let ended = outcome(&Cause::Exited, Exit::Signal(11), None, "loading\nsegfault at 0\n\n");
        let Ended::Failed(failure) = ended else { panic!("{ended:?}") };
        assert_eq!(failure.message, "the runner died by SIGSEGV: segfault at 0");
    }
}
