//! The gate between wire and domain. From the wire every conversion checks; to the wire none can fail.
//!
//! Functions are named after what they give: `value(wire)` gives the domain's, `value_to_wire(domain)` the wire's.

mod config;
mod detail;
mod enums;
mod gauges;
mod model;
mod pruner;
mod region;
mod sampler;
mod space;
mod value;

pub use config::{
    benchmark, benchmark_to_wire, budget, budget_to_wire, config, config_to_wire, per, pin, pin_to_wire, schedule,
    schedule_to_wire,
};
pub use detail::{detail, detail_to_wire};
pub use enums::{
    direction, direction_to_wire, fail_kind, fail_kind_to_wire, objective, objective_to_wire, role, role_to_wire,
    study_state, study_state_to_wire, trial_state, trial_state_to_wire,
};
pub use gauges::{gauges, gauges_to_wire};
pub use model::{model, model_to_wire};
pub use pruner::pruner;
pub use region::{region, region_to_wire};
pub use space::{distribution, distribution_to_wire, space, space_to_wire};
pub use value::{
    duration, duration_to_wire, params, params_to_wire, timestamp, timestamp_to_wire, token, value, value_to_wire,
};

/// A message that means nothing in the domain.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("field `{field}`: {why}")]
pub struct Invalid {
    /// The field, as in the .proto file; dotted when nested.
    pub field: String,
    /// What is wrong with it.
    pub why: String,
    /// What to do, where that is known.
    pub hint: Option<String>,
}

impl Invalid {
    /// The complaint `why` about `field`.
    pub fn new(field: impl Into<String>, why: impl std::fmt::Display) -> Self {
        Self { field: field.into(), why: why.to_string(), hint: None }
    }

    /// A field that must be set and is not.
    pub fn missing(field: impl Into<String>) -> Self {
        Self::new(field, "must be set")
    }
}

#[cfg(test)]
mod tests {
    use fleetune_core::study::{Benchmark, Budget, EarlierStudy, PrunerConfig, SamplerConfig, StudyConfig};
    use fleetune_core::{Direction, Objective, SearchSpace, Value, Workload};

    use super::*;
    use crate::v1;

    const SPACE: &str = r#"
        [parameters.n_batch]
        type = "int"
        low = 64
        high = 2048
        log = true
        default = 512
        [parameters.x]
        type = "float"
        low = 0.1
        high = 0.5
        step = 0.1
        [parameters.mode]
        choices = ["a", 1, 2.5, true]
        [parameters.depth]
        type = "int"
        low = 1
        high = 9
        when = "mode == 'a'"
        [[forbid]]
        if = "n_batch == 64 && mode == 'a'"
        why = "an example"
        [[constraints]]
        name = "ttft"
        expr = "metrics.ttft_ms.p95 - 500.0"
        [[constraints]]
        name = "told"
    "#;

    fn whole() -> StudyConfig {
        StudyConfig {
            directions: vec![Direction::Maximize],
            space: Some(SearchSpace::from_toml(SPACE).unwrap()),
            sampler: SamplerConfig::Grid,
            pruner: PrunerConfig::racing(),
            budget: Budget { trials: Some(3), seconds: Some(1.5), target: Some(-0.0) },
            planned_trials: None,
            seed: u64::MAX,
            benchmark: Some(Benchmark {
                model: "m.gguf".to_owned(),
                executor: "llama-cpp".to_owned(),
                workload: Workload::default(),
                objective: Objective::Decode,
                fixed: [("n_ctx".to_owned(), Value::Int(4096)), ("k".to_owned(), Value::Null)].into(),
                timeout_s: 0.25,
                allow_wsl_unsafe: true,
                confirm: true,
                prior: false,
                ignore_regions: true,
            }),
            earlier: vec![EarlierStudy::named("before".to_owned())],
        }
    }

    #[test]
    fn configuration_survives_the_wire() {
        let there = config_to_wire(&whole());
        assert_eq!(config(there).unwrap(), whole());
    }

    #[test]
    fn what_means_nothing_is_refused_by_field() {
        let refused = |change: &dyn Fn(&mut v1::StudyConfig)| {
            let mut wire = config_to_wire(&whole());
            change(&mut wire);
            config(wire).unwrap_err().to_string()
        };
        let benchmark = |wire: &mut v1::StudyConfig| wire.benchmark.take().unwrap_or_default();
        for (said, field) in [
            (refused(&|wire| wire.directions.clear()), "config.directions"),
            (refused(&|wire| wire.directions = vec![7]), "direction"),
            (
                refused(&|wire| wire.budget = Some(v1::Budget { trials: Some(0), ..v1::Budget::default() })),
                "budget.trials",
            ),
            (
                refused(&|wire| wire.sampler = Some(v1::Sampler { name: "magic".to_owned(), tpe_optuna5: None })),
                "config.sampler.name",
            ),
            (
                refused(&|wire| wire.benchmark = Some(v1::Benchmark { model: String::new(), ..benchmark(wire) })),
                "benchmark.model",
            ),
            (
                refused(&|wire| wire.benchmark = Some(v1::Benchmark { workload: None, ..benchmark(wire) })),
                "benchmark.workload",
            ),
            (
                refused(&|wire| {
                    if let Some(space) = &mut wire.space {
                        space.parameters.push(space.parameters[0].clone());
                    }
                }),
                "given twice",
            ),
        ] {
            assert!(said.contains(field), "{said} does not name {field}");
        }
    }

    #[test]
    fn values_and_details_are_bounded_and_finite() {
        let float = |float| v1::Value { kind: Some(v1::value::Kind::Float(float)) };
        assert!(value(float(f64::NAN)).is_err() && value(v1::Value { kind: None }).is_err());
        let samples = |metric: &str| v1::MetricSamples { metric: metric.to_owned(), values: vec![1.0] };
        let wire = |samples| v1::AttemptDetail { samples, ..v1::AttemptDetail::default() };
        assert!(detail(wire(vec![samples("decode_tok_s")])).is_ok());
        assert!(detail(wire(vec![samples("speed")])).is_err());
        assert!(detail(wire(vec![samples("load_s"), samples("load_s")])).is_err());
    }
}
