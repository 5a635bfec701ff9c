//! Stopping, pausing, ending and enlarging a search from outside.

use std::time::Duration;

use fleetune_tests::trials::rows;
use fleetune_tests::{Done, Place, Running, place, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

const BUDGET: [&str; 5] = ["--trials", "4", "--reps", "2", "--no-confirm"];

/// A search whose first trial never ends.
fn hanging(place: &Place, storage: &str) -> Running {
    place.script(&json!({"mode": "hang", "journal": true}));
    let begun = place.journal().len();
    let tune = place.start_tune(storage, &BUDGET);
    until("a trial at work", || (place.journal().len() > begun).then_some(()));
    tune
}

fn study(place: &Place, verb: &str, storage: &str) -> Done {
    place.run(&["study", verb, "s", "--storage", storage])
}

fn assert_stops_on(signal: Signal) {
    let place = place!();
    let storage = place.sqlite("a.db");
    let tune = hanging(&place, &storage);
    tune.signal(signal);
    let stopped = tune.wait().exits(130).says("nothing is lost. Go on with:");
    assert_eq!(place.children(), Vec::<u32>::new(), "a child is left over");
    let trials = place.trials(&storage);
    assert_eq!((&trials[0]["state"], trials.len()), (&json!("running"), 1));
    let attempts = rows(&place.export(&storage)["trials"][0]["attempts"]);
    assert_eq!(attempts.iter().map(|attempt| &attempt["state"]).collect::<Vec<_>>(), ["released"]);

    // The command that it named, as a shell runs it.
    place.script(&json!({}));
    let mut shell = std::process::Command::new("sh");
    place.isolate(&mut shell);
    shell.args(["-c", stopped.stderr.lines().last().expect("the command")]);
    place.start_command(shell).wait().ok().prints("llama-server");
    let after = place.assert_whole(&storage, 4);
    assert_eq!(after[0]["params"], trials[0]["params"]);
    let states: Vec<_> = rows(&after[0]["attempts"]).iter().map(|attempt| attempt["state"].clone()).collect();
    assert_eq!(states, ["released", "finished"]);
}

#[test]
fn ctrl_c_gives_the_trial_back_and_names_the_command_that_goes_on() {
    assert_stops_on(Signal::SIGINT);
}

#[test]
fn sigterm_stops_like_ctrl_c() {
    assert_stops_on(Signal::SIGTERM);
}

#[test]
fn release_is_not_counted_as_a_lost_attempt() {
    let place = place!();
    let storage = place.sqlite("a.db");
    // More often than a trial may be lost.
    for _ in 0..4 {
        let tune = hanging(&place, &storage);
        tune.signal(Signal::SIGINT);
        tune.wait().exits(130);
    }
    place.script(&json!({}));
    place.run_tune(&storage, &BUDGET).ok();
    assert_eq!(place.assert_whole(&storage, 4)[0]["state"], "complete");
}

#[test]
fn paused_study_starts_no_trial_until_it_is_resumed() {
    let place = place!();
    let storage = place.sqlite("a.db");
    let mut tune = hanging(&place, &storage);
    study(&place, "pause", &storage).ok().prints("paused");
    // The trial under way goes on, and ends as a crash here.
    place.script(&json!({"journal": true}));
    for runner in place.children() {
        kill(Pid::from_raw(runner.cast_signed()), Signal::SIGABRT).unwrap();
    }
    until("the running trial ended", || (place.study(&storage)["trials"]["running"] == 0).then_some(()));
    // Longer than a trial takes: what is to be shown is that nothing happens.
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!((place.ended(&storage), place.begun()), (1, 1));
    assert_eq!(place.study(&storage)["state"], "paused");
    assert!(tune.is_running());
    study(&place, "resume", &storage).ok().prints("active");
    tune.wait().ok();
    assert_eq!(place.assert_whole(&storage, 4)[0]["fail_kind"], "crash");
}

#[test]
fn search_goes_on_with_a_study_that_was_paused() {
    let place = place!();
    let storage = place.sqlite("a.db");
    let tune = hanging(&place, &storage);
    study(&place, "pause", &storage).ok();
    tune.signal(Signal::SIGINT);
    tune.wait().exits(130);
    assert_eq!(place.study(&storage)["state"], "paused");
    place.script(&json!({}));
    place.run_tune(&storage, &BUDGET).ok().says("was paused; it goes on");
    place.assert_whole(&storage, 4);
}

#[test]
fn cancelled_study_ends_the_search_and_its_runner() {
    let place = place!();
    let storage = place.sqlite("a.db");
    let tune = hanging(&place, &storage);
    study(&place, "cancel", &storage).ok().prints("cancelled");
    tune.wait().exits(5).says("cancelled");
    assert_eq!(place.children(), Vec::<u32>::new());
    assert_eq!(place.trials(&storage)[0]["fail_kind"], "cancelled");
    place.assert_verifies(&storage);
    place.run_tune(&storage, &BUDGET).exits(3).says("study `s` is cancelled").says("`--fresh`");
    place.script(&json!({}));
    place.run_tune(&storage, &[&BUDGET[..], &["--fresh"]].concat()).ok().says("is forgotten");
    place.assert_whole(&storage, 4);
}

#[test]
fn running_study_is_deleted_only_by_force() {
    let place = place!();
    let storage = place.sqlite("a.db");
    let mut tune = hanging(&place, &storage);
    study(&place, "delete", &storage).exits(3).says("--force");
    assert!(tune.is_running());
    place.run(&["study", "delete", "s", "--force", "--storage", &storage]).ok().prints("deleted");
    tune.wait().exits(3).says("s");
    assert_eq!(place.children(), Vec::<u32>::new());
    study(&place, "show", &storage).exits(3).says("there is no study `s`");
}

#[test]
fn finished_study_prints_its_result_again() {
    let place = place!();
    let storage = place.sqlite("a.db");
    let first = place.run_tune(&storage, &BUDGET).ok();
    place.script(&json!({"mode": "error", "journal": true}));
    let again = place.run_tune(&storage, &BUDGET).ok().says("is complete").says("`--trials N`").says("`--fresh`");
    assert_eq!(first.stdout, again.stdout);
    assert_eq!(place.journal(), Vec::<String>::new(), "something was measured");
    place.assert_whole(&storage, 4);
}

#[test]
fn more_trials_resume_a_finished_study() {
    let place = place!();
    let storage = place.sqlite("a.db");
    // A sampler that plans ahead would begin a larger search in another way.
    place.run_tune(&storage, &[&BUDGET[..], &["--sampler", "tpe"]].concat()).ok();
    let more = ["--trials", "9", "--reps", "2", "--no-confirm", "--sampler", "tpe"];
    place.run_tune(&storage, &more).ok().says("goes on after 4 trials");
    let trials = place.assert_whole(&storage, 9);
    // It is the search that would have been made at once.
    let at_once = place.sqlite("b.db");
    place.run_tune(&at_once, &more).ok();
    let params = |trials: &[Value]| trials.iter().map(|trial| trial["params"].clone()).collect::<Vec<_>>();
    assert_eq!(params(&trials), params(&place.assert_whole(&at_once, 9)));
}

#[test]
fn time_limit_counts_over_resumes_and_ends_the_search() {
    let place = place!();
    place.script(&json!({"repetition_ms": 50}));
    let storage = place.sqlite("a.db");
    let limited = ["--trials", "1000", "--time", "700ms", "--reps", "2", "--no-confirm"];
    let tune = place.start_tune(&storage, &limited);
    until("a trial", || (place.ended(&storage) >= 1).then_some(()));
    tune.signal(Signal::SIGINT);
    // It may be over already.
    tune.wait();
    place.run_tune(&storage, &limited).ok();
    let study = place.study(&storage);
    assert_eq!(study["state"], "finished");
    assert!(study["reason"].as_str().is_some_and(|reason| reason.contains("time")), "{study}");
    assert!(study["spent_s"].as_f64() >= Some(0.7), "{study}");
    let ended = place.ended(&storage);
    assert!(ended < 1000);
    place.assert_whole(&storage, ended);
    place.run_tune(&storage, &limited).ok().says("is complete");
}

#[test]
fn target_ends_the_search_as_soon_as_it_is_reached() {
    let place = place!();
    let storage = place.sqlite("a.db");
    place.run_tune(&storage, &["--trials", "30", "--reps", "2", "--no-confirm", "--target", "1"]).ok();
    let study = place.study(&storage);
    assert_eq!((&study["state"], &study["trials"]["complete"]), (&json!("finished"), &json!(1)), "{study}");
    assert!(study["reason"].as_str().is_some_and(|reason| reason.contains("target")), "{study}");
    place.assert_whole(&storage, 1);
}
