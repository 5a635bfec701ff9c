//! From a described model to a study that can start: space, fixed settings, first trials.

use fleetune_core::runner::Settings;
use fleetune_core::space::SpaceError;
use fleetune_core::study::{Benchmark, EXECUTORS, Pin, StudyConfig};
use fleetune_core::{Distribution, Inventory, Params, SearchSpace};
use fleetune_model::{ModelMetadata, SpaceOptions, default_space_with};

use super::earlier::setting_of;
use super::error::EngineError;
use crate::storage::{NewWaiting, Origin, Prepared, StudyRecord};

/// What a worker found out about a model and its machine.
#[derive(Clone, Debug)]
pub struct Described {
    /// The model.
    pub model: ModelMetadata,
    /// The machine.
    pub inventory: Inventory,
    /// What the study's values will hold for.
    pub pin: Pin,
    /// The machine's defaults for every setting: the baseline.
    pub defaults: Params,
    /// Why the baseline is not the plain default; empty when it is.
    pub baseline_note: String,
    /// The engine's own memory-fit proposal; empty when it offers none.
    pub engine_fit: Params,
    /// The settings that the engine takes; empty means all.
    pub settings: Vec<String>,
}

/// Refuses what could never be run: unknown settings, an executor nobody has, a searched setting that is fixed too.
pub fn check_config(config: &StudyConfig) -> Result<(), EngineError> {
    let Some(benchmark) = &config.benchmark else {
        return match &config.space {
            Some(_) => {
                fleetune_sampler::build(config).map(|_| ()).map_err(|error| EngineError::invalid("sampler", error))
            }
            None => Ok(()),
        };
    };
    if !EXECUTORS.contains(&benchmark.executor.as_str()) {
        return Err(EngineError::invalid(
            "benchmark.executor",
            format!("there is no executor `{}`; there are {}", benchmark.executor, EXECUTORS.join(" and ")),
        ));
    }
    if config.directions != [benchmark.objective.direction()] {
        return Err(EngineError::invalid(
            "directions",
            format!("{} is to be {}d", benchmark.objective, benchmark.objective.direction()),
        ));
    }
    check_settings(&benchmark.fixed)?;
    check_context(benchmark, config.space.as_ref())?;
    if let Some(space) = &config.space {
        for (name, parameter) in space.parameters() {
            for value in probe_values(parameter.distribution()) {
                check_settings(&Params::from([(name.clone(), value)]))?;
            }
            if benchmark.fixed.contains_key(name) {
                return Err(EngineError::Invalid {
                    what: format!("setting `{name}`"),
                    why: "is fixed and searched at the same time".to_owned(),
                    hint: Some(format!("drop it from the search space, or drop `--set {name}=…`")),
                });
            }
        }
        fleetune_sampler::build(config).map_err(|error| EngineError::invalid("sampler", error))?;
    }
    Ok(())
}

/// Refuses a context that holds the workload at no value it can take.
fn check_context(benchmark: &Benchmark, space: Option<&SearchSpace>) -> Result<(), EngineError> {
    let searched = space.and_then(|space| space.parameters().get("n_ctx"));
    let values = match searched {
        Some(parameter) => probe_values(parameter.distribution()),
        None => benchmark.fixed.get("n_ctx").cloned().into_iter().collect(),
    };
    let tokens = |value| if let fleetune_core::Value::Int(tokens) = value { Some(tokens) } else { None };
    let Some(n_ctx) = values.into_iter().filter_map(tokens).max() else {
        return Ok(());
    };
    let (prompt, generated) = (benchmark.workload.prompt, benchmark.workload.gen_tokens);
    let needed = i64::from(prompt) + i64::from(generated);
    if n_ctx >= needed {
        return Ok(());
    }
    Err(EngineError::Invalid {
        what: "settings".to_owned(),
        why: format!("n_ctx={n_ctx} is too small for a prompt of {prompt} and {generated} generated tokens"),
        hint: Some(format!("set n_ctx to at least {needed}")),
    })
}

fn check_settings(params: &Params) -> Result<(), EngineError> {
    Settings::from_params(params).map(|_| ()).map_err(|error| EngineError::Invalid {
        what: "settings".to_owned(),
        why: error.to_string(),
        hint: None,
    })
}

/// Values that show whether a distribution is one of the setting's: its ends, or all choices.
fn probe_values(distribution: &Distribution) -> Vec<fleetune_core::Value> {
    use fleetune_core::Value;
    match distribution {
        Distribution::Int(range) => vec![Value::Int(range.low()), Value::Int(range.high())],
        Distribution::Float(range) => vec![Value::Float(range.low()), Value::Float(range.high())],
        Distribution::Categorical(choices) => choices.as_slice().to_vec(),
    }
}

/// Resolves everything that ends PREPARING.
pub fn prepared(study: &StudyRecord, described: Described) -> Result<Prepared, EngineError> {
    let mut config = study.config.clone();
    let benchmark =
        config.benchmark.as_mut().ok_or_else(|| EngineError::invalid("study", "has no model to describe"))?;
    let given = benchmark.fixed.clone();
    let searched = config.space.iter().flat_map(|space| space.parameters().keys());
    check_taken(&benchmark.executor, &described.settings, given.keys().chain(searched))?;
    let options = SpaceOptions { settings: described.settings.clone(), ..SpaceOptions::default() };
    let machine = default_space_with(&described.model, &described.inventory, &benchmark.workload, &options);
    // Machine defaults first, the worker's (which know the safety rules) over them, what the person fixed over all.
    let mut defaults = machine.defaults.clone();
    defaults.extend(described.defaults.clone());
    defaults.extend(benchmark.fixed.clone());

    let space = match config.space.take() {
        Some(space) => space,
        None => default_space(&machine.toml, &benchmark.fixed)?,
    };
    benchmark.fixed = defaults
        .iter()
        .filter(|(name, _)| !space.parameters().contains_key(*name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let mut waiting = Vec::new();
    let baseline = point_of(&space, &defaults);
    if space.check(&baseline).is_ok() {
        waiting.push(NewWaiting { fixed: baseline.clone(), origin: Origin::Default });
    } else if check_queue_entry(&space, &baseline).is_ok() {
        // It does not say everything (a person's space has no room for the default), so it is no baseline; still the
        // part of the default that fits is a good first point.
        waiting.push(NewWaiting { fixed: baseline.clone(), origin: Origin::Enqueued });
    }
    if !described.engine_fit.is_empty() {
        let mut fit = defaults.clone();
        fit.extend(described.engine_fit.clone());
        let fit = point_of(&space, &fit);
        if fit != baseline && space.check(&fit).is_ok() {
            waiting.push(NewWaiting { fixed: fit, origin: Origin::EngineFit });
        }
    }
    let description = serde_json::json!({
        "model": described.model,
        "inventory": described.inventory,
        "defaults": defaults,
        "given": given,
        "baseline_note": described.baseline_note,
        "engine_fit": described.engine_fit,
    });
    let own = setting_of(&described.model, &described.pin.device_class, benchmark);
    for earlier in &mut config.earlier {
        if let Some(setting) = &earlier.setting {
            earlier.similarity = own.similarity(setting);
        }
    }
    config.space = Some(space);
    // Whatever the sampler refuses is better said now than at the first trial.
    fleetune_sampler::build(&config).map_err(|error| EngineError::invalid("sampler", error))?;
    Ok(Prepared { description, config, pin: described.pin, waiting })
}

/// Refuses settings that the engine does not take; `taken` empty means that it takes all.
fn check_taken<'a>(
    executor: &str,
    taken: &[String],
    mut asked: impl Iterator<Item = &'a String>,
) -> Result<(), EngineError> {
    match asked.find(|name| !taken.is_empty() && !taken.contains(name)) {
        None => Ok(()),
        Some(name) => Err(EngineError::Invalid {
            what: format!("setting `{name}`"),
            why: format!("the worker's `{executor}` does not take it; it takes {}", taken.join(", ")),
            hint: None,
        }),
    }
}

/// The machine's space, with what the person fixed held at its value: clauses about it still hold.
fn default_space(toml: &str, fixed: &Params) -> Result<SearchSpace, EngineError> {
    let invalid = |error: SpaceError| EngineError::Invalid {
        what: "search space".to_owned(),
        why: error.to_string(),
        hint: error.hint(),
    };
    let space = SearchSpace::from_toml(toml).map_err(invalid)?;
    if space.parameters().keys().all(|name| fixed.contains_key(name)) {
        return Err(EngineError::Invalid {
            what: "search space".to_owned(),
            why: "every setting that could be searched is fixed".to_owned(),
            hint: Some("drop one of the `--set` options".to_owned()),
        });
    }
    let mut builder = SearchSpace::builder();
    for (name, parameter) in space.parameters() {
        let (distribution, default) = match fixed.get(name) {
            Some(value) => (
                Distribution::single(value).map_err(|error| EngineError::Invalid {
                    what: format!("setting `{name}`"),
                    why: error.to_string(),
                    hint: error.hint(),
                })?,
                Some(value.clone()),
            ),
            None => (parameter.distribution().clone(), parameter.default().cloned()),
        };
        builder = match parameter.when() {
            None => builder.parameter(name, distribution, default),
            Some(when) => builder.conditional(name, distribution, default, when),
        };
    }
    for forbid in space.forbids() {
        builder = builder.forbid(forbid.expression(), forbid.why().unwrap_or_default());
    }
    builder.build().map_err(invalid)
}

/// The fixed part of a queue entry: known names, values in range, and at least one allowed configuration around it. A
/// queue entry that nothing can complete would stop the queue for ever.
pub fn check_queue_entry(space: &SearchSpace, params: &Params) -> Result<Params, EngineError> {
    let invalid = |error: SpaceError| EngineError::Invalid {
        what: "fixed parameters".to_owned(),
        why: error.to_string(),
        hint: error.hint(),
    };
    let fixed = space.check_fixed(params).map_err(invalid)?;
    space.restrict(&fixed).map_err(invalid)?;
    Ok(fixed)
}

/// `values` as a configuration of `space`: the active parameters whose value lies in their distribution; a default
/// that the space itself names comes first.
fn point_of(space: &SearchSpace, values: &Params) -> Params {
    let mut point = Params::new();
    for name in space.order() {
        let parameter = &space.parameters()[name];
        if !space.is_active(name, &point) {
            continue;
        }
        let value = parameter.default().or_else(|| values.get(name));
        if let Some(value) = value.and_then(|value| parameter.distribution().coerce(value).ok()) {
            point.insert(name.clone(), value);
        }
    }
    point
}
