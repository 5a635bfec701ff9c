//! Coordinator, workers and llama.cpp, all of them real, killed in the middle.

use fleetune_coordinator::storage::testing::PrivatePostgres;
use fleetune_tests::trials::{lost_attempts, workers};
use fleetune_tests::{Place, place, until};

/// Trials long enough to be at work when something is killed.
const BUDGET: [&str; 11] =
    ["--trials", "6", "--reps", "3", "--prompt", "32", "--gen", "200", "--pruner", "none", "--no-confirm"];

/// The study's model, seen by the workers alone: nothing of the coordinator reads it.
fn create(place: &Place, url: &str) {
    let words = ["study", "create", "s", "--server", url, "--model", "m", "--set", "n_threads=1"];
    place.run(&[&words[..], &BUDGET].concat()).ok();
}

/// Waits until `count` trials ended and another is at work.
fn until_at_work(place: &Place, url: &str, count: usize) {
    until("a trial at work", || {
        let trials = place.trials(url);
        let ended = trials.iter().filter(|trial| fleetune_tests::trials::has_ended(trial)).count();
        (ended >= count && !place.children().is_empty()).then_some(())
    });
}

#[test]
fn worker_and_coordinator_are_killed_and_every_trial_ends_once() {
    let place = place!().with_llama();
    let storage = PrivatePostgres::start().empty_database();
    let server = place.serve(&storage);
    let (url, address) = (server.url(), server.address.clone());
    let one = place.start_worker(&url, &["--name", "one"]);
    let mut other = place.start_worker(&url, &["--name", "other"]);
    create(&place, &url);
    until_at_work(&place, &url, 1);
    place.kill_at_work(&url, one, "one");
    until_at_work(&place, &url, 2);
    server.kill();
    let _server = place.serve_at(&storage, &address);
    place.until_study_is(&url, "finished");
    let trials = place.assert_whole(&url, 6);
    assert!(other.is_running());
    assert_eq!((lost_attempts(&trials), workers(&trials).len()), (1, 2), "the killed one held no trial");
    for trial in &trials {
        assert_eq!(trial["state"], "complete", "{trial}");
        assert!(trial["values"][0].as_f64() > Some(0.0), "{trial}");
    }
    place
        .run(&["study", "best", "s", "--server", &url])
        .ok()
        .prints("\nllama-server -m m ")
        .prints("put its path there");
}
