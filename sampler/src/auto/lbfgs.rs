//! Limited-memory BFGS between bounds.
//!
//! Steps are projected onto the box; variables that sit at a bound and want to leave it are held for one step. Enough
//! for smooth functions of a few dozen variables, which is all it is for.

use std::collections::VecDeque;

use super::linalg::dot;

/// Pairs of steps and gradient changes kept. Origin: Nocedal and Wright 2006, section 7.2.
const MEMORY: usize = 8;
/// Halvings of a step.
const HALVINGS: usize = 12;
/// Share of the predicted decrease a step must reach (Armijo).
const DECREASE: f64 = 1e-4;
/// Relative decrease below which it is done.
const TOLERANCE: f64 = 1e-6;

/// A function's value and gradient; `None` where it has none.
pub(super) type Evaluation = Option<(f64, Vec<f64>)>;

/// Minimises `function` from `start` within `low` and `high`, in at most `iterations` steps. Returns the best point
/// and its value; `None` when `start` has no value.
pub(super) fn minimize(
    function: &dyn Fn(&[f64]) -> Evaluation,
    start: &[f64],
    low: &[f64],
    high: &[f64],
    iterations: usize,
) -> Option<(Vec<f64>, f64)> {
    let clamp = |x: Vec<f64>| {
        x.into_iter().zip(low.iter().zip(high)).map(|(x, (low, high))| x.clamp(*low, *high)).collect::<Vec<_>>()
    };
    let mut x = clamp(start.to_vec());
    let (mut value, mut gradient) = function(&x)?;
    let mut pairs = VecDeque::<Pair>::new();
    for _ in 0..iterations {
        let held = (0..x.len())
            .map(|i| (x[i] <= low[i] && gradient[i] > 0.0) || (x[i] >= high[i] && gradient[i] < 0.0))
            .collect::<Vec<_>>();
        let free = gradient.iter().zip(&held).map(|(g, held)| if *held { 0.0 } else { *g }).collect::<Vec<_>>();
        let length = dot(&free, &free).sqrt();
        if length < 1e-9 {
            break;
        }
        let mut direction = quasi_newton(&free, &pairs);
        for (entry, held) in direction.iter_mut().zip(&held) {
            if *held {
                *entry = 0.0;
            }
        }
        let mut scale = 1.0;
        if pairs.is_empty() || dot(&direction, &free) >= 0.0 {
            direction = free.iter().map(|g| -g).collect();
            scale = (1.0 / length).min(1.0);
        }
        let mut taken = None;
        for _ in 0..HALVINGS {
            let next = clamp(x.iter().zip(&direction).map(|(x, d)| x + scale * d).collect());
            let step = next.iter().zip(&x).map(|(next, x)| next - x).collect::<Vec<_>>();
            let least = value + DECREASE * dot(&gradient, &step);
            // A NaN is no decrease.
            taken = function(&next).filter(|(found, _)| *found <= least).map(|found| (next, step, found));
            if taken.is_some() {
                break;
            }
            scale *= 0.5;
        }
        let Some((next, step, (found, slope))) = taken else { break };
        let change = slope.iter().zip(&gradient).map(|(new, old)| new - old).collect::<Vec<_>>();
        let curvature = dot(&step, &change);
        if curvature > 1e-10 * dot(&change, &change).sqrt() * dot(&step, &step).sqrt() {
            if pairs.len() == MEMORY {
                pairs.pop_front();
            }
            pairs.push_back(Pair { step, change, curvature });
        }
        let done = value - found <= TOLERANCE * (1.0 + value.abs());
        (x, value, gradient) = (next, found, slope);
        if done {
            break;
        }
    }
    Some((x, value))
}

struct Pair {
    step: Vec<f64>,
    change: Vec<f64>,
    curvature: f64,
}

/// −H g by the two-loop recursion.
fn quasi_newton(gradient: &[f64], pairs: &VecDeque<Pair>) -> Vec<f64> {
    let mut q = gradient.to_vec();
    let mut shares = Vec::with_capacity(pairs.len());
    for pair in pairs.iter().rev() {
        let share = dot(&pair.step, &q) / pair.curvature;
        q.iter_mut().zip(&pair.change).for_each(|(q, change)| *q -= share * change);
        shares.push(share);
    }
    if let Some(pair) = pairs.back() {
        let scale = pair.curvature / dot(&pair.change, &pair.change);
        for entry in &mut q {
            *entry *= scale;
        }
    }
    for (pair, share) in pairs.iter().zip(shares.iter().rev()) {
        let back = dot(&pair.change, &q) / pair.curvature;
        q.iter_mut().zip(&pair.step).for_each(|(q, step)| *q += (share - back) * step);
    }
    q.into_iter().map(|entry| -entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "as the functions that are minimised")]
    fn rosenbrock(x: &[f64]) -> Evaluation {
        let (a, b) = (1.0 - x[0], x[1] - x[0] * x[0]);
        Some((a * a + 100.0 * b * b, vec![-2.0 * a - 400.0 * x[0] * b, 200.0 * b]))
    }

    #[test]
    fn it_follows_a_curved_valley() {
        let (x, value) = minimize(&rosenbrock, &[-1.2, 1.0], &[-5.0; 2], &[5.0; 2], 200).unwrap();
        assert!(value < 1e-6, "{x:?} {value}");
    }

    #[test]
    fn it_stops_at_a_bound() {
        let (x, _) = minimize(&rosenbrock, &[-1.2, 1.0], &[-5.0; 2], &[0.5, 5.0], 200).unwrap();
        assert!((x[0] - 0.5).abs() < 1e-12 && (x[1] - 0.25).abs() < 1e-3, "{x:?}");
    }

    #[test]
    fn where_there_is_no_value_it_does_not_go() {
        let half = |x: &[f64]| (x[0] > 0.3).then(|| (x[0] * x[0], vec![2.0 * x[0]]));
        let (x, _) = minimize(&half, &[1.0], &[-5.0], &[5.0], 50).unwrap();
        assert!(x[0] > 0.3 && x[0] < 0.6, "{x:?}");
        assert!(minimize(&half, &[0.0], &[-5.0], &[5.0], 50).is_none());
    }
}
