//! NSGA-II against random search on named problems with several objectives.

mod common;

use common::{Study, complete};
use fleetune_core::study::{Direction, SamplerConfig, StudyConfig};
use fleetune_core::{FailKind, Params, SearchSpace, Value};
use fleetune_sampler::Outcome;
use fleetune_sampler::analysis::{front, hypervolume};

const SEEDS: u64 = 5;

fn number(params: &Params, name: &str) -> f64 {
    params.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN)
}

/// The losses of the feasible trials of a search of `trials`, four at once.
fn search(
    space: &SearchSpace,
    sampler: SamplerConfig,
    seed: u64,
    trials: usize,
    function: &dyn Fn(&Params) -> Outcome,
) -> Vec<Vec<f64>> {
    let directions = vec![Direction::Minimize, Direction::Maximize];
    let config = StudyConfig { directions, ..common::config(space, sampler, seed) };
    let mut study = Study::of(&config);
    let mut losses = Vec::new();
    for _ in 0..trials {
        study.ask(&Params::new()).unwrap();
        if study.running.len() == 4 {
            study.tell(1, |params| {
                let outcome = function(params);
                if let Outcome::Complete { values, constraints } = &outcome
                    && constraints.iter().all(|c| *c <= 0.0)
                {
                    losses.push(vec![values[0], -values[1]]);
                }
                outcome
            });
        }
    }
    losses
}

/// The hypervolume is larger than random search's by `margin` with every seed.
fn beats_random(space: &str, reference: &[f64], margin: f64, trials: usize, function: &dyn Fn(&Params) -> Outcome) {
    let space = SearchSpace::from_toml(space).unwrap();
    for seed in 0..SEEDS {
        let volume = |sampler| {
            let losses = search(&space, sampler, seed, trials, function);
            let front = front(&losses).into_iter().map(|index| losses[index].clone()).collect::<Vec<_>>();
            hypervolume(&front, reference)
        };
        let (ours, random) = (volume(SamplerConfig::NsgaIi), volume(SamplerConfig::Random));
        assert!(ours >= random + margin, "seed {seed}: {ours} against {random}");
    }
}

/// Zitzler, Deb and Thiele's first problem in 30 dimensions; the second objective is turned around.
#[test]
fn on_zdt1() {
    let parameter = |index| format!("x{index:02} = {{ type = 'float', low = 0, high = 1 }}");
    let space = format!("[parameters]\n{}", (0..30).map(parameter).collect::<Vec<_>>().join("\n"));
    beats_random(&space, &[1.1, 7.0], 0.8, 500, &|params| {
        let x = params.values().map(|value| value.as_f64().unwrap()).collect::<Vec<_>>();
        let g = 1.0 + 9.0 * x[1..].iter().sum::<f64>() / 29.0;
        Outcome::Complete { values: vec![x[0], -g * (1.0 - (x[0] / g).sqrt())], constraints: Vec::new() }
    });
}

/// Memory against speed on a grid with a condition; some of it fails, some of it breaks a constraint.
#[test]
fn on_a_mixed_space_with_failures_and_a_constraint() {
    let space = "[parameters]\nngl = { type = 'int', low = 0, high = 60 }\nctx = { type = 'int', low = 512, high = 32768, step = 256 }\n\
                 batch = [32, 64, 128, 256, 512, 1024]\nkv = ['f16', 'q8_0', 'q4_0']\nspec = ['none', 'draft']\n\
                 draft = { type = 'int', low = 1, high = 24, when = \"spec == 'draft'\" }";
    beats_random(space, &[40.0, 0.0], 150.0, 400, &|params| {
        let bytes = match params["kv"].as_str() {
            Some("f16") => 2.0,
            Some("q8_0") => 1.0,
            _ => 0.5,
        };
        let memory =
            number(params, "ngl") * (0.3 + bytes * number(params, "ctx") / 1e5) + number(params, "batch") / 500.0;
        if memory > 40.0 {
            return Outcome::Failed { kind: FailKind::Oom };
        }
        let draft = if params.contains_key("draft") { 1.2 - (number(params, "draft") - 6.0).abs() / 20.0 } else { 1.0 };
        let batch = 1.0 - (number(params, "batch").log2() - 9.0).abs() / 8.0;
        let speed = draft * batch * (10.0 + number(params, "ngl")) * if bytes < 1.0 { 0.9 } else { 1.0 };
        let constraints = vec![4_096.0 - number(params, "ctx")];
        Outcome::Complete { values: vec![memory, speed], constraints }
    });
}

#[test]
fn on_one_objective() {
    let parameter = |name: &str| format!("{name} = {{ type = 'float', low = -5, high = 5 }}");
    let space = format!("[parameters]\n{}", ["a", "b", "c", "d", "e"].map(parameter).join("\n"));
    let space = SearchSpace::from_toml(&space).unwrap();
    for seed in 0..SEEDS {
        let best = |sampler| {
            let mut study = Study::new(&space, sampler, seed);
            let mut best = f64::INFINITY;
            for _ in 0..400 {
                let trial = study.ask(&Params::new()).unwrap();
                let loss = trial.params.keys().map(|name| (number(&trial.params, name) - 1.0).powi(2)).sum::<f64>();
                best = best.min(loss);
                study.tell(0, |_| complete(loss));
            }
            best
        };
        let (ours, random) = (best(SamplerConfig::NsgaIi), best(SamplerConfig::Random));
        assert!(ours <= 0.5 * random, "seed {seed}: {ours} against {random}");
    }
}
