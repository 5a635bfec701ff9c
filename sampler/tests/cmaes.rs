//! CMA-ES against the package `cmaes` (see `fixtures/make_cmaes.py`) and against random search.

mod common;

use common::{Study, complete};
use fleetune_core::measurement::median;
use fleetune_core::study::SamplerConfig;
use fleetune_core::{FailKind, Params, SearchSpace, Value};
use fleetune_sampler::Outcome;
use fleetune_sampler::cmaes::{Evolution, Grid, correct};
use serde_json::Value as Json;

fn fixture() -> Json {
    serde_json::from_str(include_str!("fixtures/cmaes.json")).unwrap()
}

fn list(json: &Json) -> Vec<f64> {
    serde_json::from_value(json.clone()).unwrap()
}

fn near(what: &str, ours: &[f64], expected: &Json) {
    for (ours, expected) in ours.iter().zip(list(expected)) {
        assert!((ours - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{what}: {ours} is not {expected}");
    }
}

fn agree(evolution: &Evolution, generation: &Json) {
    near("mean", evolution.mean(), &generation["mean"]);
    near("sigma", &[evolution.sigma()], &Json::from(vec![generation["sigma"].clone()]));
    for (row, expected) in evolution.covariance().iter().zip(generation["covariance"].as_array().unwrap()) {
        near("covariance", row, expected);
    }
    near("path of sigma", evolution.paths().0, &generation["path_sigma"]);
    near("path of C", evolution.paths().1, &generation["path_c"]);
}

#[test]
fn generations_are_those_of_the_package_cmaes() {
    for case in fixture()["plain"].as_array().unwrap() {
        let dimensions = case["dimensions"].as_u64().unwrap() as usize;
        let population = case["population"].as_u64().unwrap() as usize;
        if population != 20 {
            assert_eq!(Evolution::default_population(dimensions), population);
        }
        let mut evolution = Evolution::new(vec![0.2; dimensions], 0.3, population);
        for generation in case["generations"].as_array().unwrap() {
            let points = generation["points"].as_array().unwrap().iter().map(list).collect::<Vec<_>>();
            evolution.update(&points, (0.0, 1.0));
            agree(&evolution, generation);
        }
    }
}

#[test]
fn margins_are_those_of_the_package_cmaes() {
    for case in fixture()["margin"].as_array().unwrap() {
        let population = case["population"].as_u64().unwrap() as usize;
        let grid = |json: &Json| (!json.is_null()).then(|| Grid { borders: list(json) });
        let grids = case["borders"].as_array().unwrap().iter().map(grid).collect::<Vec<_>>();
        let mut evolution = Evolution::new(vec![0.2, 0.5, 4.0, 0.1, 0.2], 0.3, population);
        let mut stretch = vec![1.0; 5];
        for generation in case["generations"].as_array().unwrap() {
            let points = generation["points"].as_array().unwrap().iter().map(list).collect::<Vec<_>>();
            evolution.update(&points, (0.0, 1.0));
            correct(&mut evolution, &mut stretch, &grids, case["margin"].as_f64().unwrap());
            agree(&evolution, generation);
            near("stretch", &stretch, &generation["stretch"]);
        }
    }
}

fn number(params: &Params, name: &str) -> f64 {
    params.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN)
}

/// The best loss after `trials`, `workers` at once.
fn best(
    space: &SearchSpace,
    sampler: SamplerConfig,
    seed: u64,
    (trials, workers): (usize, usize),
    loss: &dyn Fn(&Params) -> Outcome,
) -> f64 {
    let mut study = Study::new(space, sampler, seed);
    let mut best = f64::INFINITY;
    for _ in 0..trials {
        study.ask(&Params::new()).unwrap();
        if study.running.len() == workers {
            study.tell(0, |params| {
                let outcome = loss(params);
                if let Outcome::Complete { values, .. } = &outcome {
                    best = best.min(values[0]);
                }
                outcome
            });
        }
    }
    best
}

/// The median best loss of 9 seeds is at most `share` of random search's, which it beats with every seed.
fn beats_random(space: &str, share: f64, size: (usize, usize), loss: &dyn Fn(&Params) -> Outcome) {
    let space = SearchSpace::from_toml(space).unwrap();
    let run =
        |sampler: SamplerConfig| (0..9).map(|seed| best(&space, sampler.clone(), seed, size, loss)).collect::<Vec<_>>();
    let (ours, random) = (run(SamplerConfig::CmaEs), run(SamplerConfig::Random));
    assert!(ours.iter().zip(&random).all(|(ours, random)| ours < random), "{ours:?} against {random:?}");
    let (ours, random) = (median(&ours).unwrap(), median(&random).unwrap());
    assert!(ours <= share * random, "{ours} against {random}");
}

fn floats() -> String {
    let parameter = |name: &str| format!("{name} = {{ type = 'float', low = -5, high = 5 }}");
    format!("[parameters]\n{}", ["a", "b", "c", "d", "e"].map(parameter).join("\n"))
}

fn sphere(params: &Params) -> Outcome {
    complete(["a", "b", "c", "d", "e"].iter().map(|name| (number(params, name) - 1.0).powi(2)).sum())
}

#[test]
fn on_a_sphere() {
    beats_random(&floats(), 0.02, (200, 1), &sphere);
}

#[test]
fn on_a_sphere_with_eight_workers() {
    beats_random(&floats(), 0.05, (200, 8), &sphere);
}

#[test]
fn in_rosenbrocks_valley() {
    beats_random(&floats(), 0.02, (200, 1), &|params| {
        let x = ["a", "b", "c", "d", "e"].map(|name| number(params, name));
        let term = |pair: &[f64]| 100.0 * (pair[1] - pair[0] * pair[0]).powi(2) + (1.0 - pair[0]).powi(2);
        complete(x.windows(2).map(term).sum())
    });
}

/// Grids, decades, a list, a switch, a condition; a third of the space fails.
#[test]
fn on_a_mixed_space_with_failures() {
    let space = "[parameters]\na = { type = 'int', low = 0, high = 60 }\nb = { type = 'int', low = 1, high = 4096, log = true }\n\
                 c = { type = 'float', low = 0, high = 2, step = 0.1 }\nd = [8, 16, 32, 64, 128]\nk = ['x', 'y']\n\
                 e = { type = 'float', low = 1e-6, high = 1, log = true, when = \"k == 'y'\" }";
    beats_random(space, 0.3, (200, 1), &|params| {
        let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| number(params, name));
        if a + 10.0 * c > 52.0 {
            return Outcome::Failed { kind: FailKind::Oom };
        }
        let e = if params["k"] == Value::from("y") { (number(params, "e").log10() + 3.0).powi(2) / 9.0 } else { 0.5 };
        let d = (d.log2() - 6.0) / 3.0;
        complete(((a - 40.0) / 20.0).powi(2) + (b.log2() - 9.0).powi(2) / 9.0 + (c - 0.7).powi(2) + d * d + e)
    });
}

/// Where every loss is the same the distribution starts anew and wider; nothing is tried twice.
#[test]
fn a_plain_is_no_trouble() {
    let space = SearchSpace::from_toml(
        "[parameters]\na = { type = 'int', low = 0, high = 999 }\nb = { type = 'float', low = 0, high = 1 }",
    )
    .unwrap();
    for value in [1.0, f64::INFINITY, f64::NAN] {
        let mut study = Study::new(&space, SamplerConfig::CmaEs, 1);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..400 {
            let trial = study.ask(&Params::new()).unwrap();
            assert!(seen.insert(fleetune_core::value::params_line(&trial.params)));
            study.tell(0, |_| complete(value));
        }
    }
}
