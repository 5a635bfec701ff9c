//! Prints how well the samplers search: mean scores over named problems and seeds.
//!
//! `cargo run --release -p fleetune-sampler --example regret -- [seeds] [trials] [workers] [problem]`

#![allow(clippy::format_collect, reason = "tables, a few lines")]

#[path = "../tests/common/problems.rs"]
#[allow(dead_code, missing_docs, reason = "shared with tests")]
mod problems;

use std::time::Instant;

use fleetune_core::study::SamplerConfig;
use problems::{Machine, Prediction, Search, llama, problems, scores};

const MARKS: [usize; 4] = [20, 30, 50, 100];

#[expect(clippy::print_stdout, reason = "a table is what it is for")]
fn main() {
    let arguments = std::env::args().skip(1).collect::<Vec<_>>();
    let argument = |index: usize, default: u64| arguments.get(index).map_or(default, |text| text.parse().unwrap());
    let (seeds, trials, workers) = (argument(0, 5), argument(1, 100) as usize, argument(2, 1) as usize);
    let only = arguments.get(3);
    let marks = MARKS.into_iter().filter(|mark| *mark <= trials).collect::<Vec<_>>();
    let samplers = [SamplerConfig::Random, SamplerConfig::Tpe, SamplerConfig::Auto];
    let mut totals = vec![vec![Vec::new(); marks.len()]; samplers.len()];
    let mut seconds = vec![0.0; samplers.len()];
    println!(
        "{:<16} {:<8} {}",
        "problem",
        "sampler",
        marks.iter().map(|mark| format!("{mark:>7}")).collect::<String>()
    );
    for index in 0..problems(0).len() {
        if only.is_some_and(|only| *only != problems(0)[index].name) {
            continue;
        }
        for (which, sampler) in samplers.iter().enumerate() {
            let mut sums = vec![0.0; marks.len()];
            let mut failed = 0;
            let mut name = "";
            for seed in 0..seeds {
                let problem = problems(seed).swap_remove(index);
                name = problem.name;
                let search = Search { sampler: sampler.clone(), trials, workers, estimate: None };
                let start = Instant::now();
                let (score, bad) = scores(&problem, &search, &marks, seed);
                seconds[which] += start.elapsed().as_secs_f64();
                failed += bad;
                for (mark, score) in score.into_iter().enumerate() {
                    sums[mark] += score / seeds as f64;
                    totals[which][mark].push(score);
                }
            }
            print_row(name, sampler.name(), &sums, failed as f64 / seeds as f64);
        }
    }
    for (which, sampler) in samplers.iter().enumerate() {
        let means = totals[which].iter().map(|scores| scores.iter().sum::<f64>() / scores.len() as f64);
        print_row("mean", sampler.name(), &means.collect::<Vec<_>>(), seconds[which]);
    }
    if only.is_some_and(|only| only != "knowledge") {
        return;
    }
    for (name, memory, speed, shuffled) in [
        ("right", 1.0, 1.0, false),
        ("1.3 x", 1.3, 1.0, false),
        ("0.7 x", 0.7, 0.5, false),
        ("upside", 1.0, -1.0, false),
        ("shuffled", 1.0, 1.0, true),
    ] {
        let mut sums = vec![0.0; marks.len()];
        let mut failed = 0;
        for seed in 0..seeds {
            let estimate = Prediction { machine: Machine::new(seed), memory, speed, shuffled };
            let search = Search { sampler: SamplerConfig::Auto, trials, workers, estimate: Some(&estimate) };
            let (score, bad) = scores(&llama("llama", seed, 0.02), &search, &marks, seed);
            failed += bad;
            score.into_iter().enumerate().for_each(|(mark, score)| sums[mark] += score / seeds as f64);
        }
        print_row("llama, estimate", name, &sums, failed as f64 / seeds as f64);
    }
}

#[expect(clippy::print_stdout, reason = "a table is what it is for")]
fn print_row(problem: &str, sampler: &str, scores: &[f64], last: f64) {
    println!(
        "{problem:<16} {sampler:<8} {} {last:>7.1}",
        scores.iter().map(|score| format!("{score:>7.3}")).collect::<String>()
    );
}
