//! Many kernels of one bandwidth without an exponential for each.
//!
//! With centre a + s, where a is one of few and |s| <= ½ (in bandwidths), exp(−(x − a − s)² / 2) is
//! exp(−(x − a)² / 2) · exp(x s) · exp(−a s − s² / 2). The first factor is in a table by a. Of s = i / 32 + j / 1024 + r
//! the second one is in two tables and a polynomial in x r. The third does not depend on x and is kept with the kernel.

#![allow(
    clippy::inline_always,
    reason = "what is out of line is compiled without the vector instructions of its caller"
)]

use super::kernel::Scale;
use super::lanes::{FAINT, Lanes, exp};

/// Steps of the two digits, and how far both go to either side.
const FIRST: f64 = 32.0;
const SECOND: f64 = 1_024.0;
const REACH: usize = 16;
/// Centres `a` up to here come from products.
const NEAR: usize = 20;
/// A range of more bandwidths than this has no digits: powers would leave the doubles.
const MOST_BANDWIDTHS: f64 = 210.0;

/// A centre in digits, and the scale of its kernel with what of the exponential depends on the centre alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Digits {
    coarse: u16,
    first: u8,
    second: u8,
    rest: f64,
    /// In bandwidths from the middle of the range.
    centre: f64,
    scale: f64,
}

impl Digits {
    /// Those of a parameter that was off.
    pub(super) const OFF: Self = Self { coarse: u16::MAX, first: 0, second: 0, rest: 0.0, centre: 0.0, scale: 0.0 };

    pub(super) fn is_off(&self) -> bool {
        self.coarse == u16::MAX
    }
}

/// What makes digits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Digiter {
    middle: f64,
    per_bandwidth: f64,
    /// Centres `a` are this much below, and that many, one bandwidth apart.
    reach: f64,
}

impl Digiter {
    /// For kernels of the bandwidth of `scale`; `None` where that is too narrow.
    pub(super) fn new(scale: &Scale) -> Option<Self> {
        let (range, per_bandwidth) = (scale.high - scale.low, 1.0 / scale.bandwidth);
        let reach = (0.5 * range * per_bandwidth).ceil();
        let middle = 0.5 * (scale.low + scale.high);
        (range * per_bandwidth <= MOST_BANDWIDTHS).then_some(Self { middle, per_bandwidth, reach })
    }

    /// The digits of a kernel whose centre lies in the range.
    pub(super) fn digits(&self, centre: f64, scale: f64) -> Digits {
        let centre = (centre - self.middle) * self.per_bandwidth;
        let coarse = centre.round_ties_even();
        let s = centre - coarse;
        let first = (s * FIRST).round_ties_even();
        let left = s - first / FIRST;
        let second = (left * SECOND).round_ties_even();
        Digits {
            coarse: (coarse + self.reach) as u16,
            first: (first + REACH as f64) as u8,
            second: (second + REACH as f64) as u8,
            rest: left - second / SECOND,
            centre,
            scale: scale * libm::exp(-coarse * s - 0.5 * s * s),
        }
    }

    /// Tables for candidates at `at`.
    #[inline(always)]
    pub(super) fn tables(&self, at: &Lanes) -> Tables {
        let x = at.map(|at| (at - self.middle) * self.per_bandwidth);
        let steps = self.reach as usize;
        let mut coarse = vec![Lanes::ZERO; 2 * steps + 1];
        if steps <= NEAR {
            // exp(−x² / 2) exp(a x) exp(−a² / 2) by products, of which none leaves the doubles.
            let (up, down) = (exp(x), exp(x.map(|x| -x)));
            coarse[steps] = exp(x.map(|x| -0.5 * x * x));
            for a in 1..=steps {
                let fall = libm::exp(0.5 - a as f64);
                coarse[steps + a] = coarse[steps + a - 1].zip(&up, |bell, up| bell * (up * fall));
                coarse[steps - a] = coarse[steps - a + 1].zip(&down, |bell, down| bell * (down * fall));
            }
        } else {
            for (step, bell) in coarse.iter_mut().enumerate() {
                let a = step as f64 - self.reach;
                *bell = exp(x.map(|x| -0.5 * (x - a) * (x - a)));
            }
        }
        for bell in &mut coarse {
            *bell = bell.map(|bell| if bell < FAINT { 0.0 } else { bell });
        }
        Tables { x, coarse, first: powers(&x.map(|x| x / FIRST)), second: powers(&x.map(|x| x / SECOND)) }
    }
}

/// exp(i x) for i from −[`REACH`] to [`REACH`].
#[inline(always)]
fn powers(x: &Lanes) -> [Lanes; 2 * REACH + 1] {
    let mut powers = [Lanes::ONE; 2 * REACH + 1];
    let (up, down) = (exp(*x), exp(x.map(|x| -x)));
    for i in 1..=REACH {
        powers[REACH + i] = powers[REACH + i - 1].times(&up);
        powers[REACH - i] = powers[REACH - i + 1].times(&down);
    }
    powers
}

/// What the kernels of one bandwidth have in common at sixteen candidates.
#[derive(Debug)]
pub(super) struct Tables {
    x: Lanes,
    coarse: Vec<Lanes>,
    first: [Lanes; 2 * REACH + 1],
    second: [Lanes; 2 * REACH + 1],
}

impl Tables {
    /// The kernel at the candidates.
    #[inline(always)]
    pub(super) fn at(&self, digits: &Digits) -> Lanes {
        let coarse = &self.coarse[usize::from(digits.coarse)];
        let first = &self.first[usize::from(digits.first)];
        let second = &self.second[usize::from(digits.second)];
        let mut kernel = self.x;
        for lane in 0..kernel.0.len() {
            let p = kernel.0[lane] * digits.rest;
            let power = (((p * (1.0 / 24.0) + (1.0 / 6.0)) * p + 0.5) * p + 1.0) * p + 1.0;
            kernel.0[lane] = power * digits.scale * coarse.0[lane] * (first.0[lane] * second.0[lane]);
        }
        kernel
    }

    /// The squares of the distances to the candidates.
    #[inline(always)]
    pub(super) fn squares(&self, digits: &Digits) -> Lanes {
        self.x.map(|x| (x - digits.centre) * (x - digits.centre))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_by_digits_are_those_of_the_exponential() {
        for (bandwidths, tolerance) in [(1.0, 1e-13), (33.3, 1e-12), (100.0, 1e-10)] {
            let scale = Scale { low: -1.0, high: 3.0, bandwidth: 4.0 / bandwidths };
            let digiter = Digiter::new(&scale).unwrap();
            let candidates = Lanes(std::array::from_fn(|lane| -1.0 + 4.0 / 15.0 * lane as f64));
            let tables = digiter.tables(&candidates);
            for step in 0..=1_000 {
                let centre = -1.0 + 0.004 * f64::from(step);
                let kernel = tables.at(&digiter.digits(centre, 2.0));
                for (candidate, ours) in candidates.0.iter().zip(kernel.0) {
                    let z = (candidate - centre) / scale.bandwidth;
                    let exact = 2.0 * libm::exp(-0.5 * z * z);
                    let is_close = (ours / exact - 1.0).abs() < tolerance * (1.0 + z.abs());
                    assert!(z.abs() > 12.0 || is_close, "{candidate} {centre}: {ours} is not {exact}");
                }
            }
        }
        assert!(Digiter::new(&Scale { low: 0.0, high: 1.0, bandwidth: 1e-12 }).is_none());
    }
}
