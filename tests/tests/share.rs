//! Several studies on one fleet: whose trials run next, where and how many.

use fleetune_tests::trials::{rows, workers};
use fleetune_tests::{Place, place, until};
use serde_json::{Value, json};

fn create(place: &Place, server: &str, name: &str, more: &[&str]) -> Value {
    let mut words = vec!["study", "create", name, "--server", server, "--model", "m", "--space", "space.toml"];
    words.extend(["--reps", "2", "--pruner", "none", "--no-confirm", "--format", "json"]);
    words.extend(more);
    place.run(&words).ok().json()
}

fn show(place: &Place, server: &str, name: &str) -> Value {
    place.run(&["study", "show", name, "--server", server, "--format", "json"]).ok().json()
}

fn until_it_is(place: &Place, server: &str, name: &str, state: &str) {
    until(&format!("study `{name}` is {state}"), || (show(place, server, name)["state"] == state).then_some(()));
}

/// When its trials were started, microseconds.
fn starts(place: &Place, server: &str, name: &str) -> Vec<i64> {
    let trials = place.run(&["trial", "list", name, "--server", server, "--format", "json"]).ok().json();
    trials.as_array().unwrap().iter().map(|trial| trial["started_at_us"].as_i64().unwrap()).collect()
}

#[test]
fn priority_comes_first_and_equals_take_turns() {
    let place = place!();
    place.script(&json!({"repetition_ms": 5}));
    let server = place.serve(&place.sqlite("a.db"));
    let url = server.url();
    let made = create(&place, &url, "x", &["--trials", "4", "--max-parallel", "1"]);
    assert_eq!(made["schedule"], json!({"priority": 0, "max_parallel": 1, "selector": null}));
    create(&place, &url, "y", &["--trials", "4"]);
    create(&place, &url, "urgent", &["--trials", "4", "--priority", "-3"]);
    let set = place.run(&["study", "set", "urgent", "--server", &url, "--priority", "5"]).ok();
    set.prints("priority 5").prints("4 trials");
    place.run(&["study", "list", "--server", &url]).ok().prints("PRIORITY");
    let _worker = place.start_worker(&url, &[]);
    for name in ["urgent", "x", "y"] {
        until_it_is(&place, &url, name, "finished");
    }
    let (urgent, x, y) = (starts(&place, &url, "urgent"), starts(&place, &url, "x"), starts(&place, &url, "y"));
    assert!(urgent.iter().max() < x.iter().chain(&y).min(), "{urgent:?} not before {x:?} and {y:?}");
    let mut order: Vec<_> = x.iter().map(|at| (at, "x")).chain(y.iter().map(|at| (at, "y"))).collect();
    order.sort_unstable();
    let order: String = order.into_iter().map(|(_, name)| name).collect();
    assert!(["xyxyxyxy", "yxyxyxyx"].contains(&order.as_str()), "{order}");
}

#[test]
fn only_selected_workers_measure_and_a_study_that_selects_none_says_so() {
    let place = place!();
    place.script(&json!({"repetition_ms": 5}));
    let server = place.serve(&place.sqlite("a.db"));
    let url = server.url();
    let mut other = place.start_worker(&url, &["--name", "other"]);
    let wanted = "labels.rack == '7' && inventory.os == 'linux'";
    create(&place, &url, "s", &["--trials", "3", "--where", wanted]);
    other.until_it_says("which worker `other` is not");
    until("the study knows its workers", || (show(&place, &url, "s")["connected_workers"] == 1).then_some(()));
    let shown = place.run(&["study", "show", "s", "--server", &url]).ok();
    shown.prints(&format!("where {wanted} (0 of 1 connected)")).prints("no worker gets a trial: of 1 connected");
    let _chosen = place.start_worker(&url, &["--name", "chosen", "--label", "rack=7"]);
    until_it_is(&place, &url, "s", "finished");
    let trials = rows(&place.export(&url)["trials"]);
    let workers = workers(&trials);
    let chosen = place.run(&["worker", "show", "chosen", "--server", &url, "--format", "json"]).ok().json();
    assert_eq!(workers.into_iter().collect::<Vec<_>>(), [chosen["id"].as_str().unwrap()]);
}
