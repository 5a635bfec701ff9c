//! A describe job: what the model is, what this machine would run it with, and what the study's values hold for.

use fleetune_core::study::Pin;
use fleetune_core::{FailKind, Params};
use fleetune_model::{SpaceOptions, default_space_with};

use super::leases::Lease;
use super::session::Session;
use super::trial::after;
use super::{JobEnd, Unusable};
use crate::client::{Description, Job, Outcome};
use crate::executor::{ExecutorError, Failure};
use crate::models::ModelError;

impl Session {
    /// Describes the model and ends the job.
    pub(super) async fn describe(&self, lease: &Lease, job: &Job) -> Result<JobEnd, Unusable> {
        let description = tokio::select! {
            biased;
            stop = lease.stopped() => return Ok(self.abandon(lease, stop).await),
            description = self.description(job) => description?,
        };
        let detail = self.blank_detail(&job.benchmark, &Params::new());
        let (outcome, end) = match description {
            Ok(description) => (Outcome::Described(Box::new(description)), JobEnd::Described),
            Err(failure) => (Outcome::Failed(failure.clone()), JobEnd::Failed(failure)),
        };
        Ok(after(self.deliver(lease, &outcome, &detail).await, end))
    }

    /// The description, or why this model has none.
    async fn description(&self, job: &Job) -> Result<Result<Description, Failure>, Unusable> {
        let benchmark = &job.benchmark;
        let error = |message: String| Ok(Err(Failure::new(FailKind::Error, message)));
        if benchmark.executor != self.executor.name() {
            return error(format!(
                "executor `{}` is not on this worker, which has `{}`",
                benchmark.executor,
                self.executor.name()
            ));
        }
        let (path, file) = match self.models.find(&job.study, &benchmark.model, None).await {
            Ok(found) => (found.path, found.file),
            // It would not become a model on another worker.
            Err(problem @ ModelError::Gguf { .. }) => return error(problem.to_string()),
            Err(problem) => return Err(problem.into()),
        };
        let engine_view = match self.executor.describe(&path).await {
            Ok(described) => described,
            Err(ExecutorError::NoAnswer { failure, .. }) => return Ok(Err(failure)),
            Err(unusable) => return Err(unusable.into()),
        };
        let layers = file.metadata.layers_to_offload();
        let settings = self.executor.settings().await?;
        let options = SpaceOptions { settings: settings.clone(), ..SpaceOptions::default() };
        let mut defaults = default_space_with(&file.metadata, &self.inventory, &benchmark.workload, &options).defaults;
        defaults.extend(benchmark.fixed.clone());
        let nearest = self.guard(job, layers, &file.hash.0).nearest_safe(&defaults);
        let (defaults, baseline_note) = nearest.unwrap_or_else(|| {
            let note =
                "the default is unsafe on this machine and no safe configuration is near to it; it will be skipped";
            (defaults, Some(note.to_owned()))
        });
        let model = match serde_json::to_value(&file.metadata) {
            Ok(model) => model,
            Err(problem) => return error(problem.to_string()),
        };
        Ok(Ok(Description {
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
            settings,
        }))
    }
}
