//! What a search is asked for: flags over configuration, checked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fleetune_core::study::{Benchmark, Budget, EarlierStudy, LLAMA_CPP, PrunerConfig, SamplerConfig, StudyConfig};
use fleetune_core::{Objective, Params, SearchSpace, Workload};

use super::rules;
use crate::args::{SearchArgs, parse_duration};
use crate::config::TuneConfig;
use crate::error::{CliError, CliResult, Exit};

/// Longest search space file that is read, bytes.
const MAX_SPACE_FILE: u64 = 1 << 20;

/// A search as asked for.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "a flag each")]
pub struct Options {
    /// The model: a file, absolute, or the name by which workers know it; empty where clients measure.
    pub model: PathBuf,
    /// Who measures it.
    pub executor: &'static str,
    /// What is measured.
    pub workload: Workload,
    /// What is optimised.
    pub objective: Objective,
    /// Settings that are not searched.
    pub fixed: Params,
    /// A space instead of the machine's.
    pub space: Option<SearchSpace>,
    /// When to stop.
    pub budget: Budget,
    /// The limits given on the command line: they change a study that exists.
    pub given_budget: Budget,
    /// What was given on the command line and cannot change in a study that exists.
    pub given: Given,
    /// Sampler.
    pub sampler: SamplerConfig,
    /// Pruner.
    pub pruner: PrunerConfig,
    /// Seed.
    pub seed: u64,
    /// Of one trial.
    pub timeout_s: f64,
    /// Compare at the end.
    pub confirm: bool,
    /// Let the sampler know what arithmetic says.
    pub prior: bool,
    /// See the flag.
    pub allow_wsl_unsafe: bool,
    /// Earlier studies that the sampler learns from.
    pub warm_start: Vec<String>,
    /// Run what lies in an unsafe region.
    pub ignore_regions: bool,
}

/// What was given on the command line, rather than configured.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "a flag each")]
pub struct Given {
    /// `--sampler`.
    pub sampler: bool,
    /// `--pruner`.
    pub pruner: bool,
    /// `--seed`.
    pub seed: bool,
    /// `--timeout-per-trial`.
    pub timeout: bool,
}

impl Options {
    /// Flags over configuration; the executor is our own runner's.
    pub fn resolve(model: PathBuf, args: &SearchArgs, config: &TuneConfig) -> CliResult<Self> {
        let usage = |what: String| CliError::new(Exit::Usage, what);
        let objective = match args.metric {
            Some(objective) => objective,
            None => Objective::from_name(&config.metric)
                .ok_or_else(|| usage(format!("there is no metric `{}`", config.metric)).hint(objectives()))?,
        };
        let sampler = rules::sampler(args.sampler.as_ref().unwrap_or(&config.sampler), args)?;
        let pruner = rules::pruner(args.pruner.as_ref().unwrap_or(&config.pruner), args)?;
        let timeout_s = match args.timeout_per_trial {
            Some(seconds) => seconds,
            None => parse_duration(&config.timeout_per_trial)
                .map_err(|why| usage("the configured `tune.timeout_per_trial` is no time".to_owned()).because(why))?,
        };
        let repetitions = args.reps.unwrap_or(config.reps);
        Ok(Self {
            model,
            executor: LLAMA_CPP,
            workload: Workload {
                prompt: args.prompt.unwrap_or(config.prompt),
                gen_tokens: args.r#gen.unwrap_or(config.r#gen),
                repetitions,
                warmup: Workload::default().warmup,
            },
            objective,
            fixed: settings(&args.set)?,
            space: args.space.as_deref().map(read_space).transpose()?,
            budget: Budget {
                trials: Some(args.trials.unwrap_or(config.trials)),
                seconds: args.time,
                target: args.target,
            },
            given_budget: Budget { trials: args.trials, seconds: args.time, target: args.target },
            given: Given {
                sampler: args.sampler.is_some(),
                pruner: args.pruner.is_some(),
                seed: args.seed.is_some(),
                timeout: args.timeout_per_trial.is_some(),
            },
            sampler,
            pruner,
            seed: args.seed.unwrap_or(config.seed),
            timeout_s,
            confirm: !args.no_confirm,
            prior: !args.no_prior,
            allow_wsl_unsafe: args.allow_wsl_unsafe,
            warm_start: args.warm_start.clone(),
            ignore_regions: args.ignore_regions,
        })
    }

    /// The study to create.
    pub fn study(&self) -> StudyConfig {
        StudyConfig {
            directions: vec![self.objective.direction()],
            space: self.space.clone(),
            sampler: self.sampler.clone(),
            pruner: self.pruner.clone(),
            budget: self.budget,
            planned_trials: None,
            seed: self.seed,
            benchmark: Some(Benchmark {
                model: self.model.display().to_string(),
                executor: self.executor.to_owned(),
                workload: self.workload,
                objective: self.objective,
                fixed: self.fixed.clone(),
                timeout_s: self.timeout_s,
                allow_wsl_unsafe: self.allow_wsl_unsafe,
                confirm: self.confirm,
                prior: self.prior,
                ignore_regions: self.ignore_regions,
            }),
            earlier: self.warm_start.iter().cloned().map(EarlierStudy::named).collect(),
        }
    }
}

/// The path of a model file, from the root.
pub fn absolute(model: &Path) -> CliResult<PathBuf> {
    std::path::absolute(model)
        .map_err(|error| CliError::new(Exit::Usage, format!("`{}` is no path", model.display())).because(error))
}

fn objectives() -> String {
    format!("use one of {}", Objective::ALL.map(Objective::as_str).join(", "))
}

/// Settings by name; the same name twice must say the same.
pub fn settings(set: &[(String, fleetune_core::Value)]) -> CliResult<Params> {
    let mut fixed = BTreeMap::new();
    for (name, value) in set {
        if fixed.insert(name.clone(), value.clone()).is_some_and(|before| before != *value) {
            return Err(CliError::new(Exit::Usage, format!("`--set {name}` is given twice with different values")));
        }
    }
    Ok(fixed)
}

fn read_space(path: &Path) -> CliResult<SearchSpace> {
    let what = || format!("failed to read the search space `{}`", path.display());
    let not_there = |error: std::io::Error| CliError::new(Exit::NotFoundOrConflict, what()).because(error);
    let length = std::fs::metadata(path).map_err(not_there)?.len();
    if length > MAX_SPACE_FILE {
        let why = format!("it has {length} bytes; a search space has at most {MAX_SPACE_FILE}");
        return Err(CliError::new(Exit::Usage, what()).because(why));
    }
    let text = std::fs::read_to_string(path).map_err(not_there)?;
    let is_json = text.trim_start().starts_with('{');
    let parsed = if is_json { SearchSpace::from_json(&text) } else { SearchSpace::from_toml(&text) };
    parsed.map_err(|error| {
        let failed = CliError::new(Exit::Usage, what()).because(&error);
        match error.hint() {
            Some(hint) => failed.hint(hint),
            None => failed,
        }
    })
}
