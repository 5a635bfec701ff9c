//! `fleetune study create` and `fleetune study update`.

use std::path::{Path, PathBuf};

use fleetune_core::schedule::Per;
use fleetune_core::study::{Budget, EarlierStudy, SamplerConfig, StudyConfig};
use fleetune_core::{Params, Schedule, SearchSpace};
use fleetune_proto::reason::Reason;

use super::super::tune::options::{Options, absolute};
use crate::args::{CreateArgs, ScheduleArgs, UpdateArgs};
use crate::client::{Client, quoted, request_id};
use crate::config::TuneConfig;
use crate::error::{CliError, CliResult, Exit};
use crate::render::{self, seconds};
use crate::view::StudyView;

/// Creates a study, or takes the same one that is there.
pub async fn create(client: &mut Client, args: &CreateArgs, config: &TuneConfig) -> CliResult<StudyView> {
    let wanted = configuration(args, config)?;
    let name = &args.name;
    let schedule = args.schedule.applied_to(Schedule::default());
    let study = match client.create(name, &request_id("create"), &wanted, &schedule, args.per.as_ref()).await {
        Err(error) if error.reason == Some(Reason::StudyExists) && args.skip_if_exists => {
            is_same(client, args, &wanted).await?
        }
        Err(error) if error.reason == Some(Reason::StudyExists) => {
            return Err(error.hint(format!(
                "`--skip-if-exists` goes on with it if it is the same; `fleetune study delete {}` forgets it",
                quoted(name)
            )));
        }
        created => created?,
    };
    render::say(&next(&study));
    Ok(study)
}

/// Changes what is given of budget and schedule.
pub async fn update(client: &mut Client, name: &str, args: &UpdateArgs) -> CliResult<StudyView> {
    let study = client.show(name).await?;
    let old = study.budget;
    let ScheduleArgs { priority, max_parallel, selector } = &args.schedule;
    let changes_schedule = priority.is_some() || max_parallel.is_some() || selector.is_some();
    let changes_budget = args.trials.is_some() || args.time.is_some() || args.target.is_some();
    if !changes_budget && !changes_schedule {
        return Err(CliError::new(Exit::Usage, format!("nothing to change of study `{name}`"))
            .hint(format!("say what: `fleetune study update {} --trials 100`", quoted(name))));
    }
    let budget = changes_budget.then(|| Budget {
        trials: args.trials.or(old.trials),
        seconds: args.time.or(old.seconds),
        target: args.target.or(old.target),
    });
    let was = Schedule::from(&study.schedule);
    let schedule = args.schedule.applied_to(was.clone());
    client.update(name, budget.as_ref(), Some(&schedule).filter(|schedule| **schedule != was)).await
}

/// What to do with a study that was just created.
fn next(study: &StudyView) -> String {
    let name = quoted(&study.name);
    if study.model.is_some() {
        format!("next: a worker that sees the model begins by itself; follow it with `fleetune study watch {name}`")
    } else {
        format!("next: `fleetune trial ask {name}`, measure, `fleetune trial tell {name} NUMBER --value VALUE`")
    }
}

fn configuration(args: &CreateArgs, config: &TuneConfig) -> CliResult<StudyConfig> {
    let Some(model) = &args.model else {
        return measured_by_clients(args, config);
    };
    if !args.direction.is_empty() {
        return Err(CliError::new(Exit::Usage, "`--direction` does not go with `--model`")
            .because("the metric of a model decides which values are better")
            .hint("drop `--direction`; `--metric` chooses what is measured"));
    }
    let mut study = Options::resolve(resolved(model)?, &args.search, config)?.study();
    study.benchmark.iter_mut().for_each(|benchmark| benchmark.executor.clone_from(&args.executor));
    Ok(study)
}

/// A file of this machine by its whole path; anything else is a name that workers resolve.
fn resolved(model: &str) -> CliResult<PathBuf> {
    let path = Path::new(model);
    let is_path = path.is_absolute() || path.starts_with(".") || path.starts_with("..");
    if is_path || path.exists() { absolute(path) } else { Ok(path.to_owned()) }
}

fn measured_by_clients(args: &CreateArgs, config: &TuneConfig) -> CliResult<StudyConfig> {
    // Steps told by clients are a curve, not repetitions that could be raced.
    let pruner = if config.pruner == "racing" { "median".to_owned() } else { config.pruner.clone() };
    let options = Options::resolve(PathBuf::new(), &args.search, &TuneConfig { pruner, ..config.clone() })?;
    let missing = match (&options.space, args.direction.is_empty()) {
        (Some(_), false) => None,
        (None, _) => Some("no search space"),
        (Some(_), true) => Some("no direction"),
    };
    if let Some(missing) = missing {
        return Err(CliError::new(Exit::Usage, format!("study `{}` has nothing to search for", args.name))
            .because(format!("it has no model and {missing}"))
            .hint("give `--space FILE` and `--direction minimize` (or maximize), or `--model FILE`"));
    }
    Ok(StudyConfig {
        directions: args.direction.clone(),
        space: options.space,
        sampler: options.sampler,
        pruner: options.pruner,
        budget: options.budget,
        planned_trials: None,
        seed: options.seed,
        benchmark: None,
        earlier: options.warm_start.into_iter().map(EarlierStudy::named).collect(),
    })
}

/// The study that is there, if it is the wanted one.
async fn is_same(client: &mut Client, args: &CreateArgs, wanted: &StudyConfig) -> CliResult<StudyView> {
    let name = &args.name;
    let study = client.show(name).await?;
    let is = client.config(name).await?;
    let mut found = differences(&is, wanted, &study.given);
    let (old, new) = (budget_line(&is.budget), budget_line(&wanted.budget));
    let hint = match &wanted.budget.trials {
        Some(trials) if found.is_empty() && old != new => {
            format!("`fleetune study update {} --trials {trials}` changes its budget", quoted(name))
        }
        _ => format!("choose another name, or forget it with `fleetune study delete {}`", quoted(name)),
    };
    let per = args.per.as_ref().map(Per::name);
    if study.per != per {
        let said = |per: &Option<String>| per.clone().unwrap_or_else(|| "nothing".to_owned());
        found.push(format!("it tells workers apart by {}, not by {}", said(&study.per), said(&per)));
    }
    if old != new {
        found.push(format!("its budget is {old}, not {new}"));
    }
    if found.is_empty() {
        render::say(&format!("study `{name}` is there already ({} trials ended)", study.trials.ended()));
        let schedule = Schedule::from(&study.schedule);
        if args.schedule.applied_to(schedule.clone()) != schedule {
            render::say(&format!(
                "its claim to workers stays as it is; `fleetune study set {}` changes it",
                quoted(name)
            ));
        }
        return Ok(study);
    }
    let mut error =
        CliError::new(Exit::NotFoundOrConflict, format!("study `{name}` exists already and is another search"));
    error.causes = found;
    Err(error.hint(hint))
}

/// Its name, and its options where it has some.
fn sampler_line(sampler: &SamplerConfig) -> String {
    match sampler {
        SamplerConfig::TpeOptuna5(_) => json_line(sampler),
        other => other.name().to_owned(),
    }
}

/// What makes the existing study another search than the wanted one, a sentence each. `given` are the settings that a
/// person fixed; the machine's own came when the model was described, as the space did where none was wanted.
fn differences(is: &StudyConfig, wanted: &StudyConfig, given: &Params) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |what: &str, is: String, wanted: String| {
        if is != wanted {
            found.push(format!("its {what} is {is}, not {wanted}"));
        }
    };
    let directions =
        |config: &StudyConfig| config.directions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let names = |config: &StudyConfig| {
        let names: Vec<_> = config.earlier.iter().map(|earlier| format!("`{}`", earlier.name)).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    compare("direction", directions(is), directions(wanted));
    if wanted.benchmark.is_none() || wanted.space.is_some() {
        compare("search space", space_line(is.space.as_ref()), space_line(wanted.space.as_ref()));
    }
    compare("sampler", sampler_line(&is.sampler), sampler_line(&wanted.sampler));
    compare("pruner", json_line(&is.pruner), json_line(&wanted.pruner));
    compare("warm start", names(is), names(wanted));
    compare("seed", is.seed.to_string(), wanted.seed.to_string());
    let model = |config: &StudyConfig| {
        config.benchmark.as_ref().map_or_else(|| "none".to_owned(), |benchmark| format!("`{}`", benchmark.model))
    };
    compare("model", model(is), model(wanted));
    if let (Some(is), Some(wanted)) = (&is.benchmark, &wanted.benchmark) {
        compare("executor", is.executor.clone(), wanted.executor.clone());
        compare("metric", is.objective.to_string(), wanted.objective.to_string());
        compare("workload", json_line(&is.workload), json_line(&wanted.workload));
        for name in given.keys().chain(wanted.fixed.keys().filter(|name| !given.contains_key(*name))) {
            let shown = |params: &Params| params.get(name).map_or_else(|| "free".to_owned(), ToString::to_string);
            compare(&format!("setting `{name}`"), shown(&is.fixed), shown(&wanted.fixed));
        }
        compare("time limit of a trial", seconds(is.timeout_s), seconds(wanted.timeout_s));
        compare("comparison at the end", on_off(is.confirm), on_off(wanted.confirm));
        compare("knowledge beforehand", on_off(is.prior), on_off(wanted.prior));
        compare("permission for WSL", on_off(is.allow_wsl_unsafe), on_off(wanted.allow_wsl_unsafe));
        compare("permission for unsafe regions", on_off(is.ignore_regions), on_off(wanted.ignore_regions));
    }
    found
}

fn budget_line(budget: &Budget) -> String {
    let mut parts = Vec::new();
    parts.extend(budget.trials.map(|trials| format!("{trials} trials")));
    parts.extend(budget.seconds.map(|time| format!("{} in trials", seconds(time))));
    parts.extend(budget.target.map(|target| format!("target {target}")));
    if parts.is_empty() { "unlimited".to_owned() } else { parts.join(", ") }
}

fn on_off(on: bool) -> String {
    if on { "on" } else { "off" }.to_owned()
}

fn space_line(space: Option<&SearchSpace>) -> String {
    space.map_or_else(|| "none".to_owned(), |space| space.to_json_value().to_string())
}

fn json_line(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use fleetune_core::study::{PrunerConfig, SamplerConfig};
    use fleetune_core::{Direction, Value};

    use super::*;

    fn client_study() -> StudyConfig {
        StudyConfig {
            directions: vec![Direction::Minimize],
            space: Some(SearchSpace::from_toml("[parameters.x]\ntype = 'int'\nlow = 1\nhigh = 9\n").unwrap()),
            sampler: SamplerConfig::Tpe,
            pruner: PrunerConfig::median(),
            budget: Budget { trials: Some(30), ..Budget::default() },
            planned_trials: None,
            seed: 0,
            benchmark: None,
            earlier: Vec::new(),
        }
    }

    #[test]
    fn the_same_configuration_has_no_differences() {
        assert_eq!(differences(&client_study(), &client_study(), &Params::new()), Vec::<String>::new());
    }

    #[test]
    fn every_difference_is_named() {
        let other = StudyConfig {
            directions: vec![Direction::Maximize],
            seed: 7,
            sampler: SamplerConfig::Random,
            pruner: PrunerConfig::None,
            ..client_study()
        };
        let found = differences(&client_study(), &other, &Params::new());
        assert_eq!(found.len(), 4, "{found:?}");
        assert_eq!(found[0], "its direction is minimize, not maximize");
        assert_eq!(found[3], "its seed is 0, not 7");
    }

    #[test]
    fn a_setting_of_the_machine_is_no_difference_and_one_of_a_person_is() {
        let benchmark = |fixed: Params| fleetune_core::study::Benchmark {
            model: "m".to_owned(),
            executor: "llama-cpp".to_owned(),
            workload: fleetune_core::Workload::default(),
            objective: fleetune_core::Objective::Decode,
            fixed,
            timeout_s: 300.0,
            allow_wsl_unsafe: false,
            confirm: true,
            prior: true,
            ignore_regions: false,
        };
        let of = |fixed: &[(&str, i64)]| {
            let fixed = fixed.iter().map(|&(name, value)| (name.to_owned(), Value::Int(value))).collect();
            StudyConfig { benchmark: Some(benchmark(fixed)), ..client_study() }
        };
        let described = of(&[("n_ctx", 4096), ("n_gpu_layers", 0)]);
        let given = Params::from([("n_ctx".to_owned(), Value::Int(4096))]);
        assert_eq!(differences(&described, &of(&[("n_ctx", 4096)]), &given), Vec::<String>::new());
        assert_eq!(differences(&described, &of(&[]), &given), ["its setting `n_ctx` is 4096, not free"]);
    }
}
