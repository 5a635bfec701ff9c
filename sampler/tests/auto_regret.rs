//! The default sampler beats random search and the tree-structured Parzen estimator on named problems, fixed seeds,
//! stated margins.

#![allow(clippy::format_collect, reason = "a few lines")]

#[path = "common/problems.rs"]
#[allow(dead_code, missing_docs, reason = "shared with an example")]
mod problems;

use fleetune_core::study::SamplerConfig;
use problems::{Machine, Prediction, Search, llama, problems, scores};

const MARKS: [usize; 3] = [30, 50, 100];

/// Mean scores over problems and seeds after each mark.
fn mean(sampler: &SamplerConfig, workers: usize, seeds: u64, marks: &[usize]) -> Vec<f64> {
    let mut sums = vec![0.0; marks.len()];
    let mut count = 0.0;
    for seed in 0..seeds {
        for problem in problems(seed) {
            let trials = marks[marks.len() - 1];
            let search = Search { sampler: sampler.clone(), trials, workers, estimate: None, earlier: &[] };
            let found = scores(&problem, &search, marks, seed);
            sums.iter_mut().zip(found.scores).for_each(|(sum, score)| *sum += score);
            count += 1.0;
        }
    }
    sums.into_iter().map(|sum| sum / count).collect()
}

fn ahead(auto: &[f64], other: &[f64], margins: &[f64]) {
    for ((auto, other), margin) in auto.iter().zip(other).zip(margins) {
        assert!(auto - other >= *margin, "{auto:.3} against {other:.3}, not {margin} ahead");
    }
}

#[test]
fn it_beats_random_search_and_the_parzen_estimator() {
    let auto = mean(&SamplerConfig::Auto, 1, 2, &MARKS);
    ahead(&auto, &mean(&SamplerConfig::Random, 1, 2, &MARKS), &[0.2, 0.2, 0.2]);
    ahead(&auto, &mean(&SamplerConfig::Tpe, 1, 2, &MARKS), &[0.1, 0.08, 0.05]);
}

/// Eight at a time in lock step.
#[test]
fn it_beats_them_with_eight_workers_too() {
    let auto = mean(&SamplerConfig::Auto, 8, 2, &[48]);
    ahead(&auto, &mean(&SamplerConfig::Random, 8, 2, &[48]), &[0.2]);
    ahead(&auto, &mean(&SamplerConfig::Tpe, 8, 2, &[48]), &[0.08]);
}

/// Mean score and failures on machines with a wall, given an estimate.
fn informed(estimate: Option<(f64, f64, bool)>, trials: usize) -> (f64, usize) {
    const SEEDS: u64 = 6;
    let (mut sum, mut failures) = (0.0, 0);
    for seed in 0..SEEDS {
        let of = |(memory, speed, shuffled)| Prediction { machine: Machine::new(seed), memory, speed, shuffled };
        let prediction = estimate.map(of);
        let estimate = prediction.as_ref().map(|prediction| prediction as _);
        let search = Search { sampler: SamplerConfig::Auto, trials, workers: 1, estimate, earlier: &[] };
        let found = scores(&llama("llama", seed, 0.02), &search, &[trials], seed);
        sum += found.scores[0];
        failures += found.failed;
    }
    (sum / SEEDS as f64, failures)
}

#[test]
fn an_estimate_that_is_roughly_right_helps() {
    let (blind, failures) = informed(None, 30);
    for estimate in [(1.0, 1.0, false), (1.3, 1.0, false), (0.75, 0.5, false)] {
        let (score, failed) = informed(Some(estimate), 30);
        assert!(score >= blind + 0.05, "{estimate:?}: {score:.3} against {blind:.3}");
        assert!(2 * failed <= failures, "{estimate:?}: {failed} failures against {failures}");
    }
}

/// Of speeds upside down, and of nonsense.
#[test]
fn an_estimate_that_is_wrong_does_no_lasting_harm() {
    let (blind, _) = informed(None, 60);
    for estimate in [(1.0, -1.0, false), (1.0, 1.0, true)] {
        let (score, _) = informed(Some(estimate), 60);
        assert!(score >= blind - 0.06, "{estimate:?}: {score:.3} against {blind:.3}");
    }
}
