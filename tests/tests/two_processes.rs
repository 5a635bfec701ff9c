//! Several searches on one machine: they share a study, and never measure at the same time on one device.

use std::time::Duration;

use fleetune_tests::trials::{rows, workers};
use fleetune_tests::{Place, Running, place, until};
use nix::sys::signal::Signal;
use serde_json::json;

/// Pruned runs are cut off and would write no end.
const WITHOUT_PRUNER: [&str; 6] = ["--reps", "2", "--pruner", "none", "--trials", "30"];

/// Starts both; each has a trial of its own before either measures.
fn start_both(place: &Place, one: &str, other: &str, budget: &[&str]) -> (Running, Running) {
    let device = place.hold_device();
    let mut both = (place.start_tune(one, budget), place.start_tune(other, budget));
    both.0.until_it_says("another measurement uses CPU; waiting for it");
    both.1.until_it_says("another measurement uses CPU; waiting for it");
    drop(device);
    both
}

#[test]
fn two_searches_of_one_study_share_its_trials() {
    let place = place!();
    place.script(&json!({"repetition_ms": 10, "journal": true}));
    let storage = place.sqlite("a.db");
    let (first, second) = start_both(&place, &storage, &storage, &WITHOUT_PRUNER);
    let (first, second) = (first.wait().ok(), second.wait().ok());
    assert!(first.stdout.contains("llama-server"), "{}", first.stdout);
    assert_eq!(first.stdout, second.stdout, "the answers differ");
    let trials = place.assert_whole(&storage, 30);
    assert_eq!(workers(&trials).len(), 2, "one of them measured nothing");
    place.assert_one_at_a_time();
}

#[test]
fn searches_of_two_studies_never_measure_at_the_same_time() {
    let place = place!();
    place.script(&json!({"repetition_ms": 10, "journal": true}));
    let (one, other) = (place.sqlite("one.db"), place.sqlite("other.db"));
    let budget = ["--reps", "2", "--pruner", "none", "--trials", "8", "--no-confirm"];
    let (first, second) = start_both(&place, &one, &other, &budget);
    first.wait().ok();
    second.wait().ok();
    place.assert_whole(&one, 8);
    place.assert_whole(&other, 8);
    assert_eq!(place.journal().len(), 2 * 16);
    place.assert_one_at_a_time();
}

#[test]
fn waiting_for_the_device_is_not_time_of_the_trial() {
    let place = place!();
    place.script(&json!({"mode": "hang", "journal": true}));
    let holder = place.start_tune(&place.sqlite("holder.db"), &["--trials", "1"]);
    until("the device is in use", || (!place.journal().is_empty()).then_some(()));
    place.script(&json!({}));
    let storage = place.sqlite("a.db");
    let mut waiting = place.start_tune(&storage, &["--trials", "1", "--no-confirm", "--timeout-per-trial", "5s"]);
    waiting.until_it_says("another measurement uses CPU; waiting for it");
    // Longer than its time limit: what is to be shown is that nothing happens.
    std::thread::sleep(Duration::from_secs(6));
    assert!(waiting.is_running());
    holder.kill();
    waiting.wait().ok();
    let trial = &place.assert_whole(&storage, 1)[0];
    assert_eq!(trial["state"], "complete");
    assert!(trial["attempts"][0]["detail"]["waited_s"].as_f64() >= Some(5.0), "{trial}");
    assert!(trial["seconds"].as_f64() < Some(5.0), "{trial}");
}

#[test]
fn killed_search_takes_up_its_trial_at_once() {
    let place = place!();
    place.script(&json!({"mode": "hang", "journal": true}));
    let storage = place.sqlite("a.db");
    let budget = ["--trials", "2", "--no-confirm"];
    let tune = place.start_tune(&storage, &budget);
    until("a trial at work", || (!place.journal().is_empty()).then_some(()));
    tune.kill();
    place.script(&json!({}));
    place.run_tune(&storage, &budget).ok();
    let trials = place.assert_whole(&storage, 2);
    let attempts = rows(&trials[0]["attempts"]);
    assert_eq!(attempts[0]["state"], "lost");
    assert_eq!(attempts[1]["state"], "finished");
    assert_eq!(workers(&trials).len(), 1, "the worker came back as another one");
    let waited_us = attempts[1]["started_at_us"].as_i64().unwrap() - attempts[0]["started_at_us"].as_i64().unwrap();
    assert!(waited_us < 25_000_000, "its own lease, of 30 s, was waited for: {waited_us} µs");
}

#[test]
fn survivor_finishes_what_a_killed_search_shared() {
    let place = place!();
    place.script(&json!({"repetition_ms": 10, "journal": true}));
    let storage = place.sqlite("a.db");
    let (first, second) = start_both(&place, &storage, &storage, &WITHOUT_PRUNER);
    until("some trials at work", || (place.begun() >= 5).then_some(()));
    // The lease of the killed one ends after 30 s, and the other takes over its trial.
    first.kill();
    second.wait().ok();
    place.assert_whole(&storage, 30);
}

#[test]
fn interrupted_search_leaves_its_trial_to_the_other() {
    let place = place!();
    place.script(&json!({"repetition_ms": 10, "journal": true}));
    let storage = place.sqlite("a.db");
    let (first, second) = start_both(&place, &storage, &storage, &WITHOUT_PRUNER);
    until("some trials at work", || (place.begun() >= 5).then_some(()));
    first.signal(Signal::SIGINT);
    first.wait().exits(130);
    second.wait().ok();
    place.assert_whole(&storage, 30);
}
