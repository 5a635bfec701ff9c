//! Against Optuna 5.0.0; see `tests/fixtures/make_optuna5.py`.

use std::collections::BTreeSet;

use fleetune_core::distribution::Distribution;
use fleetune_core::{FailKind, TrialNumber, Turn, Value};
use serde_json::Value as Json;

use super::*;
use crate::seam::{Ended, Outcome, Running};

const TOLERANCE: f64 = 1e-9;

fn fixture() -> Json {
    serde_json::from_str(include_str!("../../../tests/fixtures/optuna5.json")).unwrap()
}

fn space(json: &Json) -> SearchSpace {
    let mut builder = SearchSpace::builder();
    for (name, text) in json.as_object().unwrap() {
        builder = builder.parameter(name, Distribution::from_optuna_json(text.as_str().unwrap()).unwrap(), None);
    }
    builder.build().unwrap()
}

fn list<T: serde::de::DeserializeOwned>(json: &Json) -> Vec<T> {
    serde_json::from_value(json.clone()).unwrap()
}

/// What ended, and what still runs.
fn told(space: &SearchSpace, number: usize, trial: &Json) -> Result<Ended, Running> {
    let number = TrialNumber(number as i64);
    let value = |(name, internal): (&String, &Json)| {
        let value = space.parameters()[name].distribution().from_internal(internal.as_f64().unwrap()).unwrap();
        (name.clone(), value)
    };
    let params = trial["params"].as_object().unwrap().iter().map(value).collect();
    let constraints = vec![trial["violation"].as_f64().unwrap(), -1.0];
    let series: Vec<(u32, f64)> = if trial["steps"].is_array() { list(&trial["steps"]) } else { Vec::new() };
    let outcome = match trial["kind"].as_str().unwrap() {
        "complete" => Outcome::Complete { values: list(&trial["values"]), constraints },
        "pruned" => {
            let last = series.last();
            Outcome::Pruned { value: last.map(|last| last.1), last_step: last.map(|last| last.0), constraints }
        }
        "fail" => Outcome::Failed { kind: FailKind::Oom },
        _ => return Err(Running { turn: Turn(number.0), number, params }),
    };
    Ok(Ended { number, params, outcome, series, repetitions_planned: 1, standard_error: None, seconds: 1.0 })
}

fn agree(ours: &[f64], expected: &[f64], what: &str) {
    assert_eq!(ours.len(), expected.len(), "{what}");
    for (ours, expected) in ours.iter().zip(expected) {
        let difference = (ours - expected).abs();
        assert!(difference <= TOLERANCE * expected.abs().max(1.0), "{what}: {ours} is not {expected}");
    }
}

fn agrees(estimator: &Parzen, expected: &Json, what: &str) {
    agree(&estimator.weights(), &list::<f64>(&expected["weights"]), what);
    for (place, expected) in expected["bandwidths"].as_array().unwrap().iter().enumerate() {
        let ours = estimator.bandwidths(place).into_iter().map(|width| width.unwrap()).collect::<Vec<_>>();
        agree(&ours, &list::<f64>(expected), what);
    }
}

#[test]
fn densities_are_optunas() {
    let fixture = fixture();
    let space = space(&fixture["space"]);
    let names = space.parameters().keys().collect::<Vec<_>>();
    for (index, case) in fixture["cases"].as_array().unwrap().iter().enumerate() {
        let config: TpeOptuna5Config = serde_json::from_value(case["options"].clone()).unwrap();
        config.check().unwrap();
        let directions: Vec<Direction> = list(&case["directions"]);
        let mut sampler = Optuna5::new(&space, &directions, config);
        let mut running = Vec::new();
        for (number, trial) in case["trials"].as_array().unwrap().iter().enumerate() {
            match told(&space, number, trial) {
                Ok(ended) => sampler.observe(&Event::Ended(ended)),
                Err(trial) => running.push((trial.number.0, sampler.columns.encode(&trial.params))),
            }
        }
        let what = format!("case {index}, {}", case["options"]);

        let good = sampler.good();
        let known = sampler.history.observations.numbers();
        let numbers = |rows: &[usize]| rows.iter().map(|row| known[*row]).collect::<BTreeSet<_>>();
        assert_eq!(numbers(&good), list::<i64>(&case["good"]).into_iter().collect(), "{what}");
        let mut bad = numbers(&others(&good, 0, known.len()).into_iter().flatten().collect::<Vec<_>>());
        if config.constant_liar {
            bad.extend(running.iter().map(|(number, _)| *number));
        }
        assert_eq!(bad, list::<i64>(&case["bad"]).into_iter().collect(), "{what}");

        let named = |columns: Vec<usize>| columns.into_iter().map(|column| names[column].clone()).collect();
        let mut joint = sampler.joint().into_iter().map(named).collect::<Vec<Vec<String>>>();
        joint.sort();
        assert_eq!(joint, list::<Vec<String>>(&case["joint"]), "{what}");

        for expected in case["densities"].as_array().unwrap() {
            let of = list::<String>(&expected["names"]).iter().map(|name| sampler.columns.of(name).unwrap()).collect();
            let densities = sampler.densities(of, &good, &running);
            let what = format!("{what}, {}", expected["names"]);
            agrees(&densities.good, &expected["good"], &what);
            agrees(&densities.bad, &expected["bad"], &what);
            let points: Vec<Vec<f64>> = list(&expected["points"]);
            agree(&densities.good.log_density(&points), &list::<f64>(&expected["log_good"]), &what);
            agree(&densities.bad.log_density(&points), &list::<f64>(&expected["log_bad"]), &what);
        }
    }
}

#[test]
fn suggestions_are_allowed_and_complete() {
    let text = "[parameters]\nmode = ['x', 'y']\nx = { type = 'int', low = 1, high = 9, when = \"mode == 'x'\" }\n\
                y = { type = 'float', low = 0, high = 1, when = \"mode == 'y'\" }\none = ['only']\n\
                [[forbid]]\nif = \"mode == 'x' && x > 3\"";
    let space = SearchSpace::from_toml(text).unwrap();
    for group in [false, true] {
        let config = TpeOptuna5Config { group, ..TpeOptuna5Config::default() };
        let mut sampler = Optuna5::new(&space, &[Direction::Minimize], config);
        for number in 0..60 {
            let fixed = if number % 7 == 0 { [("mode".to_owned(), "x".into())].into() } else { Params::new() };
            let ask = Ask { number: TrialNumber(number), fixed: &fixed, running: &[], estimate: None };
            let params = sampler.suggest(&ask, &mut crate::trial_rng(1, TrialNumber(number), &[])).unwrap();
            space.check(&params).unwrap();
            assert!(fixed.iter().all(|(name, value)| params.get(name) == Some(value)));
            let value = params.get("x").and_then(Value::as_f64).unwrap_or(5.0);
            let outcome = Outcome::Complete { values: vec![value], constraints: Vec::new() };
            let number = TrialNumber(number);
            let series = Vec::new();
            let ended =
                Ended { number, params, outcome, series, repetitions_planned: 1, standard_error: None, seconds: 1.0 };
            sampler.observe(&Event::Ended(ended));
        }
    }
}
