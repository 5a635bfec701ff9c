//! Drives a real coordinator over TCP with durable ask and tell pairs, and says how many it serves and how fast.
//!
//! Every combination of storage, sampler and number of clients is a cell: a server process and a database of its own, a
//! warm-up, and repetitions, each on a fresh study. Clients share one study; a full one is followed by the next.

mod cell;
mod client;
mod fleet;
mod growth;
mod latency;
mod machine;
mod options;
mod optuna;
mod report;
mod rival;
mod studies;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use fleetune_coordinator::storage::testing::PrivatePostgres;

use cell::{Cell, Plan};
use options::{Options, Output, Storage};
use report::Report;

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("the system has threads");
    let report = runtime.block_on(async {
        tokio::select! {
            report = run(&options) => report,
            // Dropping what runs ends its processes and removes its folders.
            _ = tokio::signal::ctrl_c() => Err("interrupted".to_owned()),
        }
    });
    match report {
        Ok(report) => {
            let text = match options.format {
                Output::Table => report.to_tables(),
                Output::Json => serde_json::to_string_pretty(&report).expect("a report is JSON"),
            };
            let written = writeln!(std::io::stdout(), "{text}");
            let failed = report.cells.iter().any(|cell| cell.errors > 0);
            if failed || written.is_err() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Err(why) => {
            say(&format!("error: {why}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> Result<Report, String> {
    let machine = machine::Machine::measure()?;
    let postgres = options.storage.contains(&Storage::Postgres).then(PrivatePostgres::durable);
    if let (true, Some(cluster)) = (options.optuna, &postgres) {
        optuna::measure(options, cluster).await?;
        // The tables are out; what they hold for comes last.
        return Ok(Report { machine, seconds: options.seconds, cells: Vec::new(), grown: Vec::new() });
    }
    let (mut cells, mut grown): (Vec<Cell>, _) = (Vec::new(), Vec::new());
    for &storage in &options.storage {
        for &sampler in &options.sampler {
            if !options.growth.is_empty() {
                say(&format!("{} {}, growing …", storage.name(), sampler.name()));
                let plan = Plan { storage, sampler, clients: 0, options };
                grown.extend(growth::run(&plan, &options.growth, postgres.as_ref()).await?);
                continue;
            }
            for &clients in &options.clients {
                let plan = Plan { storage, sampler, clients, options };
                say(&format!("{} {} with {clients} client(s) …", storage.name(), sampler.name()));
                cells.push(plan.run(postgres.as_ref()).await?);
                if let (true, Storage::Postgres, Some(cluster)) = (options.rival, storage, &postgres) {
                    say("  … and Optuna's server");
                    cells.push(rival::measure(&plan, cluster).await?);
                }
            }
        }
    }
    Ok(Report { machine, seconds: options.seconds, cells, grown })
}

/// Progress and errors, for people.
fn say(text: &str) {
    // Nobody may be listening; the report counts.
    let _ = writeln!(std::io::stderr(), "{text}");
}
