//! `fleetune model …`.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write as _};
use std::path::Path;

use fleetune_model::synth::{SynthQuant, SynthSize, SynthSpec};
use fleetune_model::{ModelMetadata, identity};
use serde::Serialize;

use crate::args::{Format, ModelVerb, SynthArgs};
use crate::error::{CliError, CliResult, Exit};
use crate::render;

mod estimate;

/// A model file for `--format json`.
#[derive(Serialize)]
pub struct ModelView {
    /// Its path.
    pub file: String,
    /// Its identity.
    pub hash: String,
    /// What its header says.
    #[serde(flatten)]
    pub metadata: ModelMetadata,
}

/// Runs a verb.
pub fn run(verb: ModelVerb, format: Format) -> CliResult<Exit> {
    match verb {
        ModelVerb::Synth(args) => synth(&args, format)?,
        ModelVerb::Show { file } => {
            let view = inspect(&file)?;
            render::print(format, &view, show)?;
        }
        ModelVerb::Estimate(args) => estimate::run(&args, format)?,
    }
    Ok(Exit::Done)
}

/// Reads the header of a model; refuses what is none, or not whole.
pub fn inspect(file: &Path) -> CliResult<ModelView> {
    let what = || format!("failed to read the model `{}`", file.display());
    let opened = File::open(file).map_err(|error| {
        CliError::new(Exit::NotFoundOrConflict, what())
            .because(error)
            .hint("give the path of a GGUF file; `fleetune model synth -o model.gguf` makes one to try with")
    })?;
    let model = identity::inspect(&mut BufReader::new(opened))
        .map_err(|error| CliError::new(Exit::Usage, what()).because(error))?;
    Ok(ModelView { file: file.display().to_string(), hash: model.hash.0, metadata: model.metadata })
}

fn show(view: &ModelView) -> String {
    let model = &view.metadata;
    render::pairs(&[
        ("file", view.file.clone()),
        ("architecture", model.architecture.clone()),
        ("name", model.name.clone().unwrap_or_default()),
        ("quantization", model.quantization.clone()),
        ("parameters", format!("{:.1} million", model.parameters as f64 / 1.0e6)),
        ("size", format!("{:.1} MiB", model.file_bytes as f64 / f64::from(1 << 20))),
        ("layers", model.block_count.to_string()),
        ("context", format!("{} tokens", model.context_length)),
        ("embedding", model.embedding_length.to_string()),
        ("heads", format!("{} ({} for keys and values)", model.head_count, model.head_count_kv)),
        ("hash", view.hash.clone()),
    ])
}

#[derive(Serialize)]
struct Written {
    file: String,
    bytes: u64,
}

fn synth(args: &SynthArgs, format: Format) -> CliResult<()> {
    if args.arch != "llama" {
        return Err(CliError::new(Exit::Usage, format!("there is no synthetic architecture `{}`", args.arch))
            .hint("use `--arch llama`"));
    }
    let unknown = |what: &str, name: &str, names: String| {
        CliError::new(Exit::Usage, format!("there is no synthetic {what} `{name}`")).hint(format!("use one of {names}"))
    };
    let size = SynthSize::from_name(&args.size)
        .ok_or_else(|| unknown("size", &args.size, SynthSize::ALL.map(SynthSize::as_str).join(", ")))?;
    let quant = SynthQuant::from_name(&args.quant)
        .ok_or_else(|| unknown("quantisation", &args.quant, SynthQuant::ALL.map(SynthQuant::as_str).join(", ")))?;
    let what = || format!("failed to write `{}`", args.output.display());
    let failed = |error: std::io::Error| CliError::new(Exit::NotFoundOrConflict, what()).because(error);
    // Beside its place first: nobody ever sees half a model.
    let mut partial = args.output.clone().into_os_string();
    partial.push(".partial");
    let mut out = BufWriter::new(File::create(&partial).map_err(failed)?);
    let written = SynthSpec { size, quant, seed: args.seed }
        .write(&mut out)
        .and_then(|bytes| out.flush().map(|()| bytes))
        .and_then(|bytes| std::fs::rename(&partial, &args.output).map(|()| bytes));
    match written {
        Ok(bytes) => render::print(format, &Written { file: args.output.display().to_string(), bytes }, |written| {
            let mib = written.bytes as f64 / f64::from(1 << 20);
            format!("wrote {} ({mib:.1} MiB, random weights: its speed is real, its answers are not)", written.file)
        }),
        Err(error) => {
            // The remains are of no use; that they cannot be removed either changes nothing.
            let _ = std::fs::remove_file(&partial);
            Err(failed(error))
        }
    }
}
