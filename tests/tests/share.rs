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

#[test]
fn each_kind_of_machine_gets_an_optimum_of_its_own_and_one_view_shows_all() {
    let place = place!();
    place.script(&json!({"repetition_ms": 5}));
    let server = place.serve(&place.sqlite("a.db"));
    let url = server.url();
    create(&place, &url, "s", &["--trials", "3", "--per", "device"]);
    let shown = place.run(&["study", "show", "s", "--server", &url]).ok();
    shown.prints("a study per device, 0 so far").prints("no worker has registered");
    let _workers = ["small", "large"].map(|class| place.start_worker(&url, &["--label", &format!("class={class}")]));
    for class in ["small", "large"] {
        let child = format!("s@{class}");
        until("each class has its study", || {
            let children = rows(&show(&place, &url, "s")["children"]);
            children.iter().any(|known| known["name"] == child.as_str()).then_some(())
        });
        until_it_is(&place, &url, &child, "finished");
        let trials = place.run(&["study", "export", &child, "--server", &url]).ok().json();
        assert_eq!(workers(&rows(&trials["trials"])).len(), 1, "{trials}");
        assert_eq!(trials["study"]["pin"]["device_class"], class);
        assert_eq!((&trials["study"]["parent"], &trials["study"]["class"]), (&json!("s"), &json!(class)));
    }
    let study = show(&place, &url, "s");
    assert_eq!((&study["state"], &study["trials"]["complete"]), (&json!("active"), &json!(6)));
    assert!(rows(&study["children"]).iter().all(|child| child["best"].is_f64()), "{study}");
    let shown = place.run(&["study", "show", "s", "--server", &url]).ok();
    shown.prints("CLASS").prints("small").prints("s@large");
    let best = place.run(&["study", "best", "s", "--server", &url]).ok();
    best.prints("s@small").prints("s@large").prints("llama-server -m ");
    let best = place.run(&["study", "best", "s", "--server", &url, "--format", "json"]).ok().json();
    assert_eq!((rows(&best["classes"]).len(), &best["per"]), (2, &json!("device")));
    // Larger for all, then over for all.
    place.run(&["study", "update", "s", "--server", &url, "--trials", "4"]).ok();
    for child in ["s@small", "s@large"] {
        until("a fourth trial", || (show(&place, &url, child)["trials"]["complete"] == 4).then_some(()));
    }
    place.run(&["trial", "ask", "s", "--server", &url]).exits(3).says("has a study of its own for each kind");
    place.run(&["study", "delete", "s", "--server", &url]).ok();
    assert_eq!(place.run(&["study", "list", "--server", &url, "--format", "json"]).ok().json(), json!([]));
}
