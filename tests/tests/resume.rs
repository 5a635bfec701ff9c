//! A search that is killed at any moment goes on as if nothing had happened.

use std::sync::atomic::{AtomicBool, Ordering};

use fleetune_coordinator::storage::testing::PrivatePostgres;
use fleetune_tests::trials::{essence, rows};
use fleetune_tests::{Place, place, until};
use serde_json::json;

const TRIALS: usize = 30;
const BUDGET: [&str; 5] = ["--trials", "30", "--reps", "3", "--no-confirm"];

/// Slow enough to be killed in the middle.
fn slow_place() -> Place {
    let place = place!();
    place.script(&json!({"repetition_ms": 20, "journal": true}));
    place
}

/// Runs the search, killed whenever so many trials have ended and the next one is at work; at last to its end.
fn run_with_kills(place: &Place, storage: &str, kills: &[usize]) {
    for (before, &ended) in kills.iter().enumerate() {
        let mut tune = place.start_tune(storage, &BUDGET);
        // A trial that was interrupted begins again.
        until(&format!("{ended} trials ended"), || {
            assert!(tune.is_running(), "the search ended before it was killed: {}", tune.stderr());
            (place.begun() > ended + before).then_some(())
        });
        tune.kill();
        assert!(place.ended(storage) >= ended, "an ended trial is lost");
    }
    place.run_tune(storage, &BUDGET).ok().prints("llama-server").says("goes on after");
}

fn goes_on_as_if_never_interrupted(storage: &str, kills: &[usize]) {
    let place = slow_place();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let seen = place.run(&["study", "show", "s", "--storage", storage]);
                // Only before the study, or its database, was created there is none.
                let early = ["there is no study", "there are no studies"].iter().any(|text| seen.stderr.contains(text));
                assert!(seen.code == Some(0) || early, "{seen:?}");
            }
        });
        let stop = StopAtEnd(&over);
        run_with_kills(&place, storage, kills);
        drop(stop);
    });
    let trials = place.assert_whole(storage, TRIALS);
    let interrupted = trials.iter().filter(|trial| rows(&trial["attempts"]).len() > 1).count();
    assert!(interrupted > 0, "no trial was interrupted, so nothing was tested");

    place.script(&json!({}));
    let reference = place.sqlite("reference.db");
    place.run_tune(&reference, &BUDGET).ok();
    assert_eq!(essence(&trials), essence(&place.assert_whole(&reference, TRIALS)));
    assert_eq!(place.children(), Vec::<u32>::new());
}

/// Ends the other thread even when this one panics.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn killed_search_on_sqlite_goes_on_as_if_never_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    let storage = format!("sqlite://{}", folder.path().join("a.db").display());
    goes_on_as_if_never_interrupted(&storage, &[1, 12, 20]);
}

#[test]
fn killed_search_on_postgres_goes_on_as_if_never_interrupted() {
    goes_on_as_if_never_interrupted(&PrivatePostgres::start().empty_database(), &[5, 12]);
}

#[test]
fn search_killed_while_it_begins_leaves_nothing_half_written() {
    let place = slow_place();
    let storage = place.sqlite("a.db");
    let few = ["--trials", "3", "--reps", "2", "--no-confirm"];
    let database = place.path("a.db");
    let study_is_there = || place.run(&["study", "show", "s", "--storage", &storage]).code == Some(0);
    let moments: [&dyn Fn() -> bool; 3] = [&|| database.exists(), &study_is_there, &|| !place.journal().is_empty()];
    for moment in moments {
        let tune = place.start_tune(&storage, &few);
        until("the moment to kill it", || moment().then_some(()));
        tune.kill();
    }
    place.run_tune(&storage, &few).ok();
    place.assert_whole(&storage, 3);
}

#[test]
fn search_killed_while_it_compares_keeps_its_rounds_and_its_trials() {
    let place = slow_place();
    let storage = place.sqlite("a.db");
    let budget = ["--trials", "6", "--reps", "2"];
    let mut tune = place.start_tune(&storage, &budget);
    tune.until_it_says("comparing the best with the default");
    let before = essence(&place.assert_whole(&storage, 6));
    let begun = place.journal().len();
    until("some cells measured", || (place.journal().len() > begun + 6).then_some(()));
    assert_eq!(place.study(&storage)["state"], "confirming");
    tune.kill();

    place.run_tune(&storage, &budget).ok().prints("fresh processes");
    assert_eq!(place.study(&storage)["state"], "finished");
    assert_eq!(essence(&place.assert_whole(&storage, 6)), before, "a comparison changed a trial");
    let rounds = place.export(&storage)["best"]["comparison"]["gain"]["pairs"].as_u64();
    assert!(rounds >= Some(8), "only {rounds:?} paired rounds");
}

#[test]
fn orphaned_runner_leaves_with_its_killed_search() {
    let place = place!();
    place.script(&json!({"mode": "hang", "journal": true}));
    let tune = place.start_tune(&place.sqlite("a.db"), &["--trials", "3"]);
    until("a runner at work", || (!place.journal().is_empty()).then_some(()));
    tune.kill();
    until("the runner is gone", || place.children().is_empty().then_some(()));
}
