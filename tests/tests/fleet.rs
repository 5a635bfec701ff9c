//! A coordinator and its workers as processes of their own: killed, restarted, drained, cut off.

use std::time::Duration;

use fleetune_coordinator::storage::testing::PrivatePostgres;
use fleetune_tests::drill::proxy::{Cut, Proxy};
use fleetune_tests::trials::{lost_attempts, rows, workers};
use fleetune_tests::{Place, place, until};
use nix::sys::signal::Signal;
use serde_json::json;

/// Pruned runs are cut off and would write no end.
const BUDGET: [&str; 7] = ["--trials", "12", "--reps", "2", "--pruner", "none", "--no-confirm"];

/// Waits until so many benches began.
fn until_begun(place: &Place, benches: usize) {
    until("trials at work", || (place.begun() >= benches).then_some(()));
}

#[test]
fn workers_share_a_study_and_never_measure_at_the_same_time() {
    let place = place!();
    place.script(&json!({"repetition_ms": 20, "journal": true}));
    let server = place.serve(PrivatePostgres::start().empty_database().as_str());
    let (_one, _other) = (place.start_worker(&server.url(), &[]), place.start_worker(&server.url(), &[]));
    place.create_study(&server.url(), &BUDGET);
    place.until_study_is(&server.url(), "finished");
    let trials = place.assert_whole(&server.url(), 12);
    assert_eq!(workers(&trials).len(), 2, "one of them measured nothing");
    place.assert_one_at_a_time();
    place.run(&["study", "best", "s", "--server", &server.url()]).ok().prints("llama-server -m ");
}

#[test]
fn killed_worker_loses_no_trial() {
    let place = place!();
    place.script(&json!({"repetition_ms": 20, "journal": true}));
    let server = place.serve(PrivatePostgres::start().empty_database().as_str());
    let one = place.start_worker(&server.url(), &["--name", "one"]);
    let _other = place.start_worker(&server.url(), &["--name", "other"]);
    place.create_study(&server.url(), &BUDGET);
    until_begun(&place, 4);
    // Its lease ends after 30 s; the other one takes over its trial.
    place.kill_at_work(&server.url(), one, "one");
    place.until_study_is(&server.url(), "finished");
    let trials = place.assert_whole(&server.url(), 12);
    assert_eq!((lost_attempts(&trials), workers(&trials).len()), (1, 2), "the killed one held no trial");
}

#[test]
fn killed_coordinator_loses_no_trial_and_no_result() {
    let place = place!();
    place.script(&json!({"repetition_ms": 20, "journal": true}));
    let storage = PrivatePostgres::start().empty_database();
    let mut server = place.serve(&storage);
    let (url, address) = (server.url(), server.address.clone());
    let (mut one, mut other) = (place.start_worker(&url, &[]), place.start_worker(&url, &[]));
    place.create_study(&url, &BUDGET);
    for benches in [2, 5, 8] {
        until_begun(&place, benches);
        server.kill();
        server = place.serve_at(&storage, &address);
    }
    place.until_study_is(&url, "finished");
    let trials = place.assert_whole(&url, 12);
    assert!(one.is_running() && other.is_running(), "a worker gave up");
    // Nothing was measured twice: the workers kept what they had measured, and their leases.
    let attempts: Vec<_> = trials.iter().map(|trial| rows(&trial["attempts"]).len()).collect();
    assert_eq!(attempts, [1; 12], "{attempts:?}");
}

#[test]
fn result_of_a_worker_that_was_killed_meanwhile_is_delivered_by_its_successor() {
    let place = place!();
    place.script(&json!({"repetition_ms": 100, "journal": true}));
    let storage = place.sqlite("a.db");
    let server = place.serve(&storage);
    let (url, address) = (server.url(), server.address.clone());
    let mut worker = place.start_worker(&url, &[]);
    place.create_study(&url, &["--trials", "2", "--reps", "2", "--no-confirm"]);
    until_begun(&place, 1);
    server.kill();
    worker.until_it_says("it is kept and delivered later");
    worker.kill();
    let server = place.serve_at(&storage, &address);
    let _worker = place.start_worker(&url, &[]);
    place.until_study_is(&server.url(), "finished");
    let trials = place.assert_whole(&url, 2);
    assert_eq!(rows(&trials[0]["attempts"]).len(), 1, "measured again: {}", trials[0]);
    assert_eq!(place.begun(), 2);
}

#[test]
fn result_of_a_worker_that_was_cut_off_for_longer_than_its_lease_is_kept() {
    let place = place!();
    place.script(&json!({"repetition_ms": 300, "journal": true}));
    let server = place.serve(&place.sqlite("a.db"));
    let url = server.url();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let way = Proxy::start(runtime.handle(), &server.address);
    let mut far = place.start_worker(&way.url(), &["--name", "far"]);
    place.create_study(&url, &["--trials", "2", "--reps", "3", "--pruner", "none", "--no-confirm"]);
    until_begun(&place, 1);
    way.cut(Cut::Both, Duration::from_hours(1), false);
    far.until_it_says("it is kept and delivered later");
    let _near = place.start_worker(&url, &["--name", "near"]);
    place.until_study_is(&url, "finished");
    way.heal();
    // The scripted runner measures the same again, so that the late result equals the one that is stored.
    until("what the first attempt measured", || {
        let export = place.export(&url);
        export["trials"][0]["attempts"][0]["detail"]["samples"].is_object().then_some(())
    });
    let trials = place.assert_whole(&url, 2);
    assert_eq!((lost_attempts(&trials), workers(&trials).len()), (1, 2), "{trials:?}");
    assert_eq!(place.begun(), 3);
}

#[test]
fn child_of_a_cancelled_study_ends_at_once_and_its_worker_goes_on() {
    let place = place!();
    place.script(&json!({"mode": "hang", "at": 1, "journal": true}));
    let server = place.serve(&place.sqlite("a.db"));
    let url = server.url();
    let mut worker = place.start_worker(&url, &[]);
    place.create_study(&url, &["--trials", "2", "--reps", "2", "--no-confirm"]);
    until_begun(&place, 1);
    place.run(&["study", "cancel", "s", "--server", &url]).ok();
    // Nothing else would end it before five minutes are over.
    until("no child is left", || place.children().is_empty().then_some(()));
    assert!(worker.is_running(), "{}", worker.stderr());
    place.script(&json!({"repetition_ms": 5, "journal": true}));
    place.run(&["study", "delete", "s", "--server", &url]).ok();
    place.create_study(&url, &["--trials", "2", "--reps", "2", "--no-confirm"]);
    place.until_study_is(&url, "finished");
    place.assert_whole(&url, 2);
}

#[test]
fn child_of_a_worker_that_lost_its_lease_ends_as_soon_as_it_hears_of_it() {
    let place = place!();
    place.script(&json!({"mode": "hang", "at": 1, "journal": true}));
    let server = place.serve(&place.sqlite("a.db"));
    let url = server.url();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let way = Proxy::start(runtime.handle(), &server.address);
    let mut far = place.start_worker(&way.url(), &["--name", "far"]);
    place.create_study(&url, &["--trials", "1", "--reps", "2", "--no-confirm"]);
    until_begun(&place, 1);
    let hanging = place.children();
    assert_eq!(hanging.len(), 1, "{hanging:?}");
    way.cut(Cut::Both, Duration::from_hours(1), false);
    place.script(&json!({"repetition_ms": 5, "journal": true}));
    let _near = place.start_worker(&url, &["--name", "near"]);
    // The device is the other one's still: until that hears of its loss, this one waits.
    until("the trial is another worker's", || {
        let shown = place.run(&["worker", "show", "near", "--server", &url, "--format", "json"]);
        (shown.code == Some(0) && shown.json()["jobs"][0]["trial"] == 0).then_some(())
    });
    assert_eq!(place.children(), hanging);
    way.heal();
    place.until_study_is(&url, "finished");
    let trials = place.assert_whole(&url, 1);
    assert_eq!((lost_attempts(&trials), workers(&trials).len()), (1, 2), "{trials:?}");
    assert!(!place.children().contains(&hanging[0]), "the first child still runs");
    assert!(far.is_running(), "{}", far.stderr());
}

#[test]
fn sigterm_lets_a_worker_finish_and_ctrl_c_gives_the_trial_back() {
    let place = place!();
    place.script(&json!({"repetition_ms": 200, "journal": true}));
    let server = place.serve(&place.sqlite("a.db"));
    let mut worker = place.start_worker(&server.url(), &[]);
    place.create_study(&server.url(), &BUDGET);
    until_begun(&place, 1);
    worker.signal(Signal::SIGTERM);
    worker.until_it_says("what is measured is finished first");
    worker.wait().ok();
    let trials = place.trials(&server.url());
    assert_eq!((trials.len(), &trials[0]["state"]), (1, &json!("complete")), "{trials:?}");

    let worker = place.start_worker(&server.url(), &[]);
    until_begun(&place, 2);
    worker.signal(Signal::SIGINT);
    worker.wait().exits(130);
    let export = place.export(&server.url());
    assert_eq!(rows(&export["trials"][1]["attempts"])[0]["state"], "released");
    assert_eq!(place.children(), Vec::<u32>::new());
}

#[test]
fn drained_worker_finishes_leaves_and_stays_away_until_it_is_resumed() {
    let place = place!();
    place.script(&json!({"repetition_ms": 200, "journal": true}));
    let server = place.serve(&place.sqlite("a.db"));
    let url = server.url();
    let worker = place.start_worker(&url, &["--name", "gpu-1", "--label", "rack=7"]);
    place.create_study(&url, &["--trials", "3", "--reps", "2", "--no-confirm"]);
    until_begun(&place, 1);
    let show = || place.run(&["worker", "show", "gpu-1", "--server", &url, "--format", "json"]).ok().json();
    let shown = show();
    assert_eq!((&shown["labels"]["rack"], &shown["jobs"][0]["trial"]), (&json!("7"), &json!(0)), "{shown}");
    place.run(&["worker", "drain", "gpu-1", "--server", &url]).ok().prints("is draining");
    worker.wait().ok().says("drained by its coordinator");
    assert_eq!(place.ended(&url), 1);
    place.start_worker(&url, &["--name", "gpu-1"]).wait().ok().says("`fleetune worker resume");
    assert_eq!(place.ended(&url), 1);
    let obstacles = place.study(&url)["obstacles"].to_string();
    assert!(obstacles.contains("gpu-1"), "{obstacles}");
    place.run(&["worker", "resume", "gpu-1", "--server", &url]).ok().prints("takes jobs");
    let _worker = place.start_worker(&url, &["--name", "gpu-1"]);
    place.until_study_is(&url, "finished");
    place.assert_whole(&url, 3);
}

#[test]
fn workers_with_another_engine_or_device_class_get_nothing_and_the_study_says_why() {
    let place = place!();
    place.script(&json!({"repetition_ms": 20, "journal": true}));
    let server = place.serve(&place.sqlite("a.db"));
    let url = server.url();
    let one = place.start_worker(&url, &["--name", "one"]);
    place.create_study(&url, &["--trials", "1000", "--reps", "2", "--no-confirm"]);
    until_begun(&place, 2);
    let runner = place.path("other-runner");
    std::fs::copy(place.runner(), &runner).unwrap();
    place.write("other-runner.engine.json", r#"{"version": "2"}"#);
    let runner = runner.display().to_string();
    let mut engine = place.start(&[
        "worker",
        "run",
        "--server",
        &url,
        "--models",
        ".",
        "--runner",
        &runner,
        "--name",
        "other-engine",
    ]);
    let mut class = place.start_worker(&url, &["--name", "other-class", "--label", "class=laptop"]);
    engine.until_it_says("is pinned to the engine");
    class.until_it_says("is pinned to the device class");
    let study = place.study(&url);
    let left_out = study["left_out"].to_string();
    assert!(left_out.contains("other-engine") && left_out.contains("`laptop`"), "{study}");
    assert_eq!(study["obstacles"], json!([]), "{study}");
    // With the one that fits gone, nobody is left.
    one.signal(Signal::SIGTERM);
    one.wait().ok();
    let ended = place.ended(&url);
    until("the study says that nobody fits", || {
        let obstacles = place.study(&url)["obstacles"].to_string();
        (obstacles.contains("other-engine") && obstacles.contains("laptop")).then_some(())
    });
    assert_eq!(place.ended(&url), ended);
    assert_eq!(workers(&rows(&place.export(&url)["trials"])).len(), 1);
}

#[test]
fn model_that_no_worker_sees_is_named_and_measured_once_it_is_there() {
    let place = place!();
    place.script(&json!({"repetition_ms": 5}));
    std::fs::create_dir(place.path("models")).unwrap();
    let server = place.serve(&place.sqlite("a.db"));
    let url = server.url();
    let runner = place.runner().display().to_string();
    let mut worker = place.start(&["worker", "run", "--server", &url, "--models", "models", "--runner", &runner]);
    place
        .run(&[
            "study",
            "create",
            "s",
            "--server",
            &url,
            "--model",
            "late",
            "--space",
            "space.toml",
            "--trials",
            "2",
            "--reps",
            "2",
            "--no-confirm",
        ])
        .ok();
    worker.until_it_says("needs the model `late`");
    let study = place.study(&url);
    assert_eq!(study["state"], "preparing");
    assert!(study["obstacles"].to_string().contains("late"), "{study}");
    std::fs::copy(place.model(), place.path("models/late.gguf")).unwrap();
    place.until_study_is(&url, "finished");
    place.assert_whole(&url, 2);
}

#[test]
fn coordinators_on_one_database_answer_any_call() {
    let place = place!();
    place.script(&json!({"repetition_ms": 20}));
    let storage = PrivatePostgres::start().empty_database();
    let (one, other) = (place.serve(&storage), place.serve(&storage));
    let (_first, _second) = (place.start_worker(&one.url(), &[]), place.start_worker(&other.url(), &[]));
    place.create_study(&one.url(), &BUDGET);
    place.until_study_is(&other.url(), "finished");
    let trials = place.assert_whole(&other.url(), 12);
    assert_eq!(trials, place.assert_whole(&one.url(), 12));
    assert_eq!(workers(&trials).len(), 2);
}

#[test]
fn server_stops_at_once_on_sigterm_while_it_is_watched() {
    let place = place!();
    let storage = place.sqlite("a.db");
    let server = place.serve(&storage);
    place.create_study(&server.url(), &["--trials", "2"]);
    let mut watch = place.start(&["study", "watch", "s", "--server", &server.url()]);
    watch.until_it_prints("preparing");
    let _worker = place.start_worker(&server.url(), &[]);
    server.running.signal(Signal::SIGTERM);
    server.running.wait().ok().says("stopping");
    assert!(watch.is_running(), "it waits for the coordinator's return");
}
