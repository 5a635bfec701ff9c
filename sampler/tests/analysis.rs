//! Importances against Optuna 5.0.0 (see `fixtures/make_importances.py`), intervals, outlook, sensitivity.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::{Study, complete};
use fleetune_core::study::{Direction, SamplerConfig};
use fleetune_core::{Distribution, Params, SearchSpace, TrialNumber, Value};
use fleetune_sampler::Running;
use fleetune_sampler::analysis::{
    Forest, ImportanceMethod, Observation, Setting, Surrogate, importances, losses, outlook, scalar_losses, sensitivity,
};
use serde_json::Value as Json;

struct Case {
    observations: Vec<Observation>,
    expected: Json,
}

fn cases() -> Vec<Case> {
    let fixture: Json = serde_json::from_str(include_str!("fixtures/importances.json")).unwrap();
    let texts: Vec<String> = serde_json::from_value(fixture["distributions"].clone()).unwrap();
    let distributions = texts.iter().map(|text| Arc::new(Distribution::from_optuna_json(text).unwrap()));
    let distributions = distributions.collect::<Vec<_>>();
    let case = |json: &Json| {
        let direction = if json["direction"] == "maximize" { Direction::Maximize } else { Direction::Minimize };
        let observation = |(number, trial): (usize, &Json)| {
            let params: BTreeMap<String, (usize, f64)> = serde_json::from_value(trial["params"].clone()).unwrap();
            let setting = |(name, (index, internal)): (String, (usize, f64))| {
                (name, Setting { distribution: distributions[index].clone(), internal })
            };
            let value: f64 = trial["value"].as_str().unwrap().parse().unwrap();
            Observation {
                number: TrialNumber(number as i64),
                params: params.into_iter().map(setting).collect(),
                losses: losses(&[direction], &[value]),
                feasible: true,
            }
        };
        let observations = json["trials"].as_array().unwrap().iter().enumerate().map(observation).collect();
        Case { observations, expected: json.clone() }
    };
    fixture["cases"].as_array().unwrap().iter().map(case).collect()
}

#[test]
fn ped_anova_is_optunas() {
    for case in cases() {
        let ours = importances(&case.observations, None, ImportanceMethod::PedAnova, 1).unwrap();
        assert_eq!(ours.trials, case.observations.len() - 1, "one value is infinite");
        let expected: BTreeMap<String, f64> = serde_json::from_value(case.expected["ped_anova"].clone()).unwrap();
        assert_eq!(ours.parameters.len(), expected.len());
        for parameter in &ours.parameters {
            let expected = expected[&parameter.name];
            assert!((parameter.share - expected).abs() < 1e-9, "{parameter:?} is not {expected}");
            assert!(parameter.low <= parameter.share && parameter.share <= parameter.high, "{parameter:?}");
            let known = if parameter.name == "i_child" { 0.4..0.9 } else { 0.999..1.001 };
            assert!(known.contains(&parameter.active), "{parameter:?}");
        }
    }
}

/// Whatever Optuna's forest gives a twentieth to, ours ranks in the same order, and the share is near.
#[test]
fn fanova_ranks_as_optunas() {
    for case in cases() {
        let Ok(expected) = serde_json::from_value::<BTreeMap<String, f64>>(case.expected["fanova"].clone()) else {
            continue;
        };
        // Optuna's knows no conditional parameters.
        let mut observations = case.observations;
        for observation in &mut observations {
            observation.params.remove("i_child");
        }
        let ours = importances(&observations, None, ImportanceMethod::Fanova, 1).unwrap();
        let mut ranked = expected.iter().filter(|(_, share)| **share > 0.05).collect::<Vec<_>>();
        ranked.sort_by(|a, b| b.1.total_cmp(a.1));
        for ((name, share), ours) in ranked.iter().zip(&ours.parameters) {
            assert_eq!(*name, &ours.name);
            assert!((*share - ours.share).abs() < 0.15, "{ours:?} is not {share}");
        }
    }
}

/// `trials` random configurations and their losses.
fn observed(space: &SearchSpace, trials: i64, loss: impl Fn(&Params) -> Vec<f64>) -> Vec<Observation> {
    let mut study = Study::new(space, SamplerConfig::Random, 1);
    let observe = |_| {
        let Running { number, params, .. } = study.ask(&Params::new()).unwrap();
        study.tell(0, |_| complete(0.0));
        let losses = loss(&params);
        let setting = |(name, value): (String, Value)| {
            let distribution = Arc::new(space.parameters()[&name].distribution().clone());
            let internal = distribution.to_internal(&value).unwrap();
            (name, Setting { distribution, internal })
        };
        Observation { number, params: params.into_iter().map(setting).collect(), losses, feasible: true }
    };
    (0..trials).map(observe).collect()
}

fn number(params: &Params, name: &str) -> f64 {
    params.get(name).and_then(Value::as_f64).unwrap_or(0.0)
}

const CONDITIONAL: &str = "[parameters]\nx = { type = 'float', low = 0, high = 1 }\nk = ['on', 'off', 'idle']\n\
                           y = { type = 'float', low = 0, high = 1, when = \"k == 'on'\" }\n\
                           z = { type = 'float', low = 0, high = 1 }\n[[forbid]]\nif = \"k == 'off' && x > 0.9\"";

#[test]
fn a_parameter_that_is_seldom_there_matters_less() {
    let space = SearchSpace::from_toml(CONDITIONAL).unwrap();
    let observations = observed(&space, 300, |params| vec![number(params, "x") + number(params, "y")]);
    let ours = importances(&observations, None, ImportanceMethod::Fanova, 3).unwrap();
    let share = |name: &str| ours.parameters.iter().find(|parameter| parameter.name == name).unwrap().clone();
    let (x, y, z) = (share("x"), share("y"), share("z"));
    assert!(x.share > 2.0 * y.share && y.share > 2.0 * z.share, "{ours:?}");
    assert!((y.active - 1.0 / 3.0).abs() < 0.1 && x.low > z.high, "{ours:?}");
}

#[test]
fn the_same_seed_gives_the_same_importances() {
    let space = SearchSpace::from_toml(CONDITIONAL).unwrap();
    let mut observations = observed(&space, 60, |params| vec![number(params, "x"), 1.0 - number(params, "z")]);
    for method in ImportanceMethod::ALL {
        let [one, two] = [7, 7].map(|seed| importances(&observations, None, method, seed).unwrap());
        assert_eq!(one, two);
        let first =
            |objective| importances(&observations, Some(objective), method, 7).unwrap().parameters[0].name.clone();
        assert_eq!((first(0), first(1)), ("x".to_owned(), "z".to_owned()));
    }
    observations.truncate(3);
    let error = importances(&observations, None, ImportanceMethod::Fanova, 7).unwrap_err();
    assert_eq!(error.to_string(), "3 completed trials have a finite value, but 4 are needed");
}

#[test]
fn hopeless_values_are_no_trouble() {
    let space = SearchSpace::from_toml(CONDITIONAL).unwrap();
    for value in [0.0, 1e300, -1e-300, f64::NAN] {
        let mut observations = observed(&space, 20, |_| vec![value]);
        observations[0].losses = vec![f64::INFINITY];
        for method in ImportanceMethod::ALL {
            let Ok(ours) = importances(&observations, None, method, 1) else {
                assert!(value.is_nan());
                continue;
            };
            let sum = ours.parameters.iter().map(|parameter| parameter.share).sum::<f64>();
            assert!((sum - 1.0).abs() < 1e-9, "{ours:?}");
        }
    }
}

#[test]
fn the_winner_is_sensitive_to_what_matters() {
    let space = SearchSpace::from_toml(CONDITIONAL).unwrap();
    let loss = |params: &Params| {
        let k = if params["k"] == Value::from("off") { 5.0 } else { 0.0 };
        vec![1.0 + number(params, "x") + k + 0.2 * number(params, "y")]
    };
    let mut observations = observed(&space, 200, loss);
    observations.sort_by(|a, b| a.losses[0].total_cmp(&b.losses[0]));
    let (trials, losses) = scalar_losses(&observations, None);
    let forest = Forest::fit(&trials, &losses, 5);
    let changes = sensitivity(&space, &forest, &observations[0].values(), &trials);
    let of = |name: &str, value: &Value| changes.iter().find(|change| change.name == name && change.to == *value);
    assert!((of("k", &Value::from("off")).unwrap().loss - 5.0).abs() < 1.0, "{changes:?}");
    assert!((of("x", &Value::Float(1.0)).unwrap().loss - 1.0).abs() < 0.2, "{changes:?}");
    assert!(changes.iter().filter(|change| change.name == "z").all(|change| change.loss.abs() < 0.2), "{changes:?}");
    // Every other value of the category, and each number from end to end.
    assert_eq!(changes.iter().filter(|change| change.name == "k").count(), 2);
    assert_eq!(changes.iter().filter(|change| change.name == "x").count(), 9);
}

/// Knows the loss, and is as sure as it is told.
struct Known(f64);

impl Surrogate for Known {
    fn mean_sd(&self, params: &Params) -> (f64, f64) {
        (10.0 + number(params, "x"), self.0)
    }
}

#[test]
fn who_knows_that_nothing_is_left_to_gain_may_stop() {
    let space = SearchSpace::from_toml(CONDITIONAL).unwrap();
    let mut observations = observed(&space, 50, |params| vec![10.0 + number(params, "x")]);
    observations.sort_by(|a, b| a.losses[0].total_cmp(&b.losses[0]));
    let tried = observations.iter().collect::<Vec<_>>();
    let sure = outlook(&space, &Known(0.0), &tried, 0.0, 1);
    assert!(sure.may_stop() && sure.relative < 0.01, "{sure:?}");
    let unsure = outlook(&space, &Known(1.0), &tried, 0.0, 1);
    assert!(!unsure.may_stop() && unsure.gain > 2.0, "{unsure:?}");
    assert!(outlook(&space, &Known(1.0), &tried, 0.9, 1).may_stop());
    // The worst half tried only: the rest of the space promises more.
    let early = outlook(&space, &Known(0.0), &tried[25..], 0.0, 1);
    assert!(!early.may_stop() && early.gain > 0.2, "{early:?}");
}
