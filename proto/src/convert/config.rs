//! The configuration of a study.

use fleetune_core::schedule::{Per, Schedule};
use fleetune_core::study::{Benchmark, Budget, EarlierStudy, Pin, StudyConfig};
use fleetune_core::workload::Workload;

use super::pruner::{pruner, pruner_to_wire};
use super::sampler::{sampler, sampler_to_wire};
use super::{
    Invalid, direction, direction_to_wire, duration, duration_to_wire, objective, objective_to_wire, params,
    params_to_wire, space, space_to_wire,
};
use crate::v1;

/// Most objectives a study may have.
const MAX_OBJECTIVES: usize = 16;

/// Checks a study's configuration.
pub fn config(wire: v1::StudyConfig) -> Result<StudyConfig, Invalid> {
    let directions = wire.directions.into_iter().map(direction).collect::<Result<Vec<_>, _>>()?;
    if directions.is_empty() || directions.len() > MAX_OBJECTIVES {
        return Err(Invalid::new("config.directions", format!("a study has 1 to {MAX_OBJECTIVES} objectives")));
    }
    Ok(StudyConfig {
        directions,
        space: wire.space.map(space).transpose()?,
        sampler: sampler(wire.sampler)?,
        pruner: pruner(wire.pruner)?,
        budget: budget(wire.budget.unwrap_or_default())?,
        planned_trials: None,
        seed: wire.seed,
        benchmark: wire.benchmark.map(benchmark).transpose()?,
        earlier: wire.warm_start.into_iter().map(EarlierStudy::named).collect(),
    })
}

/// Converts to the wire.
pub fn config_to_wire(config: &StudyConfig) -> v1::StudyConfig {
    v1::StudyConfig {
        directions: config.directions.iter().map(|&d| direction_to_wire(d).into()).collect(),
        space: config.space.as_ref().map(space_to_wire),
        sampler: Some(sampler_to_wire(&config.sampler)),
        pruner: Some(pruner_to_wire(&config.pruner)),
        budget: Some(budget_to_wire(&config.budget)),
        seed: config.seed,
        benchmark: config.benchmark.as_ref().map(benchmark_to_wire),
        warm_start: config.earlier.iter().map(|earlier| earlier.name.clone()).collect(),
    }
}

/// Checks a budget.
pub fn budget(wire: v1::Budget) -> Result<Budget, Invalid> {
    if wire.trials == Some(0) {
        return Err(Invalid::new("budget.trials", "must be at least 1"));
    }
    let seconds = wire.time.map(|time| duration("budget.time", time)).transpose()?.map(|time| time.as_secs_f64());
    if seconds == Some(0.0) {
        return Err(Invalid::new("budget.time", "must be above 0"));
    }
    if wire.target.is_some_and(|target| !target.is_finite()) {
        return Err(Invalid::new("budget.target", "must be a finite number"));
    }
    Ok(Budget { trials: wire.trials, seconds, target: wire.target })
}

/// Converts to the wire.
pub fn budget_to_wire(budget: &Budget) -> v1::Budget {
    v1::Budget { trials: budget.trials, time: budget.seconds.map(duration_to_wire), target: budget.target }
}

/// Converts a schedule; whether it means something is for the scheduler to say.
pub fn schedule(wire: v1::Schedule) -> Schedule {
    let selector = Some(wire.selector).filter(|selector| !selector.is_empty());
    Schedule { priority: wire.priority, max_parallel: wire.max_parallel, selector }
}

/// Converts to the wire.
pub fn schedule_to_wire(schedule: &Schedule) -> v1::Schedule {
    v1::Schedule {
        priority: schedule.priority,
        max_parallel: schedule.max_parallel,
        selector: schedule.selector.clone().unwrap_or_default(),
    }
}

/// What tells workers apart; nothing for an empty text.
pub fn per(wire: &str) -> Result<Option<Per>, Invalid> {
    let wrong = || Invalid::new("per", format!("is `device` or `label:NAME`, not `{wire}`"));
    if wire.is_empty() { Ok(None) } else { Per::from_name(wire).map(Some).ok_or_else(wrong) }
}

/// Most tokens of a prompt or an answer, and most repetitions.
const MAX_TOKENS: u32 = 10_000_000;
const MAX_REPETITIONS: u32 = 10_000;

/// Checks what workers are to run.
pub fn benchmark(wire: v1::Benchmark) -> Result<Benchmark, Invalid> {
    if wire.model.is_empty() {
        return Err(Invalid::missing("benchmark.model"));
    }
    let workload = wire.workload.ok_or_else(|| Invalid::missing("benchmark.workload"))?;
    for (field, count, most) in [
        ("benchmark.workload.prompt", workload.prompt, MAX_TOKENS),
        ("benchmark.workload.gen", workload.r#gen, MAX_TOKENS),
        ("benchmark.workload.repetitions", workload.repetitions, MAX_REPETITIONS),
    ] {
        if count == 0 || count > most {
            return Err(Invalid::new(field, format!("{count} is outside 1 to {most}")));
        }
    }
    if workload.warmup > MAX_REPETITIONS {
        return Err(Invalid::new("benchmark.workload.warmup", format!("is above {MAX_REPETITIONS}")));
    }
    let timeout = wire.timeout.ok_or_else(|| Invalid::missing("benchmark.timeout"))?;
    let timeout_s = duration("benchmark.timeout", timeout)?.as_secs_f64();
    if timeout_s == 0.0 {
        return Err(Invalid::new("benchmark.timeout", "must be above 0"));
    }
    Ok(Benchmark {
        model: wire.model,
        executor: wire.executor,
        workload: Workload {
            prompt: workload.prompt,
            gen_tokens: workload.r#gen,
            repetitions: workload.repetitions,
            warmup: workload.warmup,
        },
        objective: objective(wire.objective)?,
        fixed: params(wire.fixed)?,
        timeout_s,
        allow_wsl_unsafe: wire.allow_wsl_unsafe,
        confirm: wire.confirm,
        prior: !wire.no_prior,
        ignore_regions: wire.ignore_regions,
    })
}

/// Converts to the wire.
pub fn benchmark_to_wire(benchmark: &Benchmark) -> v1::Benchmark {
    let workload = benchmark.workload;
    v1::Benchmark {
        model: benchmark.model.clone(),
        executor: benchmark.executor.clone(),
        workload: Some(v1::Workload {
            prompt: workload.prompt,
            r#gen: workload.gen_tokens,
            repetitions: workload.repetitions,
            warmup: workload.warmup,
        }),
        objective: objective_to_wire(benchmark.objective).into(),
        fixed: params_to_wire(&benchmark.fixed),
        timeout: Some(duration_to_wire(benchmark.timeout_s)),
        allow_wsl_unsafe: benchmark.allow_wsl_unsafe,
        confirm: benchmark.confirm,
        no_prior: !benchmark.prior,
        ignore_regions: benchmark.ignore_regions,
    }
}

/// Converts a pin.
pub fn pin(wire: v1::Pin) -> Pin {
    Pin { model_hash: wire.model_hash, executor: wire.executor, engine: wire.engine, device_class: wire.device_class }
}

/// Converts to the wire.
pub fn pin_to_wire(pin: &Pin) -> v1::Pin {
    v1::Pin {
        model_hash: pin.model_hash.clone(),
        executor: pin.executor.clone(),
        engine: pin.engine.clone(),
        device_class: pin.device_class.clone(),
    }
}
