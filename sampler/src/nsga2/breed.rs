//! Crossover and mutation of one number in [0, 1].

use rand::rngs::ChaCha8Rng;

use crate::rng::unit;

/// Distribution index of crossover and mutation; the larger, the nearer to the parents. Origin: Deb et al. 2002, section V.
const ETA: f64 = 20.0;

/// A child of `a` and `b` by simulated binary crossover within [0, 1].
///
/// Source: Deb and Agrawal 1995, with bounds as in Deb's own program.
pub(super) fn crossover(a: f64, b: f64, rng: &mut ChaCha8Rng) -> f64 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    let (u, is_low) = (unit(rng), unit(rng) < 0.5);
    let gap = high - low;
    if gap < 1e-14 {
        return low;
    }
    let room = if is_low { low } else { 1.0 - high };
    let alpha = 2.0 - libm::pow(1.0 + 2.0 * room / gap, -(ETA + 1.0));
    let spread = if u <= 1.0 / alpha { u * alpha } else { 1.0 / (2.0 - u * alpha) };
    let spread = libm::pow(spread, 1.0 / (ETA + 1.0)) * gap;
    let child = if is_low { low + high - spread } else { low + high + spread };
    (child / 2.0).clamp(0.0, 1.0)
}

/// `x`, moved by polynomial mutation within [0, 1].
pub(super) fn mutation(x: f64, rng: &mut ChaCha8Rng) -> f64 {
    let u = unit(rng);
    let power = 1.0 / (ETA + 1.0);
    let step = if u < 0.5 {
        libm::pow(2.0 * u + (1.0 - 2.0 * u) * libm::pow(1.0 - x, ETA + 1.0), power) - 1.0
    } else {
        1.0 - libm::pow(2.0 * (1.0 - u) + (2.0 * u - 1.0) * libm::pow(x, ETA + 1.0), power)
    };
    (x + step).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::trial_rng;
    use fleetune_core::TrialNumber;

    #[test]
    fn children_stay_inside_and_average_their_parents() {
        let mut rng = trial_rng(1, TrialNumber(0), &[]);
        for (a, b) in [(0.4, 0.6), (0.0, 1.0), (0.5, 0.5), (1.0, 0.7)] {
            let children = (0..2_000).map(|_| crossover(a, b, &mut rng)).collect::<Vec<_>>();
            assert!(children.iter().all(|child| (0.0..=1.0).contains(child)));
            let mean = children.iter().sum::<f64>() / 2_000.0;
            assert!((mean - f64::midpoint(a, b)).abs() < 0.02, "{a} {b} {mean}");
        }
    }

    #[test]
    fn mutants_stay_inside_and_near() {
        let mut rng = trial_rng(2, TrialNumber(0), &[]);
        for x in [0.0, 0.3, 1.0] {
            let mutants = (0..2_000).map(|_| mutation(x, &mut rng)).collect::<Vec<_>>();
            assert!(mutants.iter().all(|mutant| (0.0..=1.0).contains(mutant)));
            let far = mutants.iter().filter(|mutant| (*mutant - x).abs() > 0.2).count();
            assert!(far < 60, "{far}");
        }
    }
}
