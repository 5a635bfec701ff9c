//! Named problems with known optima, each in instances by seed, and the score of a search.
//!
//! Score: 0 is the median feasible random configuration, 1 the optimum; on smooth functions in logarithms.

use fleetune_core::measurement::median;
use fleetune_core::study::{Benchmark, Budget, EarlierStudy, PrunerConfig, SamplerConfig, StudyConfig};
use fleetune_core::{Direction, FailKind, Objective, Params, SearchSpace, TrialNumber, Turn, Value, Workload};
use fleetune_sampler::{Ask, Ended, Estimate, Event, Outcome, Running, build, trial_rng};
use rand::Rng;
use rand::rngs::ChaCha8Rng;

#[path = "llama.rs"]
mod llama;

#[allow(unused_imports, reason = "not every test has a machine")]
pub use llama::{Machine, Prediction, llama};

/// What a configuration does: its true value (smaller is better) and constraint, or why it fails.
pub type Answer = Result<(f64, Option<f64>), FailKind>;

/// A problem.
pub struct Problem {
    pub name: &'static str,
    pub space: String,
    /// Whether regrets are compared in logarithms.
    pub log: bool,
    /// What measuring adds.
    pub noise: Noise,
    pub function: Box<dyn Fn(&Params) -> Answer>,
    /// The least feasible value.
    pub optimum: f64,
}

/// How a measured value differs from the true one.
#[derive(Clone, Copy, Debug)]
pub enum Noise {
    /// Not at all.
    None,
    /// Normal, with this relative deviation.
    Relative(f64),
    /// A factor whose logarithm is normal with this deviation.
    LogNormal(f64),
    /// A share of the values is worse by a factor as of a Cauchy variable.
    Outliers { share: f64 },
}

impl Noise {
    pub fn measured(self, value: f64, rng: &mut ChaCha8Rng) -> f64 {
        match self {
            Self::Relative(deviation) => value * (1.0 + deviation * normal(rng)),
            Self::LogNormal(deviation) => value * (deviation * normal(rng)).exp(),
            Self::Outliers { share } if unit(rng) < share => {
                value * (1.0 + (normal(rng) / normal(rng).abs().max(1e-9)).abs())
            }
            Self::None | Self::Outliers { .. } => value,
        }
    }
}

pub fn number(params: &Params, name: &str) -> f64 {
    params.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN)
}

pub fn is(params: &Params, name: &str, text: &str) -> bool {
    params.get(name).and_then(Value::as_str) == Some(text)
}

pub fn unit(rng: &mut impl Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

/// About normal: the sum of twelve uniform numbers.
pub fn normal(rng: &mut impl Rng) -> f64 {
    (0..12).map(|_| unit(rng)).sum::<f64>() - 6.0
}

fn floats(names: &[&str]) -> String {
    let line = |name: &&str| format!("{name} = {{ type = 'float', low = -5, high = 5 }}\n");
    format!("[parameters]\n{}", names.iter().map(line).collect::<String>())
}

const AXES: [&str; 5] = ["x0", "x1", "x2", "x3", "x4"];

fn smooth(name: &'static str, noise: Noise, function: impl Fn(&[f64]) -> f64 + 'static) -> Problem {
    let of = move |params: &Params| {
        let x = AXES.map(|axis| number(params, axis));
        Ok((function(&x), None))
    };
    Problem { name, space: floats(&AXES), log: true, noise, function: Box::new(of), optimum: 1.0 }
}

pub fn rng(name: &str, instance: u64) -> ChaCha8Rng {
    trial_rng(instance, TrialNumber(0), &[name])
}

pub fn shift(rng: &mut ChaCha8Rng, range: f64) -> [f64; 5] {
    std::array::from_fn(|_| (2.0 * unit(rng) - 1.0) * range)
}

/// A random rotation by Gram and Schmidt.
pub fn rotation(rng: &mut ChaCha8Rng) -> [[f64; 5]; 5] {
    let mut rows = [[0.0; 5]; 5];
    for index in 0..5 {
        let mut row: [f64; 5] = std::array::from_fn(|_| normal(rng));
        for other in &rows[..index] {
            let share: f64 = row.iter().zip(other).map(|(a, b)| a * b).sum();
            row.iter_mut().zip(other).for_each(|(a, b)| *a -= share * b);
        }
        let length = row.iter().map(|a| a * a).sum::<f64>().sqrt();
        rows[index] = row.map(|a| a / length);
    }
    rows
}

pub fn rotate(rows: &[[f64; 5]; 5], x: &[f64]) -> [f64; 5] {
    rows.map(|row| row.iter().zip(x).map(|(a, b)| a * b).sum())
}

/// All problems of an instance. Every optimum is exact, but for `edge`, which was searched.
pub fn problems(instance: u64) -> Vec<Problem> {
    vec![
        sphere(instance),
        ellipsoid(instance),
        rosenbrock(instance),
        rastrigin(instance),
        noisy(instance),
        mixed_integers(instance),
        branin(instance),
        switches(instance),
        tree(instance),
        walls(instance),
        constrained(instance),
        llama("llama", instance, 0.02),
    ]
}

fn sphere(instance: u64) -> Problem {
    let centre = shift(&mut rng("sphere", instance), 4.0);
    smooth("sphere", Noise::None, move |x| 1.0 + x.iter().zip(&centre).map(|(x, c)| (x - c) * (x - c)).sum::<f64>())
}

fn ellipsoid(instance: u64) -> Problem {
    let mut rng = rng("ellipsoid", instance);
    let (centre, rows) = (shift(&mut rng, 4.0), rotation(&mut rng));
    smooth("ellipsoid", Noise::None, move |x| {
        let gap = x.iter().zip(&centre).map(|(x, c)| x - c).collect::<Vec<_>>();
        1.0 + rotate(&rows, &gap).iter().enumerate().map(|(k, z)| 10_f64.powi(k as i32) * z * z).sum::<f64>()
    })
}

fn rosenbrock(instance: u64) -> Problem {
    let centre = shift(&mut rng("rosenbrock", instance), 3.0);
    smooth("rosenbrock", Noise::None, move |x| {
        let z = x.iter().zip(&centre).map(|(x, c)| x - c + 1.0).collect::<Vec<_>>();
        let term = |pair: &[f64]| 100.0 * (pair[0] * pair[0] - pair[1]).powi(2) + (pair[0] - 1.0).powi(2);
        1.0 + z.windows(2).map(term).sum::<f64>()
    })
}

fn rastrigin(instance: u64) -> Problem {
    let centre = shift(&mut rng("rastrigin", instance), 4.0);
    smooth("rastrigin", Noise::None, move |x| {
        let term = |(x, c): (&f64, &f64)| {
            let z = x - c;
            z * z + 10.0 - 10.0 * (std::f64::consts::TAU * z).cos()
        };
        1.0 + x.iter().zip(&centre).map(term).sum::<f64>()
    })
}

fn noisy(instance: u64) -> Problem {
    let centre = shift(&mut rng("noisy", instance), 4.0);
    let mut problem = smooth("noisy-ridge", Noise::Relative(0.05), move |x| {
        let z = x.iter().zip(&centre).map(|(x, c)| x - c).collect::<Vec<_>>();
        5.0 + z[0] * z[0] + 10.0 * z[1..].iter().map(|z| z * z).sum::<f64>().sqrt()
    });
    problem.optimum = 5.0;
    problem
}

fn mixed_integers(instance: u64) -> Problem {
    let mut rng = rng("mixed-integers", instance);
    let levels = [2.0, 4.0, 8.0, 16.0];
    let best = levels.map(|count| (unit(&mut rng) * count).floor());
    let centre = unit(&mut rng);
    let space = levels
        .iter()
        .enumerate()
        .map(|(k, count)| format!("n{k} = {{ type = 'int', low = 0, high = {} }}\n", count - 1.0));
    let space = format!("[parameters]\n{}x = {{ type = 'float', low = 0, high = 1 }}\n", space.collect::<String>());
    let function = move |params: &Params| {
        let terms = levels.iter().zip(&best).enumerate().map(|(k, (count, best))| {
            let z = (number(params, &format!("n{k}")) - best) / (count - 1.0);
            z * z * 4_f64.powi(k as i32)
        });
        Ok((1.0 + terms.sum::<f64>() + 50.0 * (number(params, "x") - centre).powi(2), None))
    };
    Problem { name: "mixed-integers", space, log: true, noise: Noise::None, function: Box::new(function), optimum: 1.0 }
}

fn branin(instance: u64) -> Problem {
    let mut rng = rng("branin", instance);
    let offsets: [f64; 4] = std::array::from_fn(|_| unit(&mut rng) * 20.0);
    let least = offsets.iter().copied().fold(f64::INFINITY, f64::min);
    let tilt = unit(&mut rng) * 6.0;
    let space = "[parameters]\na = { type = 'float', low = -5, high = 10 }\nb = { type = 'float', low = 0, high = 15 }\n\
                 kind = ['p', 'q', 'r', 's']\nflag = ['off', 'on']\n";
    let function = move |params: &Params| {
        let (a, b) = (number(params, "a"), number(params, "b"));
        let pi = std::f64::consts::PI;
        let bowl = (b - 5.1 / (4.0 * pi * pi) * a * a + 5.0 / pi * a - 6.0).powi(2);
        let branin = bowl + 10.0 * (1.0 - 1.0 / (8.0 * pi)) * a.cos() + 10.0;
        let kind = ["p", "q", "r", "s"].iter().position(|kind| is(params, "kind", kind)).unwrap();
        let flag = if is(params, "flag", "on") { 0.0 } else { tilt };
        Ok((branin - 0.397_887 + offsets[kind] - least + flag, None))
    };
    Problem {
        name: "branin",
        space: space.to_owned(),
        log: false,
        noise: Noise::Relative(0.01),
        function: Box::new(function),
        optimum: 0.0,
    }
}

fn switches(instance: u64) -> Problem {
    let mut rng = rng("switches", instance);
    let effects: [f64; 8] = std::array::from_fn(|_| normal(&mut rng));
    let pairs: [f64; 7] = std::array::from_fn(|_| normal(&mut rng));
    let centre = unit(&mut rng);
    let value = move |bits: u32| {
        let on = |k: usize| f64::from(bits >> k & 1);
        (0..8).map(|k| effects[k] * on(k)).sum::<f64>() + (0..7).map(|k| pairs[k] * on(k) * on(k + 1)).sum::<f64>()
    };
    let optimum = (0..256).map(value).fold(f64::INFINITY, f64::min);
    let space = (0..8).map(|k| format!("s{k} = ['off', 'on']\n")).collect::<String>();
    let space = format!("[parameters]\n{space}x = {{ type = 'float', low = 0, high = 1 }}\n");
    let function = move |params: &Params| {
        let bits = (0..8).fold(0, |bits, k| bits | u32::from(is(params, &format!("s{k}"), "on")) << k);
        Ok((value(bits) + 4.0 * (number(params, "x") - centre).powi(2), None))
    };
    Problem { name: "switches", space, log: false, noise: Noise::Relative(0.01), function: Box::new(function), optimum }
}

/// Three levels of conditions; one branch fails where it is greedy.
fn tree(instance: u64) -> Problem {
    let mut rng = rng("tree", instance);
    let (u, v, w) = (unit(&mut rng), unit(&mut rng), unit(&mut rng));
    let space = "[parameters]\nmethod = ['a', 'b', 'c']\nrate = { type = 'float', low = 1e-5, high = 1, log = true }\n\
                 depth = { type = 'int', low = 1, high = 12, when = \"method != 'a'\" }\n\
                 boost = { choices = ['no', 'yes'], when = \"method == 'c'\" }\n\
                 gamma = { type = 'float', low = 0, high = 1, when = \"boost == 'yes'\" }\n\
                 alpha = { type = 'float', low = 0, high = 1, when = \"method == 'a'\" }\n";
    let function = move |params: &Params| {
        let rate = (number(params, "rate").log10() + 5.0) / 5.0 - u;
        if is(params, "method", "a") {
            return Ok((3.0 + 4.0 * rate * rate + (number(params, "alpha") - v).abs(), None));
        }
        let depth = number(params, "depth");
        let deep = ((depth - 1.0 - (w * 8.0).floor()) / 11.0).powi(2);
        if is(params, "method", "b") {
            return Ok((2.0 + 4.0 * rate * rate + 3.0 * deep, None));
        }
        if depth > 9.0 {
            return Err(FailKind::Timeout);
        }
        let boost = if is(params, "boost", "yes") { (number(params, "gamma") - v).abs() } else { 1.5 };
        Ok((1.0 + 4.0 * rate * rate + 3.0 * deep + boost, None))
    };
    Problem {
        name: "tree",
        space: space.to_owned(),
        log: false,
        noise: Noise::None,
        function: Box::new(function),
        optimum: 1.0,
    }
}

/// More than half fails; the optimum lies at the wall.
fn walls(instance: u64) -> Problem {
    let mut rng = rng("walls", instance);
    let weights: [f64; 3] = std::array::from_fn(|_| 0.5 + unit(&mut rng));
    let total: f64 = weights.iter().sum();
    let capacity = 0.45 * total;
    let best = weights.iter().copied().fold(f64::INFINITY, f64::min);
    // The cheapest first, as far as they go.
    let mut sorted = weights;
    sorted.sort_by(f64::total_cmp);
    let (mut room, mut gain) = (capacity, 0.0);
    for weight in sorted {
        let share = (room / weight).clamp(0.0, 1.0);
        gain += share;
        room -= share * weight;
    }
    assert!(best > 0.0);
    let space = "[parameters]\na = { type = 'float', low = 0, high = 1 }\nb = { type = 'float', low = 0, high = 1 }\n\
                 c = { type = 'float', low = 0, high = 1 }\nmode = ['slow', 'fast', 'broken']\n";
    let function = move |params: &Params| {
        let x = ["a", "b", "c"].map(|name| number(params, name));
        let need: f64 = x.iter().zip(&weights).map(|(x, weight)| x * weight).sum();
        if is(params, "mode", "broken") {
            return Err(FailKind::Crash);
        }
        if need > capacity {
            return Err(FailKind::Oom);
        }
        Ok((3.0 - x.iter().sum::<f64>() + if is(params, "mode", "slow") { 0.7 } else { 0.0 }, None))
    };
    let optimum = 3.0 - gain;
    Problem {
        name: "walls",
        space: space.to_owned(),
        log: false,
        noise: Noise::None,
        function: Box::new(function),
        optimum,
    }
}

/// A measured constraint that cuts off the unconstrained optimum.
fn constrained(instance: u64) -> Problem {
    let centre = shift(&mut rng("constrained", instance), 3.0);
    let length = centre[..3].iter().map(|c| c * c).sum::<f64>().sqrt().max(1e-9);
    let space = floats(&AXES[..3]);
    let radius = 0.6 * length;
    let function = move |params: &Params| {
        let x = [0, 1, 2].map(|k| number(params, AXES[k]));
        let value = x.iter().zip(&centre).map(|(x, c)| (x - c) * (x - c)).sum::<f64>();
        Ok((value, Some(x.iter().map(|x| x * x).sum::<f64>() - radius * radius)))
    };
    let optimum = (0.4 * length).powi(2);
    Problem { name: "constrained", space, log: false, noise: Noise::None, function: Box::new(function), optimum }
}

/// How a search is run.
#[derive(Clone)]
pub struct Search<'a> {
    pub sampler: SamplerConfig,
    pub trials: usize,
    pub workers: usize,
    pub estimate: Option<&'a dyn Estimate>,
    pub earlier: &'a [EarlierStudy],
}

/// What a search came to.
pub struct Scored {
    /// The scores of its answers after each mark.
    pub scores: Vec<f64>,
    /// The same if the answer were the trial with the least value.
    pub by_value: Vec<f64>,
    /// Trials that failed.
    pub failed: usize,
}

/// A study of measurements.
pub fn benchmark() -> Benchmark {
    Benchmark {
        model: "m".to_owned(),
        executor: "llama-cpp".to_owned(),
        workload: Workload::default(),
        objective: Objective::Ttft,
        fixed: Params::new(),
        timeout_s: 300.0,
        allow_wsl_unsafe: false,
        confirm: false,
        prior: true,
        ignore_regions: false,
    }
}

/// The scores after each of `marks` trials.
pub fn scores(problem: &Problem, search: &Search<'_>, marks: &[usize], seed: u64) -> Scored {
    let space = SearchSpace::from_toml(&problem.space).unwrap();
    let config = |sampler| StudyConfig {
        directions: vec![Direction::Minimize],
        space: Some(space.clone()),
        sampler,
        pruner: PrunerConfig::None,
        budget: Budget { trials: Some(search.trials as u32), ..Budget::default() },
        planned_trials: Some(search.trials as u32),
        seed,
        // Settings of an engine have names that say something.
        benchmark: problem.space.contains("n_gpu_layers").then(benchmark),
        earlier: search.earlier.to_vec(),
    };
    let mut sampler = build(&config(search.sampler.clone())).unwrap();
    let mut noise = trial_rng(seed, TrialNumber(1), &["noise"]);
    let (mut best, mut failed) = (f64::INFINITY, 0);
    let (mut bests, mut answers) = (Vec::new(), Vec::new());
    // True and measured value of what looks best; true values by trial.
    let mut looks = (f64::INFINITY, f64::INFINITY);
    let mut known = vec![f64::INFINITY; search.trials];
    let mut running = Vec::<Running>::new();
    for turn in 0..search.trials {
        let number = TrialNumber(turn as i64);
        let fixed = Params::new();
        let ask = Ask { number, fixed: &fixed, running: &running, estimate: search.estimate };
        let params = sampler.suggest(&ask, &mut trial_rng(seed, number, &[])).unwrap();
        running.push(Running { turn: Turn(turn as i64), number, params });
        if running.len() < search.workers && turn + 1 < search.trials {
            bests.push(best);
            continue;
        }
        // In lock step: all end together.
        for trial in running.drain(..) {
            let outcome = match (problem.function)(&trial.params) {
                Ok((value, constraint)) => {
                    let measured = problem.noise.measured(value, &mut noise);
                    known[trial.number.0 as usize] = value;
                    if constraint.is_none_or(|constraint| constraint <= 0.0) && measured < looks.1 {
                        looks = (value, measured);
                    }
                    best = looks.0;
                    Outcome::Complete { values: vec![measured], constraints: constraint.into_iter().collect() }
                }
                Err(kind) => {
                    failed += 1;
                    Outcome::Failed { kind }
                }
            };
            sampler.observe(&Event::Ended(Ended {
                number: trial.number,
                params: trial.params,
                outcome,
                series: Vec::new(),
                repetitions_planned: 1,
                standard_error: None,
                seconds: 1.0,
            }));
        }
        bests.push(best);
        if marks.contains(&bests.len()) {
            let answer = sampler.ranking(search.estimate).first().map_or(best, |answer| known[answer.0 as usize]);
            answers.push(answer);
        }
    }
    let usual = usual(problem, &space, &config(SamplerConfig::Random));
    let floor = 1e-4 * (usual - problem.optimum);
    let score = |best: f64| {
        let best = best.min(usual);
        if problem.log {
            let gap = |value: f64| ((value - problem.optimum).max(0.0) + floor).ln();
            (gap(usual) - gap(best)) / (gap(usual) - gap(problem.optimum))
        } else {
            (usual - best) / (usual - problem.optimum)
        }
    };
    let by_value = marks.iter().map(|mark| score(bests[mark - 1])).collect();
    Scored { scores: answers.into_iter().map(score).collect(), by_value, failed }
}

/// The median of feasible random configurations.
fn usual(problem: &Problem, space: &SearchSpace, config: &StudyConfig) -> f64 {
    let random = build(config).unwrap();
    let fixed = Params::new();
    let draw = |number| {
        let ask = Ask { number: TrialNumber(number), fixed: &fixed, running: &[], estimate: None };
        let params = random.suggest(&ask, &mut trial_rng(0, ask.number, &["usual"])).unwrap();
        assert_eq!(space.check(&params), Ok(()));
        let (value, constraint) = (problem.function)(&params).ok()?;
        constraint.is_none_or(|constraint| constraint <= 0.0).then_some(value)
    };
    median(&(0..20_000).filter_map(draw).take(400).collect::<Vec<_>>()).unwrap()
}
