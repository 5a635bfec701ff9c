//! Searches with a `llama-bench` instead of our runner: an imitation of one, whatever it does; and a real one.

#![cfg(unix)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use fleetune_tests::{Place, place, until};
use serde_json::{Value, json};

/// The flags of a release.
const HELP: &str = include_str!("../../worker/tests/fixtures/llama-bench/help-0.6.0.txt");

/// A shell script that prints what a `llama-bench` prints. Speeds follow from batch and threads; `$MODE` is what it
/// does with 2 threads.
const IMITATION: &str = r#"#!/bin/sh
here=$(dirname "$0")
b=2048 t=4
while [ $# -gt 0 ]; do
    case $1 in
    --help) cat "$here/help.txt"; exit 0 ;;
    --version) echo "version: 0.6.0-imitation (build 0, commit unknown)"; exit 0 ;;
    --list-devices) printf 'Available devices:\n  (none)\n'; exit 0 ;;
    -p) p=$2; shift ;;
    -n) n=$2; shift ;;
    -r) r=$2; shift ;;
    -b) b=$2; shift ;;
    -t) t=$2; shift ;;
    esac
    shift
done
echo "begin $$ p=$p n=$n" >> "$here/journal"
echo "llama-bench: benchmark 1/1: starting" >&2
echo "load_tensors:          CPU model buffer size =   636.18 MiB" >&2
echo "llama-bench: benchmark 1/1: prompt run 1/$r" >&2
if [ "$t" = 2 ] && [ "$n" != 0 ]; then
    case $(cat "$here/mode") in
    oom) echo "ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 99" >&2
        echo "llama_bench: error: failed to create context with model" >&2; exit 1 ;;
    abort) echo "ggml.c:1: GGML_ASSERT(imitated) failed" >&2; kill -ABRT $$ ;;
    segfault) kill -SEGV $$ ;;
    hang) echo hanging >> "$here/journal"; sleep 600 ;;
    cut) printf '{"n_prompt": 0, "n_gen": 1'; exit 0 ;;
    silent) exit 0 ;;
    refused) echo "error: invalid parameter for argument: -t" >&2; exit 1 ;;
    noise) yes "error: one of very many lines" | head -n 100000 >&2
        printf 'a word of a tokenizer: \377\376\n' >&2
        head -c 200000 /dev/zero | tr '\0' x >&2; echo >&2
        yes "and on it goes" | head -n 100000 >&2 ;;
    esac
fi
samples= i=0
while [ $i -lt "$r" ]; do
    samples="$samples${samples:+, }$(( (100000000 + 5000000 * t + 10000 * b) * (p + n) / 16 + 1000 * i ))"
    i=$((i + 1))
done
echo "{\"build_commit\": \"imitation\", \"n_prompt\": $p, \"n_gen\": $n, \"a_new_column\": [1], \"samples_ns\": [ $samples ]}"
"#;

/// Four configurations; the one with 2 threads misbehaves.
const GRID: &str = "[parameters.n_threads]\nchoices = [4, 8, 2, 1]\ndefault = 4";
const BUDGET: [&str; 11] =
    ["--trials", "4", "--reps", "3", "--no-confirm", "--sampler", "grid", "--prompt", "32", "--gen", "16"];

/// A place whose searches use the imitation.
fn imitated(mode: &str) -> Place {
    let place = place!();
    let program = place.path("llama-bench");
    place.write("llama-bench", IMITATION);
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    place.write("help.txt", HELP);
    place.write("mode", mode);
    place.write("space.toml", GRID);
    place.with_runner(program)
}

fn journal(place: &Place) -> String {
    std::fs::read_to_string(place.path("journal")).unwrap_or_default()
}

#[test]
fn a_search_needs_nothing_but_a_llama_bench() {
    let place = imitated("fine");
    let storage = place.sqlite("a.db");
    // The space of the machine, without what this program cannot set.
    let runner = place.runner().display().to_string();
    let words = ["tune", "m.gguf", "--storage", &storage, "--study", "s", "--runner", &runner, "--trials", "3"];
    let done = place.run(&[&words[..], &["--reps", "2", "--prompt", "32", "--gen", "16"]].concat()).ok();
    done.prints("llama-server -m ");
    let trials = place.assert_whole(&storage, 3);
    for trial in &trials {
        for absent in ["n_ctx", "n_threads_batch"] {
            assert!(trial["params"].get(absent).is_none(), "{trial}");
            assert!(trial["attempts"][0]["detail"]["requested"].get(absent).is_none(), "{trial}");
        }
    }
    let study = place.study(&storage);
    assert_eq!(study["pin"]["executor"], "llama-bench", "{study}");
    assert!(study["pin"]["engine"].to_string().contains("0.6.0-imitation"), "{study}");
    assert!(journal(&place).contains("p=32 n=0") && journal(&place).contains("p=0 n=16"), "{}", journal(&place));
    assert_eq!(place.children(), Vec::<u32>::new(), "a child is left over");
}

#[test]
fn whatever_it_does_is_told_and_the_search_goes_on() {
    for (mode, kind, message) in [
        ("oom", "oom", "failed to allocate buffer of size 99"),
        ("abort", "crash", "GGML_ASSERT(imitated) failed"),
        ("segfault", "crash", "SIGSEGV"),
        ("cut", "error", "0 of 3 measurements of its generation test"),
        ("silent", "error", "0 of 3 measurements of its generation test"),
        ("refused", "invalid_config", "invalid parameter for argument: -t"),
        ("hang", "timeout", "20"),
    ] {
        let place = imitated(mode);
        let storage = place.sqlite("a.db");
        let limit = if mode == "hang" { "20s" } else { "60s" };
        place.run_tune(&storage, &[&BUDGET[..], &["--timeout-per-trial", limit]].concat()).ok();
        let trials = place.assert_whole(&storage, 4);
        let (failed, others): (Vec<_>, Vec<_>) =
            trials.into_iter().partition(|trial| trial["params"]["n_threads"] == json!(2));
        assert!(others.iter().all(|trial| trial["state"] != "fail"), "{mode}: {others:?}");
        let said = failed[0]["fail_message"].as_str().unwrap_or_default();
        assert_eq!(failed[0]["fail_kind"], json!(kind), "{mode}: {said}");
        assert!(said.contains(message), "{mode}: `{message}` is not in `{said}`");
        assert_eq!(place.children(), Vec::<u32>::new(), "{mode}: a child is left over");
    }
}

#[test]
fn a_talkative_program_is_measured_all_the_same() {
    let place = imitated("noise");
    let storage = place.sqlite("a.db");
    place.run_tune(&storage, &BUDGET).ok();
    let trials = place.assert_whole(&storage, 4);
    assert!(trials.iter().all(|trial| trial["state"] != "fail"), "{trials:?}");
}

#[test]
fn a_killed_worker_takes_the_program_along() {
    let place = imitated("hang");
    let storage = place.sqlite("a.db");
    let search = place.start_tune(&storage, &BUDGET);
    until("a program that hangs", || journal(&place).contains("hanging").then_some(()));
    search.kill();
    until("everybody is gone", || place.children().is_empty().then_some(()));
}

#[test]
fn what_cannot_be_set_is_refused_before_a_trial() {
    let place = imitated("fine");
    let storage = place.sqlite("a.db");
    let done = place.run_tune(&storage, &[&BUDGET[..], &["--set", "n_ctx=512"]].concat()).exits(3);
    done.says("setting `n_ctx`: the worker's `llama-bench` does not take it; it takes n_gpu_layers, ");
    assert_eq!(place.trials(&storage), Vec::<Value>::new());
}

#[test]
fn something_else_called_llama_bench_is_refused() {
    let place = imitated("fine");
    place.write("help.txt", "usage: something else\n  -n, --number  count lines\n");
    let done = place.run_tune(&place.sqlite("a.db"), &BUDGET).exits(3);
    done.says("does not read as that of a `llama-bench`");
}

#[test]
#[ignore = "needs a llama-bench and our runner: `make test-llama-bench`"]
fn both_executors_agree_on_the_same_engine() {
    let program = std::env::var_os("FLEETUNE_LLAMA_BENCH").map(PathBuf::from).expect("FLEETUNE_LLAMA_BENCH is set");
    let median = |place: Place| {
        let storage = place.sqlite("a.db");
        place.write("space.toml", "[parameters.n_threads]\nchoices = [1]\ndefault = 1");
        let words = ["--trials", "1", "--reps", "7", "--no-confirm", "--prompt", "128", "--gen", "64"];
        place.run_tune(&storage, &words).ok();
        let trials = place.assert_whole(&storage, 1);
        trials[0]["values"][0].as_f64().expect("a value")
    };
    let mut ratios: Vec<_> =
        (0..5).map(|_| median(place!().with_llama()) / median(place!().with_runner(program.clone()))).collect();
    ratios.sort_by(f64::total_cmp);
    assert!((0.8..1.25).contains(&ratios[2]), "runner over llama-bench, decode behind a prompt: {ratios:?}");
}
