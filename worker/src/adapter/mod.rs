//! Programs of others behind the runner's line protocol.
//!
//! The worker starts this program as its child and gives it one request; the adapter starts the other program, reads
//! what that prints, and says it in the runner's words. So everything that guards a runner (limits, signals, logs, what
//! its end means) guards the other program too, and an adapter whose worker died takes it along.

mod arguments;
mod capabilities;
mod engine;
mod output;
mod rows;
mod run;
mod watch;

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;

use fleetune_core::FailKind;
use fleetune_core::runner::{Described, Event, MAX_LINE_BYTES, Request, bounded};
use fleetune_model::GgufError;

use self::capabilities::Capabilities;
use crate::executor::Failure;

/// Answers one request on stdin with the `llama-bench` at `program`; returns whether it could.
pub async fn llama_bench(program: &Path) -> bool {
    let answered = match read_request() {
        Ok(request) => tokio::select! {
            answered = answer(program, request) => answered,
            () = watch::orphaned() => {
                watch::end_group();
                Err(Failure::new(FailKind::Error, "the worker is gone".to_owned()))
            }
        },
        Err(failure) => Err(failure),
    };
    if let Err(Failure { kind, message }) = &answered {
        // Without a reader nobody misses it.
        let _ = emit(&Event::Error { kind: *kind, message: message.clone() });
    }
    answered.is_ok()
}

fn read_request() -> Result<Request, Failure> {
    let mut line = String::new();
    let error = |message: String| Failure::new(FailKind::Error, message);
    let mut input = io::stdin().lock().take(MAX_LINE_BYTES as u64 + 1);
    input.read_line(&mut line).map_err(|problem| error(format!("cannot read the request: {problem}")))?;
    Request::from_line(line.trim_end()).map_err(|problem| error(problem.to_string()))
}

async fn answer(program: &Path, request: Request) -> Result<(), Failure> {
    match request {
        Request::Info => {
            let capabilities = Capabilities::of(program).await?;
            let (engine, devices) = engine::look(program, &capabilities).await?;
            emit(&Event::Info { engine, devices, settings: capabilities.settings() })
        }
        Request::Describe { model, .. } => emit(&Event::Described(describe(&model)?)),
        Request::Bench { model, settings, workload, .. } => {
            let capabilities = Capabilities::of(program).await?;
            run::bench(program, &capabilities, &model, &settings, &workload).await
        }
    }
}

/// The model as its header tells: `llama-bench` itself describes none.
fn describe(model: &str) -> Result<Described, Failure> {
    let unreadable =
        |problem: GgufError| Failure::new(FailKind::Error, format!("cannot read the model `{model}`: {problem}"));
    let file = File::open(model).map_err(|problem| unreadable(problem.into()))?;
    let file = fleetune_model::inspect(&mut BufReader::new(file)).map_err(unreadable)?;
    let facts = &file.metadata;
    Ok(Described {
        description: format!("{} {}", facts.architecture, facts.quantization),
        n_params: facts.parameters,
        size_bytes: facts.tensor_bytes,
        n_layer: facts.block_count,
        n_ctx_train: facts.context_length,
        n_embd: facts.embedding_length,
        n_head: facts.head_count,
        n_head_kv: facts.head_count_kv,
        n_vocab: facts.vocab_size,
        has_chat_template: false,
        fit: None,
    })
}

fn emit(event: &Event) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = writeln!(out, "{}", event.to_line()).and_then(|()| out.flush());
    written.map_err(|problem| Failure::new(FailKind::Error, bounded(&format!("cannot write to stdout: {problem}"))))
}
