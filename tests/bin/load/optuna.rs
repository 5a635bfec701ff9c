//! Programs of Optuna's, unmodified, on a server of ours and on Optuna's own. They are measured from Python.

use std::path::Path;
use std::process::Stdio;

use fleetune_coordinator::storage::testing::PrivatePostgres;

use crate::cell::program;
use crate::options::Options;
use crate::rival::python;

/// Measures both on databases of one cluster, and prints tables on the way.
pub async fn measure(options: &Options, cluster: &PrivatePostgres) -> Result<(), String> {
    let list = |words: Vec<String>| words.join(",");
    let mut command = tokio::process::Command::new(python("make bench-optuna")?);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("python/optuna_load"));
    command.arg(program(options)?).args([cluster.empty_database(), cluster.empty_database()]);
    command.arg(list(options.clients.iter().map(u32::to_string).collect()));
    command.arg(list(options.sampler.iter().map(|sampler| sampler.name().to_owned()).collect()));
    command.args([options.seconds.to_string(), options.repetitions.to_string()]);
    command.arg(list(options.sizes.iter().map(u32::to_string).collect()));
    command.stdin(Stdio::null()).kill_on_drop(true);
    let status = command.status().await.map_err(|error| format!("Python cannot be started: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("the programs of Optuna's failed: {status}")) }
}
