//! What takes machines down is not run again: neither in its search, nor in another one, nor anywhere in its fleet.

mod sql;

use fleetune_tests::trials::rows;
use fleetune_tests::{Place, Running, place, until};
use serde_json::{Value, json};

use sql::execute;

/// Six batches; more is more dangerous.
const BATCHES: &str = "[parameters.n_batch]\nchoices = [64, 128, 256, 512, 1024, 2048]\ndefault = 256\n";

const BUDGET: [&str; 9] = ["--trials", "6", "--reps", "2", "--sampler", "grid", "--pruner", "none", "--no-confirm"];

/// A place where every batch from 256 on does this to a runner.
fn place_of(mode: &str) -> Place {
    let place = place!();
    let rules: Vec<_> = [256, 512, 1024, 2048].map(|batch| json!({"when": {"n_batch": batch}, "mode": mode})).into();
    place.script(&json!({"rules": rules, "journal": true}));
    place.write("space.toml", BATCHES);
    place
}

fn batch(trial: &Value) -> i64 {
    trial["params"]["n_batch"].as_i64().expect("a batch")
}

/// The trials of study `s` that were measured, and the batches of the others that somebody tried to run.
fn measured_and_not(trials: &[Value]) -> (Vec<i64>, Vec<i64>) {
    let is_measured = |trial: &&Value| trial["state"] == "complete";
    let mut measured: Vec<_> = trials.iter().filter(is_measured).map(batch).collect();
    let started = |trial: &&Value| !is_measured(trial) && !trial["turn"].is_null();
    let not = trials.iter().filter(started).map(batch).collect();
    measured.sort_unstable();
    (measured, not)
}

fn regions(place: &Place, at: &[&str]) -> Vec<Value> {
    rows(&place.run(&[&["region", "list", "--format", "json"], at].concat()).ok().json())
}

/// Waits until so many runs began, each of which hangs.
fn until_begun(place: &Place, runs: usize) {
    until("a trial at work", || (place.begun() >= runs).then_some(()));
}

/// Starts a worker that sees no model: it takes no job, but tells that the process before it is gone.
fn start_idle(place: &Place, url: &str) -> Running {
    let (models, runner) = (place.path("home").display().to_string(), place.runner().display().to_string());
    place.start(&["worker", "run", "--server", url, "--models", &models, "--runner", &runner])
}

#[test]
fn host_that_went_down_is_a_host_crash_and_its_configuration_is_not_run_again() {
    let place = place_of("hang");
    let storage = place.sqlite("a.db");
    let server = place.serve(&storage);
    let url = server.url();
    let at = ["--server", url.as_str()];
    let worker = place.start_worker(&url, &["--name", "w"]);
    place.create_study(&url, &BUDGET);
    until_begun(&place, 1);
    place.kill_at_work(&url, worker, "w");
    // Nothing in a test can reboot this machine: it is the coordinator that remembers another boot.
    execute(&storage, &["UPDATE worker SET inventory = json_set(inventory, '$.boot_id', 'the boot before')"]);
    let _worker = place.start_worker(&url, &["--name", "w"]);
    place.until_study_is(&url, "finished");
    let trials = rows(&place.export(&url)["trials"]);
    assert_eq!((&trials[0]["fail_kind"], batch(&trials[0])), (&json!("host_crash"), 256));
    assert_eq!(measured_and_not(&trials), (vec![64, 128], vec![256]));
    place.assert_verifies(&url);

    let [region] = regions(&place, &at).try_into().expect("one region");
    assert_eq!((&region["settings"]["n_batch"], &region["evidence"][0]["kind"]), (&json!(256), &json!("host_crash")));
    assert_eq!((&region["evidence"][0]["study"], &region["evidence"][0]["trial"]), (&json!("s"), &json!(0)));
    let id = region["id"].to_string();
    let shown = place.run(&[&["region", "show", &id], &at[..]].concat()).ok();
    shown.prints("n_batch >= 256").prints("host_crash").prints(&format!("fleetune region delete {id}"));
    place.run(&[&["trial", "show", "s", "0"], &at[..]].concat()).ok().prints("attempt 1 on worker").prints("lost");

    let queue = |batch: &str, more: &[&str]| {
        place.run(&[&["trial", "enqueue", "s", "--set", &format!("n_batch={batch}")], &at[..], more].concat())
    };
    place.run(&[&["study", "update", "s", "--trials", "20"], &at[..]].concat()).ok();
    queue("512", &["--force"]).exits(2).says(&format!("unsafe region {id}")).says("fleetune region delete");
    place.run(&[&["region", "delete", &id], &at[..]].concat()).ok().prints("is forgotten");
    assert_eq!(regions(&place, &at), Vec::<Value>::new());
    place.run(&[&["region", "delete", &id], &at[..]].concat()).exits(3).says("there is no unsafe region");
    queue("256", &[]).exits(2).says("quarantine").says("--force");
    let audit = place.run(&[&["audit", "--format", "json"], &at[..]].concat()).ok().json();
    let deed = rows(&audit).into_iter().find(|deed| deed["action"] == "DeleteRegion").expect("it is recorded");
    assert_eq!(deed["subject"], json!(format!("region {id}")));
}

#[test]
fn configuration_that_takes_two_workers_with_it_is_given_to_no_third() {
    let place = place_of("hang");
    let server = place.serve(&place.sqlite("a.db"));
    let url = server.url();
    place.create_study(&url, &BUDGET);
    let mut idle = Vec::new();
    for (attempt, name) in ["one", "other"].into_iter().enumerate() {
        let worker = place.start_worker(&url, &["--name", name]);
        until_begun(&place, attempt + 1);
        place.kill_at_work(&url, worker, name);
        // It is the first free identity that an agent takes: that of the one that was killed.
        idle.push(start_idle(&place, &url));
        until("the attempt is lost", || {
            let export = place.export(&url);
            (export["trials"][0]["attempts"][attempt]["state"] == "lost").then_some(())
        });
    }
    let _third = place.start_worker(&url, &["--name", "third"]);
    place.until_study_is(&url, "finished");
    let trials = rows(&place.export(&url)["trials"]);
    assert_eq!((&trials[0]["fail_kind"], rows(&trials[0]["attempts"]).len()), (&json!("worker_lost"), 2));
    assert_eq!(measured_and_not(&trials), (vec![64, 128], vec![256]));
    let [region] = regions(&place, &["--server", &url]).try_into().expect("one region");
    let workers: Vec<_> = rows(&region["evidence"]).iter().map(|one| one["worker"].clone()).collect();
    assert_eq!(workers.len(), 2);
    assert_ne!(workers[0], workers[1]);
    place.assert_verifies(&url);
}

#[test]
fn engine_that_crashes_twice_alike_teaches_the_next_search() {
    let place = place_of("abort");
    let storage = place.sqlite("a.db");
    place.run_tune(&storage, &BUDGET).ok();
    let trials = rows(&place.export(&storage)["trials"]);
    let (measured, crashed) = measured_and_not(&trials);
    assert_eq!((measured, crashed.len(), crashed[0]), (vec![64, 128], 2, 256));
    assert!(trials.iter().all(|trial| trial["fail_kind"] != "unsafe_region"), "the sampler goes around it: {trials:?}");
    let [region] = regions(&place, &["--storage", &storage]).try_into().expect("one region");
    assert_eq!((&region["settings"]["n_batch"], rows(&region["evidence"]).len()), (&json!(256), 2));

    // A search of the same machine and model begins where it is safe.
    let search = |study: &str, more: &[&str]| {
        let words = place.tune(&storage, &BUDGET);
        let words = words.iter().map(|word| if word == "s" { study } else { word.as_str() });
        place.run(&words.chain(more.iter().copied()).collect::<Vec<_>>()).ok();
        let export = place.run(&["study", "export", study, "--storage", &storage]).ok().json();
        rows(&export["trials"])
    };
    let next = search("next", &[]);
    assert_eq!(measured_and_not(&next), (vec![64, 128], vec![]));
    let default = &next[0];
    assert_eq!((&default["origin"], &default["fail_kind"]), (&json!("default"), &json!("unsafe_region")), "{default}");
    assert!(default["fail_message"].as_str().is_some_and(|why| why.starts_with("not started: ")), "{default}");
    let bold = search("bold", &["--ignore-regions"]);
    assert_eq!(measured_and_not(&bold).1.len(), 4, "all six were tried");
}
