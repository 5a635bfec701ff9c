//! How the database is doing: commits, how many mutations share one, how long they take.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Counters of one store. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Statistics {
    batch: Histogram,
    seconds: Histogram,
    failed: Counter,
    waiting: Gauge,
}

impl Statistics {
    pub(super) fn new() -> Self {
        Self {
            batch: Histogram::new(exponential_buckets(1.0, 2.0, 7)),
            // 0.25 ms to 8 s.
            seconds: Histogram::new(exponential_buckets(0.00025, 2.0, 16)),
            failed: Counter::default(),
            waiting: Gauge::default(),
        }
    }

    /// Names them.
    pub fn register(&self, registry: &mut Registry) {
        let batch = "Mutations that shared a transaction";
        registry.register("storage_commit_batch_size", batch, self.batch.clone());
        let seconds = "Time of a transaction that writes, from its beginning to its commit";
        registry.register_with_unit("storage_commit_duration", seconds, Unit::Seconds, self.seconds.clone());
        let failed = "Transactions that the database did not carry out at the first try";
        registry.register("storage_commit_failures", failed, self.failed.clone());
        let waiting = "Mutations that wait for their commit";
        registry.register("storage_queue_length", waiting, self.waiting.clone());
    }

    pub(super) fn committed(&self, mutations: usize, took: Duration) {
        self.batch.observe(mutations as f64);
        self.seconds.observe(took.as_secs_f64());
    }

    pub(super) fn failed(&self) {
        self.failed.inc();
    }
}

/// A mutation that waits for its answer; it ends with this.
pub(super) struct Waiting(Gauge);

impl Waiting {
    pub fn new(statistics: &Statistics) -> Self {
        statistics.waiting.inc();
        Self(statistics.waiting.clone())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.dec();
    }
}
