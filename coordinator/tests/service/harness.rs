//! A coordinator on a database of its own, and short words for what the tests do most.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use fleetune_coordinator::scheduler::EngineOptions;
use fleetune_coordinator::{Coordinator, transport};
use fleetune_proto::optuna::storage_service_client::StorageServiceClient;
use fleetune_proto::reason::{REASON_KEY, Reason};
use fleetune_proto::v1;
use fleetune_proto::v1::fleet_service_client::FleetServiceClient;
use fleetune_proto::v1::study_service_client::StudyServiceClient;
use fleetune_proto::v1::worker_service_client::WorkerServiceClient;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::Channel;

/// A coordinator and clients of it.
pub struct Server {
    pub studies: StudyServiceClient<Channel>,
    pub workers: WorkerServiceClient<Channel>,
    pub fleet: FleetServiceClient<Channel>,
    pub optuna: StorageServiceClient<Channel>,
    stop: CancellationToken,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The usual options, but others' changes are looked for often.
pub fn quick() -> EngineOptions {
    EngineOptions { poll_every: Duration::from_millis(20), ..EngineOptions::default() }
}

/// A database file that goes when the test ends.
pub fn database() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("fleetune.db").display());
    (folder, url)
}

pub fn fresh_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("request-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Server {
    pub async fn start(url: &str) -> Self {
        Self::start_with(url, quick()).await
    }

    pub async fn start_with(url: &str, options: EngineOptions) -> Self {
        let stop = CancellationToken::new();
        let coordinator = Coordinator::start(url, options, stop.clone()).await.unwrap();
        let channel = transport::in_process(coordinator.routes(), stop.clone()).await.unwrap();
        Self {
            studies: StudyServiceClient::new(channel.clone()),
            workers: WorkerServiceClient::new(channel.clone()),
            fleet: FleetServiceClient::new(channel.clone()),
            optuna: StorageServiceClient::new(channel),
            stop,
        }
    }

    pub async fn create(&mut self, name: &str, config: v1::StudyConfig) -> Result<v1::Study, Status> {
        let request = v1::CreateStudyRequest {
            request_id: fresh_id(),
            name: name.to_owned(),
            config: Some(config),
            ..v1::CreateStudyRequest::default()
        };
        Ok(self.studies.create_study(request).await?.into_inner().study.unwrap())
    }

    pub async fn study(&mut self, name: &str) -> v1::Study {
        let request = v1::GetStudyRequest { name: name.to_owned() };
        self.studies.get_study(request).await.unwrap().into_inner().study.unwrap()
    }

    pub async fn ask(&mut self, name: &str, count: u32) -> Result<Vec<v1::Trial>, Status> {
        self.ask_as(name, count, &fresh_id()).await
    }

    pub async fn ask_as(&mut self, name: &str, count: u32, request_id: &str) -> Result<Vec<v1::Trial>, Status> {
        let request = v1::AskRequest {
            request_id: request_id.to_owned(),
            study: name.to_owned(),
            count,
            ..v1::AskRequest::default()
        };
        Ok(self.studies.ask(request).await?.into_inner().trials)
    }

    pub async fn tell(&mut self, name: &str, number: i64, value: f64) -> Result<v1::Trial, Status> {
        let request = v1::TellRequest {
            study: name.to_owned(),
            number,
            state: v1::TrialState::Complete.into(),
            values: vec![value],
            ..v1::TellRequest::default()
        };
        Ok(self.studies.tell(request).await?.into_inner().trial.unwrap())
    }

    pub async fn report(&mut self, name: &str, number: i64, step: u32, value: f64) -> Result<v1::Verdict, Status> {
        let request = v1::ReportRequest { study: name.to_owned(), number, step, value, lease_token: String::new() };
        Ok(self.studies.report(request).await?.into_inner().verdict())
    }

    pub async fn trials(&mut self, name: &str) -> Vec<v1::Trial> {
        let request = v1::ListTrialsRequest { study: name.to_owned(), ..v1::ListTrialsRequest::default() };
        let mut stream = self.studies.list_trials(request).await.unwrap().into_inner();
        let mut trials = Vec::new();
        while let Some(trial) = stream.message().await.unwrap() {
            trials.push(trial);
        }
        trials
    }

    /// Recomputes all suggestions: how many were checked. Fails when one differs.
    pub async fn verify(&mut self, name: &str) -> u64 {
        let request = v1::VerifyStudyRequest { study: name.to_owned() };
        let found = self.studies.verify_study(request).await.unwrap().into_inner();
        assert_eq!(found.mismatches, []);
        found.checked
    }
}

/// The stable reason of a refusal.
pub fn reason(status: &Status) -> Reason {
    let text = status.metadata().get(REASON_KEY).expect("a refusal has a reason").to_str().unwrap();
    Reason::from_text(text).unwrap()
}

pub fn int(low: i64, high: i64) -> v1::Distribution {
    let int = v1::IntDistribution { low, high, step: 1, log: false };
    v1::Distribution { kind: Some(v1::distribution::Kind::Int(int)) }
}

pub fn float(low: f64, high: f64) -> v1::Distribution {
    let float = v1::FloatDistribution { low, high, step: None, log: false };
    v1::Distribution { kind: Some(v1::distribution::Kind::Float(float)) }
}

pub fn parameter(name: &str, distribution: v1::Distribution) -> v1::Parameter {
    v1::Parameter { name: name.to_owned(), distribution: Some(distribution), ..v1::Parameter::default() }
}

pub fn value(int: i64) -> v1::Value {
    v1::Value { kind: Some(v1::value::Kind::Int(int)) }
}

/// Until the lease has run out by the clock that rules it, which is this machine's.
pub async fn run_out(lease: &v1::Lease) {
    let end = SystemTime::try_from(lease.expires_at.unwrap()).unwrap() + Duration::from_millis(1);
    while let Ok(left) = end.duration_since(SystemTime::now()) {
        tokio::time::sleep(left).await;
    }
}

/// A study whose clients measure themselves: minimise over an integer and a float.
pub fn config(trials: Option<u32>) -> v1::StudyConfig {
    v1::StudyConfig {
        directions: vec![v1::Direction::Minimize.into()],
        space: Some(v1::SearchSpace {
            parameters: vec![parameter("n", int(0, 1000)), parameter("x", float(-1.0, 1.0))],
            ..v1::SearchSpace::default()
        }),
        budget: Some(v1::Budget { trials, ..v1::Budget::default() }),
        seed: 7,
        ..v1::StudyConfig::default()
    }
}

/// A deterministic objective of the parameters.
pub fn objective(params: &BTreeMap<String, v1::Value>) -> f64 {
    let number = |name: &str| match params[name].kind {
        Some(v1::value::Kind::Int(int)) => int as f64,
        Some(v1::value::Kind::Float(float)) => float,
        _ => panic!("{name} is no number"),
    };
    ((number("n") - 300.0) / 1000.0).powi(2) + (number("x") - 0.3).powi(2)
}

/// Parameters by trial number.
pub fn by_number(trials: &[v1::Trial]) -> BTreeMap<i64, BTreeMap<String, v1::Value>> {
    trials.iter().map(|trial| (trial.number, trial.params.clone())).collect()
}
