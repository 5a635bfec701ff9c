//! Whatever a runner does, the search ends it, says what happened, and goes on.

use fleetune_tests::{Place, place};
use serde_json::{Value, json};

/// The whole grid of [`GRID`].
const BUDGET: [&str; 7] = ["--trials", "4", "--reps", "3", "--no-confirm", "--sampler", "grid"];

/// Four configurations; the one with 2 threads misbehaves.
const GRID: &str = "[parameters.n_threads]\nchoices = [4, 8, 2, 1]\ndefault = 4";

/// The place and the trials of a search of the grid under `script`.
fn trials_of(script: &Value, more: &[&str]) -> (Place, Vec<Value>) {
    let place = place!();
    place.script(script);
    place.write("space.toml", GRID);
    let storage = place.sqlite("a.db");
    place.run_tune(&storage, &[&BUDGET[..], more].concat()).ok().prints("llama-server");
    let trials = place.assert_whole(&storage, 4);
    assert_eq!(place.children(), Vec::<u32>::new(), "a child is left over");
    (place, trials)
}

/// Asserts that the trial with 2 threads fails as `kind` and says `message`, and that all others are measured.
fn assert_fails_as(mode: &Value, more: &[&str], kind: &str, message: &str) -> Value {
    let mut script = mode.clone();
    script["rules"] = json!([{"when": {"n_threads": 2}, "mode": mode["mode"]}]);
    script["mode"] = json!("ok");
    let (_place, trials) = trials_of(&script, more);
    let (failed, others): (Vec<_>, Vec<_>) =
        trials.into_iter().partition(|trial| trial["params"]["n_threads"] == json!(2));
    assert!(others.iter().all(|trial| trial["state"] != "fail"), "{others:?}");
    let [failed] = failed.try_into().expect("one configuration has 2 threads");
    assert!(failed["number"].as_u64() < Some(3), "nothing was tried after it: {failed}");
    assert_eq!((&failed["state"], &failed["fail_kind"]), (&json!("fail"), &json!(kind)), "{failed}");
    let said = failed["fail_message"].as_str().unwrap_or_default();
    assert!(said.contains(message), "`{message}` is not in `{said}`");
    assert_eq!(failed["values"], json!([]));
    failed
}

#[test]
fn hang_is_a_timeout_and_the_search_goes_on() {
    let failed = assert_fails_as(&json!({"mode": "hang"}), &["--timeout-per-trial", "5s"], "timeout", "5");
    assert_eq!(failed["attempts"][0]["detail"]["stopped_by"], "SIGTERM");
}

#[test]
fn runner_that_ignores_sigterm_is_killed() {
    let script = json!({"mode": "hang", "ignore_sigterm": true});
    let failed = assert_fails_as(&script, &["--timeout-per-trial", "5s"], "timeout", "5");
    assert_eq!(failed["attempts"][0]["detail"]["stopped_by"], "SIGKILL");
}

#[test]
fn abort_is_a_crash_with_its_last_words() {
    assert_fails_as(&json!({"mode": "abort", "stderr_bytes": 300_000}), &[], "crash", "GGML_ASSERT(scripted) failed");
}

#[test]
fn segmentation_fault_is_a_crash() {
    assert_fails_as(&json!({"mode": "segfault"}), &[], "crash", "SIGSEGV");
}

#[test]
fn exit_without_a_word_is_a_crash() {
    assert_fails_as(&json!({"mode": "exit"}), &[], "crash", "3");
}

#[test]
fn runner_that_runs_out_of_memory_is_oom() {
    assert_fails_as(&json!({"mode": "oom"}), &[], "oom", "failed to allocate buffer of 99 GiB");
}

#[test]
fn nan_is_non_finite() {
    assert_fails_as(&json!({"mode": "nan"}), &[], "non_finite", "not a finite number");
}

#[test]
fn refusal_of_the_engine_is_an_invalid_configuration() {
    assert_fails_as(&json!({"mode": "invalid_config"}), &[], "invalid_config", "the engine refuses this");
}

#[test]
fn runner_that_talks_nonsense_is_an_error() {
    assert_fails_as(&json!({"mode": "garbage"}), &[], "error", "this is no event");
}

#[test]
fn slow_trial_is_pruned_and_keeps_what_was_measured() {
    let place = place!();
    for (name, pruner) in [("median.db", &["--pruner", "median"][..]), ("racing.db", &[])] {
        let storage = place.sqlite(name);
        let search = ["--trials", "20", "--reps", "4", "--no-confirm"];
        place.run_tune(&storage, &[&search, pruner].concat()).ok();
        let trials = place.assert_whole(&storage, 20);
        let pruned: Vec<_> = trials.iter().filter(|trial| trial["state"] == "pruned").collect();
        assert!(!pruned.is_empty(), "nothing was stopped in {name}");
        for trial in pruned {
            let steps = trial["steps"].as_array().unwrap();
            assert!(!steps.is_empty() && steps.len() < 4, "{trial}");
            assert_eq!(trial["values"].as_array().unwrap().len(), 1);
        }
    }
}

#[test]
fn no_pruner_prunes_nothing() {
    let place = place!();
    let storage = place.sqlite("a.db");
    place.run_tune(&storage, &["--trials", "20", "--reps", "2", "--no-confirm", "--pruner", "none"]).ok();
    assert!(place.assert_whole(&storage, 20).iter().all(|trial| trial["state"] == "complete"));
}

#[test]
fn search_without_any_result_says_why() {
    let place = place!();
    place.script(&json!({"mode": "oom"}));
    let storage = place.sqlite("a.db");
    let done = place.run_tune(&storage, &BUDGET).exits(5).says("no trial of study `s` gave a result");
    let done = done.says("trial 0 failed as oom: ").says("failed to allocate buffer of 99 GiB");
    done.says("hint: look at it with `fleetune trial show s 0`");
    assert!(place.assert_whole(&storage, 4).iter().all(|trial| trial["fail_kind"] == "oom"));
    place.run(&["trial", "show", "s", "0", "--storage", &storage]).ok().prints("failed to allocate buffer of 99 GiB");
}

#[test]
fn failed_default_is_no_baseline() {
    let place = place!();
    place.script(&json!({"rules": [{"when": {"n_batch": 2048}, "mode": "oom"}]}));
    let storage = place.sqlite("a.db");
    place.run_tune(&storage, &["--trials", "6", "--reps", "2"]).ok().prints("There is no default to compare it with");
    let trials = place.assert_whole(&storage, 6);
    assert_eq!(trials[0]["fail_kind"], "oom");
}
