//! The study of a search: created, resumed, enlarged, or refused because it is another search.

use fleetune_core::study::Budget;
use fleetune_core::{Schedule, SearchSpace};
use fleetune_proto::reason::Reason;

use super::options::Options;
use crate::client::Client;
use crate::error::{CliError, CliResult, Exit};
use crate::render::{self, seconds};
use crate::view::StudyView;

/// The default name: the model's stem and a short hash of everything that makes values comparable.
pub fn default_name(options: &Options, model_hash: &str, engine: &str, device_class: &str) -> String {
    let stem = options.model.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let stem: String = stem.chars().map(|c| if c.is_control() || c == '/' { '_' } else { c }).take(100).collect();
    let identity = serde_json::json!({
        "model": model_hash,
        "workload": options.workload,
        "metric": options.objective,
        "fixed": options.fixed,
        "space": options.space,
        "engine": engine,
        "device": device_class,
    });
    let hash = blake3::hash(identity.to_string().as_bytes());
    format!("{stem}-{}", &hash.to_hex()[..8])
}

/// Finds or creates the study `name`.
pub async fn open(
    client: &mut Client,
    name: &str,
    options: &Options,
    model_hash: &str,
    fresh: bool,
) -> CliResult<StudyView> {
    let existing = client.find(name).await?;
    let existing = match existing {
        Some(study) if fresh || is_stillborn(&study) => {
            if fresh {
                render::say(&format!("study `{name}` is forgotten ({} trials)", study.trials.ended()));
            }
            client.delete(name, fresh).await?;
            None
        }
        other => other,
    };
    let study = if let Some(study) = existing {
        study
    } else {
        let request_id = format!("tune-{:032x}", rand::random::<u128>());
        match client.create(name, &request_id, &options.study(), &Schedule::default(), None).await {
            // The same search was started twice at the same moment: the faster one has made the study for both.
            Err(error) if error.reason == Some(Reason::StudyExists) => client.show(name).await?,
            created => return created,
        }
    };
    let mut differences = differences(&study, options);
    differences.extend(other_model(&study, options, model_hash));
    if !differences.is_empty() {
        return Err(CliError {
            exit: Exit::NotFoundOrConflict,
            what: format!("study `{name}` exists already and is another search"),
            causes: differences,
            hint: Some("choose another `--study`, or begin anew with `--fresh`".to_owned()),
            reason: None,
        });
    }
    resume(client, study, options).await
}

async fn resume(client: &mut Client, study: StudyView, options: &Options) -> CliResult<StudyView> {
    let name = study.name.clone();
    match study.state.as_str() {
        "cancelled" | "archived" | "failed" => {
            let mut error = CliError::new(Exit::NotFoundOrConflict, format!("study `{name}` is {}", study.state));
            error.causes.extend(Some(study.reason).filter(|reason| !reason.is_empty()));
            return Err(error.hint("begin anew with `--fresh`, or choose another `--study`"));
        }
        "paused" => {
            render::say(&format!("study `{name}` was paused; it goes on"));
            client.resume(&name).await?;
        }
        _ => {}
    }
    let budget = Budget {
        trials: options.given_budget.trials.or(study.budget.trials),
        seconds: options.given_budget.seconds.or(study.budget.seconds),
        target: options.given_budget.target.or(study.budget.target),
    };
    let is_given = options.given_budget != Budget::default();
    let may_wake = is_given && matches!(study.state.as_str(), "finished" | "confirming");
    if budget != study.budget || may_wake {
        return client.update(&name, Some(&budget), None).await;
    }
    client.show(&name).await
}

/// Why the model at hand is not the study's. Once the study knows its identity, the same file is found wherever it lies.
fn other_model(study: &StudyView, options: &Options, model_hash: &str) -> Option<String> {
    let known = study.model.as_deref()?;
    let given = options.model.display().to_string();
    match &study.pin {
        Some(pin) if pin.model_hash != model_hash => {
            Some(format!("`{given}` is not the model that it has measured (another file, or changed since)"))
        }
        None if known != given => Some(format!("its model is `{known}`, not `{given}`")),
        Some(_) | None => None,
    }
}

/// A study that never got as far as its first trial is in nobody's way.
fn is_stillborn(study: &StudyView) -> bool {
    study.state == "failed" && study.trials.ended() + study.trials.running == 0
}

/// What makes the existing study another search than the wanted one, a sentence each.
fn differences(study: &StudyView, options: &Options) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |what: &str, is: String, wanted: String| {
        if is != wanted {
            found.push(format!("its {what} is {is}, not {wanted}"));
        }
    };
    compare("metric", study.metric.clone().unwrap_or_else(|| "none".to_owned()), options.objective.to_string());
    if let Some(workload) = study.workload {
        let say = |workload: fleetune_core::Workload| {
            format!("{} + {} tokens × {}", workload.prompt, workload.gen_tokens, workload.repetitions)
        };
        compare("workload", say(workload), say(options.workload));
    }
    for (name, wanted) in &options.fixed {
        let is = study.fixed.get(name).cloned().or_else(|| single(study, name));
        let is = is.map_or_else(|| "searched".to_owned(), |value| value.to_string());
        compare(&format!("setting `{name}`"), is, wanted.to_string());
    }
    let given = options.given;
    for (is_given, what, is, wanted) in [
        (!options.warm_start.is_empty(), "warm start", study.warm_start.join(", "), options.warm_start.join(", ")),
        (given.sampler, "sampler", study.sampler.clone(), options.sampler.name().to_owned()),
        (given.pruner, "pruner", study.pruner.clone(), options.pruner.name().to_owned()),
        (given.seed, "seed", study.seed.to_string(), options.seed.to_string()),
        (
            given.timeout,
            "time limit of a trial",
            seconds(study.timeout_s.unwrap_or_default()),
            seconds(options.timeout_s),
        ),
        (!options.confirm, "comparison at the end", on_off(study.confirm), on_off(options.confirm)),
        (!options.prior, "knowledge beforehand", on_off(study.prior), on_off(options.prior)),
        (options.allow_wsl_unsafe, "permission for WSL", on_off(study.allow_wsl_unsafe), on_off(true)),
        (options.ignore_regions, "permission for unsafe regions", on_off(study.ignore_regions), on_off(true)),
    ] {
        if is_given {
            compare(what, is, wanted);
        }
    }
    if let (Some(wanted), Some(is)) = (&options.space, &study.space) {
        compare("search space", space_line(is), space_line(wanted));
    }
    found
}

fn on_off(on: bool) -> String {
    if on { "on" } else { "off" }.to_owned()
}

/// A space as one line: everything that makes it another.
fn space_line(space: &SearchSpace) -> String {
    space.to_json_value().to_string()
}

/// The value of a parameter that has only one: how a fixed setting of the machine's space is kept.
fn single(study: &StudyView, name: &str) -> Option<fleetune_core::Value> {
    let parameter = study.space.as_ref()?.parameters().get(name)?;
    parameter.distribution().is_single().then(|| parameter.distribution().value_at(0))
}
