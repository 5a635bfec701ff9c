//! One measurement: check, wait for the devices, run, collect.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use fleetune_core::measurement::AttemptDetail;
use fleetune_core::runner::{Event, Settings};
use fleetune_core::study::Benchmark;
use fleetune_core::{FailKind, Params, Workload};
use tokio::sync::{mpsc, watch};

use super::leases::{Lease, set};
use super::session::Session;
use super::{AgentEvent, Unusable};
use crate::client::{Job, Verdict};
use crate::executor::{Bench, EVENT_QUEUE, Ended, Failure, Stop};
use crate::lock::devices_of;
use crate::measure::{Collector, Observation, Step, load_now};
use crate::models::{Found, ModelError};
use crate::safety::Guard;

/// The tokens of every trial are the same, so that nothing but its settings differs.
const TOKEN_SEED: u64 = 1;

/// What is to be measured.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Names the log.
    pub(super) label: String,
    pub(super) model: PathBuf,
    /// Layers there are to offload, the output layer counted.
    pub(super) layers: u32,
    /// Fixed settings and parameters.
    pub(super) requested: Params,
    pub(super) settings: Settings,
    pub(super) workload: Workload,
}

/// Why there is no plan.
#[derive(Debug)]
pub(super) enum NoPlan {
    /// It would not work with any file or on any day.
    Failed(Failure),
    /// Not the parameters' doing.
    Unusable(Unusable),
}

impl From<ModelError> for NoPlan {
    fn from(error: ModelError) -> Self {
        Self::Unusable(error.into())
    }
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) ended: Ended,
    /// The objective of every repetition that counts.
    pub(super) values: Vec<f64>,
    pub(super) seconds: f64,
    pub(super) detail: AttemptDetail,
}

impl Measured {
    fn not_started(ended: Ended, detail: AttemptDetail) -> Self {
        Self { ended, values: Vec::new(), seconds: 0.0, detail }
    }
}

/// Hears every counted repetition, and may say that it was enough.
#[async_trait]
pub(super) trait Reporter: Send {
    async fn report(&mut self, step: Step) -> Verdict;
}

/// Nobody wants to know before the end.
pub(super) struct Silent;

#[async_trait]
impl Reporter for Silent {
    async fn report(&mut self, _step: Step) -> Verdict {
        Verdict::Continue
    }
}

impl Session {
    /// Everything that must hold before a child is started; the plan, or why there is none.
    pub(super) async fn plan(
        &self,
        job: &Job,
        params: &Params,
        workload: Workload,
        label: String,
    ) -> Result<Plan, NoPlan> {
        let benchmark = &job.benchmark;
        let failed = |kind, message| NoPlan::Failed(Failure::new(kind, message));
        let mut requested = benchmark.fixed.clone();
        requested.extend(params.clone());
        let settings =
            Settings::from_params(&requested).map_err(|error| failed(FailKind::InvalidConfig, error.to_string()))?;
        let pinned = job.pin.as_ref().map(|pin| pin.model_hash.as_str()).filter(|hash| !hash.is_empty());
        let Found { path: model, file } = self.models.find(&job.study, &benchmark.model, pinned).await?;
        let layers = file.metadata.layers_to_offload();
        let guard = self.guard(job, layers, &file.hash.0);
        if let Some(objection) = guard.objection(&requested) {
            return Err(failed(FailKind::UnsafeRegion, format!("not started: {objection}")));
        }
        Ok(Plan { label, model, layers, requested, settings, workload })
    }

    /// What is asked before anything of `job` is run. `layers`: those of the model, the output layer counted.
    pub(super) fn guard<'a>(&'a self, job: &'a Job, layers: u32, model_hash: &'a str) -> Guard<'a> {
        let (rules, inventory) = (&self.rules, &self.inventory);
        Guard { rules, inventory, layers, benchmark: &job.benchmark, regions: &job.regions, model_hash }
    }

    /// A record of what was asked, before anything was observed.
    pub(super) fn blank_detail(&self, benchmark: &Benchmark, params: &Params) -> AttemptDetail {
        let mut requested = benchmark.fixed.clone();
        requested.extend(params.clone());
        AttemptDetail {
            requested,
            engine: self.engine(),
            device_class: self.device_class(),
            stopped_by: crate::executor::Rung::None.to_string(),
            ..AttemptDetail::default()
        }
    }

    /// Carries out `plan` in a fresh process. Fails when none could be started.
    pub(super) async fn measure(
        &self,
        lease: &Lease,
        benchmark: &Benchmark,
        plan: &Plan,
        reporter: &mut dyn Reporter,
    ) -> Result<Measured, Unusable> {
        let mut detail = self.blank_detail(benchmark, &plan.requested);
        let devices = devices_of(&plan.settings, &self.inventory.gpus, plan.layers);
        let waiting = |device: &crate::lock::Device| {
            tracing::info!(%device, "waiting for a device");
            self.tell(AgentEvent::WaitingForDevice { device: device.clone() });
        };
        let held = tokio::select! {
            biased;
            stop = lease.stopped() => return Ok(Measured::not_started(Ended::Stopped(stop), detail)),
            held = self.locks.acquire(&devices, waiting) => held?,
        };
        detail.waited_s = held.waited.as_secs_f64();
        self.tell(AgentEvent::DeviceReady { waited: held.waited });

        let before = self.telemetry().await;
        let bench = Bench {
            model: plan.model.clone(),
            settings: plan.settings.clone(),
            workload: plan.workload,
            seed: TOKEN_SEED,
            time_limit: Duration::try_from_secs_f64(benchmark.timeout_s).unwrap_or(Duration::MAX),
            label: plan.label.clone(),
        };
        let (events, received) = mpsc::channel(EVENT_QUEUE);
        let run_stop = watch::Sender::new(None);
        let run = self.executor.run(&bench, events, run_stop.subscribe());
        let heard = self.hear(received, &run_stop, Collector::new(plan.workload, benchmark.objective), reporter);
        // A stop must reach the child even while a report waits for its answer.
        let forward = async {
            set(&run_stop, lease.stopped().await);
            std::future::pending::<std::convert::Infallible>().await
        };
        let (run, heard) = tokio::select! {
            both = async { tokio::join!(run, heard) } => both,
            never = forward => match never {},
        };
        drop(held);
        let run = run?;

        let after = self.telemetry().await;
        detail.telemetry = serde_json::json!({ "before": before, "after": after, "log": run.log });
        detail.effective = heard.collector.effective();
        detail.stderr_tail = run.stderr_tail;
        detail.stopped_by = run.stopped_by.to_string();
        let counted = heard.collector.counted();
        let complete = heard.collector.is_complete();
        let ended = match (lease.is_stopped(), heard.pruned, heard.failure, run.ended) {
            (Some(stop), ..) => Ended::Stopped(stop),
            (None, true, ..) => Ended::Stopped(Stop::Pruned),
            (None, false, Some(failure), _) => Ended::Failed(failure),
            (None, false, None, Ended::Done) if !complete => Ended::Failed(Failure::new(
                FailKind::Error,
                format!(
                    "the runner was done after {counted} of {} repetitions; is it of this version?",
                    plan.workload.repetitions
                ),
            )),
            (None, false, None, ended) => ended,
        };
        detail.samples = heard.collector.into_samples();
        let values = benchmark.objective.of_repetitions(&detail.samples, &plan.workload);
        Ok(Measured { ended, values, seconds: run.wall.as_secs_f64(), detail })
    }

    /// Collects events until there are no more. Nothing is collected after a verdict to stop.
    async fn hear(
        &self,
        mut events: mpsc::Receiver<Event>,
        run_stop: &watch::Sender<Option<Stop>>,
        collector: Collector,
        reporter: &mut dyn Reporter,
    ) -> Heard {
        let mut heard = Heard { collector, pruned: false, failure: None };
        while let Some(event) = events.recv().await {
            if heard.pruned || heard.failure.is_some() {
                continue;
            }
            match &event {
                Event::Loading { progress } => self.tell(AgentEvent::Loading { progress: *progress }),
                Event::Loaded { load_s, .. } => self.tell(AgentEvent::Loaded { load_s: *load_s }),
                _ => {}
            }
            let of = heard.collector.repetitions();
            match heard.collector.observe(&event) {
                Ok(Observation::Nothing) => {}
                Ok(Observation::Warmup(repetition)) => {
                    self.tell(AgentEvent::Repetition { repetition, step: None, of });
                }
                Ok(Observation::Counted(repetition, step)) => {
                    self.tell(AgentEvent::Repetition { repetition, step: Some((step.number, step.value)), of });
                    if reporter.report(step).await == Verdict::Stop {
                        heard.pruned = true;
                        set(run_stop, Stop::Pruned);
                    }
                }
                Err(failure) => {
                    heard.failure = Some(failure);
                    // Any reason ends the child; the failure is what is told.
                    set(run_stop, Stop::Cancelled);
                }
            }
        }
        heard
    }

    /// How busy the machine is at this moment.
    async fn telemetry(&self) -> serde_json::Value {
        let load = load_now();
        let gpus = if self.inventory.gpus.is_empty() {
            Vec::new()
        } else {
            let probe = self.probe.clone();
            tokio::task::spawn_blocking(move || probe.gpu_readings()).await.unwrap_or_default()
        };
        serde_json::json!({ "load": load, "gpus": gpus })
    }
}

struct Heard {
    collector: Collector,
    pruned: bool,
    failure: Option<Failure>,
}
