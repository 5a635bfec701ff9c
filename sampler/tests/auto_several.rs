//! The default sampler on several objectives, against NSGA-II and random search.

#[allow(dead_code, reason = "shared with other tests")]
mod common;

use common::Study;
use fleetune_core::study::{Direction, SamplerConfig, StudyConfig};
use fleetune_core::{FailKind, Params, SearchSpace, Value};
use fleetune_sampler::Outcome;
use fleetune_sampler::analysis::{front, hypervolume};

fn number(params: &Params, name: &str) -> f64 {
    params.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN)
}

/// The mean hypervolume over seeds after `trials`, two at once.
fn volume(
    space: &str,
    sampler: &SamplerConfig,
    trials: usize,
    reference: &[f64],
    run: &dyn Fn(&Params) -> Outcome,
) -> f64 {
    const SEEDS: u64 = 3;
    let space = SearchSpace::from_toml(space).unwrap();
    let of = |seed| {
        let directions = vec![Direction::Minimize; reference.len()];
        let mut study = Study::of(&StudyConfig { directions, ..common::config(&space, sampler.clone(), seed) });
        let mut losses = Vec::new();
        for _ in 0..trials {
            study.ask(&Params::new()).unwrap();
            if study.running.len() == 2 {
                study.tell(0, |params| {
                    let outcome = run(params);
                    if let Outcome::Complete { values, .. } = &outcome {
                        losses.push(values.clone());
                    }
                    outcome
                });
            }
        }
        let front = front(&losses).into_iter().map(|index| losses[index].clone()).collect::<Vec<_>>();
        hypervolume(&front, reference)
    };
    (0..SEEDS).map(of).sum::<f64>() / SEEDS as f64
}

fn beats(space: &str, trials: usize, reference: &[f64], factor: f64, run: &dyn Fn(&Params) -> Outcome) {
    let of = |sampler| volume(space, &sampler, trials, reference, run);
    let auto = of(SamplerConfig::Auto);
    for other in [SamplerConfig::Random, SamplerConfig::NsgaIi] {
        let name = other.name();
        let theirs = of(other);
        assert!(auto >= factor * theirs, "{auto:.3} against {theirs:.3} of {name}");
    }
}

/// Time against memory; what needs too much fails.
#[test]
fn it_finds_the_front_of_a_mixed_space_with_failures() {
    let space = "[parameters]\nlayers = { type = 'int', low = 0, high = 40 }\nkv = ['f16', 'q8_0', 'q4_0']\n\
                 batch = [32, 64, 128, 256, 512]\nthreads = { type = 'int', low = 1, high = 16 }";
    beats(space, 50, &[100.0, 40.0], 1.05, &|params| {
        let kv = ["f16", "q8_0", "q4_0"].iter().position(|kv| params["kv"].as_str() == Some(kv)).unwrap() as f64;
        let memory = number(params, "layers") * (1.0 - 0.15 * kv) + number(params, "batch") / 64.0;
        if memory > 34.0 {
            return Outcome::Failed { kind: FailKind::Oom };
        }
        let slow =
            1.0 + (number(params, "threads") - 6.0).abs() / 8.0 + (number(params, "batch").log2() - 8.0).abs() / 6.0;
        let time = (90.0 - 2.0 * number(params, "layers") + 3.0 * kv) * slow / 1.5;
        Outcome::Complete { values: vec![time, memory], constraints: vec![] }
    });
}

/// Three bowls: every point of the triangle between their centres is on the front.
#[test]
fn it_finds_the_front_of_three_objectives() {
    let lines = ["a", "b", "c", "d"].map(|name| format!("{name} = {{ type = 'float', low = 0, high = 1 }}\n"));
    let centres = [[0.2, 0.2, 0.5, 0.3], [0.8, 0.3, 0.5, 0.6], [0.5, 0.8, 0.5, 0.9]];
    beats(&format!("[parameters]\n{}", lines.concat()), 40, &[1.0; 3], 1.1, &|params| {
        let x = ["a", "b", "c", "d"].map(|name| number(params, name));
        let loss = |centre: &[f64; 4]| x.iter().zip(centre).map(|(x, c)| (x - c) * (x - c)).sum::<f64>();
        Outcome::Complete { values: centres.iter().map(loss).collect(), constraints: vec![] }
    });
}
