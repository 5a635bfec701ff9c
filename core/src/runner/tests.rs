use super::*;
use crate::value::{Params, Value};

fn params(pairs: &[(&str, Value)]) -> Params {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

fn every_setting() -> Settings {
    Settings {
        n_gpu_layers: Some(33),
        n_batch: Some(1024),
        n_ubatch: Some(256),
        n_ctx: Some(4096),
        n_threads: Some(8),
        n_threads_batch: Some(16),
        flash_attn: Some(FlashAttn::On),
        type_k: Some(KvType::Q8_0),
        type_v: Some(KvType::Iq4Nl),
        offload_kqv: Some(false),
        op_offload: Some(false),
        split_mode: Some(SplitMode::Row),
        main_gpu: Some(1),
        load_mode: Some(LoadMode::MmapMlock),
        repack: Some(false),
        cpu_affinity: Some("0-3".parse().unwrap()),
    }
}

#[test]
fn settings_survive_parameters_and_json() {
    let settings = every_setting();
    let params = settings.to_params();
    assert_eq!(params.len(), SETTING_NAMES.len());
    assert_eq!(Settings::from_params(&params), Ok(settings.clone()));
    let json = serde_json::to_string(&settings).unwrap();
    assert_eq!(serde_json::from_str::<Settings>(&json).unwrap(), settings);
    assert_eq!(serde_json::to_string(&Settings::default()).unwrap(), "{}");
}

#[test]
fn unknown_setting_names_the_nearest() {
    for (given, meant) in [("n_gpu_layer", "n_gpu_layers"), ("--ctx-size", "n_ctx"), ("threads", "n_threads")] {
        let error = Settings::from_params(&params(&[(given, Value::Int(1))])).unwrap_err();
        assert_eq!(error, InvalidSetting::Unknown { name: given.to_owned(), nearest: Some(meant) });
    }
    let error = Settings::from_params(&params(&[("xyzzy", Value::Int(1))])).unwrap_err();
    assert_eq!(error.to_string(), "llama.cpp setting `xyzzy` is unknown");
}

#[test]
fn value_outside_its_range_says_what_is_allowed() {
    let error = Settings::from_params(&params(&[("n_threads", Value::Int(0))])).unwrap_err();
    assert_eq!(error.to_string(), "llama.cpp setting `n_threads` cannot be `0`: it is a whole number from 1 to 512");
    let error = Settings::from_params(&params(&[("split_mode", Value::from("rows"))])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "llama.cpp setting `split_mode` cannot be `rows`: it is one of `none`, `layer`, `row`"
    );
}

#[test]
fn whole_floats_null_and_switch_words_are_understood() {
    let settings = Settings::from_params(&params(&[
        ("n_batch", Value::Float(512.0)),
        ("n_ubatch", Value::Null),
        ("flash_attn", Value::Bool(true)),
        ("repack", Value::from("off")),
        ("cpu_affinity", Value::Int(3)),
    ]))
    .unwrap();
    assert_eq!((settings.n_batch, settings.n_ubatch), (Some(512), None));
    assert_eq!((settings.flash_attn, settings.repack), (Some(FlashAttn::On), Some(false)));
    assert_eq!(settings.cpu_affinity.unwrap().to_string(), "3");
}

#[test]
fn server_flags_ask_for_the_same() {
    assert_eq!(
        every_setting().llama_server_args().join(" "),
        "-ngl 33 -b 1024 -ub 256 -c 4096 -t 8 -tb 16 -fa on -ctk q8_0 -ctv iq4_nl -sm row -mg 1 -lm mmap+mlock -C f \
         -nkvo --no-op-offload --no-repack"
    );
    let all = Settings { n_gpu_layers: Some(-1), ..Settings::default() };
    assert_eq!(all.llama_server_args(), ["-ngl", "all"]);
    assert!(Settings::default().llama_server_args().is_empty());
    let defaults = Settings {
        flash_attn: Some(FlashAttn::Auto),
        type_k: Some(KvType::F16),
        load_mode: Some(LoadMode::Auto),
        repack: Some(true),
        ..Settings::default()
    };
    assert!(defaults.llama_server_args().is_empty());
}

#[test]
fn messages_survive_their_line() {
    let request = Request::Bench {
        model: "/models/a.gguf".into(),
        settings: every_setting(),
        workload: Workload::default(),
        seed: u64::MAX,
    };
    assert_eq!(Request::from_line(&request.to_line()).unwrap(), request);
    assert_eq!(Request::from_line(r#"{"op":"info"}"#).unwrap(), Request::Info);
    let event = Event::Repetition(Repetition {
        index: 0,
        warmup: true,
        prefill_tok_s: 100.5,
        decode_tok_s: 10.25,
        ttft_ms: 3.0,
        itl_ms: 97.5,
    });
    assert_eq!(Event::from_line(&event.to_line()).unwrap(), event);
    assert!(event.to_line().starts_with(r#"{"event":"repetition","index":0,"warmup":true,"#));
    let error = Event::Error { kind: FailKind::Oom, message: "no room".into() };
    assert_eq!(error.to_line(), r#"{"event":"error","kind":"oom","message":"no room"}"#);
}

#[test]
fn long_and_foreign_lines_are_refused() {
    let long = format!("{{\"op\":\"{}\"}}", "x".repeat(MAX_LINE_BYTES));
    assert!(matches!(Request::from_line(&long), Err(ProtocolError::TooLong { .. })));
    let error = Request::from_line(r#"{"op":"dance"}"#).unwrap_err().to_string();
    assert!(error.contains("dance") && error.contains("bench"), "{error}");
}

#[test]
fn long_message_is_cut_at_a_character() {
    let cut = bounded(&"ä".repeat(MAX_MESSAGE_BYTES));
    assert!(cut.len() <= MAX_MESSAGE_BYTES && cut.ends_with("ä [...]"), "{}", cut.len());
    assert_eq!(bounded("short"), "short");
}

#[test]
fn fingerprint_tells_builds_of_one_version_apart() {
    let engine = |build: &str| Engine {
        name: "llama.cpp".into(),
        version: "0.6.0-dev".into(),
        ggml_version: "0.26.0".into(),
        crate_version: "0.1.161".into(),
        system_info: "CPU : AVX2 = 1".into(),
        build: build.into(),
    };
    assert_ne!(engine("x86_64-linux native").fingerprint(), engine("x86_64-linux portable").fingerprint());
    assert_eq!(
        engine("native").fingerprint(),
        "llama.cpp 0.6.0-dev, ggml 0.26.0, crate 0.1.161, native, CPU : AVX2 = 1"
    );
}
