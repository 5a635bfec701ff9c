//! No room for the studies: the search ends with the reason, and goes on where it stood once there is room.

mod sql;

use std::process::Command;

use fleetune_coordinator::storage::testing::PrivatePostgres;
use fleetune_tests::{Done, Place, place};

use sql::execute;

const BUDGET: [&str; 6] = ["--trials", "30", "--reps", "2", "--no-confirm", "--seed=1"];

/// Asserts that a search which ran out of room lost nothing, and that with room it ends as if it always had it.
fn assert_nothing_lost(place: &Place, stopped: &Done, roomy: &str) {
    let before = place.trials(roomy);
    let ended: Vec<_> = before.iter().filter(|trial| fleetune_tests::trials::has_ended(trial)).cloned().collect();
    assert!(!ended.is_empty() && ended.len() < 30, "{} trials ended before the end: {}", ended.len(), stopped.stderr);
    place.assert_verifies(roomy);
    place.run_tune(roomy, &BUDGET).ok().says(&format!("goes on after {}", ended.len()));
    let after = place.assert_whole(roomy, 30);
    for (before, after) in ended.iter().zip(&after) {
        assert_eq!(before["values"], after["values"], "an ended trial changed");
    }
}

#[test]
fn sqlite_that_cannot_grow_ends_the_search_with_the_reason() {
    let place = place!();
    let storage = place.sqlite("a.db");
    let stopped = place.run_tune(&format!("{storage}?max_page_count=54"), &BUDGET).exits(4);
    let stopped = stopped.says("study `s` cannot go on, because its storage is full").says("free some space");
    assert_nothing_lost(&place, &stopped, &storage);
}

#[test]
fn disk_too_small_for_the_tables_says_so() {
    let place = place!();
    let storage = format!("{}?max_page_count=10", place.sqlite("a.db"));
    place.run_tune(&storage, &BUDGET).exits(4).says("the database cannot grow").says("free some space");
    place.run_tune(&place.sqlite("a.db"), &["--trials", "2", "--no-confirm"]).ok();
}

/// The search in a shell that forbids files larger than so many blocks of 512 bytes.
fn with_file_limit(place: &Place, storage: &str, prelude: &str, blocks: u32) -> Done {
    let mut shell = Command::new("sh");
    place.isolate(&mut shell);
    let program = place.command().get_program().to_owned();
    shell.arg("-c").arg(format!("{prelude}ulimit -f {blocks}; exec \"$0\" \"$@\"")).arg(program);
    shell.args(place.tune(storage, &BUDGET));
    place.start_command(shell).wait()
}

#[test]
fn file_size_limit_ends_the_search_with_the_reason() {
    let place = place!();
    let storage = place.sqlite("a.db");
    // The signal ignored, a write that is too large fails like one on a full disk.
    let stopped = with_file_limit(&place, &storage, "trap '' XFSZ; ", 3000).exits(4).says("storage is full");
    assert_nothing_lost(&place, &stopped.says("free some space"), &storage);
}

#[test]
fn search_that_dies_of_a_file_size_limit_loses_nothing() {
    let place = place!();
    let storage = place.sqlite("a.db");
    let stopped = with_file_limit(&place, &storage, "", 3000);
    assert_eq!(stopped.code, None, "it did not die of the signal: {}", stopped.stderr);
    assert_nothing_lost(&place, &stopped, &storage);
}

#[test]
fn postgres_on_a_full_disk_ends_the_search_with_the_reason() {
    let place = place!();
    // Its last words are the bulk of what is stored of a trial.
    place.script(&serde_json::json!({"stderr_bytes": 100_000}));
    let server = PrivatePostgres::with_file_limit(4);
    let storage = server.empty_database();
    place.run_tune(&storage, &["--trials", "2", "--reps", "2", "--no-confirm", "--seed=1"]).ok();
    // All but the last of 4 MiB is taken, by what nobody reads.
    let pad = "UPDATE attempt SET detail = rtrim(detail, '}') || ',\"padding\":\"' || repeat('x', 3500000) || '\"}' \
               WHERE ctid = (SELECT min(ctid) FROM attempt WHERE detail IS NOT NULL)";
    execute(&storage, &["ALTER TABLE attempt ALTER COLUMN detail SET STORAGE EXTERNAL", pad]);
    let stopped = place.run_tune(&storage, &BUDGET).exits(4);
    let stopped = stopped.says("study `s` cannot go on, because its storage is full").says("free some space");
    let make_room = "UPDATE attempt SET detail = NULL WHERE length(detail) > 1000000";
    execute(&storage, &[make_room, "ALTER TABLE attempt ALTER COLUMN detail SET STORAGE EXTENDED", "VACUUM attempt"]);
    assert_nothing_lost(&place, &stopped, &storage);
}
