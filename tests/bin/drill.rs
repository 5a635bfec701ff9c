//! Kills, cuts and restarts real coordinators, workers and databases at random moments, and checks that nothing
//! acknowledged is lost and nothing done twice.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser;
use fleetune_tests::drill::{Drill, Storage};

/// Drill coordinators, workers and storages, and check afterwards that every acknowledged write is there.
///
/// The last line says what was done and what is missing; the exit status is 1 when anything does not fit.
#[derive(Debug, Parser)]
#[command(name = "fleetune-drill", max_term_width = 110)]
struct Options {
    /// What all choices are drawn from; printed at the end [default: the time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// How long faults happen, all storages together
    #[arg(long, value_name = "SECONDS", default_value_t = 600.0, value_parser = seconds)]
    seconds: f64,
    /// Storages to drill one after the other, comma-separated
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Storage::Sqlite, Storage::Postgres])]
    storage: Vec<Storage>,
    /// The program [default: `fleetune-e2e` beside this program]
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// The runner of its workers [default: `scripted-runner` beside this program]
    #[arg(long, value_name = "PATH")]
    runner: Option<PathBuf>,
    /// Say nothing but the last line
    #[arg(long)]
    quiet: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "give seconds, such as 600".to_owned())?;
    if (1.0..=1e6).contains(&seconds) { Ok(seconds) } else { Err("give 1 to 1000000".to_owned()) }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let beside = |name: &str| {
        let here = std::env::current_exe().expect("this program has a path");
        here.with_file_name(name)
    };
    let drill = Drill {
        program: options.program.unwrap_or_else(|| beside("fleetune-e2e")),
        runner: options.runner.unwrap_or_else(|| beside("scripted-runner")),
        seed: options
            .seed
            .unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()),
        seconds: options.seconds,
        storages: options.storage,
    };
    // Nobody may be listening; the last line and the exit status count.
    let say = |text: &str| {
        if !options.quiet {
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    };
    say(&format!("seed {}; the same faults again: --seed {0} --seconds {1}", drill.seed, drill.seconds));
    let report = drill.run(&say);
    let written = writeln!(std::io::stdout(), "{report}");
    if report.findings.is_clean() && written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
