//! The runner as the worker sees it: a process, one request line, event lines.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use fleetune_core::Workload;
use fleetune_core::runner::{
    EffectiveSettings, Event, FlashAttn, KvType, LoadMode, Repetition, Request, Settings, SplitMode,
};
use fleetune_core::trial::FailKind;
use fleetune_model::{SynthQuant, SynthSize, SynthSpec};
use tempfile::TempDir;

const SHORT: Workload = Workload { prompt: 100, gen_tokens: 8, repetitions: 2, warmup: 1 };

struct Bench {
    folder: TempDir,
    model: PathBuf,
}

impl Bench {
    fn new(quant: SynthQuant) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("tiny.gguf");
        let mut bytes = Vec::new();
        SynthSpec { size: SynthSize::Tiny, quant, seed: 1 }.write(&mut bytes).unwrap();
        fs::write(&model, bytes).unwrap();
        Self { folder, model }
    }

    fn run(&self, settings: Settings, workload: Workload) -> Vec<Event> {
        bench(&self.model, settings, workload)
    }
}

fn one_thread() -> Settings {
    Settings { n_threads: Some(1), ..Settings::default() }
}

fn ask_line(line: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_fleetune-runner"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(format!("{line}\n").as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn ask(request: &Request) -> Vec<Event> {
    let output = ask_line(&request.to_line());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(|line| Event::from_line(line).unwrap()).collect()
}

fn bench(model: &Path, settings: Settings, workload: Workload) -> Vec<Event> {
    ask(&Request::Bench { model: model.to_str().unwrap().to_owned(), settings, workload, seed: 1 })
}

fn repetitions(events: &[Event]) -> Vec<Repetition> {
    events.iter().filter_map(|event| if let Event::Repetition(one) = event { Some(*one) } else { None }).collect()
}

fn effective(events: &[Event]) -> &EffectiveSettings {
    let found = events.iter().find_map(|event| match event {
        Event::Loaded { effective, .. } => Some(effective),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("not loaded: {events:?}"))
}

fn failure(events: &[Event]) -> (FailKind, &str) {
    match events.last() {
        Some(Event::Error { kind, message }) => (*kind, message),
        other => panic!("no error but {other:?}"),
    }
}

#[test]
fn every_quantisation_yields_finite_speeds_for_each_repetition() {
    for quant in SynthQuant::ALL {
        let events = Bench::new(quant).run(one_thread(), SHORT);
        let repetitions = repetitions(&events);
        let order: Vec<_> = repetitions.iter().map(|one| (one.warmup, one.index)).collect();
        assert_eq!(order, [(true, 0), (false, 0), (false, 1)], "{quant}");
        for one in repetitions {
            assert!(one.prefill_tok_s > 0.0 && one.decode_tok_s > 0.0, "{quant}: {one:?}");
        }
        assert!(
            matches!(events.last(), Some(Event::Done { ram_peak_mib, vram_peak_mib: None }) if *ram_peak_mib > 1.0)
        );
    }
}

#[test]
fn clocks_add_up_to_less_than_the_time_of_the_process() {
    let bench = Bench::new(SynthQuant::Q4_0);
    let workload = Workload { prompt: 600, gen_tokens: 32, repetitions: 3, warmup: 0 };
    let start = Instant::now();
    let events = bench.run(one_thread(), workload);
    let outside = start.elapsed();
    let mut inside = Duration::ZERO;
    for one in repetitions(&events) {
        let prefill_ms = 600.0 / one.prefill_tok_s * 1e3;
        assert!(one.ttft_ms >= prefill_ms, "the first token comes after the prompt: {one:?}");
        assert!((one.itl_ms * one.decode_tok_s - 1e3).abs() < 1e-6, "{one:?}");
        inside += Duration::from_secs_f64((one.ttft_ms + 32.0 * one.itl_ms) / 1e3);
    }
    assert!(inside > Duration::ZERO && inside < outside, "{inside:?} inside, {outside:?} outside");
}

#[test]
fn settings_are_read_back_as_the_engine_took_them() {
    let bench = Bench::new(SynthQuant::Q8_0);
    let settings = Settings {
        n_threads: Some(1),
        n_threads_batch: Some(2),
        n_batch: Some(64),
        n_ubatch: Some(128),
        n_ctx: Some(300),
        flash_attn: Some(FlashAttn::On),
        type_k: Some(KvType::Q8_0),
        type_v: Some(KvType::Q8_0),
        load_mode: Some(LoadMode::None),
        repack: Some(false),
        n_gpu_layers: Some(2),
        ..Settings::default()
    };
    let events = bench.run(settings, SHORT);
    let effective = effective(&events);
    assert_eq!((effective.n_batch, effective.n_ubatch, effective.n_ctx), (64, 64, 512));
    assert_eq!((effective.n_threads, effective.n_threads_batch), (1, 2));
    assert_eq!((effective.flash_attn, effective.flash_attn_resolved), (FlashAttn::On, Some(true)));
    assert_eq!((effective.load_mode, effective.repack, effective.layers_total), (LoadMode::None, false, 5));
    assert!(effective.buffers.iter().any(|buffer| buffer.what == "KV" && buffer.mib > 0.0), "{effective:?}");
    assert_eq!(repetitions(&events).len(), 3, "a prompt longer than n_batch is computed in chunks");
    if effective.split_mode == SplitMode::None {
        assert_eq!((effective.layers_on_gpu, effective.n_gpu_layers), (0, 0), "without a GPU");
    }
}

#[test]
fn refused_settings_are_told_from_missing_memory_and_bad_files() {
    let bench = Bench::new(SynthQuant::Q4_0);
    let no_flash = Settings { flash_attn: Some(FlashAttn::Off), type_v: Some(KvType::Q8_0), ..one_thread() };
    let events = bench.run(no_flash, SHORT);
    let (kind, message) = failure(&events);
    assert_eq!(kind, FailKind::InvalidConfig);
    assert!(message.contains("requires flash_attn"), "{message}");

    let small = Settings { n_ctx: Some(64), ..one_thread() };
    assert_eq!(failure(&bench.run(small, SHORT)).0, FailKind::InvalidConfig);

    let missing = super_path(&bench, "missing.gguf");
    let (kind, message) = failure_of(&missing);
    assert!(kind == FailKind::Error && message.contains("missing.gguf"), "{message}");

    let cut = super_path(&bench, "cut.gguf");
    fs::write(&cut, &fs::read(&bench.model).unwrap()[..1_000_000]).unwrap();
    let (kind, message) = failure_of(&cut);
    assert!(kind == FailKind::Error && message.contains("file bounds"), "{message}");
}

fn super_path(bench: &Bench, name: &str) -> PathBuf {
    bench.folder.path().join(name)
}

fn failure_of(model: &Path) -> (FailKind, String) {
    let events = bench(model, one_thread(), SHORT);
    let (kind, message) = failure(&events);
    (kind, message.to_owned())
}

#[test]
fn weights_that_are_not_numbers_are_non_finite() {
    let bench = Bench::new(SynthQuant::F16);
    let mut bytes = fs::read(&bench.model).unwrap();
    let length = bytes.len();
    // The last tensor is the output norm: 256 ones in 32-bit floats.
    bytes[length - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&bench.model, bytes).unwrap();
    assert_eq!(failure(&bench.run(one_thread(), SHORT)).0, FailKind::NonFinite);
}

#[test]
fn info_and_description_need_no_weights() {
    let events = ask(&Request::Info);
    let [Event::Info { engine, devices, .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!(engine.name, "llama.cpp");
    assert!(!engine.version.is_empty() && !engine.build.is_empty() && !devices.is_empty(), "{engine:?}");

    let bench = Bench::new(SynthQuant::Q8_0);
    let model = bench.model.to_str().unwrap().to_owned();
    let events = ask(&Request::Describe { model, n_ctx: Some(512) });
    let [Event::Described(described)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((described.n_layer, described.n_vocab, described.n_ctx_train), (4, 512, 4096));
    assert!(described.n_params > 3_000_000 && !described.has_chat_template);
}

#[test]
fn unreadable_request_is_an_error_event_and_no_crash() {
    for line in ["", "{", r#"{"op":"bench"}"#, r#"{"op":"dance"}"#, "\u{0}"] {
        let output = ask_line(line);
        assert!(output.status.success(), "{line:?}");
        let event = Event::from_line(String::from_utf8(output.stdout).unwrap().trim_end()).unwrap();
        assert!(matches!(event, Event::Error { kind: FailKind::Error, .. }), "{line:?}: {event:?}");
    }
}

#[test]
fn same_parameters_from_a_table_are_accepted() {
    let params = [("n_threads", 1.into()), ("flash_attn", "on".into()), ("repack", false.into())]
        .map(|(name, value): (&str, fleetune_core::Value)| (name.to_owned(), value));
    let settings = Settings::from_params(&params.into()).unwrap();
    let events = Bench::new(SynthQuant::Q4_0).run(settings, SHORT);
    assert_eq!(repetitions(&events).len(), 3);
}
