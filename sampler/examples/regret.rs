//! Prints how well the samplers search: mean scores over problems and seeds, by suite.
//!
//! `cargo run --release -p fleetune-sampler --example regret -- [NAME=VALUE]…`, with `seeds`, `trials`, `workers`,
//! `threads`, `suites` (`bbob,mixint,noisy,constrained,own,llama,knowledge`), `problem`, `samplers`
//! (`random,tpe,tpe-optuna5,univariate,cma-es,auto`) and `cells`, a file that gets a line for each search.

#![allow(clippy::format_collect, reason = "tables, a few lines")]

#[path = "../tests/common/bbob.rs"]
#[allow(dead_code, missing_docs, reason = "shared with tests")]
mod bbob;
#[path = "../tests/common/problems.rs"]
#[allow(dead_code, missing_docs, reason = "shared with tests")]
mod problems;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use fleetune_core::study::{SamplerConfig, TpeOptuna5Config};
use problems::{Machine, Prediction, Problem, Scored, Search, llama, scores};

const MARKS: [usize; 4] = [20, 30, 50, 100];
/// What an estimate says wrong: factor of the memory, exponent of the speed, whether it is shuffled.
const ESTIMATES: [(&str, f64, f64, bool); 5] = [
    ("right", 1.0, 1.0, false),
    ("1.3 x", 1.3, 1.0, false),
    ("0.7 x", 0.7, 0.5, false),
    ("upside", 1.0, -1.0, false),
    ("shuffled", 1.0, 1.0, true),
];

fn suite(name: &str, instance: u64) -> Vec<Problem> {
    match name {
        "bbob" => bbob::bbob(instance),
        "mixint" => bbob::mixint(instance),
        "noisy" => bbob::noisy(instance),
        "constrained" => bbob::constrained(instance),
        "own" => problems::problems(instance).into_iter().filter(|problem| problem.name != "llama").collect(),
        "llama" => (0..4).map(|k| llama("llama", 4 * instance + k, 0.03)).collect(),
        "knowledge" => ESTIMATES.iter().map(|estimate| llama(estimate.0, instance, 0.03)).collect(),
        other => panic!("no suite {other}"),
    }
}

fn sampler(name: &str) -> SamplerConfig {
    match name {
        "univariate" => {
            SamplerConfig::TpeOptuna5(TpeOptuna5Config { multivariate: Some(false), ..TpeOptuna5Config::default() })
        }
        name => SamplerConfig::from_name(name).unwrap(),
    }
}

/// One search.
struct Cell<'a> {
    suite: &'a str,
    problem: usize,
    sampler: &'a str,
    seed: u64,
}

/// Where it is, what it came to, seconds.
type Score<'a> = (Cell<'a>, &'static str, Scored, f64);

fn main() {
    let given = std::env::args().skip(1).collect::<Vec<_>>();
    let text = |name: &str, default: &str| {
        let value = given.iter().find_map(|argument| argument.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or(default).to_owned()
    };
    let count = |name: &str, default: &str| text(name, default).parse::<usize>().unwrap();
    let (seeds, trials, workers) = (count("seeds", "5"), count("trials", "100"), count("workers", "1"));
    let marks = MARKS.into_iter().filter(|mark| *mark <= trials).collect::<Vec<_>>();
    let suites = text("suites", "bbob,mixint,noisy,constrained,own,llama,knowledge");
    let samplers = text("samplers", "random,tpe,tpe-optuna5,univariate,cma-es,auto");
    let only = text("problem", "");
    let mut cells = Vec::new();
    for suite_name in suites.split(',') {
        for (problem, found) in suite(suite_name, 0).iter().enumerate() {
            for sampler in samplers.split(',').filter(|name| suite_name != "knowledge" || *name == "auto") {
                let wanted = only.is_empty() || only == found.name;
                let of = |seed| Cell { suite: suite_name, problem, sampler, seed: seed as u64 };
                cells.extend((0..seeds).filter(|_| wanted).map(of));
            }
        }
    }
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::<Score>::new()));
    std::thread::scope(|scope| {
        for _ in 0..count("threads", "2") {
            scope.spawn(|| {
                while let Some(cell) = cells.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let Cell { suite: name, problem: index, sampler: which, seed } = *cell;
                    let problem = suite(name, seed).swap_remove(index);
                    let (_, memory, speed, shuffled) = ESTIMATES[index % ESTIMATES.len()];
                    let prediction = Prediction { machine: Machine::new(seed), memory, speed, shuffled };
                    let estimate = (name == "knowledge").then_some(&prediction as _);
                    let search = Search { sampler: sampler(which), trials, workers, estimate, earlier: &[] };
                    let start = Instant::now();
                    let found = scores(&problem, &search, &marks, seed);
                    let seconds = start.elapsed().as_secs_f64();
                    let cell = Cell { suite: name, problem: index, sampler: which, seed };
                    done.lock().unwrap().push((cell, problem.name, found, seconds));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap();
    done.sort_by(|a, b| (a.0.suite, a.0.problem, a.0.seed).cmp(&(b.0.suite, b.0.problem, b.0.seed)));
    if !text("cells", "").is_empty() {
        let line = |(cell, name, found, seconds): &Score| {
            let Cell { suite, sampler, seed, .. } = cell;
            let scores = found.scores.iter().chain(&found.by_value).map(|score| format!("\t{score:.5}"));
            let scores = scores.collect::<String>();
            format!("{suite}\t{name}\t{sampler}\t{seed}\t{}\t{seconds:.3}{scores}\n", found.failed)
        };
        std::fs::write(text("cells", ""), done.iter().map(line).collect::<String>()).unwrap();
    }
    print(&done, &marks);
}

#[expect(clippy::print_stdout, reason = "a table is what it is for")]
fn print(done: &[Score], marks: &[usize]) {
    let mut table = BTreeMap::<(&str, usize, &str, &str), Vec<&Score>>::new();
    for score in done {
        let Cell { suite, problem, sampler, .. } = &score.0;
        table.entry((suite, *problem, score.1, sampler)).or_default().push(score);
        table.entry((suite, usize::MAX, "mean", sampler)).or_default().push(score);
    }
    let head = marks.iter().map(|mark| format!("{mark:>7}")).collect::<String>();
    println!("{:<12} {:<26} {:<13}{head} {:>7} {:>8}", "suite", "problem", "sampler", "failed", "seconds");
    for ((suite, _, problem, sampler), scores) in table {
        let mean = |of: &dyn Fn(&Score) -> f64| scores.iter().map(|score| of(score)).sum::<f64>() / scores.len() as f64;
        let at = (0..marks.len()).map(|mark| format!("{:>7.3}", mean(&|score| score.2.scores[mark])));
        let at = at.collect::<String>();
        let (failed, seconds) = (mean(&|score| score.2.failed as f64), mean(&|score| score.3));
        println!("{suite:<12} {problem:<26} {sampler:<13}{at} {failed:>7.1} {seconds:>8.3}");
    }
}
