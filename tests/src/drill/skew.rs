//! A clock that is wrong for one process: a library that is loaded before the C library and answers instead of it.
//!
//! Compiled by `cc`, which every machine that links Rust programs has.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// An hour.
pub const SKEW_S: i64 = 3600;

const SOURCE: &str = include_str!("../../fixtures/skew.c");

/// Makes the library in `folder`.
///
/// # Panics
/// When there is no `cc`, or the library does not move the clock: a drill without it would be another drill.
pub fn library(folder: &Path) -> PathBuf {
    let (source, library) = (folder.join("skew.c"), folder.join("skew.so"));
    std::fs::write(&source, SOURCE).expect("the folder is writable");
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&library, &source])
        .output()
        .expect("`cc`, which also links this program, can be started");
    assert!(output.status.success(), "cc: {}", String::from_utf8_lossy(&output.stderr));
    let mut date = Command::new("date");
    skewed(&mut date, &library, SKEW_S);
    let output = date.arg("+%s").output().expect("`date` can be started");
    let told: i64 = String::from_utf8_lossy(&output.stdout).trim().parse().expect("`date +%s` prints a number");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs().cast_signed();
    assert!((told - now - SKEW_S).abs() < SKEW_S / 2, "the clock did not move: {told} at {now}");
    library
}

/// Has `command` live so many seconds ahead of everybody else.
pub fn skewed(command: &mut Command, library: &Path, seconds: i64) {
    command.env("LD_PRELOAD", library).env("FLEETUNE_DRILL_SKEW_S", seconds.to_string());
}
