//! One client: asks, tells, and keeps the time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fleetune_proto::v1::study_service_client::StudyServiceClient;
use fleetune_proto::v1::{AskRequest, TellRequest, TrialState};
use tokio::time::MissedTickBehavior;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::latency::Latencies;
use crate::studies::{STUDY_TRIALS, Studies, objective};

/// Sizes of a study by which the latency of an ask is told apart: from, and up to but without.
pub const BANDS: [(i64, i64); 3] = [(0, 100), (100, 300), (300, STUDY_TRIALS)];

/// What clients saw.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Asks with their tells.
    pub pairs: u64,
    /// How long an ask took.
    pub ask: Latencies,
    /// How long a tell took.
    pub tell: Latencies,
    /// How long an ask took, by the size of the study: one for each of [`BANDS`].
    pub ask_by_band: [Latencies; BANDS.len()],
    /// Why clients gave up.
    pub errors: Vec<String>,
}

impl Tally {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self {
            pairs: 0,
            ask: Latencies::new(),
            tell: Latencies::new(),
            ask_by_band: std::array::from_fn(|_| Latencies::new()),
            errors: Vec::new(),
        }
    }

    /// What another client saw, too.
    pub fn add(&mut self, other: &Self) {
        self.pairs += other.pairs;
        self.ask.add(&other.ask);
        self.tell.add(&other.tell);
        for (mine, theirs) in self.ask_by_band.iter_mut().zip(&other.ask_by_band) {
            mine.add(theirs);
        }
        self.errors.extend_from_slice(&other.errors);
    }

    fn record(&mut self, number: i64, ask: Duration, tell: Duration) {
        self.pairs += 1;
        self.ask.record(ask);
        self.tell.record(tell);
        if let Some(band) = BANDS.iter().position(|(from, to)| (from..to).contains(&&number)) {
            self.ask_by_band[band].record(ask);
        }
    }
}

/// A connection of one's own.
pub async fn connect(address: &str) -> Result<StudyServiceClient<Channel>, String> {
    channel(address).await.map(StudyServiceClient::new)
}

/// A connection of one's own, for any service.
pub async fn channel(address: &str) -> Result<Channel, String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| error.to_string())?;
    endpoint.connect().await.map_err(|error| format!("{address} does not answer: {error}"))
}

/// Asks and tells until `end`, one pair after the other, one each `every` where that is longer. Pairs that end later do
/// not count. `name` is unique per run.
pub async fn drive(
    mut service: StudyServiceClient<Channel>,
    studies: Arc<Studies>,
    name: String,
    every: Duration,
    end: Instant,
) -> Tally {
    let mut tally = Tally::new();
    let mut asked = 0_u64;
    let mut due = tokio::time::interval(every.max(Duration::from_nanos(1)));
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while Instant::now() < end {
        if !every.is_zero() {
            due.tick().await;
        }
        asked += 1;
        match pair(&mut service, &studies, format!("{name}-{asked}")).await {
            Ok((number, ask, tell)) if Instant::now() <= end => tally.record(number, ask, tell),
            Ok(_) => {}
            Err(status) => {
                tally.errors.push(status.to_string());
                break;
            }
        }
    }
    tally
}

/// One ask and its tell: number of the trial, and how long each took.
async fn pair(
    service: &mut StudyServiceClient<Channel>,
    studies: &Studies,
    request_id: String,
) -> Result<(i64, Duration, Duration), Status> {
    let study = studies.current();
    let start = Instant::now();
    let request = AskRequest { request_id, study: study.clone(), count: 1, ..AskRequest::default() };
    let answer = service.ask(request).await?.into_inner();
    let ask = start.elapsed();
    let trial =
        answer.trials.into_iter().next().ok_or_else(|| Status::internal("an ask was answered without a trial"))?;
    // Others may go beyond it until the next study is there.
    if trial.number + 1 == STUDY_TRIALS {
        studies.next(service).await?;
    }
    let tell = TellRequest {
        study,
        number: trial.number,
        state: TrialState::Complete.into(),
        values: vec![objective(&trial.params)],
        ..TellRequest::default()
    };
    let start = Instant::now();
    service.tell(tell).await?;
    Ok((trial.number, ask, start.elapsed()))
}
