//! What operators rely on: measures, limits, readers that do not keep up.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fleetune_coordinator::scheduler::{Engine, EngineOptions};
use fleetune_coordinator::storage::Store;
use fleetune_coordinator::{Coordinator, Server, transport};
use fleetune_proto::link::Link;
use fleetune_proto::reason::REASON_KEY;
use fleetune_proto::v1;
use fleetune_proto::v1::admin_service_client::AdminServiceClient;
use fleetune_proto::v1::fleet_service_client::FleetServiceClient;
use fleetune_proto::v1::study_service_client::StudyServiceClient;
use fleetune_proto::v1::worker_service_client::WorkerServiceClient;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::Channel;
use tonic_types::StatusExt as _;

/// How long anything here may take on a busy machine.
const DEADLINE: Duration = Duration::from_mins(1);

/// A coordinator that listens; it stops with the test.
struct Running {
    address: SocketAddr,
    channel: Channel,
    local: Channel,
    stop: CancellationToken,
    folder: tempfile::TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Running {
    async fn start(calls_per_second: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("fleetune.db").display());
        let stop = CancellationToken::new();
        let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap().with_rate_limit(calls_per_second);
        let address = server.address();
        let coordinator = Coordinator::start(&url, EngineOptions::default(), stop.clone()).await.unwrap();
        let local = transport::in_process(coordinator.routes(), stop.clone()).await.unwrap();
        tokio::spawn(async move { server.serve(&coordinator).await });
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        Self { address, channel, local, stop, folder }
    }

    async fn page(&self, page: &str, header: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let head = format!("GET {page} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{header}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Creates study `s`, which clients measure.
    async fn create(&self) {
        let float = v1::FloatDistribution { low: 0.0, high: 1.0, step: None, log: false };
        let distribution = v1::Distribution { kind: Some(v1::distribution::Kind::Float(float)) };
        let parameter =
            v1::Parameter { name: "x".to_owned(), distribution: Some(distribution), ..v1::Parameter::default() };
        let config = v1::StudyConfig {
            directions: vec![v1::Direction::Minimize.into()],
            space: Some(v1::SearchSpace { parameters: vec![parameter], ..v1::SearchSpace::default() }),
            sampler: Some(v1::Sampler { name: "random".to_owned(), ..v1::Sampler::default() }),
            ..v1::StudyConfig::default()
        };
        let request = v1::CreateStudyRequest {
            request_id: "create".to_owned(),
            name: "s".to_owned(),
            config: Some(config),
            ..v1::CreateStudyRequest::default()
        };
        StudyServiceClient::new(self.channel.clone()).create_study(request).await.unwrap();
    }

    /// Asks for a trial and tells its value, as often as that.
    async fn measure(&self, times: std::ops::Range<u32>) {
        let mut studies = StudyServiceClient::new(self.channel.clone());
        for time in times {
            let ask = v1::AskRequest { request_id: format!("ask {time}"), study: "s".to_owned(), ..Default::default() };
            let trial = studies.ask(ask).await.unwrap().into_inner().trials.remove(0);
            let tell = v1::TellRequest {
                study: "s".to_owned(),
                number: trial.number,
                state: v1::TrialState::Complete.into(),
                values: vec![0.5],
                ..Default::default()
            };
            studies.tell(tell).await.unwrap();
        }
    }
}

/// The value of a sample whose line begins so.
fn sample(page: &str, begin: &str) -> i64 {
    let line = page.lines().find(|line| line.starts_with(begin)).unwrap_or_else(|| panic!("no `{begin}` in\n{page}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn what_happened_is_measured() {
    let running = Running::start(0).await;
    running.create().await;
    running.measure(0..3).await;
    let mut studies = StudyServiceClient::new(running.channel.clone());
    studies.get_study(v1::GetStudyRequest { name: "none".to_owned() }).await.unwrap_err();
    let page = running.page("/metrics", "").await;
    assert!(page.starts_with("HTTP/1.1 200 ") && page.contains("application/openmetrics-text"), "{page}");
    assert!(page.ends_with("# EOF\n"), "{page}");
    let asks = "fleetune_rpc_requests_total{service=\"fleetune.v1.StudyService\",method=\"Ask\",code=\"OK\"}";
    assert_eq!(sample(&page, asks), 3);
    let missing =
        "fleetune_rpc_requests_total{service=\"fleetune.v1.StudyService\",method=\"GetStudy\",code=\"NOT_FOUND\"}";
    assert_eq!(sample(&page, missing), 1);
    let took = "fleetune_rpc_duration_seconds_count{service=\"fleetune.v1.StudyService\",method=\"Tell\"}";
    assert_eq!(sample(&page, took), 3);
    assert_eq!(sample(&page, "fleetune_study_trials{study=\"s\",state=\"complete\"}"), 3);
    assert_eq!(sample(&page, "fleetune_studies{state=\"active\"}"), 1);
    assert_eq!(sample(&page, "fleetune_workers{state=\"alive\"}"), 0);
    assert!(sample(&page, "fleetune_storage_commit_batch_size_count") >= 7);
    assert_eq!(sample(&page, "fleetune_storage_queue_length"), 0);
    assert!(sample(&page, "fleetune_connections ") >= 2);
    assert!(sample(&page, "fleetune_process_resident_memory_bytes") > 1_000_000);
}

#[tokio::test]
async fn measures_need_a_token_where_there_is_one() {
    use sha2::Digest as _;
    let running = Running::start(0).await;
    let new = v1::CreateTokenRequest {
        name: "prometheus".to_owned(),
        role: v1::Role::Worker.into(),
        expires_at: None,
        sha256: sha2::Sha256::digest(b"secret").to_vec(),
    };
    AdminServiceClient::new(running.local.clone()).create_token(new).await.unwrap();
    assert!(running.page("/metrics", "").await.starts_with("HTTP/1.1 401 "));
    assert!(running.page("/metrics", "authorization: Bearer secret\r\n").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn what_a_workers_machine_does_is_measured_and_listed() {
    let running = Running::start(0).await;
    let mut workers = WorkerServiceClient::new(running.channel.clone());
    let id = "0123456789abcdef0123456789abcdef";
    let inventory = serde_json::to_string(&fleetune_core::Inventory::default()).unwrap();
    let register = v1::RegisterRequest {
        worker_id: id.to_owned(),
        name: "gpu-1".to_owned(),
        inventory_json: inventory,
        ..v1::RegisterRequest::default()
    };
    workers.register(register).await.unwrap();
    let device = v1::DeviceGauges {
        device: 3,
        memory_used_bytes: Some(5_000_000_000),
        utilization: Some(0.5),
        temperature_celsius: Some(61.0),
        power_watts: None,
    };
    let gauges = v1::Gauges { load: Some(0.75), memory_available_bytes: Some(1 << 30), devices: vec![device] };
    let beat = |gauges| v1::HeartbeatRequest { worker_id: id.to_owned(), tokens: Vec::new(), gauges };
    workers.heartbeat(beat(Some(gauges.clone()))).await.unwrap();
    workers.heartbeat(beat(None)).await.unwrap();
    let odd = v1::Gauges { load: Some(f64::INFINITY), ..v1::Gauges::default() };
    assert_eq!(workers.heartbeat(beat(Some(odd))).await.unwrap_err().code(), Code::InvalidArgument);

    let mut fleet = FleetServiceClient::new(running.channel.clone());
    let listed = fleet.list_workers(v1::ListWorkersRequest::default()).await.unwrap().into_inner().workers;
    assert_eq!(listed[0].gauges, Some(gauges));
    let page = running.page("/metrics", "").await;
    for line in [
        "fleetune_worker_load1{worker=\"gpu-1\"} 0.75",
        "fleetune_worker_memory_available_bytes{worker=\"gpu-1\"} 1073741824.0",
        "fleetune_worker_device_memory_used_bytes{worker=\"gpu-1\",device=\"3\"} 5000000000.0",
        "fleetune_worker_device_utilization_ratio{worker=\"gpu-1\",device=\"3\"} 0.5",
        "fleetune_worker_device_temperature_celsius{worker=\"gpu-1\",device=\"3\"} 61.0",
    ] {
        assert!(page.lines().any(|found| found == line), "no `{line}` in\n{page}");
    }
    assert!(!page.contains("fleetune_worker_device_power_watts{"), "{page}");
}

#[tokio::test]
async fn studies_of_long_ago_are_put_away_and_stay_readable() {
    let running = Running::start(0).await;
    running.create().await;
    running.measure(0..3).await;
    let mut studies = StudyServiceClient::new(running.channel.clone());
    let url = format!("sqlite://{}", running.folder.path().join("fleetune.db").display());
    let engine = Engine::new(Store::open(&url).await.unwrap(), EngineOptions::default());
    assert!(engine.archive_older_than(Duration::ZERO).await.unwrap().is_empty(), "it has not ended");
    studies.cancel_study(v1::CancelStudyRequest { name: "s".to_owned() }).await.unwrap();
    assert!(engine.archive_older_than(Duration::from_hours(1)).await.unwrap().is_empty(), "it ended just now");
    assert_eq!(engine.archive_older_than(Duration::ZERO).await.unwrap(), ["s"]);

    let list = |archived| v1::ListStudiesRequest { archived, ..v1::ListStudiesRequest::default() };
    assert!(studies.list_studies(list(false)).await.unwrap().into_inner().studies.is_empty());
    assert_eq!(studies.list_studies(list(true)).await.unwrap().into_inner().studies.len(), 1);
    let best = studies.best(v1::BestRequest { study: "s".to_owned(), count: 5 }).await.unwrap().into_inner();
    assert_eq!(best.trials.len(), 3);
    let ask = v1::AskRequest { request_id: "late".to_owned(), study: "s".to_owned(), ..Default::default() };
    let refused = studies.ask(ask).await.unwrap_err();
    assert_eq!(refused.metadata().get(REASON_KEY).unwrap(), "STUDY_STATE");
    assert!(refused.metadata().get("fleetune-hint").unwrap().to_str().unwrap().contains("unarchive"), "{refused:?}");
    let mut admin = AdminServiceClient::new(running.local.clone());
    let audit = admin.list_audit(v1::ListAuditRequest::default()).await.unwrap().into_inner().entries;
    let own = |entry: &&v1::AuditEntry| entry.action == "ArchiveStudy" && entry.subject == "study s";
    assert_eq!(audit.iter().filter(own).count(), 1, "{audit:?}");

    studies.unarchive_study(v1::UnarchiveStudyRequest { name: "s".to_owned() }).await.unwrap();
    assert!(engine.archive_older_than(Duration::from_hours(1)).await.unwrap().is_empty(), "it was fetched back");
    assert_eq!(studies.list_studies(list(false)).await.unwrap().into_inner().studies.len(), 1);
}

#[tokio::test]
async fn a_caller_that_calls_too_often_is_told_when_to_come_back() {
    let running = Running::start(5).await;
    let mut fleet = FleetServiceClient::new(running.channel.clone());
    let refused = loop {
        if let Err(refused) = fleet.fleet_status(v1::FleetStatusRequest {}).await {
            break refused;
        }
    };
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert_eq!(refused.metadata().get(REASON_KEY).unwrap(), "OVERLOADED");
    let after = refused.get_details_retry_info().unwrap().retry_delay.unwrap();
    assert!(after > Duration::ZERO && after <= Duration::from_secs(1), "{after:?}");
    // Who waits as long as that is served; probes are not counted.
    assert!(running.page("/healthz", "").await.starts_with("HTTP/1.1 200 "));
    let begun = Instant::now();
    tokio::time::sleep(after).await;
    while fleet.fleet_status(v1::FleetStatusRequest {}).await.is_err() {
        assert!(begun.elapsed() < DEADLINE, "refused for ever");
        tokio::time::sleep(after).await;
    }
}

#[tokio::test]
async fn a_patient_client_comes_back_until_it_is_served() {
    let running = Running::start(10).await;
    let mut hasty = FleetServiceClient::new(running.channel.clone());
    while hasty.fleet_status(v1::FleetStatusRequest {}).await.is_ok() {}
    let link = Link::new(running.channel.clone(), None).patient(DEADLINE);
    let clients = (0..8).map(|_| {
        let mut patient = FleetServiceClient::new(link.clone());
        async move { patient.fleet_status(v1::FleetStatusRequest {}).await.map(drop) }
    });
    let answers = futures::future::join_all(clients).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    // One whose patience is over tells what it was told.
    while hasty.fleet_status(v1::FleetStatusRequest {}).await.is_ok() {}
    let mut impatient =
        FleetServiceClient::new(Link::new(running.channel.clone(), None).patient(Duration::from_nanos(1)));
    let refused = loop {
        if let Err(refused) = impatient.fleet_status(v1::FleetStatusRequest {}).await {
            break refused;
        }
    };
    assert_eq!(refused.metadata().get(REASON_KEY).unwrap(), "OVERLOADED");
}

#[tokio::test]
async fn a_watcher_that_does_not_read_slows_nobody() {
    let running = Running::start(0).await;
    running.create().await;
    let mut watchers = Vec::new();
    for _ in 0..3 {
        let channel = Channel::from_shared(format!("http://{}", running.address)).unwrap().connect().await.unwrap();
        let watch = v1::WatchRequest { study: "s".to_owned(), after: 0 };
        watchers.push(StudyServiceClient::new(channel).watch(watch).await.unwrap().into_inner());
    }
    // Far more than lies between a watcher and its client.
    tokio::time::timeout(DEADLINE, running.measure(0..400)).await.expect("the writer was held up");
    // The slow one misses nothing of how things stand.
    let mut ended = std::collections::BTreeSet::new();
    let reading = async {
        while ended.len() < 400 {
            let event = watchers[0].message().await.unwrap().unwrap().event;
            if let Some(v1::watch_event::Event::Trial(trial)) = event
                && trial.state() == v1::TrialState::Complete
            {
                ended.insert(trial.number);
            }
        }
    };
    tokio::time::timeout(DEADLINE, reading).await.expect("the watcher misses something");
}
