//! The coordinator on a port: gRPC with health and reflection, and plain pages for probes. The one place that binds one.
//!
//! Everything is served by tonic, pages included: deadlines, keep-alive and limits hold for all of it.

mod incoming;
mod tls;

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use fleetune_proto::optuna::storage_service_server::SERVICE_NAME as OPTUNA;
use fleetune_proto::v1::admin_service_server::SERVICE_NAME as ADMIN;
use fleetune_proto::v1::fleet_service_server::SERVICE_NAME as FLEET;
use fleetune_proto::v1::study_service_server::SERVICE_NAME as STUDY;
use fleetune_proto::v1::transfer_service_server::SERVICE_NAME as TRANSFER;
use fleetune_proto::v1::worker_service_server::SERVICE_NAME as WORKER;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::Coordinator;
use crate::metrics::{self, Metrics};
use crate::scheduler::Engine;
use crate::service;
use crate::service::access::{CALLS_PER_SECOND, Gate, Limits};
use tls::Tls;
pub use tls::{TlsError, TlsFiles};

/// How often a silent connection is asked whether its client is still there, and how long it has for the answer.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// Calls in flight on one connection. A long poll counts while it waits.
const STREAMS: u32 = 1_024;

/// How long running calls have to finish after the stop.
const GRACE: Duration = Duration::from_secs(10);

/// How long storage has to show that it answers.
const READY: Duration = Duration::from_secs(2);

/// Connections at the same time; more wait until one ends.
const CONNECTIONS: usize = 8_192;

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Somebody else listens there.
    #[error("cannot listen on {address}: the port is in use")]
    InUse {
        /// The address.
        address: SocketAddr,
    },
    /// The system refused the address.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The system's words.
        source: std::io::Error,
    },
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The transport failed.
    #[error("cannot serve: {0}")]
    Serve(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A port that is taken, and serves once it has a coordinator.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Tls>,
    calls_per_second: u32,
}

impl Server {
    /// Takes `address`; port 0 takes a free one. Clients may connect from now on, and are answered by [`Self::serve`].
    pub async fn bind(address: SocketAddr) -> Result<Self, ServerError> {
        let refused = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::AddrInUse => ServerError::InUse { address },
            _ => ServerError::Bind { address, source },
        };
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        Ok(Self { listener, address, tls: None, calls_per_second: CALLS_PER_SECOND })
    }

    /// The same, speaking TLS alone. Renewed files are taken into use while it serves.
    pub fn with_tls(self, files: TlsFiles) -> Result<Self, ServerError> {
        Ok(Self { tls: Some(Tls::read(files)?), ..self })
    }

    /// The same, answering at most so many calls of one caller in a second; any number where it is 0.
    #[must_use]
    pub fn with_rate_limit(self, calls_per_second: u32) -> Self {
        Self { calls_per_second, ..self }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `coordinator` until its stop token is cancelled. Then health says `NOT_SERVING`, streams end, and running
    /// calls have 10 s to finish.
    pub async fn serve(self, coordinator: &Coordinator) -> Result<(), ServerError> {
        let (engine, tokens, stop) = (coordinator.engine(), coordinator.tokens(), coordinator.stop());
        if let Err(error) = tokens.refresh().await {
            // A database that is away comes back. Meanwhile nobody gets in who was not let in before.
            tracing::warn!(%error, "the tokens cannot be read");
        }
        tokio::spawn(tokens.clone().follow(stop.clone()));
        let (health, health_service) = tonic_health::server::health_reporter();
        for name in SERVICES {
            health.set_service_status(name, ServingStatus::Serving).await;
        }
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(fleetune_proto::DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let broken = |error: tonic_reflection::server::Error| ServerError::Serve(error.into());
        let grpc = service::routes(engine, tokens, stop)
            .add_service(health_service)
            // Clients of grpcio know the older version only.
            .add_service(reflection().build_v1alpha().map_err(broken)?)
            .add_service(reflection().build_v1().map_err(broken)?);
        // tonic's own fallback would answer a browser as if it spoke gRPC, and two fallbacks cannot be merged.
        let metrics = Metrics::new(engine);
        let limits = Limits::new(self.calls_per_second);
        tokio::spawn(limits.clone().follow(stop.clone()));
        let app = pages(engine, &metrics, stop).merge(grpc.into_axum_router().reset_fallback());

        if let Some(tls) = &self.tls {
            tokio::spawn(tls.clone().follow(stop.clone()));
        }
        let incoming = TcpIncoming::from(self.listener).with_nodelay(Some(true)).with_keepalive(Some(KEEPALIVE));
        let incoming = incoming::accept(incoming, self.tls, CONNECTIONS, metrics.connections().clone(), stop.clone());
        let served = tonic::transport::Server::builder()
            .accept_http1(true)
            .max_concurrent_streams(STREAMS)
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .add_routes(service::behind(Gate::guarded(tokens.clone(), limits, metrics), app))
            .serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
        let late = async {
            stop.cancelled().await;
            leave(health).await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            served = served => served.map_err(|error| ServerError::Serve(error.into())),
            () = late => {
                tracing::warn!(grace_s = GRACE.as_secs(), "calls that did not finish in time were cut");
                Ok(())
            }
        }
    }
}

/// What health is told of; "" is the server as a whole.
const SERVICES: [&str; 7] = ["", STUDY, WORKER, FLEET, ADMIN, OPTUNA, TRANSFER];

/// Tells everyone who watches health that it is over, and ends those streams: they would hold up the end.
async fn leave(mut health: HealthReporter) {
    for name in SERVICES {
        health.set_service_status(name, ServingStatus::NotServing).await;
    }
    for name in SERVICES {
        health.clear_service_status(name).await;
    }
}

/// Pages for probes, and a 404 for the rest.
fn pages(engine: &Engine, metrics: &Metrics, stop: &CancellationToken) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state((engine.clone(), stop.clone()))
        .route("/metrics", get(measured).with_state(metrics.clone()))
        .fallback(nothing)
}

/// A page for browsers, a status for gRPC clients.
async fn nothing(uri: Uri, headers: HeaderMap) -> Response {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if content_type.starts_with("application/grpc") {
        let status = Status::unimplemented(format!("this server has no method `{}`", uri.path()));
        return status.into_http::<Body>();
    }
    (StatusCode::NOT_FOUND, "there is no such page; /healthz, /readyz and /metrics exist\n").into_response()
}

async fn measured(State(metrics): State<Metrics>) -> Response {
    match tokio::time::timeout(READY, metrics.page()).await {
        Ok(Ok(page)) => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], page).into_response(),
        Ok(Err(error)) => {
            tracing::warn!(%error, "no metrics: storage failed");
            (StatusCode::SERVICE_UNAVAILABLE, "the storage fails; the coordinator's log says why\n").into_response()
        }
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the storage does not answer within 2 s\n").into_response(),
    }
}

async fn ready(State((engine, stop)): State<(Engine, CancellationToken)>) -> (StatusCode, &'static str) {
    if stop.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the coordinator is stopping\n");
    }
    match tokio::time::timeout(READY, engine.check_storage()).await {
        Ok(Ok(())) => (StatusCode::OK, "ready\n"),
        Ok(Err(error)) => {
            // The database's own words stay on this side.
            tracing::warn!(%error, "not ready: storage failed");
            (StatusCode::SERVICE_UNAVAILABLE, "the storage fails; the coordinator's log says why\n")
        }
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the storage does not answer within 2 s\n"),
    }
}
