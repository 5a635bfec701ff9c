//! One-dimensional kernels: bandwidths, and what a density is multiplied by.

use super::column::{Column, Kind};
use super::options::{LeastBandwidth, ParzenOptions};
use crate::numeric::{LN_SQRT_2PI, log_gauss_mass, tail};

/// √(2π).
pub(super) const SQRT_2PI: f64 = 2.506_628_274_631_000_7;
/// Least bandwidth without any clip. Origin: Optuna.
const TINY_BANDWIDTH: f64 = 1e-12;
/// From so many deviations outside of its range on, the scale of a kernel counts as infinite.
const FAR_OUTSIDE: f64 = 30.0;
/// A range of more least bandwidths than this is sorted, not sifted.
const MOST_LEAST: f64 = 1_000.0;

/// A normal distribution truncated to the range of its column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Kernel {
    pub(super) centre: f64,
    pub(super) bandwidth: f64,
    pub(super) scale: f64,
}

/// Makes scales: what exp(−z² / 2) is multiplied by to give the density in units of the uniform one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) bandwidth: f64,
}

impl Scale {
    pub(super) fn of(&self, centre: f64) -> f64 {
        let (a, b) = ((self.low - centre) / self.bandwidth, (self.high - centre) / self.bandwidth);
        if a > FAR_OUTSIDE || b < -FAR_OUTSIDE {
            return f64::INFINITY;
        }
        // Inside of the range nothing is lost.
        let mass = if a <= 0.0 && b >= 0.0 { 1.0 - tail(a) - tail(-b) } else { libm::exp(log_gauss_mass(a, b)) };
        (self.high - self.low) / (self.bandwidth * SQRT_2PI * mass)
    }

    /// The logarithm of [`Self::of`], finite for every centre.
    pub(super) fn log_of(&self, centre: f64) -> f64 {
        let (a, b) = ((self.low - centre) / self.bandwidth, (self.high - centre) / self.bandwidth);
        libm::log((self.high - self.low) / self.bandwidth) - LN_SQRT_2PI - log_gauss_mass(a, b)
    }

    pub(super) fn kernel(&self, centre: f64) -> Kernel {
        Kernel { centre, bandwidth: self.bandwidth, scale: self.of(centre) }
    }
}

/// What no bandwidth of `n` observations of a column of numbers is below; 0 for choices.
pub(super) fn bandwidth_floor(column: &Column, n: usize, options: ParzenOptions) -> f64 {
    let Kind::Numeric { low, high, step, log } = *column.kind() else { return 0.0 };
    let range = high - low;
    match options.least {
        LeastBandwidth::MagicClip => range / (n as f64 + 2.0).min(100.0),
        LeastBandwidth::Tiny => TINY_BANDWIDTH,
        LeastBandwidth::Share(share) => {
            let half_step = step.filter(|_| !log).map_or(0.0, |step| step / 2.0);
            (share * range).max(half_step).min(range)
        }
    }
}

/// Returns the bandwidths of a one-dimensional Parzen estimator.
///
/// `centres`: n >= 0 kernel centres in ascending order, natural log already taken for logarithmic parameters. The n
/// results keep that order and unit: the larger gap to a neighbour, clipped to `[least, high - low]`. The ends of the
/// range count as neighbours only when n = 1, or with `endpoints`.
///
/// Source: Bergstra et al. 2011, section 4.2; clipping as in Watanabe 2023, arXiv:2304.11127.
fn bandwidths(centres: &[f64], low: f64, high: f64, least: f64, endpoints: bool) -> Vec<f64> {
    let n = centres.len();
    let range = high - low;
    let before = |i: usize| if i == 0 { low } else { centres[i - 1] };
    let after = |i: usize| if i + 1 == n { high } else { centres[i + 1] };
    let width = |i: usize| {
        let ignores_ends = n >= 2 && !endpoints;
        if ignores_ends && i == 0 {
            centres[1] - centres[0]
        } else if ignores_ends && i + 1 == n {
            centres[i] - centres[i - 1]
        } else {
            (centres[i] - before(i)).max(after(i) - centres[i])
        }
    };
    (0..n).map(|i| width(i).max(least).min(range)).collect()
}

/// First and last observation of a part of the range: centre and place, ordered by both.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extremes<P> {
    pub(super) first: (f64, P),
    pub(super) last: (f64, P),
}

/// Adds an observation to a part.
pub(super) fn extend<P: Copy + Ord>(part: &mut Option<Extremes<P>>, at: (f64, P)) {
    let before = |a: (f64, P), b: (f64, P)| a.0 < b.0 || a.0 <= b.0 && a.1 < b.1;
    match part {
        None => *part = Some(Extremes { first: at, last: at }),
        Some(known) => {
            if before(at, known.first) {
                known.first = at;
            } else if before(known.last, at) {
                known.last = at;
            }
        }
    }
}

/// A range in parts of half a least bandwidth: only their outermost observations can have a wide gap beside them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    low: f64,
    per_part: f64,
    pub(super) count: usize,
}

impl Parts {
    pub(super) fn new((low, high): (f64, f64), least: f64) -> Self {
        let count = ((high - low) / least * 2.0).min(2.0 * MOST_LEAST) as usize + 1;
        Self { low, per_part: count as f64 / (high - low), count }
    }

    /// The part of a centre that lies in the range; any other number for what does not.
    pub(super) fn of(&self, centre: f64) -> u16 {
        (((centre - self.low) * self.per_part) as usize).min(self.count - 1) as u16
    }
}

/// The places, ascending, and the bandwidths of those kernels of [`bandwidths`] that are wider than `least`.
///
/// `observed`: centre, place and part of each observation in any order, no centre NaN, at least the [`Extremes`] of each
/// part where `inside`; of equal centres the lower place
/// is the lower neighbour. `inside`: whether all centres lie in the range.
pub(super) fn wide(
    observed: impl Iterator<Item = (f64, usize, u16)>,
    (low, high): (f64, f64),
    least: f64,
    inside: bool,
    endpoints: bool,
) -> Vec<(usize, f64)> {
    let sorted = if inside && high - low <= MOST_LEAST * least {
        let mut extremes = vec![None; Parts::new((low, high), least).count];
        // Not a loop: from inside, chained iterators are several times as fast.
        observed.for_each(|(centre, place, part)| extend(&mut extremes[usize::from(part)], (centre, place)));
        let both = |part: Extremes<usize>| [Some(part.first), Some(part.last).filter(|last| last.1 != part.first.1)];
        extremes.into_iter().flatten().flat_map(both).flatten().collect::<Vec<_>>()
    } else {
        let mut all = observed.map(|(centre, place, _)| (centre, place)).collect::<Vec<_>>();
        all.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        all
    };
    let centres = sorted.iter().map(|(centre, _)| *centre).collect::<Vec<_>>();
    let widths = bandwidths(&centres, low, high, least, endpoints);
    let places = sorted.into_iter().map(|(_, place)| place).zip(widths);
    let mut wide = places.filter(|(_, width)| *width > least).collect::<Vec<_>>();
    wide.sort_unstable_by_key(|(place, _)| *place);
    wide
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{below, trial_rng, unit};
    use fleetune_core::TrialNumber;

    #[test]
    fn bandwidths_are_the_larger_gaps() {
        assert_eq!(bandwidths(&[], 0.0, 1.0, 0.01, false), [0.0; 0]);
        assert_eq!(bandwidths(&[0.25], 0.0, 1.0, 0.01, false), [0.75]);
        assert_eq!(bandwidths(&[0.0, 0.5, 1.0], 0.0, 1.0, 0.01, false), [0.5, 0.5, 0.5]);
        assert_eq!(bandwidths(&[0.5; 3], 0.0, 1.0, 0.2, false), [0.2; 3]);
        assert_eq!(bandwidths(&[0.25, 0.5], 0.0, 1.0, 0.01, true), [0.25, 0.5]);
    }

    #[test]
    fn sifting_finds_what_sorting_finds() {
        let mut rng = trial_rng(5, TrialNumber(0), &[]);
        for round in 0..400 {
            let count = below(&mut rng, 60) as usize;
            let grid = [0.0, 50.0][round % 2];
            let centre = |_| {
                let x = unit(&mut rng) * unit(&mut rng);
                if grid > 0.0 { (x * grid).round() / grid } else { x }
            };
            let centres = (0..count).map(centre).collect::<Vec<_>>();
            for (least, endpoints) in [(0.03, false), (0.01, true), (0.3, false), (1.0, true)] {
                let parts = Parts::new((0.0, 1.0), least);
                let observed =
                    || centres.iter().copied().zip(0..).map(|(centre, place)| (centre, place, parts.of(centre)));
                let sifted = wide(observed(), (0.0, 1.0), least, true, endpoints);
                assert_eq!(sifted, wide(observed(), (0.0, 1.0), least, false, endpoints));
            }
        }
    }
}
