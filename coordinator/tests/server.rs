//! The coordinator on a port, as programs and probes reach it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fleetune_coordinator::scheduler::EngineOptions;
use fleetune_coordinator::storage::testing::PrivatePostgres;
use fleetune_coordinator::{Coordinator, Server, ServerError};
use fleetune_proto::v1;
use fleetune_proto::v1::study_service_client::StudyServiceClient;
use fleetune_proto::v1::worker_service_client::WorkerServiceClient;
use prost::Message as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::Channel;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// How long anything here may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

const STUDY_SERVICE: &str = "fleetune.v1.StudyService";

/// A coordinator that listens; it stops with the test.
struct Running {
    address: SocketAddr,
    channel: Channel,
    stop: CancellationToken,
    served: tokio::task::JoinHandle<Result<(), ServerError>>,
    _folder: tempfile::TempDir,
}

async fn start() -> Running {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("fleetune.db").display());
    start_on(&url, folder).await
}

async fn start_on(url: &str, folder: tempfile::TempDir) -> Running {
    let stop = CancellationToken::new();
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = server.address();
    let coordinator = Coordinator::start(url, EngineOptions::default(), stop.clone()).await.unwrap();
    let served = tokio::spawn(async move {
        let served = server.serve(&coordinator).await;
        coordinator.close().await;
        served
    });
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    Running { address, channel, stop, served, _folder: folder }
}

impl Running {
    /// Creates a study that clients measure.
    async fn create(&self, name: &str) -> v1::Study {
        let float = v1::FloatDistribution { low: 0.0, high: 1.0, step: None, log: false };
        let distribution = v1::Distribution { kind: Some(v1::distribution::Kind::Float(float)) };
        let parameter =
            v1::Parameter { name: "x".to_owned(), distribution: Some(distribution), ..v1::Parameter::default() };
        let config = v1::StudyConfig {
            directions: vec![v1::Direction::Minimize.into()],
            space: Some(v1::SearchSpace { parameters: vec![parameter], ..v1::SearchSpace::default() }),
            ..v1::StudyConfig::default()
        };
        let request = v1::CreateStudyRequest {
            request_id: format!("create-{name}"),
            name: name.to_owned(),
            config: Some(config),
            ..v1::CreateStudyRequest::default()
        };
        let mut studies = StudyServiceClient::new(self.channel.clone());
        studies.create_study(request).await.unwrap().into_inner().study.unwrap()
    }

    /// Registers a worker that would do anything.
    async fn register(&self) -> String {
        let worker_id = "a".repeat(32);
        let inventory_json = serde_json::to_string(&fleetune_core::Inventory::default()).unwrap();
        let request = v1::RegisterRequest {
            worker_id: worker_id.clone(),
            name: "w".to_owned(),
            inventory_json,
            ..v1::RegisterRequest::default()
        };
        WorkerServiceClient::new(self.channel.clone()).register(request).await.unwrap();
        worker_id
    }

    /// The whole answer to a request in HTTP/1.1.
    async fn http(&self, head: &str, body: &[u8]) -> String {
        let exchange = async {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            let head = format!("{head}\r\nhost: test\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(body).await.unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            String::from_utf8_lossy(&answer).into_owned()
        };
        tokio::time::timeout(DEADLINE, exchange).await.expect("an answer in time")
    }

    /// Cancels the stop token and waits for the end.
    async fn stop(self) -> Result<(), ServerError> {
        self.stop.cancel();
        tokio::time::timeout(DEADLINE, self.served).await.expect("an end in time").unwrap()
    }
}

#[tokio::test]
async fn one_port_serves_calls_probes_and_pages() {
    let running = start().await;
    assert_eq!(running.create("s").await.state(), v1::StudyState::Active);
    let answer = running.http("GET /healthz HTTP/1.1", b"").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nok\n"), "{answer}");
    let answer = running.http("GET /readyz HTTP/1.1", b"").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nready\n"), "{answer}");
    for page in ["/", "/healthz/x", "/favicon.ico"] {
        let answer = running.http(&format!("GET {page} HTTP/1.1"), b"").await;
        assert!(answer.starts_with("HTTP/1.1 404 ") && !answer.contains("grpc"), "{answer}");
    }
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_coordinator_without_its_database_is_alive_but_not_ready() {
    let cluster = PrivatePostgres::with_file_limit(64);
    let running = start_on(&cluster.database().await, tempfile::tempdir().unwrap()).await;
    assert!(running.http("GET /readyz HTTP/1.1", b"").await.starts_with("HTTP/1.1 200 "));
    drop(cluster);
    let answer = running.http("GET /readyz HTTP/1.1", b"").await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("the storage "), "{answer}");
    assert!(running.http("GET /healthz HTTP/1.1", b"").await.starts_with("HTTP/1.1 200 "));
    running.stop().await.unwrap();
}

#[tokio::test]
async fn an_unknown_service_is_unimplemented() {
    let running = start().await;
    let mut client = tonic::client::Grpc::new(running.channel.clone());
    client.ready().await.unwrap();
    let path = "/fleetune.v9.NoService/NoCall".parse().unwrap();
    let codec = tonic_prost::ProstCodec::<v1::GetStudyRequest, v1::GetStudyResponse>::default();
    let refused = client.unary(tonic::Request::new(v1::GetStudyRequest::default()), path, codec).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    assert!(refused.message().contains("`/fleetune.v9.NoService/NoCall`"), "{refused}");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn reflection_tells_the_services_in_both_versions() {
    let running = start().await;
    {
        use tonic_reflection::pb::v1::ServerReflectionRequest;
        use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
        use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
        use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
        let list = MessageRequest::ListServices(String::new());
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(list) };
        let mut client = ServerReflectionClient::new(running.channel.clone());
        let answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap();
        let answer = answers.into_inner().message().await.unwrap().unwrap();
        let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else { panic!("no list") };
        let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
        assert!(names.iter().any(|name| name == STUDY_SERVICE), "{names:?}");
        assert!(names.iter().any(|name| name == "grpc.health.v1.Health"), "{names:?}");
    }
    {
        use tonic_reflection::pb::v1alpha::ServerReflectionRequest;
        use tonic_reflection::pb::v1alpha::server_reflection_client::ServerReflectionClient;
        use tonic_reflection::pb::v1alpha::server_reflection_request::MessageRequest;
        use tonic_reflection::pb::v1alpha::server_reflection_response::MessageResponse;
        let list = MessageRequest::ListServices(String::new());
        let symbol = MessageRequest::FileContainingSymbol(STUDY_SERVICE.to_owned());
        let requests = [list, symbol]
            .map(|request| ServerReflectionRequest { host: String::new(), message_request: Some(request) });
        let mut client = ServerReflectionClient::new(running.channel.clone());
        let mut answers = client.server_reflection_info(tokio_stream::iter(requests)).await.unwrap().into_inner();
        let answer = answers.message().await.unwrap().unwrap();
        let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else { panic!("no list") };
        let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
        assert!(names.iter().any(|name| name == STUDY_SERVICE), "{names:?}");
        let answer = answers.message().await.unwrap().unwrap();
        assert!(matches!(answer.message_response, Some(MessageResponse::FileDescriptorResponse(_))));
    }
    running.stop().await.unwrap();
}

#[tokio::test]
async fn health_says_serving_until_the_stop() {
    let running = start().await;
    let mut health = HealthClient::new(running.channel.clone());
    for service in ["", STUDY_SERVICE, "fleetune.v1.WorkerService", "fleetune.v1.FleetService"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        assert_eq!(health.check(request).await.unwrap().into_inner().status(), ServingStatus::Serving);
    }
    let mut watched = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    let first = watched.message().await.unwrap().as_ref().map(HealthCheckResponse::status);
    assert_eq!(first, Some(ServingStatus::Serving));
    let begun = Instant::now();
    running.stop().await.unwrap();
    let last = watched.message().await.unwrap().as_ref().map(HealthCheckResponse::status);
    assert_eq!(last, Some(ServingStatus::NotServing));
    assert!(begun.elapsed() < Duration::from_secs(5), "a watcher of health held up the stop");
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let running = start().await;
    let refused = Server::bind(running.address).await.unwrap_err();
    assert!(matches!(refused, ServerError::InUse { address } if address == running.address), "{refused}");
    let refused = Server::bind("192.0.2.1:1".parse().unwrap()).await.unwrap_err();
    assert!(matches!(refused, ServerError::Bind { .. }), "{refused}");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn the_stop_ends_streams_and_long_polls() {
    let running = start().await;
    running.create("s").await;
    let worker_id = running.register().await;
    let watch = v1::WatchRequest { study: "s".to_owned(), after: 0 };
    let mut watched = StudyServiceClient::new(running.channel.clone()).watch(watch).await.unwrap().into_inner();
    watched.message().await.unwrap().expect("the study as it stands");
    let mut workers = WorkerServiceClient::new(running.channel.clone());
    let acquire = v1::AcquireRequest { worker_id, wait_s: 60.0, request_id: "r".to_owned(), ..Default::default() };
    let polled = tokio::spawn(async move { workers.acquire(acquire).await });
    // The poll is under way once the server has heard of it, which another call on the same connection shows.
    running.create("t").await;
    let begun = Instant::now();
    running.stop().await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
    assert_eq!(watched.message().await.unwrap(), None);
    match polled.await.unwrap() {
        Ok(answer) => assert_eq!(answer.into_inner().jobs, []),
        // It came after the stop.
        Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status}"),
    }
}

#[tokio::test]
async fn a_call_is_cut_at_its_callers_deadline() {
    let running = start().await;
    let worker_id = running.register().await;
    let acquire = v1::AcquireRequest { worker_id, wait_s: 60.0, request_id: "r".to_owned(), ..Default::default() };
    let message = acquire.encode_to_vec();
    let mut body = vec![0];
    body.extend_from_slice(&(message.len() as u32).to_be_bytes());
    body.extend_from_slice(&message);
    // Plain HTTP/1.1: a gRPC client would cut the call by itself.
    let head =
        "POST /fleetune.v1.WorkerService/Acquire HTTP/1.1\r\ncontent-type: application/grpc\r\ngrpc-timeout: 300m";
    let begun = Instant::now();
    let answer = running.http(head, &body).await;
    assert!(begun.elapsed() < DEADLINE, "it took {:?}", begun.elapsed());
    // CANCELLED: what tonic says of its own time-outs.
    assert!(answer.contains("grpc-status: 1") && answer.contains("imeout"), "{answer}");
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_database_is_away_when_it_begins_goes_on() {
    let cluster = PrivatePostgres::durable();
    let running = {
        let stop = CancellationToken::new();
        let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = server.address();
        let url = cluster.empty_database();
        let coordinator = Coordinator::start(&url, EngineOptions::default(), stop.clone()).await.unwrap();
        drop(cluster);
        let served = tokio::spawn(async move { server.serve(&coordinator).await });
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        Running { address, channel, stop, served, _folder: tempfile::tempdir().unwrap() }
    };
    let mut studies = StudyServiceClient::new(running.channel.clone());
    let refused = studies.list_studies(v1::ListStudiesRequest::default()).await.unwrap_err();
    // Its own words, not those of a connection that broke.
    assert_eq!(refused.metadata().get("fleetune-reason").unwrap(), "STORAGE", "{refused}");
    assert!(!running.served.is_finished());
}
