//! Verdicts against Optuna 5.0.0; see `fixtures/make_pruners.py`.

use std::collections::BTreeMap;

use fleetune_core::study::PrunerConfig;
use fleetune_core::{Direction, Revision, TrialNumber, TrialState};
use fleetune_sampler::build_pruner;
use fleetune_sampler::pruner::{Field, bracket_of, signed_rank_p};
use serde_json::Value as Json;

use crate::trial::Trial;

fn fixture() -> Json {
    serde_json::from_str(include_str!("../fixtures/pruners.json")).unwrap()
}

fn direction(json: &Json) -> Direction {
    if json == "maximize" { Direction::Maximize } else { Direction::Minimize }
}

/// Also whatever the order in which the field lists the trials, and whether it lists the one that asks.
#[test]
fn verdicts_are_optunas() {
    let fixture = fixture();
    let mut verdicts = BTreeMap::<String, [u32; 2]>::new();
    for study in fixture["studies"].as_array().unwrap() {
        let config: PrunerConfig = serde_json::from_value(study["pruner"].clone()).unwrap();
        config.check().unwrap();
        let pruner = build_pruner(&config, direction(&study["direction"]));
        let mut trials = BTreeMap::<i64, Trial>::new();
        for (time, event) in study["events"].as_array().unwrap().iter().enumerate() {
            let event = event.as_array().unwrap();
            let number = event[0].as_i64().unwrap();
            let steps = Vec::new();
            let state = TrialState::Running;
            let trial =
                trials.entry(number).or_insert(Trial { state, ended: None, value: None, feasible: true, steps });
            if event.len() == 1 {
                continue;
            }
            if let Some(state) = event[1].as_str() {
                trial.state = TrialState::from_name(state).unwrap();
                trial.ended = Some(Revision(time as i64));
                trial.value = event[2].as_f64();
                trial.feasible = event[3].as_f64() == Some(0.0);
                continue;
            }
            trial.steps.push((event[1].as_u64().unwrap() as u32, event[2].as_f64().unwrap()));
            let listed = trials.iter().filter(|(other, _)| time % 2 == 0 || **other != number);
            let mut field = Field {
                study: study["study"].as_str().unwrap(),
                trials: listed.map(|(number, trial)| trial.candidate(*number)).collect(),
                repetitions: None,
            };
            let own = trials[&number].candidate(number);
            let expected = event[3].as_bool().unwrap();
            let told = || format!("{} event {time}: {event:?}", study["study"]);
            assert_eq!(pruner.should_stop(&field, &own), expected, "{}", told());
            if !matches!(config, PrunerConfig::Wilcoxon(_)) {
                field.trials.reverse();
                assert_eq!(pruner.should_stop(&field, &own), expected, "{}", told());
            }
            verdicts.entry(study["pruner"].to_string()).or_default()[usize::from(expected)] += 1;
        }
    }
    assert_eq!(verdicts.len(), 17);
    for (pruner, [kept, stopped]) in verdicts {
        assert!(kept > 10 && stopped > 10, "the fixture shows too little of {pruner}: {kept} kept, {stopped} stopped");
    }
}

#[test]
fn p_values_are_scipys() {
    for case in fixture()["p_values"].as_array().unwrap() {
        let differences: Vec<f64> = serde_json::from_value(case["differences"].clone()).unwrap();
        let (ours, expected) = (signed_rank_p(&differences), case["p"].as_f64().unwrap());
        assert!((ours - expected).abs() <= 1e-12, "{differences:?}: {ours} is not {expected}");
    }
}

#[test]
fn brackets_are_optunas() {
    for case in fixture()["brackets"].as_array().unwrap() {
        let number = |key: &str| case[key].as_u64().unwrap() as u32;
        let options = fleetune_core::study::HyperbandConfig {
            min_resource: number("min"),
            reduction_factor: number("eta"),
            ..Default::default()
        };
        let of: Vec<usize> = serde_json::from_value(case["of"].clone()).unwrap();
        let ours = (0..of.len()).map(|trial| bracket_of(options, number("max"), "s", TrialNumber(trial as i64)));
        assert_eq!(ours.collect::<Vec<_>>(), of, "{case}");
    }
}
