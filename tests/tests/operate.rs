//! What operators do: services, logs, backups.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use fleetune_coordinator::storage::testing::PrivatePostgres;
use fleetune_tests::{Place, place};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// A study `s` with three trials, in `storage`.
fn measured(place: &Place, storage: &str) {
    place.script(&json!({"repetition_ms": 1}));
    place.run_tune(storage, &["--trials", "3", "--reps", "2", "--no-confirm"]).ok();
}

fn export(place: &Place, storage: &str) -> Value {
    place.run(&["study", "export", "s", "--storage", storage]).ok().json()
}

#[test]
fn a_service_manager_is_told_of_beginning_and_end() {
    let place = place!();
    let path = place.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    let heard = || {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).expect("a word in time");
        String::from_utf8_lossy(&buffer[..length]).trim().to_owned()
    };
    let mut command = place.command();
    command.args(["serve", "--listen", "127.0.0.1:0", "--storage", &place.sqlite("a.db")]).env("NOTIFY_SOCKET", &path);
    let running = place.start_command(command);
    assert_eq!(heard(), "READY=1");
    running.signal(Signal::SIGTERM);
    assert_eq!(heard(), "STOPPING=1");
    running.wait().ok();
}

#[test]
fn logs_are_json_where_that_is_asked_for() {
    let place = place!();
    let mut command = place.command();
    command.args(["serve", "--listen", "127.0.0.1:0", "--storage", &place.sqlite("a.db")]);
    command.env("FLEETUNE_LOG_FORMAT", "json").env("FLEETUNE_LOG", "fleetune_coordinator=trace,tonic=trace,h2=debug");
    let mut running = place.start_command(command);
    let printed = running.until_it_prints("listening on ");
    let url = printed.trim().replace("listening on ", "http://");
    place.run(&["study", "list", "--server", &url]).ok();
    running.until_it_says("{\"timestamp\"");
    running.signal(Signal::SIGTERM);
    let done = running.wait().ok();
    let line = done.stderr.lines().find(|line| line.starts_with('{')).unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    assert!(line["level"].is_string() && line["target"].is_string() && line["fields"].is_object(), "{line}");
}

#[test]
fn a_study_is_put_away_readable_and_fetched_back_whole() {
    let place = place!();
    let storage = place.sqlite("a.db");
    measured(&place, &storage);
    let verb = |words: &[&str]| place.run(&[words, &["--storage", &storage, "--format", "json"]].concat());
    let listed = |words: &[&str]| {
        let rows = verb(words).ok().json();
        rows.as_array().unwrap().iter().map(|study| study["state"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let before = export(&place, &storage);
    assert_eq!(verb(&["study", "archive", "s"]).ok().json()["state"], "archived");
    assert_eq!(listed(&["study", "list"]), [""; 0]);
    assert_eq!(listed(&["study", "list", "--all"]), ["archived"]);
    let after = export(&place, &storage);
    assert_eq!((&after["trials"], &after["best"]["trials"]), (&before["trials"], &before["best"]["trials"]));
    verb(&["study", "update", "s", "--trials", "9"]).exits(3).says("fleetune study unarchive s");
    verb(&["study", "verify", "s"]).ok();
    assert_eq!(verb(&["study", "unarchive", "s"]).ok().json()["state"], "finished");
    assert_eq!(listed(&["study", "list"]), ["finished"]);
    assert_eq!(export(&place, &storage)["trials"], before["trials"]);
    verb(&["study", "update", "s", "--trials", "9"]).ok();
}

#[test]
fn studies_are_backed_up_restored_and_copied_to_the_other_kind() {
    let place = place!();
    let storage = place.sqlite("a.db");
    measured(&place, &storage);
    let before = export(&place, &storage);
    let backup = place.path("backup.db").display().to_string();
    place.run(&["db", "backup", &backup, "--storage", &storage]).ok();
    place.run(&["db", "backup", &backup, "--storage", &storage]).exits(4).says("already");
    let server = PrivatePostgres::start().empty_database();
    place.run(&["db", "restore", &backup, "--storage", &server]).ok().prints("trial");
    assert_eq!(export(&place, &server), before);
    place.run(&["db", "restore", &backup, "--storage", &server]).exits(4).says("empty database");
    let checked = place.run(&["db", "check", "--storage", &server, "--format", "json"]).ok().json();
    assert_eq!((&checked["studies"], &checked["trials"], &checked["faults"]), (&json!(1), &json!(3), &json!([])));
    let back = place.sqlite("back.db");
    place.run(&["db", "copy", &server, &back]).ok();
    assert_eq!(export(&place, &back), before);
    // Suggestions are the same as ever, and the search goes on.
    place.run(&["study", "verify", "s", "--storage", &back]).ok();
    place.run_tune(&back, &["--trials", "4", "--reps", "2", "--no-confirm"]).ok();
    place.run(&["db", "migrate", "--storage", &back]).ok().prints("schema");
    place.run(&["db", "check", "--storage", &place.sqlite("missing.db")]).exits(3);
    place.run(&["db", "check", "--server", "http://127.0.0.1:1"]).exits(2);
}
