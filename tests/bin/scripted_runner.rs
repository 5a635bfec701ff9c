//! A runner that measures nothing: it speaks the line protocol and answers from a formula and a script.
//!
//! For tests. Its engine is called `scripted`, so its results never mix with real ones. Speeds are a smooth function of
//! the settings with a small noise drawn from settings, seed and repetition; the same request gets the same answer.
//!
//! The script is JSON in `<model>.script.json`; all fields may be left out:
//!
//! ```json
//! {"mode": "hang", "at": 1, "repetition_ms": 5, "load_ms": 0, "ignore_sigterm": true, "stderr_bytes": 1000000,
//!  "layers": 32, "noise": 0.003, "journal": true,
//!  "rules": [{"when": {"n_batch": 64}, "mode": "oom"}, {"when": {"n_threads": 1}, "factor": 0.5}]}
//! ```
//!
//! With `journal` each bench appends `begin PID` and, unless it is ended early, `end PID` to `<model>.journal`. Like the
//! real one, this runner does not outlive the process that started it.
//!
//! `mode` happens before counted repetition `at` (from 0): `ok`, `hang`, `abort`, `sigkill`, `segfault`, `exit`,
//! `garbage`, `nan`, `oom`, `invalid_config`, `error`. A rule holds when every setting it names has that value.
//!
//! The engine itself is scripted by `<runner>.engine.json`: `{"version": "2", "gpu_mib": [20475]}`.

use std::io::{BufRead, Write};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use fleetune_core::runner::{
    Described, Device, DeviceKind, EffectiveSettings, Engine, Event, FlashAttn, KvType, MAX_LINE_BYTES, Repetition,
    Request, Settings,
};
use fleetune_core::{FailKind, Workload};
use serde_json::Value;

/// Set for the process that was started again with SIGTERM ignored.
const IGNORING: &str = "FLEETUNE_SCRIPT_IGNORING";

fn main() -> ExitCode {
    #[cfg(unix)]
    leave_with_parent();
    let mut line = String::new();
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("--request") => line.push_str(arguments.get(2).map_or("", String::as_str)),
        Some(_) | None => {
            if std::io::stdin().lock().read_line(&mut line).is_err() || line.len() > MAX_LINE_BYTES {
                return ExitCode::from(2);
            }
        }
    }
    match Request::from_line(line.trim()) {
        Ok(Request::Info) => say(&info()),
        Ok(Request::Describe { model, .. }) => say(&describe(&model)),
        Ok(Request::Bench { model, settings, workload, seed }) => {
            let script = Script::beside(&model);
            if script.flag("ignore_sigterm") && std::env::var_os(IGNORING).is_none() {
                return again_ignoring_sigterm(line.trim());
            }
            journal(&model, &script, "begin");
            bench(&model, &settings, &workload, seed, &script);
            journal(&model, &script, "end");
        }
        Err(error) => say(&Event::Error { kind: FailKind::Error, message: error.to_string() }),
    }
    ExitCode::SUCCESS
}

/// A worker that is killed cannot end its children; the real runner watches for that in the same way.
#[cfg(unix)]
fn leave_with_parent() {
    use std::os::unix::process::parent_id;
    let parent = parent_id();
    std::thread::spawn(move || {
        while parent_id() == parent {
            std::thread::sleep(Duration::from_millis(100));
        }
        std::process::exit(1);
    });
}

fn say(event: &Event) {
    say_line(&event.to_line());
}

fn say_line(line: &str) {
    let mut stdout = std::io::stdout().lock();
    // Nobody listens any more: the worker is gone, and so should we be.
    if writeln!(stdout, "{line}").and_then(|()| stdout.flush()).is_err() {
        std::process::exit(0);
    }
}

/// One write of one line, so that lines of several processes do not mix.
fn journal(model: &str, script: &Script, what: &str) {
    if script.flag("journal") {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(format!("{model}.journal"));
        let line = format!("{what} {}\n", std::process::id());
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("the journal can be written");
    }
}

fn info() -> Event {
    let engine = engine_script();
    let device = |name: String, kind, memory_total_mib| Device {
        name,
        description: "scripted".to_owned(),
        backend: "scripted".to_owned(),
        kind,
        memory_total_mib,
        memory_free_mib: memory_total_mib,
        pci_id: None,
    };
    let gpus = engine["gpu_mib"].as_array().cloned().unwrap_or_default();
    let gpus = gpus
        .iter()
        .enumerate()
        .map(|(index, mib)| device(format!("SCRIPTED{index}"), DeviceKind::Gpu, mib.as_u64().unwrap_or(0)));
    Event::Info {
        engine: Engine {
            name: "scripted".to_owned(),
            version: engine["version"].as_str().unwrap_or("1").to_owned(),
            ggml_version: "none".to_owned(),
            crate_version: env!("CARGO_PKG_VERSION").to_owned(),
            system_info: "measures nothing".to_owned(),
            build: "test".to_owned(),
        },
        devices: gpus.chain([device("CPU".to_owned(), DeviceKind::Cpu, 8192)]).collect(),
        settings: Vec::new(),
    }
}

fn engine_script() -> Value {
    let read = || {
        let mut file = std::env::current_exe().ok()?.into_os_string();
        file.push(".engine.json");
        serde_json::from_str(&std::fs::read_to_string(file).ok()?).ok()
    };
    read().unwrap_or(Value::Null)
}

fn describe(model: &str) -> Event {
    let Ok(metadata) = std::fs::metadata(model) else { return no_model(model) };
    Event::Described(Described {
        description: "scripted".to_owned(),
        n_params: metadata.len(),
        size_bytes: metadata.len(),
        n_layer: Script::beside(model).layers(),
        n_ctx_train: 4096,
        ..Described::default()
    })
}

fn no_model(model: &str) -> Event {
    let message = format!("model `{model}` cannot be opened: no such file");
    Event::Error { kind: FailKind::Error, message }
}

fn bench(model: &str, settings: &Settings, workload: &Workload, seed: u64, script: &Script) {
    if !Path::new(model).is_file() {
        return say(&no_model(model));
    }
    flood(script.number("stderr_bytes", 0.0) as u64);
    let effective = effective(settings, workload, script);
    if effective.flash_attn == FlashAttn::Off && !matches!(effective.type_v, KvType::F16 | KvType::F32 | KvType::Bf16) {
        let message = "a quantised V cache needs flash attention; set `flash_attn` to `on`".to_owned();
        return say(&Event::Error { kind: FailKind::InvalidConfig, message });
    }
    let (mode, factor) = script.rule(settings);
    say(&Event::Loading { progress: 0.5 });
    std::thread::sleep(Duration::from_millis(script.number("load_ms", 0.0) as u64));
    say(&Event::Loading { progress: 1.0 });
    say(&Event::Loaded { load_s: 0.25, effective: Box::new(effective.clone()) });
    let at = script.number("at", 0.0) as u32;
    let pause = Duration::from_millis(script.number("repetition_ms", 0.0) as u64);
    let noise = script.number("noise", 0.003);
    for (count, warmup) in [(workload.warmup, true), (workload.repetitions, false)] {
        for index in 0..count {
            if !warmup && index == at {
                play(&mode);
            }
            std::thread::sleep(pause);
            let random = noise * noise_of(&effective, seed, index, warmup);
            let (prefill, decode) = speeds(&effective);
            let prefill_tok_s = prefill * factor * (1.0 + random);
            let decode_tok_s = decode * factor * (1.0 - random);
            say(&Event::Repetition(Repetition {
                index,
                warmup,
                prefill_tok_s,
                decode_tok_s,
                ttft_ms: 1000.0 * f64::from(workload.prompt) / prefill_tok_s,
                itl_ms: 1000.0 / decode_tok_s,
            }));
        }
    }
    say(&Event::Done { ram_peak_mib: 512.0, vram_peak_mib: None });
}

/// Does what a broken engine would do.
fn play(mode: &str) {
    let fail = |kind, message: &str| {
        say(&Event::Error { kind, message: message.to_owned() });
        std::process::exit(0);
    };
    match mode {
        "hang" => loop {
            std::thread::sleep(Duration::from_hours(1));
        },
        "abort" => {
            say(&Event::Abort { message: "GGML_ASSERT(scripted) failed".to_owned() });
            std::process::abort();
        }
        // As the kernel does when memory runs out, and as a wild pointer does.
        "sigkill" => signal_self("KILL"),
        "segfault" => signal_self("SEGV"),
        "exit" => std::process::exit(3),
        "garbage" => say_line("this is no event"),
        "nan" => say_line(
            r#"{"event":"repetition","index":0,"warmup":false,"prefill_tok_s":1.0,"decode_tok_s":NaN,"ttft_ms":1.0,"itl_ms":1.0}"#,
        ),
        "oom" => fail(FailKind::Oom, "failed to allocate buffer of 99 GiB"),
        "invalid_config" => fail(FailKind::InvalidConfig, "the engine refuses this"),
        "error" => fail(FailKind::Error, "scripted error"),
        _ => {}
    }
}

fn signal_self(signal: &str) {
    // The shell's own `kill`: the program is not on every machine.
    // Not once: the standard library's own handler of SIGSEGV takes the first for its stack's end, and leaves.
    for _ in 0..10 {
        let _ = Command::new("sh").args(["-c", &format!("kill -{signal} {}", std::process::id())]).status();
    }
    std::process::exit(2);
}

/// An ignored signal stays ignored in the program that takes over; a shell can ignore one without unsafe code.
#[cfg(unix)]
fn again_ignoring_sigterm(request: &str) -> ExitCode {
    use std::os::unix::process::CommandExt;
    let Ok(program) = std::env::current_exe() else { return ExitCode::from(2) };
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' TERM; exec \"$0\" --request \"$1\""]).arg(program).arg(request).env(IGNORING, "1");
    // Comes back only when it failed.
    let _ = shell.exec();
    ExitCode::from(2)
}

#[cfg(not(unix))]
fn again_ignoring_sigterm(_request: &str) -> ExitCode {
    ExitCode::from(2)
}

fn flood(bytes: u64) {
    let line = [b'x'; 99];
    let mut stderr = std::io::stderr().lock();
    for _ in 0..bytes / 100 {
        if stderr.write_all(&line).and_then(|()| stderr.write_all(b"\n")).is_err() {
            return;
        }
    }
}

fn effective(settings: &Settings, workload: &Workload, script: &Script) -> EffectiveSettings {
    let n_ctx = settings.n_ctx.unwrap_or(workload.prompt + workload.gen_tokens).next_multiple_of(256);
    let n_batch = settings.n_batch.unwrap_or(2048).min(n_ctx);
    let n_threads = settings.n_threads.unwrap_or(4) as i32;
    EffectiveSettings {
        n_ctx,
        n_batch,
        n_ubatch: settings.n_ubatch.unwrap_or(512).min(n_batch),
        n_threads,
        n_threads_batch: settings.n_threads_batch.map_or(n_threads, |threads| threads as i32),
        flash_attn: settings.flash_attn.unwrap_or_default(),
        type_k: settings.type_k.unwrap_or_default(),
        type_v: settings.type_v.unwrap_or_default(),
        n_gpu_layers: settings.n_gpu_layers.unwrap_or(-1),
        layers_total: script.layers() + 1,
        offload_kqv: settings.offload_kqv.unwrap_or(true),
        op_offload: settings.op_offload.unwrap_or(true),
        repack: settings.repack.unwrap_or(true),
        ..EffectiveSettings::default()
    }
}

/// Prefill and decode, tokens a second. Best at 6 threads for decode, 8 for prefill, physical batch 1024, all layers.
fn speeds(settings: &EffectiveSettings) -> (f64, f64) {
    let near = |value: f64, best: f64, width: f64| (-(value / best).log2().powi(2) / (2.0 * width * width)).exp();
    let total = f64::from(settings.layers_total.max(1));
    let on_gpu = if settings.n_gpu_layers < 0 { total } else { f64::from(settings.n_gpu_layers).min(total) };
    let offload = 1.0 + on_gpu / total;
    let flash = if settings.flash_attn == FlashAttn::Off { 0.95 } else { 1.0 };
    let cache = if settings.type_k == KvType::F16 { 1.0 } else { 0.98 };
    let repack = if settings.repack { 1.0 } else { 0.9 };
    let prefill = 400.0
        * offload
        * flash
        * repack
        * near(f64::from(settings.n_threads_batch.max(1)), 8.0, 2.0)
        * near(f64::from(settings.n_ubatch.max(1)), 1024.0, 4.0)
        * near(f64::from(settings.n_batch.max(1)), 2048.0, 8.0);
    let decode = 20.0 * offload * flash * cache * near(f64::from(settings.n_threads.max(1)), 6.0, 2.0);
    (prefill, decode)
}

/// From -1 to 1, by settings, seed and repetition.
fn noise_of(settings: &EffectiveSettings, seed: u64, index: u32, warmup: bool) -> f64 {
    // FNV-1a: the same on every platform and in every release, unlike the standard library's hasher.
    let text = format!("{settings:?} {seed} {index} {warmup}");
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    (hash >> 11) as f64 / (1_u64 << 53) as f64 * 2.0 - 1.0
}

/// What the file beside the model asks for.
struct Script(Value);

impl Script {
    fn beside(model: &str) -> Self {
        let text = std::fs::read_to_string(format!("{model}.script.json"));
        Self(text.ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or(Value::Null))
    }

    fn number(&self, name: &str, otherwise: f64) -> f64 {
        self.0[name].as_f64().unwrap_or(otherwise)
    }

    fn flag(&self, name: &str) -> bool {
        self.0[name].as_bool().unwrap_or(false)
    }

    fn layers(&self) -> u32 {
        self.number("layers", 32.0) as u32
    }

    /// Mode and factor for `settings`: of the first rule that holds, else those of the script itself.
    fn rule(&self, settings: &Settings) -> (String, f64) {
        let asked = serde_json::to_value(settings).unwrap_or_default();
        let holds = |rule: &&Value| {
            rule["when"].as_object().is_some_and(|when| when.iter().all(|(name, value)| asked[name] == *value))
        };
        let found = self.0["rules"].as_array().and_then(|rules| rules.iter().find(holds)).unwrap_or(&self.0);
        (found["mode"].as_str().unwrap_or("ok").to_owned(), found["factor"].as_f64().unwrap_or(1.0))
    }
}
