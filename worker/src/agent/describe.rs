//! A describe job: what the model is, what this machine would run it with, and what the study's values hold for.

use fleetune_core::study::Pin;
use fleetune_core::{FailKind, Params};
use fleetune_model::tunables;

use super::JobEnd;
use super::leases::Lease;
use super::session::Session;
use super::trial::after;
use crate::client::{Description, Job, Outcome};
use crate::executor::Failure;

impl Session {
    /// Describes the model and ends the job.
    pub(super) async fn describe(&self, lease: &Lease, job: &Job) -> JobEnd {
        let description = tokio::select! {
            biased;
            stop = lease.stopped() => return self.abandon(lease, stop).await,
            description = self.description(job) => description,
        };
        let detail = self.blank_detail(&job.benchmark, &Params::new());
        let (outcome, end) = match description {
            Ok(description) => (Outcome::Described(Box::new(description)), JobEnd::Described),
            Err(failure) => (Outcome::Failed(failure.clone()), JobEnd::Failed(failure)),
        };
        after(self.deliver(lease, &outcome, &detail).await, end)
    }

    async fn description(&self, job: &Job) -> Result<Description, Failure> {
        let benchmark = &job.benchmark;
        let error = |message: String| Failure::new(FailKind::Error, message);
        if benchmark.executor != self.executor.name() {
            return Err(error(format!(
                "executor `{}` is not on this worker, which has `{}`",
                benchmark.executor,
                self.executor.name()
            )));
        }
        let path = self.models.resolve(&benchmark.model).map_err(|problem| error(problem.to_string()))?;
        let file = self.models.inspect(&path).await.map_err(|problem| error(problem.to_string()))?;
        let engine_view = self.executor.describe(&path).await.map_err(|problem| match problem {
            crate::executor::ExecutorError::NoAnswer { failure, .. } => failure,
            other => error(other.to_string()),
        })?;
        let layers = file.metadata.layers_to_offload();
        let mut defaults = tunables::default_space(&file.metadata, &self.inventory, &benchmark.workload).defaults;
        defaults.extend(benchmark.fixed.clone());
        let nearest = self.rules.nearest_safe(&self.inventory, &defaults, layers, benchmark.allow_wsl_unsafe);
        let (defaults, baseline_note) = nearest.unwrap_or_else(|| {
            let note =
                "the default is unsafe on this machine and no safe configuration is near to it; it will be skipped";
            (defaults, Some(note.to_owned()))
        });
        let model = serde_json::to_value(&file.metadata).map_err(|problem| error(problem.to_string()))?;
        Ok(Description {
            model,
            inventory: self.inventory.clone(),
            pin: Pin {
                model_hash: file.hash.0.clone(),
                executor: self.executor.name().to_owned(),
                engine: self.engine(),
                device_class: self.device_class(),
            },
            defaults,
            baseline_note,
            engine_fit: engine_view.fit.map(|fit| fit.to_params()),
        })
    }
}
