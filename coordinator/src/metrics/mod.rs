//! What a coordinator counts and measures of itself, as Prometheus reads it.
//!
//! Names follow Prometheus' conventions: base units, `_total` for what only grows. What is counted as it happens is in
//! [`Metrics`]; what is looked up when somebody reads the page is in `scrape`.

mod machines;
mod process;
mod scrape;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::scheduler::{Engine, EngineError};

/// The content type of the page.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A call by name and outcome.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    service: &'static str,
    method: &'static str,
    code: &'static str,
}

/// A call by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    service: &'static str,
    method: &'static str,
}

/// Counters of a coordinator. Cloning shares them.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    calls: Family<Outcome, Counter>,
    seconds: Family<Call, Histogram, fn() -> Histogram>,
    under_way: Gauge,
    connections: Gauge,
    scrape: Arc<scrape::Scrape>,
}

impl Metrics {
    /// All zero.
    pub fn new(engine: &Engine) -> Self {
        let mut registry = Registry::with_prefix("fleetune");
        let calls = Family::default();
        registry.register("rpc_requests", "Calls that were answered, by gRPC code", calls.clone());
        // 0.5 ms to 16 s.
        let seconds = Family::new_with_constructor(
            (|| Histogram::new(exponential_buckets(0.0005, 2.0, 16))) as fn() -> Histogram,
        );
        let help = "Time from a call to its answer; of streams to their beginning; long polls wait as long as they are asked to";
        registry.register_with_unit("rpc_duration", help, Unit::Seconds, seconds.clone());
        let under_way = Gauge::default();
        registry.register("rpc_in_flight", "Calls that are not answered yet", under_way.clone());
        let connections = Gauge::default();
        registry.register("connections", "Open connections", connections.clone());
        engine.storage_statistics().register(&mut registry);
        let scrape = Arc::new(scrape::Scrape::new(engine.clone()));
        Self { registry: Arc::new(registry), calls, seconds, under_way, connections, scrape }
    }

    /// Counts a call while it is served.
    pub fn begin(&self) -> UnderWay {
        self.under_way.inc();
        UnderWay(self.under_way.clone())
    }

    /// Open connections, to be kept up to date by whoever accepts them.
    pub fn connections(&self) -> &Gauge {
        &self.connections
    }

    /// Counts a call that was answered with `code`.
    pub fn answered(&self, service: &'static str, method: &'static str, code: tonic::Code, took: Duration) {
        self.seconds.get_or_create(&Call { service, method }).observe(took.as_secs_f64());
        self.calls.get_or_create(&Outcome { service, method, code: code_name(code) }).inc();
    }

    /// The page.
    pub async fn page(&self) -> Result<String, EngineError> {
        let looked_up = self.scrape.look().await?;
        let mut page = String::new();
        // Writing to a string does not fail.
        let written = encode_registry(&mut page, &self.registry)
            .and_then(|()| encode_registry(&mut page, &looked_up))
            .and_then(|()| encode_eof(&mut page));
        written.map_err(|error| EngineError::invalid("metrics", error))?;
        Ok(page)
    }
}

/// A call under way; it ends with this.
pub struct UnderWay(Gauge);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Gauges of counts and of measures.
type Float = Gauge<f64, AtomicU64>;

/// gRPC's own name of a code.
fn code_name(code: tonic::Code) -> &'static str {
    match code {
        tonic::Code::Ok => "OK",
        tonic::Code::Cancelled => "CANCELLED",
        tonic::Code::Unknown => "UNKNOWN",
        tonic::Code::InvalidArgument => "INVALID_ARGUMENT",
        tonic::Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        tonic::Code::NotFound => "NOT_FOUND",
        tonic::Code::AlreadyExists => "ALREADY_EXISTS",
        tonic::Code::PermissionDenied => "PERMISSION_DENIED",
        tonic::Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        tonic::Code::FailedPrecondition => "FAILED_PRECONDITION",
        tonic::Code::Aborted => "ABORTED",
        tonic::Code::OutOfRange => "OUT_OF_RANGE",
        tonic::Code::Unimplemented => "UNIMPLEMENTED",
        tonic::Code::Internal => "INTERNAL",
        tonic::Code::Unavailable => "UNAVAILABLE",
        tonic::Code::DataLoss => "DATA_LOSS",
        tonic::Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
