//! Prints how long samplers take for one trial, ask and tell together, by number of finished trials.
//!
//! `cargo run --release -p fleetune-sampler --example latency -- [--sizes 100,1000] [--samplers tpe] [--trials 200] [--json]`
//!
//! Six parameters: three integers, one float, two lists of choices. The finished trials are uniform; the measured ones
//! are what the sampler asks for, told at once. One thread. `CPU` is the time it ran: what the same trial takes on a
//! machine that has nothing else to do.

use std::time::Instant;

use fleetune_core::study::{Budget, PrunerConfig, SamplerConfig, StudyConfig};
use fleetune_core::{Direction, Params, SearchSpace, TrialNumber};
use fleetune_sampler::{Ask, Ended, Event, Outcome, build, trial_rng};

const SPACE: &str = "\
[parameters]
layers = { type = 'int', low = 0, high = 99 }
batch = { type = 'int', low = 32, high = 4096, log = true }
threads = { type = 'int', low = 1, high = 64 }
share = { type = 'float', low = 0.0, high = 1.0 }
cache = ['f32', 'f16', 'q8_0', 'q4_0']
mode = ['none', 'layer', 'row']
";
/// Above so many finished trials `auto` is `tpe`, which has a row of its own.
const AUTO_UP_TO: usize = 500;

struct Arguments {
    sizes: Vec<usize>,
    samplers: Vec<String>,
    trials: usize,
    json: bool,
}

/// Milliseconds of each measured trial, ascending.
struct Measured {
    wall: Vec<f64>,
    cpu: Vec<f64>,
}

#[expect(clippy::print_stdout, reason = "a table is what it is for")]
fn main() {
    let arguments = arguments();
    for size in &arguments.sizes {
        let mut line = format!("{size:>7} trials");
        for name in &arguments.samplers {
            if name == "auto" && *size > AUTO_UP_TO {
                continue;
            }
            let measured = measure(name, *size, arguments.trials);
            let at = |all: &[f64], share: f64| all[((all.len() - 1) as f64 * share) as usize];
            let [p50, p90] = [0.5, 0.9].map(|share| (at(&measured.wall, share), at(&measured.cpu, share)));
            if arguments.json {
                let json = serde_json::json!({ "sampler": name, "trials": size, "measured": arguments.trials,
                    "wall_ms": { "p50": p50.0, "p90": p90.0 }, "cpu_ms": { "p50": p50.1, "p90": p90.1 } });
                println!("{json}");
            }
            line += &format!(" | {name} p50 {:.3} p90 {:.3} ms (CPU {:.3} {:.3})", p50.0, p90.0, p50.1, p90.1);
        }
        if !arguments.json {
            println!("{line}");
        }
    }
}

fn arguments() -> Arguments {
    let mut arguments = Arguments {
        sizes: vec![100, 1_000, 10_000, 100_000],
        samplers: ["tpe", "tpe-optuna5", "auto"].map(str::to_owned).to_vec(),
        trials: 200,
        json: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| panic!("`{word}` needs a value"));
        match word.as_str() {
            "--sizes" => arguments.sizes = value().split(',').map(|size| size.parse().unwrap()).collect(),
            "--samplers" => arguments.samplers = value().split(',').map(str::to_owned).collect(),
            "--trials" => arguments.trials = value().parse().unwrap(),
            "--json" => arguments.json = true,
            other => panic!("unknown argument `{other}`"),
        }
    }
    arguments
}

fn measure(name: &str, size: usize, trials: usize) -> Measured {
    let space = SearchSpace::from_toml(SPACE).unwrap();
    let config = |sampler| StudyConfig {
        directions: vec![Direction::Minimize],
        space: Some(space.clone()),
        sampler,
        pruner: PrunerConfig::None,
        budget: Budget::default(),
        planned_trials: None,
        seed: 7,
        benchmark: None,
        earlier: Vec::new(),
    };
    let mut sampler = build(&config(SamplerConfig::from_name(name).unwrap())).unwrap();
    let random = build(&config(SamplerConfig::Random)).unwrap();
    let (none, seed) = (Params::new(), 7);
    let ask = |number| Ask { number: TrialNumber(number as i64), fixed: &none, running: &[], estimate: None };
    for number in 0..size {
        let ask = ask(number);
        let params = random.suggest(&ask, &mut trial_rng(seed, ask.number, &[])).unwrap();
        sampler.observe(&ended(ask.number, params));
    }
    let (mut wall, mut cpu) = (Vec::with_capacity(trials), Vec::with_capacity(trials));
    for number in size..size + trials {
        let (start, start_cpu) = (Instant::now(), cpu_milliseconds());
        let ask = ask(number);
        let params = sampler.suggest(&ask, &mut trial_rng(seed, ask.number, &[])).unwrap();
        sampler.observe(&ended(ask.number, params));
        cpu.push(cpu_milliseconds() - start_cpu);
        wall.push(start.elapsed().as_secs_f64() * 1e3);
    }
    wall.sort_by(f64::total_cmp);
    cpu.sort_by(f64::total_cmp);
    Measured { wall, cpu }
}

fn ended(number: TrialNumber, params: Params) -> Event {
    let outcome = Outcome::Complete { values: vec![value(&params)], constraints: Vec::new() };
    Event::Ended(Ended {
        number,
        params,
        outcome,
        series: Vec::new(),
        repetitions_planned: 1,
        standard_error: None,
        seconds: 1.0,
    })
}

/// A smooth function with a category to be right about.
fn value(params: &Params) -> f64 {
    let number = |name: &str| params[name].as_f64().unwrap_or(0.0);
    let off = |x: f64, best: f64| (x - best) * (x - best);
    let category =
        f64::from(params["cache"].as_str() != Some("q8_0")) + f64::from(params["mode"].as_str() != Some("row"));
    off(number("layers") / 99.0, 0.7)
        + off(number("batch").ln() / 9.0, 0.75)
        + off(number("threads") / 64.0, 0.25)
        + off(number("share"), 0.3)
        + 0.3 * category
}

/// How long this thread has run.
fn cpu_milliseconds() -> f64 {
    /// As 64-bit Linux has it.
    #[repr(C)]
    struct TimeSpec {
        seconds: i64,
        nanoseconds: i64,
    }
    unsafe extern "C" {
        fn clock_gettime(clock: i32, time: *mut TimeSpec) -> i32;
    }
    const CLOCK_THREAD_CPUTIME_ID: i32 = 3;
    let mut time = TimeSpec { seconds: 0, nanoseconds: 0 };
    // SAFETY: the C library that `std` links has this function, and `time` is as it expects it.
    let answer = unsafe { clock_gettime(CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert!(answer == 0, "a thread has a clock of its own");
    time.seconds as f64 * 1e3 + time.nanoseconds as f64 * 1e-6
}
