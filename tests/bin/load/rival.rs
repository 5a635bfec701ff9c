//! Optuna's own server under the same load, driven from Python as its users do.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;

use fleetune_coordinator::storage::testing::PrivatePostgres;

use crate::cell::{Cell, Plan};

/// A Python with the packages of `tests/python/bench-requirements.txt`.
const PYTHON: &str = "FLEETUNE_BENCH_PYTHON";

/// That Python, which `verb` installs.
pub fn python(verb: &str) -> Result<OsString, String> {
    std::env::var_os(PYTHON).ok_or_else(|| format!("{PYTHON} names no Python with Optuna; run `{verb}`"))
}

/// Measures the rival on a database of its own.
pub async fn measure(plan: &Plan<'_>, cluster: &PrivatePostgres) -> Result<Cell, String> {
    let mut command = tokio::process::Command::new(python("make bench ARGS=--rival")?);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("python/rival.py"));
    command.args([&cluster.empty_database(), plan.sampler.name(), &plan.clients.to_string()]);
    command.args([plan.options.seconds.to_string(), plan.options.repetitions.to_string()]);
    command.stdin(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true);
    let output = command.output().await.map_err(|error| format!("the rival cannot be started: {error}"))?;
    if !output.status.success() {
        return Err(format!("the rival failed: {}", output.status));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("the rival printed no cell: {error}"))
}
