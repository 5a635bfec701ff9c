//! Sampler and pruner as they are named on the command line, with their options.

use fleetune_core::Value;
use fleetune_core::study::{PrunerConfig, SamplerConfig};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};

use crate::args::SearchArgs;
use crate::error::{CliError, CliResult, Exit};

/// The sampler called `name`, with the options given.
pub fn sampler(name: &str, args: &SearchArgs) -> CliResult<SamplerConfig> {
    let Some(default) = SamplerConfig::from_name(name) else {
        return Err(usage(format!("there is no sampler `{name}`"))
            .hint(format!("use one of {}", SamplerConfig::NAMES.join(", "))));
    };
    let what = format!("the sampler `{name}`");
    let config = with_options(&what, default, &args.sampler_option)?;
    if let SamplerConfig::TpeOptuna5(options) = &config {
        options.check().map_err(|why| usage(format!("{what} {why}")))?;
    }
    Ok(config)
}

/// The pruner called `name`, with the options given. `--prune-below` and `--prune-above` are those of `threshold`.
pub fn pruner(name: &str, args: &SearchArgs) -> CliResult<PrunerConfig> {
    let Some(default) = PrunerConfig::from_name(name) else {
        return Err(usage(format!("there is no pruner `{name}`"))
            .hint(format!("use one of {}", PrunerConfig::NAMES.join(", "))));
    };
    let (lower, upper) = (args.prune_below, args.prune_above);
    let what = format!("the pruner `{name}`");
    let config = match with_options(&what, default, &args.pruner_option)? {
        PrunerConfig::Threshold(mut threshold) => {
            threshold.lower = lower.or(threshold.lower);
            threshold.upper = upper.or(threshold.upper);
            if threshold.lower.or(threshold.upper).is_none() {
                return Err(usage("the pruner `threshold` has no limit")
                    .hint("add `--prune-below VALUE`, `--prune-above VALUE` or both"));
            }
            PrunerConfig::Threshold(threshold)
        }
        _ if lower.or(upper).is_some() => {
            return Err(usage(format!("{what} has no limits to set"))
                .hint("`--prune-below` and `--prune-above` go with `--pruner threshold`"));
        }
        config => config,
    };
    config.check().map_err(|why| usage(format!("{what} {why}")))?;
    Ok(config)
}

fn usage(what: impl Into<String>) -> CliError {
    CliError::new(Exit::Usage, what)
}

/// `default` with options in place of its own. A dot in a name goes one rule deeper: `wrapped.percentile`.
fn with_options<T>(what: &str, default: T, options: &[(String, Value)]) -> CliResult<T>
where
    T: Serialize + DeserializeOwned,
{
    if options.is_empty() {
        return Ok(default);
    }
    let no_use = |why: String| usage(format!("{what} cannot use its options")).because(why);
    let Ok(Json::Object(mut config)) = serde_json::to_value(&default) else { return Ok(default) };
    if config.len() == 1 {
        return Err(usage(format!("{what} has no options")));
    }
    for (path, value) in options {
        let value = serde_json::to_value(value).map_err(|error| no_use(error.to_string()))?;
        set(&mut config, path, value).map_err(no_use)?;
    }
    serde_json::from_value(Json::Object(config)).map_err(|error| no_use(error.to_string()))
}

fn set(config: &mut Map<String, Json>, path: &str, value: Json) -> Result<(), String> {
    let Some((rule, rest)) = path.split_once('.') else {
        // A rule within a rule is named in short; its options follow.
        let within = config.get(path).is_some_and(Json::is_object);
        let value = if within { Json::Object(Map::from_iter([("name".to_owned(), value)])) } else { value };
        config.insert(path.to_owned(), value);
        return Ok(());
    };
    match config.get_mut(rule) {
        Some(Json::Object(inner)) => set(inner, rest, value),
        _ => Err(format!("`{rule}` has no option `{rest}`")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use fleetune_core::study::{MedianConfig, PatientConfig, PercentileConfig};

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        search: SearchArgs,
        #[arg(long)]
        model: Option<String>,
    }

    fn args(options: &[&str]) -> SearchArgs {
        let flags = options.iter().flat_map(|option| ["--pruner-option", option]);
        Line::parse_from(["line"].into_iter().chain(flags)).search
    }

    #[test]
    fn options_take_the_place_of_defaults() {
        let read = |name: &str, options: &[&str]| pruner(name, &args(options));
        let median = MedianConfig { n_warmup_steps: 3, ..MedianConfig::default() };
        assert_eq!(read("median", &["n_warmup_steps=3"]), Ok(PrunerConfig::Median(median)));
        let within = PrunerConfig::Percentile(PercentileConfig { percentile: 60.0, ..PercentileConfig::default() });
        let patient = PatientConfig { wrapped: Box::new(within), patience: 2, min_delta: 0.0 };
        let options = ["patience=2", "wrapped=percentile", "wrapped.percentile=60"];
        assert_eq!(read("patient", &options), Ok(PrunerConfig::Patient(patient)));
    }

    #[test]
    fn wrong_options_are_refused_by_name() {
        let refused = |name: &str, options: &[&str]| {
            let error = pruner(name, &args(options)).unwrap_err();
            assert_eq!(error.exit, Exit::Usage);
            format!("{} {}", error.what, error.causes.join(" "))
        };
        assert!(refused("median", &["warmup=3"]).contains("unknown field `warmup`"));
        assert!(refused("median", &["interval_steps=0"]).contains("needs `interval_steps` of at least 1"));
        assert!(refused("median", &["interval_steps=0.5"]).contains("cannot use its options"));
        assert!(refused("none", &["lower=1"]).contains("has no options"));
        assert!(refused("median", &["wrapped.percentile=1"]).contains("`wrapped` has no option"));
        assert!(refused("patient", &["wrapped=magic"]).contains("magic"));
    }
}
