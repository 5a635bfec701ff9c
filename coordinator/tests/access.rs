//! Who may call what: every call with every kind of token, and what becomes of tokens.

use std::time::{Duration, Instant};

use fleetune_coordinator::scheduler::EngineOptions;
use fleetune_coordinator::{Coordinator, Server, transport};
use fleetune_core::Role;
use fleetune_proto::reason::REASON_KEY;
use fleetune_proto::v1;
use fleetune_proto::v1::admin_service_client::AdminServiceClient;
use fleetune_proto::v1::study_service_client::StudyServiceClient;
use fleetune_proto::v1::worker_service_client::WorkerServiceClient;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

/// How long anything here may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// A coordinator that listens, and the way around its gate.
struct Running {
    channel: Channel,
    address: std::net::SocketAddr,
    /// As a program over the storage itself.
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
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("fleetune.db").display());
        let stop = CancellationToken::new();
        let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = server.address();
        let coordinator = Coordinator::start(&url, EngineOptions::default(), stop.clone()).await.unwrap();
        let local = transport::in_process(coordinator.routes(), stop.clone()).await.unwrap();
        tokio::spawn(async move { server.serve(&coordinator).await });
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        Self { channel, address, local, stop, folder }
    }

    /// Creates a token `text` as a program over the storage does.
    async fn create(&self, name: &str, role: Role, text: &str) -> v1::Token {
        let mut admin = AdminServiceClient::new(self.local.clone());
        admin.create_token(new_token(name, role, text)).await.unwrap().into_inner().token.unwrap()
    }

    async fn revoke(&self, name: &str) {
        let mut admin = AdminServiceClient::new(self.local.clone());
        admin.revoke_token(v1::RevokeTokenRequest { token: name.to_owned() }).await.unwrap();
    }

    /// The code of a call with an empty message.
    async fn call(&self, path: &str, token: Option<&str>) -> Result<(), Status> {
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        client.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        let mut request = Request::new(tokio_stream::once(()));
        if let Some(token) = token {
            request.metadata_mut().insert("authorization", bearer(token));
        }
        let mut answers = client.streaming(request, path.parse().unwrap(), codec).await?.into_inner();
        // Streams go on for ever; their first word is enough.
        answers.message().await.map(|_| ())
    }

    /// Studies as the holder of `token` sees them.
    async fn list(&self, token: &str) -> Result<usize, Status> {
        let mut request = Request::new(v1::ListStudiesRequest::default());
        request.metadata_mut().insert("authorization", bearer(token));
        let mut studies = StudyServiceClient::new(self.channel.clone());
        Ok(studies.list_studies(request).await?.into_inner().studies.len())
    }
}

fn bearer(token: &str) -> MetadataValue<tonic::metadata::Ascii> {
    format!("Bearer {token}").parse().unwrap()
}

fn new_token(name: &str, role: Role, text: &str) -> v1::CreateTokenRequest {
    v1::CreateTokenRequest {
        name: name.to_owned(),
        role: fleetune_proto::convert::role_to_wire(role).into(),
        expires_at: None,
        sha256: Sha256::digest(text.as_bytes()).to_vec(),
    }
}

fn reason(status: &Status) -> &str {
    status.metadata().get(REASON_KEY).and_then(|reason| reason.to_str().ok()).unwrap_or_default()
}

/// Every call of every service that the protocol has, and who may make it besides admins, written down a second time.
fn calls() -> Vec<(String, Vec<Role>)> {
    let files = prost_types::FileDescriptorSet::decode(fleetune_proto::DESCRIPTORS).unwrap().file;
    let mut calls = Vec::new();
    for file in &files {
        for service in &file.service {
            for method in &service.method {
                let roles = match (service.name(), method.name()) {
                    ("StudyService", "Report") => vec![Role::Client, Role::Worker],
                    ("AdminService", _) | ("FleetService", "DrainWorker" | "ResumeWorker" | "DeleteRegion") => vec![],
                    ("StudyService" | "FleetService" | "StorageService" | "TransferService", _) => vec![Role::Client],
                    ("WorkerService", _) => vec![Role::Worker],
                    (service, _) => panic!("who may call {service}?"),
                };
                calls.push((format!("/{}.{}/{}", file.package(), service.name(), method.name()), roles));
            }
        }
    }
    assert!(calls.len() > 30, "{calls:?}");
    calls
}

#[tokio::test]
async fn every_call_is_open_to_its_roles_and_to_no_other_token() {
    let running = Running::start().await;
    for role in Role::ALL {
        running.create(&format!("the {role}"), role, &format!("secret of {role}")).await;
        running.create(&format!("former {role}"), role, &format!("former secret of {role}")).await;
        running.revoke(&format!("former {role}")).await;
    }
    for (path, roles) in calls() {
        let mut bad = vec![None, Some("wrong".to_owned()), Some(String::new())];
        bad.extend(Role::ALL.map(|role| Some(format!("former secret of {role}"))));
        for token in bad {
            let refused = running.call(&path, token.as_deref()).await.unwrap_err();
            assert_eq!(
                (refused.code(), reason(&refused)),
                (Code::Unauthenticated, "UNAUTHENTICATED"),
                "{path} {token:?}"
            );
        }
        for role in Role::ALL {
            let answer = running.call(&path, Some(&format!("secret of {role}"))).await;
            let code = answer.as_ref().err().map(Status::code);
            if role == Role::Admin || roles.contains(&role) {
                // What an empty message means to it is its own business.
                assert!(
                    !matches!(code, Some(Code::Unauthenticated | Code::PermissionDenied)),
                    "{path} {role}: {answer:?}"
                );
            } else {
                let refused = answer.unwrap_err();
                let expected = (Code::PermissionDenied, "PERMISSION_DENIED");
                assert_eq!((refused.code(), reason(&refused)), expected, "{path} {role}");
            }
        }
    }
    for path in ["/another.Service/GetTrial", "/fleetune.v1.StudyService/Unknown"] {
        assert_eq!(running.call(path, None).await.unwrap_err().code(), Code::Unauthenticated, "{path}");
        let worker = running.call(path, Some("secret of worker")).await.unwrap_err();
        assert_eq!(worker.code(), Code::PermissionDenied, "{path}");
        let client = running.call(path, Some("secret of client")).await.unwrap_err();
        assert_eq!(client.code(), Code::Unimplemented, "{path}");
    }
    for path in ["/grpc.health.v1.Health/Check", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"] {
        let answer = running.call(path, None).await;
        assert!(
            answer.as_ref().err().is_none_or(|status| status.code() != Code::Unauthenticated),
            "{path}: {answer:?}"
        );
    }
}

#[tokio::test]
async fn no_token_is_asked_for_until_there_is_one_and_ever_after() {
    let running = Running::start().await;
    running.call("/fleetune.v1.FleetService/FleetStatus", None).await.unwrap();
    let first = running.create("first", Role::Admin, "secret").await;
    assert_eq!((first.created_by.as_str(), first.role()), ("", v1::Role::Admin));
    let refused = running.call("/fleetune.v1.FleetService/FleetStatus", None).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "the first token holds at once");
    assert_eq!(running.list("secret").await.unwrap(), 0);
    running.revoke("first").await;
    // Nothing is open now, not even to those without a token.
    for token in [None, Some("secret")] {
        let refused = running.call("/fleetune.v1.FleetService/FleetStatus", token).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
    }
}

#[tokio::test]
async fn a_program_over_the_storage_needs_no_token() {
    let running = Running::start().await;
    running.create("first", Role::Worker, "secret").await;
    let mut studies = StudyServiceClient::new(running.local.clone());
    assert!(studies.list_studies(v1::ListStudiesRequest::default()).await.unwrap().into_inner().studies.is_empty());
}

#[tokio::test]
async fn tokens_of_another_process_are_known_within_seconds() {
    let running = Running::start().await;
    let url = format!("sqlite://{}", running.folder.path().join("fleetune.db").display());
    let elsewhere = CancellationToken::new();
    let other = Coordinator::start(&url, EngineOptions::default(), elsewhere.clone()).await.unwrap();
    let mut admin = AdminServiceClient::new(transport::in_process(other.routes(), elsewhere.clone()).await.unwrap());
    admin.create_token(new_token("a", Role::Client, "secret")).await.unwrap();
    let begun = Instant::now();
    while running.call("/fleetune.v1.FleetService/FleetStatus", None).await.is_ok() {
        assert!(begun.elapsed() < DEADLINE, "the door is still open");
        tokio::task::yield_now().await;
    }
    running.list("secret").await.unwrap();
    admin.revoke_token(v1::RevokeTokenRequest { token: "a".to_owned() }).await.unwrap();
    let begun = Instant::now();
    while running.list("secret").await.is_ok() {
        assert!(begun.elapsed() < DEADLINE, "a revoked token still opens");
        tokio::task::yield_now().await;
    }
    elsewhere.cancel();
}

#[tokio::test]
async fn a_token_ends_by_itself_and_tells_when_it_was_used() {
    let running = Running::start().await;
    let mut admin = AdminServiceClient::new(running.local.clone());
    let now = std::time::SystemTime::now();
    let until = |end: std::time::SystemTime| Some(prost_types::Timestamp::from(end));
    let past = v1::CreateTokenRequest { expires_at: until(now), ..new_token("past", Role::Client, "past") };
    assert_eq!(admin.create_token(past).await.unwrap_err().code(), Code::InvalidArgument);
    let short = v1::CreateTokenRequest {
        expires_at: until(now + Duration::from_secs(3)),
        ..new_token("short", Role::Client, "short")
    };
    admin.create_token(short).await.unwrap();
    running.list("short").await.unwrap();
    let begun = Instant::now();
    let refused = loop {
        match running.list("short").await {
            Ok(_) => assert!(begun.elapsed() < DEADLINE, "it never ends"),
            Err(refused) => break refused,
        }
    };
    assert!(refused.message().contains("has expired"), "{refused}");
    let begun = Instant::now();
    loop {
        let tokens = admin.list_tokens(v1::ListTokensRequest::default()).await.unwrap().into_inner().tokens;
        assert_eq!((tokens.len(), tokens[0].name.as_str()), (1, "short"));
        if tokens[0].last_used_at.is_some() {
            break;
        }
        assert!(begun.elapsed() < DEADLINE, "its use was not noted");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_creation_and_a_revocation_can_be_repeated() {
    let running = Running::start().await;
    let first = running.create("a", Role::Client, "secret").await;
    assert_eq!(running.create("a", Role::Client, "secret").await.id, first.id);
    let mut admin = AdminServiceClient::new(running.local.clone());
    let taken = admin.create_token(new_token("a", Role::Client, "another")).await.unwrap_err();
    assert_eq!((taken.code(), reason(&taken)), (Code::AlreadyExists, "TOKEN_EXISTS"));
    running.revoke("a").await;
    running.revoke("a").await;
    let unknown = admin.revoke_token(v1::RevokeTokenRequest { token: "b".to_owned() }).await.unwrap_err();
    assert_eq!((unknown.code(), reason(&unknown)), (Code::NotFound, "TOKEN_NOT_FOUND"));
    // A new token may take the name of a revoked one.
    assert_ne!(running.create("a", Role::Client, "another").await.id, first.id);
    for bad in ["", "12", "a\nb"] {
        let refused = admin.create_token(new_token(bad, Role::Client, "x")).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{bad:?}");
    }
}

#[tokio::test]
async fn pages_other_than_those_for_probes_need_a_token_too() {
    let running = Running::start().await;
    running.create("a", Role::Client, "secret").await;
    let get = |page: &'static str, header: &'static str| {
        let address = running.address;
        async move {
            use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let head = format!("GET {page} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{header}\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        }
    };
    assert!(get("/healthz", "").await.starts_with("HTTP/1.1 200 "));
    assert!(get("/readyz", "").await.starts_with("HTTP/1.1 200 "));
    let refused = get("/", "").await;
    assert!(refused.starts_with("HTTP/1.1 401 ") && refused.contains("www-authenticate: Bearer"), "{refused}");
    assert!(get("/", "authorization: Bearer secret\r\n").await.starts_with("HTTP/1.1 404 "));
}

#[tokio::test]
async fn deeds_are_recorded_with_who_and_what() {
    let running = Running::start().await;
    running.create("boss", Role::Admin, "secret").await;
    let mut admin = AdminServiceClient::new(running.channel.clone());
    let made = admin
        .create_token(with_token_of("secret", new_token("w", Role::Worker, "of w")))
        .await
        .unwrap()
        .into_inner()
        .token
        .unwrap();
    assert_eq!(made.created_by, "boss");
    // What is refused or changes nothing is no deed.
    admin.create_token(with_token_of("secret", new_token("w", Role::Worker, "of w"))).await.unwrap();
    admin.create_token(with_token_of("secret", new_token("w", Role::Client, "other"))).await.unwrap_err();
    let entries =
        admin.list_audit(with_token_of("secret", v1::ListAuditRequest::default())).await.unwrap().into_inner().entries;
    let told: Vec<_> = entries
        .iter()
        .map(|entry| (entry.actor.as_str(), entry.peer.as_str(), entry.action.as_str(), entry.subject.as_str()))
        .collect();
    assert_eq!(told, [("boss", "127.0.0.1", "CreateToken", "token w"), ("", "local", "CreateToken", "token boss")]);
    assert_eq!((entries[0].role(), entries[1].role), (v1::Role::Admin, None));
    let of = v1::ListAuditRequest { subject: "token boss".to_owned(), ..v1::ListAuditRequest::default() };
    assert_eq!(admin.list_audit(with_token_of("secret", of)).await.unwrap().into_inner().entries.len(), 1);
    let page = v1::ListAuditRequest { page_size: 1, ..v1::ListAuditRequest::default() };
    let first = admin.list_audit(with_token_of("secret", page)).await.unwrap().into_inner();
    assert_eq!((first.entries.len(), first.entries[0].action.as_str()), (1, "CreateToken"));
    let next = v1::ListAuditRequest { page_token: first.next_page_token, ..v1::ListAuditRequest::default() };
    let rest = admin.list_audit(with_token_of("secret", next)).await.unwrap().into_inner();
    assert_eq!((rest.entries.len(), rest.next_page_token.as_str()), (1, ""));
}

fn with_token_of<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", bearer(token));
    request
}

fn with<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", bearer(token));
    request
}

#[tokio::test]
async fn a_workers_token_speaks_for_the_workers_that_registered_with_it_alone() {
    let running = Running::start().await;
    for (name, role) in [("own", Role::Worker), ("other", Role::Worker), ("boss", Role::Admin)] {
        running.create(name, role, name).await;
    }
    let model = v1::Model { name: "m".to_owned(), path: "/m".to_owned(), hash: "00".to_owned(), bytes: 1 };
    let registration = v1::RegisterRequest {
        worker_id: "a".repeat(32),
        name: "a".to_owned(),
        inventory_json: serde_json::to_string(&fleetune_core::Inventory::default()).unwrap(),
        executors: [("llama-cpp".to_owned(), "e".to_owned())].into(),
        models: vec![model],
        ..v1::RegisterRequest::default()
    };
    let config = v1::StudyConfig {
        directions: vec![v1::Direction::Maximize.into()],
        benchmark: Some(v1::Benchmark {
            model: "m".to_owned(),
            executor: "llama-cpp".to_owned(),
            workload: Some(v1::Workload { prompt: 8, r#gen: 8, repetitions: 1, warmup: 0 }),
            objective: v1::Objective::Decode.into(),
            timeout: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
            ..v1::Benchmark::default()
        }),
        ..v1::StudyConfig::default()
    };
    let create = v1::CreateStudyRequest {
        request_id: "c".to_owned(),
        name: "s".to_owned(),
        config: Some(config),
        ..v1::CreateStudyRequest::default()
    };
    StudyServiceClient::new(running.local.clone()).create_study(create).await.unwrap();

    let mut workers = WorkerServiceClient::new(running.channel.clone());
    workers.register(with("own", registration.clone())).await.unwrap();
    let acquire = |request_id: &str| v1::AcquireRequest {
        worker_id: "a".repeat(32),
        request_id: request_id.to_owned(),
        ..v1::AcquireRequest::default()
    };
    let job = workers.acquire(with("own", acquire("1"))).await.unwrap().into_inner().jobs.remove(0);
    let lease_token = job.lease.unwrap().token;
    let heartbeat = v1::HeartbeatRequest { worker_id: "a".repeat(32), tokens: vec![lease_token.clone()], gauges: None };
    let drain = v1::DrainRequest { worker_id: "a".repeat(32) };
    let release = v1::ReleaseRequest { lease_token: lease_token.clone() };
    let failure = v1::Failure { kind: v1::FailKind::Error.into(), message: "no".to_owned() };
    let finish = v1::FinishRequest {
        lease_token: lease_token.clone(),
        outcome: Some(v1::finish_request::Outcome::Failed(failure)),
        detail: None,
    };
    let round = v1::RecordRoundRequest { lease_token: lease_token.clone(), ..v1::RecordRoundRequest::default() };
    let report = v1::ReportRequest { study: "s".to_owned(), lease_token, ..v1::ReportRequest::default() };
    let mut studies = StudyServiceClient::new(running.channel.clone());
    let refusals = [
        workers.register(with("other", registration.clone())).await.map(drop),
        workers.acquire(with("other", acquire("2"))).await.map(drop),
        workers.heartbeat(with("other", heartbeat.clone())).await.map(drop),
        workers.drain(with("other", drain)).await.map(drop),
        workers.release(with("other", release)).await.map(drop),
        workers.record_round(with("other", round)).await.map(drop),
        workers.finish(with("other", finish.clone())).await.map(drop),
        studies.report(with("other", report)).await.map(drop),
    ];
    for (index, refused) in refusals.into_iter().enumerate() {
        let refused = refused.expect_err(&format!("call {index}"));
        assert_eq!((refused.code(), reason(&refused)), (Code::PermissionDenied, "PERMISSION_DENIED"), "call {index}");
    }
    // Nor does it help to be another worker.
    let other = v1::RegisterRequest { worker_id: "b".repeat(32), ..registration.clone() };
    workers.register(with("other", other)).await.unwrap();
    let foreign = v1::HeartbeatRequest { worker_id: "b".repeat(32), ..heartbeat.clone() };
    let refused = workers.heartbeat(with("other", foreign)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    for token in ["own", "boss"] {
        let beat = workers.heartbeat(with(token, heartbeat.clone())).await.unwrap().into_inner();
        assert_eq!(beat.leases[0].state(), v1::LeaseState::Renewed, "{token}");
    }
    workers.finish(with("own", finish)).await.unwrap();
    // With its own gone, it gets a new one.
    running.revoke("own").await;
    workers.register(with("other", registration)).await.unwrap();
    workers.acquire(with("other", acquire("3"))).await.unwrap();
}
