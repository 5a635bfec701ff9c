//! `fleetune model estimate`.

use fleetune_core::inventory::{Gpu, Inventory};
use fleetune_core::runner::{KvType, Settings};
use fleetune_model::estimate::{DeviceMemory, Place};
use fleetune_model::{Fit, FitOptions, fits};
use fleetune_worker::probe::{Probe as _, SystemProbe};
use serde::Serialize;

use super::ModelView;
use crate::args::{EstimateArgs, Format};
use crate::client::quoted;
use crate::error::{CliError, CliResult, Exit};
use crate::render;

/// What fits, for `--format json`.
#[derive(Serialize)]
struct FitsView {
    file: String,
    /// Layers that can go to a GPU, the output layer counted.
    layers: u32,
    ram_mib: u64,
    vram_mib: Vec<u64>,
    margin_mib: u64,
    choices: Vec<FitView>,
    recommended: Option<FitView>,
    command: Option<String>,
}

#[derive(Clone, Serialize)]
struct FitView {
    n_ctx: u32,
    kv: KvType,
    n_gpu_layers: i32,
    fits: bool,
    memory: Vec<MemoryView>,
}

#[derive(Clone, Serialize)]
struct MemoryView {
    device: String,
    need_mib: u64,
}

/// Prints what of the model fits this machine, or one with the GPUs of `--vram`.
pub fn run(args: &EstimateArgs, format: Format) -> CliResult<()> {
    let model = super::inspect(&args.file)?;
    let machine = machine(args);
    let options =
        FitOptions { context: args.ctx, kv: args.kv, layers: args.ngl, ubatch: args.ubatch, margin_mib: args.margin };
    let (choices, recommended) = fits(&model.metadata, &machine, &options);
    if choices.is_empty() {
        return Err(CliError::new(Exit::Usage, format!("failed to estimate the memory need of `{}`", model.file))
            .because("the file does not tell where all bytes of the model lie: it is one of several, or has no layers")
            .hint("give a model in one file; `llama-gguf-split --merge` puts several together"));
    }
    let recommended = recommended.map(|index| &choices[index]);
    let view = FitsView {
        layers: model.metadata.layers_to_offload(),
        ram_mib: machine.ram_mib,
        vram_mib: machine.gpus.iter().map(|gpu| gpu.vram_mib).collect(),
        margin_mib: args.margin,
        command: recommended.map(|fit| command(&model, &machine, &fit.settings)),
        recommended: recommended.map(fit_view),
        choices: choices.iter().map(fit_view).collect(),
        file: model.file,
    };
    render::print(format, &view, show)
}

/// This machine, unless its GPUs or memory are given.
fn machine(args: &EstimateArgs) -> Inventory {
    let mut machine = SystemProbe.inventory();
    if let Some(ram_mib) = args.ram {
        machine.ram_mib = ram_mib;
    }
    if !args.vram.is_empty() {
        let gpu = |(&vram_mib, index)| Gpu { index, vendor: "nvidia".to_owned(), vram_mib, ..Gpu::default() };
        machine.gpus = args.vram.iter().zip(0..).map(gpu).collect();
    }
    machine
}

fn command(model: &ModelView, machine: &Inventory, settings: &Settings) -> String {
    let mut settings = settings.clone();
    if machine.gpus.is_empty() {
        settings.n_gpu_layers = None;
    }
    let mut words = vec!["llama-server".to_owned(), "-m".to_owned(), quoted(&model.file)];
    words.extend(settings.llama_server_args());
    words.join(" ")
}

fn fit_view(fit: &Fit) -> FitView {
    let device = |memory: &DeviceMemory| MemoryView {
        device: match memory.place {
            Place::Host => "RAM".to_owned(),
            Place::Gpu(index) => format!("GPU {index}"),
        },
        need_mib: memory.need_mib.ceil() as u64,
    };
    FitView {
        n_ctx: fit.settings.n_ctx.unwrap_or_default(),
        kv: fit.settings.type_k.unwrap_or_default(),
        n_gpu_layers: fit.settings.n_gpu_layers.unwrap_or_default(),
        fits: fit.fits,
        memory: fit.memory.iter().map(device).collect(),
    }
}

fn show(view: &FitsView) -> String {
    let gpus = view.vram_mib.iter().enumerate().map(|(index, mib)| format!("GPU {index} {mib} MiB"));
    let memory: Vec<_> = gpus.chain([format!("RAM {} MiB", view.ram_mib)]).collect();
    let mut header = vec!["context", "KV cache"];
    if !view.vram_mib.is_empty() {
        header.push("layers on GPU");
    }
    let devices: Vec<_> = view.choices[0].memory.iter().map(|memory| format!("{} MiB", memory.device)).collect();
    header.extend(devices.iter().map(String::as_str));
    header.push("fits");
    let right: Vec<&str> = header.iter().copied().filter(|name| !matches!(*name, "KV cache" | "fits")).collect();
    let rows = view.choices.iter().map(|fit| {
        let mut row = vec![fit.n_ctx.to_string(), fit.kv.to_string()];
        if !view.vram_mib.is_empty() {
            row.push(format!("{} of {}", fit.n_gpu_layers, view.layers));
        }
        row.extend(fit.memory.iter().map(|memory| memory.need_mib.to_string()));
        row.push(if fit.fits { "yes" } else { "no" }.to_owned());
        row
    });
    let answer = match &view.command {
        Some(command) => format!("Recommended:\n  {command}"),
        None => "Nothing fits: take a smaller model, a coarser quantisation or a shorter context.".to_owned(),
    };
    let machine = [
        ("memory", memory.join(", ")),
        (
            "kept free",
            if view.vram_mib.is_empty() { String::new() } else { format!("{} MiB of each GPU", view.margin_mib) },
        ),
    ];
    [
        render::pairs(&machine),
        render::table(&header, &right, rows.collect()),
        answer,
        "Estimated from the header, not measured; `fleetune tune` measures.".to_owned(),
    ]
    .join("\n\n")
}
