//! Histories and spaces that are hard on numbers: an answer each time, never a panic.

mod common;

use common::{Study, complete, config};
use fleetune_core::study::SamplerConfig;
use fleetune_core::{Direction, FailKind, Params, SearchSpace, Value};
use fleetune_sampler::{Outcome, SpaceExhausted};

const SPACE: &str = "[parameters]\nx = { type = 'float', low = 1e-9, high = 1e3, log = true }\n\
                     n = { type = 'int', low = 9007199254740900, high = 9007199254740992 }\nk = { choices = ['a', 'b'] }\n\
                     t = { type = 'float', low = 0, high = 3, step = 0.1 }\nsame = { type = 'int', low = 3, high = 3 }";

fn search(space: &str, seed: u64, trials: usize, workers: usize, outcome: &dyn Fn(&Params, usize) -> Outcome) -> Study {
    let space = SearchSpace::from_toml(space).unwrap();
    let mut study = Study::new(&space, SamplerConfig::Auto, seed);
    for trial in 0..trials {
        let asked = study.ask(&Params::new()).unwrap();
        assert_eq!(space.check(&asked.params), Ok(()));
        if study.running.len() == workers {
            study.tell(trial % workers, |params| outcome(params, trial));
        }
    }
    study
}

#[test]
fn hopeless_values_are_no_trouble() {
    let told = |kind: usize| {
        move |params: &Params, trial: usize| match kind {
            0 => complete(1.0),
            1 => complete(f64::INFINITY),
            2 => complete(f64::NAN),
            3 => complete(f64::NEG_INFINITY),
            4 => Outcome::Failed { kind: FailKind::Oom },
            5 => Outcome::Failed { kind: FailKind::Error },
            6 => Outcome::Complete { values: vec![], constraints: vec![] },
            7 => complete(if trial == 0 { f64::MAX } else { -f64::MAX }),
            8 => complete(f64::from_bits(trial as u64)),
            9 => Outcome::Pruned { value: None, last_step: None, constraints: vec![] },
            _ => complete(params["x"].as_f64().unwrap()),
        }
    };
    for kind in 0..11 {
        search(SPACE, kind as u64, 25, 1, &told(kind));
        search(SPACE, kind as u64, 25, 4, &told(kind));
    }
}

#[test]
fn one_value_among_failures_is_no_trouble() {
    search(SPACE, 1, 30, 2, &|_, trial| {
        if trial == 4 { complete(7.0) } else { Outcome::Failed { kind: FailKind::Crash } }
    });
}

#[test]
fn constraints_of_every_kind_are_no_trouble() {
    let constraint = |kind: usize, params: &Params| match kind {
        0 => vec![1.0],
        1 => vec![-1.0],
        2 => vec![0.0],
        3 => vec![f64::NAN],
        4 => vec![f64::NEG_INFINITY],
        5 => vec![params["t"].as_f64().unwrap() - 1.0, -1.0],
        6 if params["k"].as_str() == Some("a") => vec![],
        6 => vec![1e-300, -1e300],
        _ => vec![params["x"].as_f64().unwrap() * 1e300],
    };
    for kind in 0..8 {
        search(SPACE, kind as u64, 22, 2, &|params, _| Outcome::Complete {
            values: vec![params["t"].as_f64().unwrap()],
            constraints: constraint(kind, params),
        });
    }
}

/// A twentieth of the space runs, and nothing says where.
#[test]
fn an_island_is_found() {
    let names = ["a", "b", "c", "d"];
    let line = |name: &str| format!("{name} = {{ type = 'float', low = 0, high = 1 }}\n");
    let space = format!("[parameters]\n{}", names.map(line).concat());
    for seed in 0..4 {
        let gap = |params: &Params| {
            let gaps = names.iter().zip([0.7, 0.35, 0.6, 0.4]).map(|(name, at)| params[*name].as_f64().unwrap() - at);
            gaps.map(|gap| gap * gap).sum::<f64>().sqrt()
        };
        let study = search(&space, seed, 80, 1, &|params, _| {
            if gap(params) < 0.33 { complete(gap(params)) } else { Outcome::Failed { kind: FailKind::Crash } }
        });
        let best = study.events.iter().filter_map(|event| {
            let fleetune_sampler::Event::Ended(ended) = event else { return None };
            Some(gap(&ended.params))
        });
        let best = best.fold(f64::INFINITY, f64::min);
        assert!(best < 0.1, "seed {seed}: {best}");
    }
}

#[test]
fn a_measured_constraint_is_kept() {
    let space = "[parameters]\nx = { type = 'float', low = 0, high = 1 }\ny = { type = 'float', low = 0, high = 1 }";
    let number = |params: &Params, name: &str| params[name].as_f64().unwrap();
    let study = search(space, 3, 40, 1, &|params, _| Outcome::Complete {
        values: vec![-number(params, "x") - number(params, "y")],
        constraints: vec![number(params, "x") + number(params, "y") - 1.0],
    });
    let sums = study.events.iter().filter_map(|event| {
        let fleetune_sampler::Event::Ended(ended) = event else { return None };
        Some(number(&ended.params, "x") + number(&ended.params, "y"))
    });
    let best = sums.filter(|sum| *sum <= 1.0).fold(0.0, f64::max);
    assert!(best > 0.99, "{best}");
}

#[test]
fn a_thousand_choices_and_deep_conditions_are_no_trouble() {
    let choices = (0..1_000).map(|choice| format!("'c{choice}'")).collect::<Vec<_>>().join(", ");
    let space = format!(
        "[parameters]\nmany = [{choices}]\na = ['on', 'off']\nb = {{ choices = ['on', 'off'], when = \"a == 'on'\" }}\n\
         c = {{ choices = ['on', 'off'], when = \"b == 'on'\" }}\nd = {{ type = 'float', low = 0, high = 1, when = \"c == 'on'\" }}"
    );
    search(&space, 5, 25, 3, &|params, trial| {
        complete(params.get("d").and_then(Value::as_f64).unwrap_or(trial as f64))
    });
}

#[test]
fn a_single_configuration_is_repeated() {
    let study = search("[parameters]\none = [1]\nsame = { type = 'float', low = 2, high = 2 }", 1, 15, 1, &|_, _| {
        complete(1.0)
    });
    assert_eq!(study.events.len(), 15);
}

#[test]
fn when_everything_was_tried_the_best_is_repeated() {
    let space = "[parameters]\na = [1, 2, 3, 4]\nb = ['x', 'y', 'z']";
    let study = search(space, 3, 12, 1, &|params, _| {
        complete((params["a"].as_f64().unwrap() - 3.0).abs() + f64::from(params["b"].as_str() != Some("y")))
    });
    assert_eq!(fleetune_core::value::params_line(&study.peek(&Params::new()).unwrap()), "a=3 b=y");
}

#[test]
fn a_space_within_the_budget_is_searched_whole() {
    let space = SearchSpace::from_toml("[parameters]\na = [1, 2, 3, 4]\nb = ['x', 'y', 'z']").unwrap();
    let mut config = config(&space, SamplerConfig::Auto, 3);
    config.planned_trials = Some(12);
    let (mut auto, mut grid) = (Study::of(&config), Study::new(&space, SamplerConfig::Grid, 3));
    for _ in 0..12 {
        assert_eq!(auto.ask(&Params::new()), grid.ask(&Params::new()));
        auto.tell(0, |_| complete(1.0));
        grid.tell(0, |_| complete(1.0));
    }
    assert_eq!(grid.peek(&Params::new()), Err(SpaceExhausted::AllTried));
    assert_eq!(space.check(&auto.peek(&Params::new()).unwrap()), Ok(()));
}

#[test]
fn several_objectives_of_every_kind_are_no_trouble() {
    let space = SearchSpace::from_toml(SPACE).unwrap();
    let told = |kind: usize, trial: f64| match kind {
        0 => vec![1.0, 1.0],
        1 => vec![trial, f64::INFINITY],
        2 => vec![f64::NEG_INFINITY, trial],
        3 => vec![trial, f64::NAN],
        4 => vec![trial],
        5 => vec![f64::MAX, -f64::MAX],
        _ => vec![trial, -trial],
    };
    for kind in 0..7 {
        let mut config = config(&space, SamplerConfig::Auto, 3);
        config.directions = vec![Direction::Minimize, Direction::Maximize];
        let mut study = Study::of(&config);
        for trial in 0..25 {
            let asked = study.ask(&Params::new()).unwrap();
            assert_eq!(space.check(&asked.params), Ok(()));
            if study.running.len() == 3 {
                study.tell(1, |_| Outcome::Complete { values: told(kind, f64::from(trial)), constraints: vec![] });
            }
        }
        assert!(study.sampler.ranking(None).is_empty());
    }
}

/// Beyond the sizes that a Gaussian process is good for, the answers are those of the Parzen estimator.
#[test]
fn many_parameters_are_left_to_the_parzen_estimator() {
    let lines = (0..41).map(|k| format!("p{k} = {{ type = 'float', low = 0, high = 1 }}")).collect::<Vec<_>>();
    let space = SearchSpace::from_toml(&format!("[parameters]\n{}", lines.join("\n"))).unwrap();
    let mut auto = Study::new(&space, SamplerConfig::Auto, 3);
    let mut tpe = Study::new(&space, SamplerConfig::Tpe, 3);
    for trial in 0..15 {
        assert_eq!(auto.ask(&Params::new()), tpe.ask(&Params::new()));
        auto.tell(0, |_| complete(f64::from(trial)));
        tpe.tell(0, |_| complete(f64::from(trial)));
    }
}

#[test]
fn many_trials_are_left_to_the_parzen_estimator() {
    let space = SearchSpace::from_toml("[parameters]\nx = { type = 'float', low = 0, high = 1 }").unwrap();
    let mut auto = Study::new(&space, SamplerConfig::Auto, 3);
    let mut tpe = Study::new(&space, SamplerConfig::Tpe, 3);
    let random = Study::new(&space, SamplerConfig::Random, 3);
    for trial in 0..501 {
        let params = random.sampler.suggest(
            &fleetune_sampler::Ask {
                number: fleetune_core::TrialNumber(trial),
                fixed: &Params::new(),
                running: &[],
                estimate: None,
            },
            &mut fleetune_sampler::trial_rng(9, fleetune_core::TrialNumber(trial), &[]),
        );
        let params = params.unwrap();
        for study in [&mut auto, &mut tpe] {
            study.ask(&params).unwrap();
            study.tell(0, |params| complete(params["x"].as_f64().unwrap()));
        }
        if trial == 499 {
            assert_ne!(auto.peek(&Params::new()), tpe.peek(&Params::new()));
        }
    }
    assert_eq!(auto.peek(&Params::new()), tpe.peek(&Params::new()));
}
