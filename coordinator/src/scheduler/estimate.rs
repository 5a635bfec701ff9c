//! What a study's description tells about configurations before they are run.

use fleetune_core::study::Benchmark;
use fleetune_core::{Inventory, Objective, Params};
use fleetune_model::ModelMetadata;
use fleetune_model::estimate::{DeviceMemory, Estimation, Estimator};
use fleetune_sampler::Estimate;

use crate::storage::StudyRecord;

/// Estimates of one study's configurations: a function of its description and nothing else.
#[derive(Debug)]
pub(super) struct StudyEstimate {
    estimator: Estimator,
    benchmark: Benchmark,
}

impl StudyEstimate {
    /// For a study whose model was described, unless it wants none.
    pub fn of(record: &StudyRecord) -> Option<Self> {
        let benchmark = record.config.benchmark.clone().filter(|benchmark| benchmark.prior)?;
        let description = record.description.as_ref()?;
        let model: ModelMetadata = serde_json::from_value(description.get("model")?.clone()).ok()?;
        let inventory: Inventory = serde_json::from_value(description.get("inventory")?.clone()).ok()?;
        Some(Self::new(&model, &inventory, benchmark))
    }

    fn new(model: &ModelMetadata, inventory: &Inventory, benchmark: Benchmark) -> Self {
        Self { estimator: Estimator::new(model, inventory, &benchmark.workload), benchmark }
    }

    fn estimation(&self, params: &Params) -> Estimation {
        let mut all = self.benchmark.fixed.clone();
        all.extend(params.clone());
        self.estimator.estimate(&all)
    }
}

impl Estimate for StudyEstimate {
    fn memory_ratios(&self, params: &Params) -> Vec<f64> {
        // A device whose capacity is unknown never runs out of it; the order stays the same.
        self.estimation(params).memory.iter().map(|device: &DeviceMemory| device.ratio().unwrap_or(0.0)).collect()
    }

    fn objective(&self, params: &Params) -> Option<f64> {
        let estimation = self.estimation(params);
        let (prompt, generated) =
            (f64::from(self.benchmark.workload.prompt), f64::from(self.benchmark.workload.gen_tokens));
        let prefill_s = || Some(prompt / estimation.prefill_tok_s?);
        match self.benchmark.objective {
            Objective::Decode => estimation.decode_tok_s,
            Objective::Prefill => estimation.prefill_tok_s,
            Objective::Ttft => prefill_s(),
            Objective::Balanced => Some(prefill_s()? + generated / estimation.decode_tok_s?),
        }
        .filter(|value| value.is_finite() && *value > 0.0)
    }

    fn effective(&self, params: &Params) -> Option<Params> {
        let effective = self.estimation(params).effective;
        let seen = |name: &String| effective.get(name).or_else(|| params.get(name)).cloned();
        Some(params.keys().filter_map(|name| Some((name.clone(), seen(name)?))).collect())
    }
}

#[cfg(test)]
mod tests {
    use fleetune_core::{Value, Workload};
    use fleetune_model::{SynthQuant, SynthSize, SynthSpec};

    use super::*;

    fn estimate(objective: Objective) -> StudyEstimate {
        let mut file = std::io::Cursor::new(Vec::new());
        SynthSpec { size: SynthSize::Tiny, quant: SynthQuant::Q8_0, seed: 0 }.write(&mut file).unwrap();
        let model = fleetune_model::inspect(&mut file).unwrap().metadata;
        let mut inventory = Inventory { ram_mib: 64, ..Inventory::default() };
        (inventory.cpu.physical_cores, inventory.cpu.logical_cpus) = (4, 4);
        let benchmark = Benchmark {
            model: "m".to_owned(),
            executor: "llama-cpp".to_owned(),
            workload: Workload::default(),
            objective,
            fixed: Params::from([("n_gpu_layers".to_owned(), Value::Int(0))]),
            timeout_s: 300.0,
            allow_wsl_unsafe: false,
            confirm: true,
            prior: true,
            ignore_regions: false,
        };
        StudyEstimate::new(&model, &inventory, benchmark)
    }

    fn params(settings: &[(&str, i64)]) -> Params {
        settings.iter().map(|&(name, value)| (name.to_owned(), Value::Int(value))).collect()
    }

    #[test]
    fn more_context_needs_more_memory() {
        let estimate = estimate(Objective::Decode);
        let ratio = |context| estimate.memory_ratio(&params(&[("n_ctx", context)])).unwrap();
        assert!(ratio(1_024) > 0.0 && ratio(65_536) > ratio(1_024), "{} {}", ratio(1_024), ratio(65_536));
    }

    #[test]
    fn every_objective_has_an_estimate_and_speeds_and_times_are_opposites() {
        let at = |objective, threads| estimate(objective).objective(&params(&[("n_threads", threads)])).unwrap();
        assert!(at(Objective::Decode, 4) >= at(Objective::Decode, 1));
        assert!(at(Objective::Balanced, 4) <= at(Objective::Balanced, 1));
        for objective in Objective::ALL {
            assert!(at(objective, 2) > 0.0, "{objective}");
        }
    }

    #[test]
    fn settings_that_the_engine_takes_alike_are_one() {
        let estimate = estimate(Objective::Decode);
        let effective = |n_ubatch| estimate.effective(&params(&[("n_batch", 256), ("n_ubatch", n_ubatch)])).unwrap();
        assert_eq!(effective(512), effective(256));
        assert_ne!(effective(128), effective(256));
        assert_eq!(effective(128).keys().collect::<Vec<_>>(), ["n_batch", "n_ubatch"]);
    }
}
