//! Whatever a runner does, the search ends it, says what happened, and goes on.

use fleetune_tests::{Place, place};
use serde_json::{Value, json};

/// One trial of these four misbehaves: the first after the default.
const BUDGET: [&str; 5] = ["--trials", "4", "--reps", "3", "--no-confirm"];

/// The search where every configuration with `n_threads` other than the default's misbehaves so.
fn trials_of(script: &Value, more: &[&str]) -> (Place, Vec<Value>) {
    let place = place!();
    place.script(script);
    // Two configurations: the default, and the one that misbehaves.
    place.write(
        "space.toml",
        "[parameters.n_threads]\nchoices = [4, 8]\ndefault = 4\n[parameters.n_batch]\ntype = \"int\"\nlow = 64\n\
         high = 4096\nlog = true\ndefault = 2048\n",
    );
    let storage = place.sqlite("a.db");
    place.run_tune(&storage, &[&BUDGET[..], more].concat()).ok().prints("llama-server");
    let trials = place.assert_whole(&storage, 4);
    assert_eq!(place.children(), Vec::<u32>::new(), "a child is left over");
    (place, trials)
}

/// Asserts that trials with 8 threads, of which there is one, fail as `kind` and say `message`; all others complete.
fn assert_fails_as(mode: &Value, more: &[&str], kind: &str, message: &str) -> Vec<Value> {
    let mut rule = json!({"when": {"n_threads": 8}});
    let mut script = json!({"noise": 0.0});
    for (key, value) in mode.as_object().expect("a script") {
        if key == "mode" { rule[key] = value.clone() } else { script[key] = value.clone() }
    }
    script["rules"] = json!([rule]);
    let (_place, trials) = trials_of(&script, more);
    let (failed, others): (Vec<_>, Vec<_>) =
        trials.iter().cloned().partition(|trial| trial["params"]["n_threads"] == 8);
    assert!(!failed.is_empty(), "no trial misbehaved, so nothing was tested");
    for trial in &failed {
        assert_eq!((&trial["state"], &trial["fail_kind"]), (&json!("fail"), &json!(kind)), "{trial}");
        let said = trial["fail_message"].as_str().unwrap_or_default();
        assert!(said.contains(message), "`{message}` is not in `{said}`");
        assert_eq!(trial["values"], json!([]));
    }
    assert!(others.iter().all(|trial| trial["state"] != "fail"), "{others:?}");
    assert_eq!(trials[0]["state"], "complete");
    failed
}

#[test]
fn hang_is_a_timeout_and_the_search_goes_on() {
    let failed = assert_fails_as(&json!({"mode": "hang"}), &["--timeout-per-trial", "3s"], "timeout", "3");
    assert_eq!(failed[0]["attempts"][0]["detail"]["stopped_by"], "SIGTERM");
}

#[test]
fn runner_that_ignores_sigterm_is_killed() {
    let script = json!({"mode": "hang", "ignore_sigterm": true});
    let failed = assert_fails_as(&script, &["--timeout-per-trial", "3s"], "timeout", "3");
    assert_eq!(failed[0]["attempts"][0]["detail"]["stopped_by"], "SIGKILL");
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
    let storage = place.sqlite("a.db");
    place.run_tune(&storage, &["--trials", "20", "--reps", "4", "--no-confirm", "--pruner", "median"]).ok();
    let trials = place.assert_whole(&storage, 20);
    let pruned: Vec<_> = trials.iter().filter(|trial| trial["state"] == "pruned").collect();
    assert!(!pruned.is_empty(), "the median pruner stopped nothing");
    for trial in pruned {
        let steps = trial["steps"].as_array().unwrap();
        assert!(!steps.is_empty() && steps.len() < 4, "{trial}");
        assert_eq!(trial["values"].as_array().unwrap().len(), 1);
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
