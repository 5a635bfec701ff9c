//! What earlier studies are worth to the default sampler: much on the same machine, something on another one, and no
//! lasting harm when they say the opposite.

#![allow(clippy::format_collect, reason = "a few lines")]

#[allow(dead_code, reason = "shared with other tests")]
mod common;
#[path = "common/problems.rs"]
#[allow(dead_code, missing_docs, reason = "shared with an example")]
mod problems;

use fleetune_core::study::{EarlierStudy, EarlierTrial, SamplerConfig, StudyConfig};
use fleetune_core::{Params, SearchSpace, TrialNumber, Turn, Value};
use fleetune_sampler::{Ask, Running, build, trial_rng};
use problems::{Problem, Search, llama, problems, scores};

const SEEDS: u64 = 4;

/// What a random search of 40 trials leaves behind.
fn earlier(problem: &Problem, seed: u64, similarity: f64) -> EarlierStudy {
    let space = SearchSpace::from_toml(&problem.space).unwrap();
    let random = build(&common::config(&space, SamplerConfig::Random, seed)).unwrap();
    let mut noise = trial_rng(seed, TrialNumber(7), &["earlier"]);
    let fixed = Params::new();
    let run = |number| {
        let ask = Ask { number: TrialNumber(number), fixed: &fixed, running: &[], estimate: None };
        let params = random.suggest(&ask, &mut trial_rng(seed + 1_000, ask.number, &[])).unwrap();
        let (value, constraint) = (problem.function)(&params).ok()?;
        let value = problem.noise.measured(value, &mut noise);
        constraint.is_none_or(|constraint| constraint <= 0.0).then_some((value, params))
    };
    let mut found = (0..40).filter_map(run).collect::<Vec<_>>();
    found.sort_by(|a, b| a.0.total_cmp(&b.0));
    let last = (found.len().max(2) - 1) as f64;
    let trial = |(rank, (_, params))| EarlierTrial { params, rank: rank as f64 / last };
    let trials = found.into_iter().enumerate().map(trial).collect();
    EarlierStudy { name: "before".to_owned(), setting: None, similarity, trials }
}

fn upside_down(mut study: EarlierStudy) -> EarlierStudy {
    study.trials.iter_mut().for_each(|trial| trial.rank = 1.0 - trial.rank);
    study.trials.reverse();
    study
}

fn mean(problem: &dyn Fn(u64) -> Problem, known: &dyn Fn(u64) -> Vec<EarlierStudy>, trials: usize) -> f64 {
    let score = |seed| {
        let earlier = known(seed);
        let search = Search { sampler: SamplerConfig::Auto, trials, workers: 1, estimate: None, earlier: &earlier };
        scores(&problem(seed), &search, &[trials], seed).scores[0]
    };
    (0..SEEDS).map(score).sum::<f64>() / SEEDS as f64
}

fn machine(seed: u64) -> Problem {
    llama("llama", seed, 0.02)
}

fn smooth(seed: u64) -> Problem {
    problems(seed).swap_remove(1)
}

#[test]
fn a_study_of_the_same_machine_is_worth_much_and_one_of_another_something() {
    let cold = mean(&machine, &|_| Vec::new(), 12);
    let same = mean(&machine, &|seed| vec![earlier(&machine(seed), seed, 1.0)], 12);
    let other = mean(&machine, &|seed| vec![earlier(&machine(seed + 50), seed, 0.6)], 12);
    assert!(same >= cold + 0.25, "the same: {same:.3} against {cold:.3}");
    assert!(other >= cold + 0.1, "another: {other:.3} against {cold:.3}");
}

#[test]
fn what_says_the_opposite_does_no_lasting_harm() {
    for (problem, trials) in [(&machine as &dyn Fn(u64) -> Problem, 30), (&smooth, 40)] {
        let cold = mean(problem, &|_| Vec::new(), trials);
        let wrong = mean(problem, &|seed| vec![upside_down(earlier(&problem(seed), seed, 1.0))], trials);
        assert!(wrong >= cold - 0.05, "{trials} trials: {wrong:.3} against {cold:.3}");
    }
}

/// The best configurations of the others come first, and take no more than a third of the trials.
#[test]
fn the_best_of_them_come_first() {
    let problem = machine(1);
    let known = earlier(&problem, 1, 1.0);
    for (planned, first) in [(100, 3), (6, 2), (2, 0)] {
        let (planned_trials, earlier) = (Some(planned), vec![known.clone()]);
        let space = SearchSpace::from_toml(&problem.space).unwrap();
        let config = StudyConfig { planned_trials, earlier, ..common::config(&space, SamplerConfig::Auto, 3) };
        let sampler = build(&config).unwrap();
        let mut running = Vec::new();
        for turn in 0..4 {
            let (number, fixed) = (TrialNumber(turn), Params::new());
            let ask = Ask { number, fixed: &fixed, running: &running, estimate: None };
            let params = sampler.suggest(&ask, &mut trial_rng(3, number, &[])).unwrap();
            let is_theirs = known.trials.iter().any(|trial| trial.rank <= 0.35 && trial.params == params);
            assert_eq!(is_theirs, turn < first, "{planned} planned, trial {turn}: {params:?}");
            running.push(Running { turn: Turn(turn), number, params });
        }
    }
}

/// Neither parameters that they lack nor such as only they have are in the way.
#[test]
fn studies_of_another_space_teach_what_they_can() {
    let space = "[parameters]\nx = { type = 'float', low = 0, high = 1 }\nnew = ['a', 'b']\n\
                 k = { type = 'int', low = 1, high = 4 }";
    let trial = |x: f64| EarlierTrial {
        params: Params::from([
            ("x".to_owned(), Value::Float(x)),
            ("gone".to_owned(), Value::Int(3)),
            ("k".to_owned(), Value::Int(99)),
        ]),
        rank: (x - 0.2).abs(),
    };
    let trials = [0.2, 0.3, 0.1, 0.5, 0.7, 0.9].map(trial).to_vec();
    let earlier = vec![EarlierStudy { name: "before".to_owned(), setting: None, similarity: 1.0, trials }];
    let space = SearchSpace::from_toml(space).unwrap();
    let config = StudyConfig { earlier, ..common::config(&space, SamplerConfig::Auto, 3) };
    let fixed = Params::new();
    let ask = Ask { number: TrialNumber(0), fixed: &fixed, running: &[], estimate: None };
    let params = build(&config).unwrap().suggest(&ask, &mut trial_rng(3, ask.number, &[])).unwrap();
    assert_eq!((space.check(&params), params["x"].as_f64()), (Ok(()), Some(0.2)), "{params:?}");
}
