//! Functions after the suites bbob, bbob-mixint, bbob-noisy and bbob-constrained (Hansen et al. 2009; Tušar et al. 2019)
//! in five dimensions: the same formulas, instances of our own.

use fleetune_core::Params;
use rand::rngs::ChaCha8Rng;

use super::problems::{Noise, Problem, number, rng, rotate, rotation, shift, unit};

const AXES: [&str; 5] = ["x0", "x1", "x2", "x3", "x4"];

type Point = [f64; 5];

/// A function on [−5, 5]⁵, at least 0, and where it is 0.
struct Raw {
    at: Box<dyn Fn(&Point) -> f64>,
    best: Point,
}

/// x and the exponent i / (D − 1) of its coordinates.
fn shares() -> Point {
    std::array::from_fn(|k| k as f64 / 4.0)
}

fn oscillated(x: f64) -> f64 {
    if x == 0.0 {
        return 0.0;
    }
    let size = x.abs().ln();
    let (a, b) = if x > 0.0 { (10.0, 7.9) } else { (5.5, 3.1) };
    x.signum() * (size + 0.049 * ((a * size).sin() + (b * size).sin())).exp()
}

fn asymmetric(x: Point, beta: f64) -> Point {
    let shares = shares();
    std::array::from_fn(|k| if x[k] > 0.0 { x[k].powf(1.0 + beta * shares[k] * x[k].sqrt()) } else { x[k] })
}

fn scaled(x: Point, alpha: f64) -> Point {
    let shares = shares();
    std::array::from_fn(|k| x[k] * alpha.powf(0.5 * shares[k]))
}

fn weighed(z: &Point, condition: f64) -> f64 {
    z.iter().zip(shares()).map(|(z, share)| condition.powf(share) * z * z).sum()
}

fn waves(z: &Point) -> f64 {
    z.iter().map(|z| z * z + 10.0 - 10.0 * (std::f64::consts::TAU * z).cos()).sum()
}

fn valley(z: &Point) -> f64 {
    let term = |pair: &[f64]| 100.0 * (pair[0] * pair[0] - pair[1]).powi(2) + (pair[0] - 1.0).powi(2);
    z.windows(2).map(term).sum()
}

const NAMES: [&str; 16] = [
    "sphere",
    "separable-ellipsoid",
    "separable-rastrigin",
    "attractive-sector",
    "step-ellipsoid",
    "rosenbrock",
    "rotated-ellipsoid",
    "discus",
    "bent-cigar",
    "sharp-ridge",
    "different-powers",
    "rotated-rastrigin",
    "schaffer",
    "griewank-rosenbrock",
    "schwefel",
    "gallagher",
];

fn raw(name: &str, rng: &mut ChaCha8Rng) -> Raw {
    let best = shift(rng, 4.0);
    let (q, r) = (rotation(rng), rotation(rng));
    let gap = move |x: &Point| -> Point { std::array::from_fn(|k| x[k] - best[k]) };
    let turned = move |x: &Point| rotate(&r, &gap(x));
    let twice = move |x: &Point| rotate(&q, &scaled(turned(x), 10.0));
    let at: Box<dyn Fn(&Point) -> f64> = match name {
        "sphere" => Box::new(move |x| weighed(&gap(x), 1.0)),
        "separable-ellipsoid" => Box::new(move |x| weighed(&gap(x).map(oscillated), 1e6)),
        "separable-rastrigin" => Box::new(move |x| waves(&scaled(asymmetric(gap(x).map(oscillated), 0.2), 10.0))),
        "attractive-sector" => Box::new(move |x| {
            let z = twice(x);
            let steep = |k: usize| if z[k] * best[k] > 0.0 { 100.0 * z[k] } else { z[k] };
            oscillated((0..5).map(|k| steep(k).powi(2)).sum::<f64>()).powf(0.9)
        }),
        "step-ellipsoid" => Box::new(move |x| {
            let z = scaled(turned(x), 10.0);
            let step = |z: f64| if z.abs() > 0.5 { (0.5 + z).floor() } else { (0.5 + 10.0 * z).floor() / 10.0 };
            0.1 * weighed(&rotate(&q, &z.map(step)), 100.0).max(z[0].abs() / 1e4)
        }),
        "rosenbrock" => Box::new(move |x| valley(&gap(x).map(|z| z + 1.0))),
        "rotated-ellipsoid" => Box::new(move |x| weighed(&turned(x).map(oscillated), 1e6)),
        "discus" => Box::new(move |x| {
            let z = turned(x).map(oscillated);
            weighed(&z, 1.0) + (1e6 - 1.0) * z[0] * z[0]
        }),
        "bent-cigar" => Box::new(move |x| {
            let z = rotate(&r, &asymmetric(turned(x), 0.5));
            1e6 * weighed(&z, 1.0) - (1e6 - 1.0) * z[0] * z[0]
        }),
        "sharp-ridge" => Box::new(move |x| {
            let z = twice(x);
            z[0] * z[0] + 100.0 * z[1..].iter().map(|z| z * z).sum::<f64>().sqrt()
        }),
        "different-powers" => Box::new(move |x| {
            let terms = turned(x).into_iter().zip(shares()).map(|(z, share)| z.abs().powf(2.0 + 4.0 * share));
            terms.sum::<f64>().sqrt()
        }),
        "rotated-rastrigin" => Box::new(move |x| {
            let z = rotate(&q, &asymmetric(turned(x).map(oscillated), 0.2));
            waves(&rotate(&r, &scaled(z, 10.0)))
        }),
        "schaffer" => Box::new(move |x| {
            let z = scaled(rotate(&q, &asymmetric(turned(x), 0.5)), 10.0);
            let term = |pair: &[f64]| {
                let s = (pair[0] * pair[0] + pair[1] * pair[1]).sqrt();
                s.sqrt() * (1.0 + (50.0 * s.powf(0.2)).sin().powi(2))
            };
            (z.windows(2).map(term).sum::<f64>() / 4.0).powi(2)
        }),
        "griewank-rosenbrock" => Box::new(move |x| {
            let z = turned(x).map(|z| z + 1.0);
            let term = |pair: &[f64]| {
                let s = 100.0 * (pair[0] * pair[0] - pair[1]).powi(2) + (pair[0] - 1.0).powi(2);
                s / 4_000.0 - s.cos()
            };
            2.5 * z.windows(2).map(term).sum::<f64>() + 10.0
        }),
        "schwefel" => return schwefel(best),
        "gallagher" => return gallagher(best, r, rng),
        other => panic!("no function {other}"),
    };
    Raw { at, best }
}

fn schwefel(signs: Point) -> Raw {
    let size = 4.209_687_463_3;
    let best = signs.map(|sign| sign.signum() * size / 2.0);
    let at = move |x: &Point| {
        let own = |k: usize| 2.0 * signs[k].signum() * x[k];
        let z: Point = std::array::from_fn(|k| if k == 0 { own(0) } else { own(k) + 0.25 * (own(k - 1) - size) });
        let z = scaled(z.map(|z| z - size), 10.0).map(|z| 100.0 * (z + size));
        let sum = z.iter().map(|z| z * z.abs().sqrt().sin()).sum::<f64>();
        let outside = z.iter().map(|z| (z.abs() / 100.0 - 5.0).max(0.0).powi(2)).sum::<f64>();
        4.189_828_872_724_339 - sum / 500.0 + 100.0 * outside
    };
    Raw { at: Box::new(at), best }
}

/// A hundred and one peaks.
fn gallagher(best: Point, turn: [Point; 5], rng: &mut ChaCha8Rng) -> Raw {
    let peaks = (0..101).map(|k| {
        let centre = if k == 0 { best } else { shift(rng, 5.0) };
        let height = if k == 0 { 10.0 } else { 1.1 + 8.0 * f64::from(k - 1) / 99.0 };
        let condition = if k == 0 { 1_000.0 } else { 1_000_f64.powf(2.0 * (unit(rng) * 100.0).floor() / 99.0) };
        (height, centre, condition)
    });
    let peaks = peaks.collect::<Vec<_>>();
    let at = move |x: &Point| {
        let height = |(height, centre, condition): &(f64, Point, f64)| {
            let z = rotate(&turn, &std::array::from_fn::<f64, 5, _>(|k| x[k] - centre[k]));
            height * (-0.1 * weighed(&z, condition.sqrt()) / condition.powf(0.25)).exp()
        };
        oscillated(10.0 - peaks.iter().map(height).fold(0.0, f64::max)).powi(2)
    };
    Raw { at: Box::new(at), best }
}

fn problem(name: &'static str, space: String, function: Box<dyn Fn(&Params) -> super::problems::Answer>) -> Problem {
    Problem { name, space, log: true, noise: Noise::None, function, optimum: 0.0 }
}

fn ranges() -> String {
    let line = |name: &str| format!("{name} = {{ type = 'float', low = -5, high = 5 }}\n");
    format!("[parameters]\n{}", AXES.map(line).concat())
}

fn point(params: &Params) -> Point {
    AXES.map(|axis| number(params, axis))
}

/// Numbers only, no noise.
pub fn bbob(instance: u64) -> Vec<Problem> {
    let made = |name: &'static str| {
        let Raw { at, .. } = raw(name, &mut rng(name, instance));
        problem(name, ranges(), Box::new(move |params| Ok((at(&point(params)), None))))
    };
    NAMES.map(made).into()
}

/// Of 2, 4, 8, 16 and infinitely many levels; the optimum lies on the grid.
pub fn mixint(instance: u64) -> Vec<Problem> {
    const LEVELS: [f64; 4] = [2.0, 4.0, 8.0, 16.0];
    let lines = LEVELS
        .iter()
        .enumerate()
        .map(|(k, levels)| format!("x{k} = {{ type = 'int', low = 0, high = {} }}\n", levels - 1.0));
    let space = format!("[parameters]\n{}x4 = {{ type = 'float', low = -5, high = 5 }}\n", lines.collect::<String>());
    let made = |name: &'static str| {
        let Raw { at, best } = raw(name, &mut rng(name, instance + 1_000));
        let level = |k: usize, index: f64| -4.0 + 8.0 * index / (LEVELS[k] - 1.0);
        let nearest =
            |k: usize| level(k, ((best[k] + 4.0) / 8.0 * (LEVELS[k] - 1.0)).round().clamp(0.0, LEVELS[k] - 1.0));
        let moved: Point = std::array::from_fn(|k| if k < 4 { best[k] - nearest(k) } else { 0.0 });
        let function = move |params: &Params| {
            let x = point(params);
            Ok((at(&std::array::from_fn(|k| if k < 4 { level(k, x[k]) + moved[k] } else { x[k] })), None))
        };
        problem(name, space.clone(), Box::new(function))
    };
    NAMES.map(made).into()
}

/// Noise in proportion to the value, from moderate to severe, normal and with outliers.
pub fn noisy(instance: u64) -> Vec<Problem> {
    let suite = [
        ("sphere", "sphere, 1 %", Noise::LogNormal(0.01)),
        ("sphere", "sphere, severe", Noise::LogNormal(1.0)),
        ("sphere", "sphere, outliers", Noise::Outliers { share: 0.2 }),
        ("rosenbrock", "rosenbrock, 10 %", Noise::LogNormal(0.1)),
        ("rosenbrock", "rosenbrock, severe", Noise::LogNormal(1.0)),
        ("step-ellipsoid", "step-ellipsoid, severe", Noise::LogNormal(1.0)),
        ("step-ellipsoid", "step-ellipsoid, outliers", Noise::Outliers { share: 0.2 }),
        ("rotated-ellipsoid", "rotated-ellipsoid, severe", Noise::LogNormal(1.0)),
        ("different-powers", "different-powers, 30 %", Noise::LogNormal(0.3)),
        ("different-powers", "different-powers, severe", Noise::LogNormal(1.0)),
        ("rotated-rastrigin", "rotated-rastrigin, 10 %", Noise::LogNormal(0.1)),
        ("gallagher", "gallagher, severe", Noise::LogNormal(1.0)),
    ];
    let made = |(name, label, noise): (&str, &'static str, Noise)| {
        let Raw { at, .. } = raw(name, &mut rng(name, instance + 2_000));
        let function = move |params: &Params| Ok((at(&point(params)), None));
        Problem { noise, ..problem(label, ranges(), Box::new(function)) }
    };
    suite.map(made).into()
}

/// Linear constraints through the optimum, told as measured constraints; their worst counts.
pub fn constrained(instance: u64) -> Vec<Problem> {
    let names = [
        "sphere",
        "separable-ellipsoid",
        "rotated-ellipsoid",
        "discus",
        "bent-cigar",
        "different-powers",
        "rotated-rastrigin",
        "separable-rastrigin",
    ];
    let made = |(index, name): (usize, &'static str)| {
        let mut rng = rng(name, instance + 3_000);
        let Raw { at, best } = raw(name, &mut rng);
        let count = 1 + index % 3;
        let planes = (0..count).map(|_| shift(&mut rng, 1.0)).collect::<Vec<_>>();
        let function = move |params: &Params| {
            let x = point(params);
            let side = |plane: &Point| (0..5).map(|k| plane[k] * (x[k] - best[k])).sum::<f64>();
            Ok((at(&x), Some(planes.iter().map(side).fold(f64::NEG_INFINITY, f64::max))))
        };
        problem(name, ranges(), Box::new(function))
    };
    names.into_iter().enumerate().map(made).collect()
}
