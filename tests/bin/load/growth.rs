//! One study that grows: how long it takes to open, to ask and to list at each size.

use std::sync::Arc;
use std::time::Instant;

use fleetune_coordinator::storage::testing::PrivatePostgres;
use fleetune_proto::v1::study_service_client::StudyServiceClient;
use fleetune_proto::v1::{AskRequest, ListTrialsRequest, TellRequest, TrialState};
use fleetune_tests::Place;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tonic::Status;
use tonic::transport::Channel;

use crate::cell::{Plan, program, storage_url};
use crate::client::connect;
use crate::latency::{Latencies, Quantiles};
use crate::machine::{peak_rss_mib, rss_mib};
use crate::say;
use crate::studies::{Studies, objective};

/// Trials that are asked for at once to make a study grow: the most that a call takes.
const BATCH: i64 = 1_000;
/// Connections that tell them.
const TELLERS: usize = 64;
/// Pairs whose latency is measured at a size.
const PAIRS: usize = 400;
/// Clients that make them.
const CLIENTS: usize = 4;
/// Trials of a listed page.
const PAGE: u32 = 100;

/// A study at one size.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Grown {
    /// Where it is kept.
    pub storage: String,
    /// How parameters are chosen.
    pub sampler: String,
    /// Its trials.
    pub trials: i64,
    /// Seconds from the start of the server's process to the answer to its first ask.
    pub open_s: f64,
    /// Latency of asks of four clients, at this size, without the first.
    pub ask_ms: Quantiles,
    /// Latency of their tells.
    pub tell_ms: Quantiles,
    /// Milliseconds of a page of 100 trials, the median of 20: the first one and the last one.
    pub first_page_ms: f64,
    /// See `first_page_ms`.
    pub last_page_ms: f64,
    /// Memory in use then.
    pub rss_mib: f64,
    /// The most memory that the process ever had in use since it was started.
    pub peak_rss_mib: f64,
    /// Trials a second that were asked for by the thousand and told on 64 connections to make the study grow to it.
    pub trials_per_s: f64,
}

/// Lets one study grow through `sizes`, with a fresh server process at each.
pub async fn run(plan: &Plan<'_>, sizes: &[i64], postgres: Option<&PrivatePostgres>) -> Result<Vec<Grown>, String> {
    let program = program(plan.options)?;
    let place = Place::new(&program.display().to_string(), "");
    let url = storage_url(plan.storage, &place, postgres)?;
    let studies = Arc::new(Studies::new(plan.sampler));
    let mut trials = 0;
    let mut all = Vec::new();
    for &size in sizes {
        let failed = |status: Status| format!("a call failed at {size} trials: {status}");
        let server = place.serve(&url);
        let mut tellers = Vec::new();
        for _ in 0..TELLERS {
            tellers.push(connect(&server.address).await?);
        }
        if trials == 0 {
            studies.next(&mut tellers[0]).await.map_err(failed)?;
        }
        let (begun, before) = (Instant::now(), trials);
        while trials < size {
            let batch = BATCH.min(size - trials);
            grow(&mut tellers, &studies.current(), trials, batch).await.map_err(failed)?;
            trials += batch;
        }
        let trials_per_s = (trials - before) as f64 / begun.elapsed().as_secs_f64();
        drop(tellers);
        drop(server);

        say(&format!("  {trials} trials, {trials_per_s:.0} a second"));
        let begun = Instant::now();
        let server = place.serve(&url);
        let mut service = connect(&server.address).await?;
        pair(&mut service, &studies.current(), "first", trials).await.map_err(failed)?;
        let open_s = begun.elapsed().as_secs_f64();
        trials += 1;
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let (mut service, studies) = (connect(&server.address).await?, Arc::clone(&studies));
            clients.spawn(async move {
                let (mut asks, mut tells) = (Latencies::new(), Latencies::new());
                for number in 0..PAIRS / CLIENTS {
                    let name = format!("pair-{client}-{number}");
                    let (ask, tell) = pair(&mut service, &studies.current(), &name, size).await?;
                    asks.record(ask);
                    tells.record(tell);
                }
                Ok::<_, Status>((asks, tells))
            });
        }
        let (mut asks, mut tells) = (Latencies::new(), Latencies::new());
        while let Some(client) = clients.join_next().await {
            let (ask, tell) = client.map_err(|error| error.to_string())?.map_err(failed)?;
            asks.add(&ask);
            tells.add(&tell);
        }
        trials += PAIRS as i64;
        let first_page_ms = page_ms(&mut service, &studies.current(), 0).await.map_err(failed)?;
        let last = trials - i64::from(PAGE);
        let last_page_ms = page_ms(&mut service, &studies.current(), last).await.map_err(failed)?;
        let id = server.running.id();
        all.push(Grown {
            storage: plan.storage.name().to_owned(),
            sampler: plan.sampler.name().to_owned(),
            trials: size,
            open_s,
            ask_ms: asks.quantiles(),
            tell_ms: tells.quantiles(),
            first_page_ms,
            last_page_ms,
            rss_mib: rss_mib(id),
            peak_rss_mib: peak_rss_mib(id),
            trials_per_s,
        });
    }
    Ok(all)
}

/// Asks for `count` trials at once, and tells them side by side.
async fn grow(tellers: &mut [StudyServiceClient<Channel>], study: &str, from: i64, count: i64) -> Result<(), Status> {
    let request = AskRequest {
        request_id: format!("grow-{from}"),
        study: study.to_owned(),
        count: count as u32,
        ..AskRequest::default()
    };
    let trials = tellers[0].ask(request).await?.into_inner().trials;
    let mut tells = JoinSet::new();
    for (teller, trials) in tellers.iter().zip(trials.chunks(trials.len().div_ceil(TELLERS).max(1))) {
        let (mut teller, trials, study) = (teller.clone(), trials.to_vec(), study.to_owned());
        tells.spawn(async move {
            for trial in trials {
                teller.tell(tell(&study, trial.number, objective(&trial.params))).await?;
            }
            Ok::<_, Status>(())
        });
    }
    while let Some(told) = tells.join_next().await {
        told.map_err(|error| Status::internal(error.to_string()))??;
    }
    Ok(())
}

async fn pair(
    service: &mut StudyServiceClient<Channel>,
    study: &str,
    name: &str,
    size: i64,
) -> Result<(std::time::Duration, std::time::Duration), Status> {
    let start = Instant::now();
    let request =
        AskRequest { request_id: format!("{name}-{size}"), study: study.to_owned(), count: 1, ..AskRequest::default() };
    let answer = service.ask(request).await?.into_inner();
    let ask = start.elapsed();
    let trial = answer.trials.into_iter().next().ok_or_else(|| Status::internal("an ask without a trial"))?;
    let start = Instant::now();
    service.tell(tell(study, trial.number, objective(&trial.params))).await?;
    Ok((ask, start.elapsed()))
}

fn tell(study: &str, number: i64, value: f64) -> TellRequest {
    TellRequest {
        study: study.to_owned(),
        number,
        state: TrialState::Complete.into(),
        values: vec![value],
        ..TellRequest::default()
    }
}

async fn page_ms(service: &mut StudyServiceClient<Channel>, study: &str, from: i64) -> Result<f64, Status> {
    let mut times = Vec::new();
    for _ in 0..20 {
        let start = Instant::now();
        let request = ListTrialsRequest { study: study.to_owned(), from, limit: PAGE, ..ListTrialsRequest::default() };
        let mut page = service.list_trials(request).await?.into_inner();
        let mut count = 0;
        while page.message().await?.is_some() {
            count += 1;
        }
        if count != PAGE {
            return Err(Status::internal(format!("a page from {from} has {count} trials")));
        }
        times.push(start.elapsed().as_secs_f64() * 1_000.0);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}
