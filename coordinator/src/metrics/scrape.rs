//! What is looked up when somebody reads the page: the fleet and its studies as they stand.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleetune_core::{StudyState, WorkerId};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use tokio::sync::Mutex;

use super::machines::Machines;
use super::{Float, process};
use crate::scheduler::{Engine, EngineError};

/// How long what was looked up is good for: several may read the page.
const FRESH: Duration = Duration::from_secs(5);
/// Workers and studies looked at.
const MAX_LISTED: u32 = 10_000;
/// Studies that are told of one by one.
const MAX_TOLD: usize = 200;

/// The newest look, and how to look again.
pub(super) struct Scrape {
    engine: Engine,
    last: Mutex<Option<(Instant, Arc<Registry>)>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StudyAndState {
    study: String,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Study {
    study: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Worker {
    worker: String,
}

impl Scrape {
    pub fn new(engine: Engine) -> Self {
        Self { engine, last: Mutex::new(None) }
    }

    /// One look for all who ask within a few seconds.
    pub async fn look(&self) -> Result<Arc<Registry>, EngineError> {
        let mut last = self.last.lock().await;
        if let Some((at, registry)) = &*last
            && at.elapsed() < FRESH
        {
            return Ok(Arc::clone(registry));
        }
        let mut registry = Registry::with_prefix("fleetune");
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The program", build);
        self.studies(&mut registry).await?;
        self.workers(&mut registry).await?;
        process::register(&mut registry);
        let registry = Arc::new(registry);
        *last = Some((Instant::now(), Arc::clone(&registry)));
        Ok(registry)
    }

    async fn studies(&self, registry: &mut Registry) -> Result<(), EngineError> {
        let (by_state, trials, spent) = (
            Family::<State, Gauge>::default(),
            Family::<StudyAndState, Gauge>::default(),
            Family::<Study, Float>::default(),
        );
        registry.register("studies", "Studies by state", by_state.clone());
        registry.register("study_trials", "Trials of studies that have not ended, by state", trials.clone());
        let help = "Time in trials of studies that have not ended";
        registry.register_with_unit("study_spent", help, Unit::Seconds, spent.clone());
        let records = self.engine.study_records(MAX_LISTED).await?;
        let mut counted = BTreeMap::<StudyState, i64>::new();
        for record in &records {
            *counted.entry(record.state).or_default() += 1;
        }
        for (state, count) in counted {
            by_state.get_or_create(&State { state: state.as_str().to_owned() }).set(count);
        }
        for record in records.iter().filter(|record| !record.state.is_ended()).take(MAX_TOLD) {
            // One that was deleted meanwhile has nothing to tell.
            let Ok(summary) = self.engine.study(&record.name).await else { continue };
            let counts = &summary.counts;
            let states = [
                ("waiting", counts.waiting),
                ("running", counts.running),
                ("complete", counts.complete),
                ("pruned", counts.pruned),
                ("fail", counts.fail),
            ];
            for (state, count) in states {
                let labels = StudyAndState { study: record.name.clone(), state };
                trials.get_or_create(&labels).set(count as i64);
            }
            spent.get_or_create(&Study { study: record.name.clone() }).set(summary.spent_s);
        }
        Ok(())
    }

    async fn workers(&self, registry: &mut Registry) -> Result<(), EngineError> {
        let (by_state, gpus, vram) =
            (Family::<State, Gauge>::default(), Family::<Worker, Gauge>::default(), Family::<Worker, Float>::default());
        registry.register("workers", "Workers: alive, draining (and alive), silent", by_state.clone());
        registry.register("worker_gpus", "GPUs of workers that are alive", gpus.clone());
        let help = "Memory of the GPUs of workers that are alive";
        registry.register_with_unit("worker_gpu_memory", help, Unit::Bytes, vram.clone());
        let machines = Machines::register(registry);
        let ttl = self.engine.options().lease_ttl;
        let now = self.engine.now();
        let mut counted = BTreeMap::from([("alive", 0), ("draining", 0), ("silent", 0)]);
        for worker in self.engine.workers(&WorkerId(String::new()), MAX_LISTED).await? {
            let alive = now.since(worker.last_seen) <= ttl;
            let state = match (alive, worker.draining) {
                (true, false) => "alive",
                (true, true) => "draining",
                (false, _) => "silent",
            };
            *counted.entry(state).or_default() += 1;
            if alive {
                let labels = Worker { worker: worker.name.clone() };
                let mib: u64 = worker.inventory.gpus.iter().map(|gpu| gpu.vram_mib).sum();
                gpus.get_or_create(&labels).set(worker.inventory.gpus.len() as i64);
                vram.get_or_create(&labels).set(mib as f64 * 1024.0 * 1024.0);
                if let Some(gauges) = self.engine.gauges(&worker.id) {
                    machines.set(&worker.name, &gauges);
                }
            }
        }
        for (state, count) in counted {
            by_state.get_or_create(&State { state: state.to_owned() }).set(count);
        }
        Ok(())
    }
}
