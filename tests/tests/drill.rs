//! A short drill, and proof that its checker sees what it is there to see.

mod sql;

use std::process::Command;
use std::time::Duration;

use fleetune_tests::drill::{Arena, Drill, Storage};
use fleetune_tests::place;

use sql::execute;

/// Longer than a short drill takes anywhere.
const DEADLINE: Duration = Duration::from_mins(15);

/// A small arena on SQLite that was left alone.
fn quiet() -> Arena {
    let drill = Drill {
        program: env!("CARGO_BIN_EXE_fleetune-e2e").into(),
        runner: env!("CARGO_BIN_EXE_scripted-runner").into(),
        seed: 7,
        seconds: 3.0,
        storages: vec![Storage::Sqlite],
    };
    let mut arena = Arena::new(&drill, Storage::Sqlite);
    arena.run(&[], drill.seconds, &|_| {});
    arena
}

/// A trial that a client has asked for and ended, its study, and whether it holds it without a lease.
fn told(arena: &Arena) -> (String, i64) {
    let (name, book) = arena.ledger().studies.iter().find(|(_, book)| !book.ends.is_empty()).unwrap();
    let complete = book.ends.iter().find(|(number, (_, values))| !values.is_empty() && book.knows(**number));
    (name.clone(), *complete.unwrap().0)
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_done_twice() {
    let place = place!();
    let mut drill = Command::new(env!("CARGO_BIN_EXE_fleetune-drill"));
    place.isolate(&mut drill);
    drill.args(["--seconds", "16", "--seed", "6"]);
    drill.args(["--program", env!("CARGO_BIN_EXE_fleetune-e2e"), "--runner", env!("CARGO_BIN_EXE_scripted-runner")]);
    let done = place.start_command(drill).wait_within(DEADLINE).ok().prints("drill: seed=6 seconds=16 kills=");
    let last = done.stdout.lines().last().unwrap();
    assert!(last.ends_with(" lost=0 duplicated=0"), "{last}");
    for nothing in [" kills=0 ", " restarts=0 ", " cuts=0 ", " acked=0 "] {
        assert!(!last.contains(nothing), "{last}");
    }
}

#[test]
fn checker_finds_what_was_tampered_with() {
    let arena = quiet();
    let clean = arena.check();
    assert!(clean.is_clean(), "{clean:?}");
    let (study, number) = told(&arena);
    let trial = format!("number = {number} AND study_id = (SELECT id FROM study WHERE name = '{study}')");
    let measured = "(SELECT id FROM study WHERE name = 's')";

    // A trial that ends by a second attempt, too.
    let job = format!("(SELECT min(job_id) FROM trial WHERE study_id = {measured} AND state = 'complete')");
    let columns = "worker, secret, state, started_at, ended_at, detail";
    let twice = format!(
        "INSERT INTO attempt (job_id, attempt, {columns}) SELECT job_id, 2, {columns} FROM attempt \
         WHERE attempt = 1 AND job_id = {job}"
    );
    execute(arena.url(), &[&twice, &format!("UPDATE trial SET attempt = 2 WHERE job_id = {job}")]);
    let found = arena.check();
    assert_eq!((found.lost.len(), found.duplicated.len()), (0, 1), "{found:?}");
    let undo = format!("DELETE FROM attempt WHERE attempt = 2 AND job_id = {job}");
    execute(arena.url(), &[&undo, &format!("UPDATE trial SET attempt = 1 WHERE job_id = {job}")]);
    assert_eq!(arena.check(), clean);

    // One bit of a value; floats are stored little endian.
    let book = &arena.ledger().studies[&study];
    let other = (book.ends[&number].1[0] ^ 1).swap_bytes();
    execute(arena.url(), &[&format!("UPDATE trial SET objective_values = x'{other:016x}' WHERE {trial}")]);
    let found = arena.check();
    assert_eq!((found.lost.len(), found.duplicated.len()), (1, 0), "{found:?}");

    // The whole trial.
    execute(arena.url(), &[&format!("DELETE FROM trial WHERE {trial}")]);
    let found = arena.check();
    assert_eq!((found.lost.len(), found.duplicated.len()), (book.writes(number), 0), "{found:?}");
}
