//! The real engine on a tiny model with random weights.

use fleetune_tests::trials::rows;
use fleetune_tests::{Place, place, until};
use serde_json::Value;

const SMALL: [&str; 8] = ["--trials", "4", "--reps", "2", "--prompt", "32", "--gen", "8"];

/// A search of what matters on this machine, as a user starts it.
fn tune(place: &Place, storage: &str, more: &[&str]) -> Vec<String> {
    let words = place.tune(storage, &[&SMALL[..], more].concat());
    // Without the tests' own space.
    let at = words.iter().position(|word| word == "--space").expect("it is there");
    [&words[..at], &words[at + 2..]].concat()
}

fn run(place: &Place, words: &[String]) -> fleetune_tests::Done {
    place.run(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn real_search_ends_with_a_table_and_a_command_line() {
    let place = place!().with_llama();
    place.run(&["model", "synth", "--size", "tiny", "-o", "synth.gguf"]).ok().prints("wrote synth.gguf");
    let storage = place.sqlite("a.db");
    // A tiny model's noise may stop everything but the default, and then there is nothing to compare.
    let mut words = tune(&place, &storage, &["--pruner", "none"]);
    words[1] = "synth.gguf".to_owned();
    let done = run(&place, &words).ok().prints("VS DEFAULT").prints("\nllama-server -m ").prints("synth.gguf");
    assert!(["fresh processes", "measured best"].iter().any(|text| done.stdout.contains(text)), "{}", done.stdout);

    let trials = place.assert_whole(&storage, 4);
    let ran: Vec<_> = trials.iter().filter(|trial| trial["state"] != "fail").collect();
    assert!(!ran.is_empty());
    for trial in ran {
        let detail = &trial["attempts"][0]["detail"];
        let effective = detail["effective"].as_object().unwrap_or_else(|| panic!("no settings observed: {trial}"));
        for key in ["n_ctx", "n_batch", "n_ubatch", "n_threads", "flash_attn", "type_k"] {
            assert!(effective.contains_key(key), "`{key}` is not in {effective:?}");
        }
        let requested = &trial["params"]["n_threads"];
        assert!(requested.is_null() || effective["n_threads"] == *requested, "{trial}");
        let value = trial["values"][0].as_f64().expect("a value");
        assert!(value.is_finite() && value > 0.0, "{trial}");
    }
    let engine = place.study(&storage)["pin"]["engine"].as_str().map(str::to_owned);
    assert!(engine.is_some_and(|engine| engine.contains("llama.cpp")), "the engine is not named");
    // Again: the same answer without measuring.
    assert_eq!(run(&place, &words).ok().says("is complete").stdout, done.stdout);
}

#[test]
fn json_answer_has_the_documented_keys() {
    let place = place!().with_llama();
    let storage = place.sqlite("a.db");
    let best = run(&place, &tune(&place, &storage, &["--no-confirm", "--format", "json"])).ok().json();
    let has = |value: &Value, keys: &[&str]| {
        for key in keys {
            assert!(value.get(key).is_some(), "`{key}` is missing in {value}");
        }
    };
    has(&best, &["study", "unit", "trials", "baseline", "comparison", "winner", "llama_server"]);
    assert!(best["llama_server"].as_str().is_some_and(|command| command.starts_with("llama-server -m ")), "{best}");
    let study = place.study(&storage);
    has(&study, &["name", "state", "reason", "metric", "unit", "directions", "model", "workload", "fixed", "space"]);
    has(&study, &["sampler", "pruner", "seed", "budget", "trials", "spent_s", "pin", "obstacles", "created_at_us"]);
    has(&study["workload"], &["prompt", "gen_tokens", "repetitions", "warmup"]);
    has(&study["pin"], &["model_hash", "executor", "engine", "device_class"]);
    let trials = rows(&place.export(&storage)["trials"]);
    for trial in &trials {
        has(trial, &["number", "state", "origin", "params", "values", "constraints", "fail_kind", "fail_message"]);
        has(trial, &["steps", "attempt", "seconds", "started_at_us", "ended_at_us", "turn", "seen", "attempts"]);
        has(&trial["attempts"][0], &["attempt", "worker", "state", "started_at_us", "ended_at_us", "detail"]);
    }
}

#[test]
fn killed_real_search_leaves_no_engine_behind_and_goes_on() {
    let place = place!().with_llama();
    let storage = place.sqlite("a.db");
    // Repetitions enough to be at work when it is killed.
    let words = tune(&place, &storage, &["--no-confirm"]);
    let mut slow = words.clone();
    let at = slow.iter().position(|word| word == "--gen").expect("it is there");
    slow[at + 1] = "400".to_owned();
    let mut running = place.start(&slow.iter().map(String::as_str).collect::<Vec<_>>());
    until("a trial at work", || {
        assert!(running.is_running(), "{}", running.stderr());
        let at_work = place.trials(&storage).iter().any(|trial| trial["state"] == "running");
        (at_work && !place.children().is_empty()).then_some(())
    });
    running.kill();
    until("the engine is gone", || place.children().is_empty().then_some(()));
    run(&place, &slow).ok().prints("llama-server");
    place.assert_whole(&storage, 4);
}
