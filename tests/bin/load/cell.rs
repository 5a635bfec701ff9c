//! One combination of storage, sampler and number of clients, measured.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleetune_coordinator::storage::testing::PrivatePostgres;
use fleetune_tests::Place;
use serde::{Deserialize, Serialize};

use crate::client::{BANDS, Tally, connect, drive};
use crate::fleet::Fleet;
use crate::latency::Quantiles;
use crate::machine::{cpu_s, peak_rss_mib};
use crate::options::{Options, Sampler, Storage};
use crate::say;
use crate::studies::Studies;

/// Length of the warm-up: connections, caches, the first pages of a database.
const WARM_UP: Duration = Duration::from_secs(1);

/// What is to be measured.
pub struct Plan<'a> {
    /// Where studies are kept.
    pub storage: Storage,
    /// How parameters are chosen.
    pub sampler: Sampler,
    /// Clients side by side.
    pub clients: u32,
    /// For how long, and which program.
    pub options: &'a Options,
}

/// What was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cell {
    /// Who served: fleetune, or optuna.
    pub system: String,
    /// Where studies were kept.
    pub storage: String,
    /// How parameters were chosen.
    pub sampler: String,
    /// Clients side by side.
    pub clients: u32,
    /// Ask and tell pairs a second, one number per repetition.
    pub pairs_per_s: Vec<f64>,
    /// Latency of asks in all repetitions.
    pub ask_ms: Quantiles,
    /// Latency of tells in all repetitions.
    pub tell_ms: Quantiles,
    /// Latency of asks by the size of the study.
    pub ask_ms_by_size: Vec<Band>,
    /// Clients that gave up. A cell with errors says nothing.
    pub errors: usize,
    /// Simulated workers beside the clients.
    #[serde(default)]
    pub workers: u32,
    /// Latency of their heartbeats, where there are any.
    #[serde(default)]
    pub heartbeat_ms: Option<Quantiles>,
    /// Processor time of the server in all repetitions; Postgres is not in it.
    pub server_cpu_s: f64,
    /// The most memory the server had in use.
    pub server_peak_rss_mib: f64,
}

/// Asks in studies of some size.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Band {
    /// Trials in the study, at least.
    pub from: i64,
    /// Trials in the study, less than.
    pub to: i64,
    /// Latency.
    pub ask_ms: Quantiles,
}

impl Plan<'_> {
    /// Measures it, on a database and a server of its own.
    pub async fn run(&self, postgres: Option<&PrivatePostgres>) -> Result<Cell, String> {
        let program = program(self.options)?;
        let place = Place::new(&program.display().to_string(), "");
        let url = storage_url(self.storage, &place, postgres)?;
        let server = place.serve(&url);
        let fleet = match self.options.workers {
            0 => None,
            count => Some(Fleet::start(&server.address, count).await?),
        };
        // What is to be told apart is the time of an answer, not that of waiting for one's turn.
        let every = match self.options.rate {
            0.0 => Duration::ZERO,
            rate => Duration::from_secs_f64(f64::from(self.clients) / rate),
        };
        let mut services = Vec::new();
        for _ in 0..self.clients {
            services.push(connect(&server.address).await?);
        }

        let studies = Arc::new(Studies::new(self.sampler));
        let (mut total, mut pairs_per_s, mut server_cpu_s) = (Tally::new(), Vec::new(), 0.0);
        for repetition in 0..=self.options.repetitions {
            studies.next(&mut services[0]).await.map_err(|status| format!("a study was refused: {status}"))?;
            let length = if repetition == 0 { WARM_UP } else { Duration::from_secs_f64(self.options.seconds) };
            let before = cpu_s(server.running.id());
            let end = Instant::now() + length;
            let clients: Vec<_> = (0_u32..)
                .zip(&services)
                .map(|(client, service)| {
                    let name = format!("{repetition}-{client}");
                    tokio::spawn(drive(service.clone(), studies.clone(), name, every, end))
                })
                .collect();
            tokio::time::sleep_until(end.into()).await;
            let used = cpu_s(server.running.id()) - before;
            let mut tally = Tally::new();
            for client in clients {
                tally.add(&client.await.map_err(|error| error.to_string())?);
            }
            for why in tally.errors.iter().take(3) {
                say(&format!("  a client gave up: {why}"));
            }
            if repetition == 0 && tally.errors.is_empty() {
                continue;
            }
            pairs_per_s.push(tally.pairs as f64 / length.as_secs_f64());
            server_cpu_s += used;
            total.add(&tally);
            if !tally.errors.is_empty() {
                break;
            }
        }
        let (heartbeat_ms, gave_up) = fleet.as_ref().map(Fleet::report).unzip();
        let gave_up = gave_up.unwrap_or_default();
        for why in gave_up.iter().take(3) {
            say(&format!("  a worker gave up: {why}"));
        }
        let bands = BANDS.iter().zip(&total.ask_by_band);
        Ok(Cell {
            system: "fleetune".to_owned(),
            storage: self.storage.name().to_owned(),
            sampler: self.sampler.name().to_owned(),
            clients: self.clients,
            pairs_per_s,
            ask_ms: total.ask.quantiles(),
            tell_ms: total.tell.quantiles(),
            ask_ms_by_size: bands.map(|(&(from, to), asks)| Band { from, to, ask_ms: asks.quantiles() }).collect(),
            errors: total.errors.len() + gave_up.len(),
            workers: self.options.workers,
            heartbeat_ms,
            server_cpu_s,
            server_peak_rss_mib: peak_rss_mib(server.running.id()),
        })
    }
}

/// Where a server of one's own keeps its studies.
pub fn storage_url(storage: Storage, place: &Place, postgres: Option<&PrivatePostgres>) -> Result<String, String> {
    match (storage, postgres) {
        (Storage::Sqlite, _) => Ok(place.sqlite("load.db")),
        (Storage::Postgres, Some(cluster)) => Ok(cluster.empty_database()),
        (Storage::Postgres, None) => Err("there is no Postgres".to_owned()),
    }
}

/// The program that serves.
pub fn program(options: &Options) -> Result<PathBuf, String> {
    let beside = || Some(std::env::current_exe().ok()?.with_file_name("fleetune"));
    let program = options.program.clone().or_else(beside).unwrap_or_default();
    // It is started in a folder of its own.
    program.canonicalize().map_err(|error| {
        format!("there is no program at `{}`: {error}; build it, or name one with `--program PATH`", program.display())
    })
}
