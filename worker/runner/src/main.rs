//! `fleetune-runner`: the child process that holds llama.cpp. Reads one request line from stdin, answers with event
//! lines on stdout (`fleetune_core::runner`), and exits 0 once it has answered, be it with an error event.
//!
//! The engine may abort, leak or hang here; nothing else of fleetune links it. The default disposition of SIGTERM
//! stays: the process ends at once, whatever the engine is doing.

mod bench;
mod describe;
mod engine;
mod events;
mod failure;
mod log;
mod machine;
mod settings;

use std::io::{self, BufRead, Read};
use std::process::ExitCode;

use fleetune_core::runner::{Event, MAX_LINE_BYTES, ProtocolError, Request};

use crate::failure::Failure;

const HELP: &str = "\
Runs one llama.cpp job for fleetune. Not meant for people, but this works:

    echo '{\"op\":\"info\"}' | fleetune-runner

Reads one request from stdin (a JSON object on one line) and answers with events on stdout.

    --version    print the versions of runner and engine
    --help       print this text
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => serve(),
        ["--version" | "-V"] => print(&version()),
        ["--help" | "-h"] => print(HELP),
        _ => {
            // Said on stderr; there is nobody else to tell when that is closed.
            let _ = io::Write::write_all(
                &mut io::stderr(),
                b"error: fleetune-runner takes no arguments but --version and --help; requests come on stdin\n",
            );
            ExitCode::from(2)
        }
    }
}

fn print(text: &str) -> ExitCode {
    match io::Write::write_all(&mut io::stdout(), text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn version() -> String {
    let engine = engine::describe_engine();
    format!(
        "fleetune-runner {} ({} {}, ggml {}, crate {}, {})\n",
        env!("CARGO_PKG_VERSION"),
        engine.name,
        engine.version,
        engine.ggml_version,
        engine.crate_version,
        engine.build
    )
}

fn serve() -> ExitCode {
    machine::die_with_parent();
    match read_request().and_then(|request| answer(&request)) {
        Ok(()) => ExitCode::SUCCESS,
        // Nobody reads any more.
        Err(Failure::Output(_)) => ExitCode::FAILURE,
        Err(failure) => match events::emit(&failure.event()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
    }
}

fn read_request() -> Result<Request, Failure> {
    let mut line = Vec::new();
    // One byte more than allowed, so that a longer line is told from one that just fits.
    let mut stdin = io::stdin().lock().take(MAX_LINE_BYTES as u64 + 2);
    stdin.read_until(b'\n', &mut line).map_err(|error| Failure::Engine(format!("cannot read stdin: {error}")))?;
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    if line.len() > MAX_LINE_BYTES {
        return Err(ProtocolError::TooLong { bytes: line.len() }.into());
    }
    Ok(Request::from_line(&String::from_utf8_lossy(&line))?)
}

fn answer(request: &Request) -> Result<(), Failure> {
    let backend = engine::start()?;
    match request {
        Request::Info => {
            let (engine, devices) = (engine::describe_engine(), engine::devices(&backend));
            events::emit(&Event::Info { engine, devices, settings: Vec::new() })
        }
        Request::Describe { model, n_ctx } => events::emit(&Event::Described(describe::run(&backend, model, *n_ctx)?)),
        Request::Bench { model, settings, workload, seed } => bench::run(&backend, model, settings, workload, *seed),
    }
}
