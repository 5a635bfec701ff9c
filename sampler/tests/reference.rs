//! Splits and log densities against Optuna 5.0.0; see `fixtures/make_reference.py`.

use fleetune_core::{Direction, Distribution};
use fleetune_sampler::tpe::{Column, Fate, Observations, Parzen, TpeOptions, Weights, split};
use serde_json::Value as Json;

fn fixture() -> Json {
    serde_json::from_str(include_str!("fixtures/reference.json")).unwrap()
}

fn table(json: &Json) -> Vec<Vec<f64>> {
    serde_json::from_value(json.clone()).unwrap()
}

#[test]
fn log_densities_are_optunas() {
    let fixture = fixture();
    let columns = fixture["distributions"].as_array().unwrap().iter().map(|text| {
        let distribution = Distribution::from_optuna_json(text.as_str().unwrap()).unwrap();
        Column::new(&distribution, false)
    });
    let columns = columns.collect::<Vec<_>>();
    for case in fixture["estimators"].as_array().unwrap() {
        let observed = table(&case["observed"]);
        let options = TpeOptions::OPTUNA.parzen;
        let mut observations = Observations::new(&columns, options);
        for row in 0..observed[0].len() {
            let raw = observed.iter().map(|column| column[row]).collect::<Vec<_>>();
            observations.insert(row as i64, &raw);
        }
        let all = (0..columns.len()).collect::<Vec<_>>();
        let rows = 0..observations.len();
        let parzen = Parzen::new(&observations, &all, &[rows], &[], Weights::Recency, options);
        let by_column = table(&case["points"]);
        let points = (0..by_column[0].len()).map(|point| by_column.iter().map(|column| column[point]).collect());
        let ours = parzen.log_density(&points.collect::<Vec<_>>());
        let expected: Vec<f64> = serde_json::from_value(case["log_density"].clone()).unwrap();
        for (ours, expected) in ours.iter().zip(&expected) {
            let difference = (ours - expected).abs();
            assert!(difference <= 1e-9, "{} observations: {ours} is not {expected}", observed[0].len());
        }
    }
}

#[test]
fn splits_are_optunas() {
    for case in fixture()["splits"].as_array().unwrap() {
        let direction = if case["direction"] == "maximize" { Direction::Maximize } else { Direction::Minimize };
        let fate = |json: &Json| {
            let value = direction.minimized(json["value"].as_str().unwrap().parse().unwrap());
            let violation = json["violation"].as_f64().unwrap();
            match json["kind"].as_str().unwrap() {
                "complete" => Fate::Complete { value, violation },
                _ => Fate::Pruned { last_step: json["last_step"].as_u64().map(|step| step as u32), value, violation },
            }
        };
        let fates = case["fates"].as_array().unwrap().iter().map(fate).collect::<Vec<_>>();
        let good: Vec<usize> = serde_json::from_value(case["good"].clone()).unwrap();
        assert_eq!(split(&fates, &[], &TpeOptions::OPTUNA).good, good);
    }
}
