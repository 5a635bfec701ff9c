//! Arithmetic on sixteen numbers at a time, in loops that compilers turn into vector instructions.
//!
//! Only additions, multiplications and comparisons in a fixed order: whatever the width of the vectors, the bits are
//! the same.

#![allow(
    clippy::inline_always,
    reason = "what is out of line is compiled without the vector instructions of its caller"
)]

/// Numbers worked on at a time.
pub(super) const LANES: usize = 16;

/// One number for each of [`LANES`] candidates.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Lanes(pub(super) [f64; LANES]);

impl Lanes {
    pub(super) const ONE: Self = Self([1.0; LANES]);
    pub(super) const ZERO: Self = Self([0.0; LANES]);

    #[inline(always)]
    pub(super) fn splat(number: f64) -> Self {
        Self([number; LANES])
    }

    #[inline(always)]
    pub(super) fn map(mut self, of: impl Fn(f64) -> f64) -> Self {
        for lane in &mut self.0 {
            *lane = of(*lane);
        }
        self
    }

    #[inline(always)]
    pub(super) fn zip(mut self, other: &Self, of: impl Fn(f64, f64) -> f64) -> Self {
        for (lane, other) in self.0.iter_mut().zip(&other.0) {
            *lane = of(*lane, *other);
        }
        self
    }

    #[inline(always)]
    pub(super) fn times(self, other: &Self) -> Self {
        self.zip(other, |a, b| a * b)
    }

    #[inline(always)]
    pub(super) fn plus(self, other: &Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
}

/// 1.5 · 2^52: added to a small number it leaves the nearest integer in the lowest bits.
const SHIFT: f64 = 6_755_399_441_055_744.0;
/// ln 2 in two parts, of which the first has zeros enough for exact products with small integers.
const LN_2_HIGH: f64 = 6.931_471_803_691_238e-1;
const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
/// 1 / k! for k = 12, 11, …, 2.
const INVERSE_FACTORIALS: [f64; 11] = [
    1.0 / 479_001_600.0,
    1.0 / 39_916_800.0,
    1.0 / 3_628_800.0,
    1.0 / 362_880.0,
    1.0 / 40_320.0,
    1.0 / 5_040.0,
    1.0 / 720.0,
    1.0 / 120.0,
    1.0 / 24.0,
    1.0 / 6.0,
    0.5,
];

/// eˣ to a few units in the last place for |x| <= 700; beyond, as at the nearer of these ends.
#[inline(always)]
pub(super) fn exp(x: Lanes) -> Lanes {
    x.map(|x| {
        // Comparisons as vector instructions have them; NaN ends at the lower bound.
        let x = if x > -700.0 { x } else { -700.0 };
        let x = if x < 700.0 { x } else { 700.0 };
        let shifted = x * std::f64::consts::LOG2_E + SHIFT;
        let k = shifted - SHIFT;
        let r = (x - k * LN_2_HIGH) - k * LN_2_LOW;
        let mut sum = INVERSE_FACTORIALS[0];
        for coefficient in &INVERSE_FACTORIALS[1..] {
            sum = sum * r + coefficient;
        }
        let power = f64::from_bits(shifted.to_bits().wrapping_add(1_023) << 52);
        ((sum * r + 1.0) * r + 1.0) * power
    })
}

/// Widest cell that has a [`CellShape`], in bandwidths.
pub(super) const WIDEST_CELL: f64 = 4.5;
/// Deviations up to which these shapes hold.
const REACH: f64 = 7.5;
/// Most terms of a [`CellShape`].
const MOST_TERMS: usize = 36;
/// 1 / k, from the second on.
const RECIPROCALS: [f64; 2 * MOST_TERMS + 2] = {
    let mut reciprocals = [0.0; 2 * MOST_TERMS + 2];
    let mut k = 1;
    while k < reciprocals.len() {
        reciprocals[k] = 1.0 / k as f64;
        k += 1;
    }
    reciprocals
};

/// S(z, h) = ∫ e^(−z h v − h² v² / 2) dv over |v| <= ½, so that φ(z) h S is the normal mass of the cell of width h
/// around z: Σ He₂ₖ(z) (h/2)²ᵏ / (2k + 1)! as a polynomial in z².
#[derive(Clone, Copy, Debug)]
pub(super) struct CellShape {
    coefficients: [f64; MOST_TERMS],
    terms: usize,
}

/// How many terms of S(z, h) leave a rest below 1e-12 for |z| <= [`REACH`].
fn terms(h: f64) -> usize {
    let x = 0.5 * REACH * h;
    let (mut term, mut terms) = (1.0, 0);
    while term > 1e-12 && terms < MOST_TERMS {
        terms += 1;
        term *= x * x * RECIPROCALS[2 * terms] * RECIPROCALS[2 * terms + 1];
    }
    terms
}

impl CellShape {
    /// The polynomial whose rest is below 1e-12 within 7.5 deviations, where a kernel falls to e⁻²⁸, for h up to
    /// [`WIDEST_CELL`].
    pub(super) fn new(h: f64) -> Self {
        let (q, terms) = (0.25 * h * h, terms(h));
        // Of z²ᵐ: qᵐ / (2m)! Σ (−q / 2)ⁱ / ((2 (m + i) + 1) i!), from the coefficients of He₂ₖ.
        let mut coefficients = [0.0; MOST_TERMS];
        let mut outer = 1.0;
        for (m, coefficient) in coefficients.iter_mut().enumerate().take(terms) {
            let (mut inner, mut sum) = (1.0, 0.0);
            for i in 0..terms - m {
                sum += inner * RECIPROCALS[2 * (m + i) + 1];
                inner *= -0.5 * q * RECIPROCALS[i + 1];
            }
            *coefficient = outer * sum;
            outer *= q * RECIPROCALS[2 * m + 1] * RECIPROCALS[2 * m + 2];
        }
        Self { coefficients, terms }
    }

    /// S at the square roots of `t`.
    #[inline(always)]
    pub(super) fn at(&self, t: &Lanes) -> Lanes {
        let mut sum = Lanes::splat(self.coefficients[self.terms - 1]);
        for coefficient in self.coefficients[..self.terms - 1].iter().rev() {
            sum = sum.zip(t, |sum, t| sum * t + coefficient);
        }
        sum
    }
}

/// Kernels that are fainter than this at a candidate, in units of the uniform density, count as nothing there: far less
/// than a rounding unit beside the prior, and products of what is left stay clear of the slow numbers next to zero.
pub(super) const FAINT: f64 = 1e-60;

/// S(z, h) of cells of different widths, for kernels that are met once: by the recurrence of He₂ₖ, since coefficients
/// would cost more. As good as a [`CellShape`].
#[inline(always)]
pub(super) fn cell_shapes(t: &Lanes, h: &Lanes) -> Lanes {
    let q = h.map(|h| 0.25 * h * h);
    let widest = h.0.iter().copied().filter(|h| *h <= WIDEST_CELL).fold(0.0, f64::max);
    let (mut before, mut term, mut sum) = (Lanes::ZERO, Lanes::ONE, Lanes::ONE);
    for k in 1..terms(widest) {
        let alpha = RECIPROCALS[2 * k] * RECIPROCALS[2 * k + 1];
        let (beta, shift) = ((2.0 * k as f64 - 3.0) * RECIPROCALS[2 * k - 1], (4 * k - 3) as f64);
        // Of He₂ₖ = (z² − 4k + 3) He₂ₖ₋₂ − (2k − 2) (2k − 3) He₂ₖ₋₄, times the power of h and over the factorial.
        let mut next = term;
        for lane in 0..LANES {
            let q = q.0[lane];
            next.0[lane] = q * alpha * ((t.0[lane] - shift) * term.0[lane] - beta * q * before.0[lane]);
        }
        (before, term) = (term, next);
        sum = sum.plus(&term);
    }
    sum
}

/// A [`CellShape`] for each lane.
#[derive(Clone, Debug)]
pub(super) struct CellShapes(Vec<Lanes>);

impl CellShapes {
    /// Of cells of width `h`; wider ones and what is no number have no shape that counts.
    #[inline(always)]
    pub(super) fn new(h: &Lanes) -> Self {
        let h = h.map(|h| if h <= WIDEST_CELL { h } else { 0.0 });
        let (terms, q) = (terms(h.0.iter().copied().fold(0.0, f64::max)), h.map(|h| 0.25 * h * h));
        // As for one shape.
        let mut coefficients = vec![Lanes::ZERO; terms];
        let mut outer = Lanes::ONE;
        for m in 0..terms {
            let (mut inner, mut sum) = (Lanes::ONE, Lanes::ZERO);
            for i in 0..terms - m {
                let (share, next) = (RECIPROCALS[2 * (m + i) + 1], -0.5 * RECIPROCALS[i + 1]);
                sum = sum.zip(&inner, |sum, inner| sum + inner * share);
                inner = inner.zip(&q, |inner, q| inner * (q * next));
            }
            coefficients[terms - 1 - m] = outer.times(&sum);
            let next = RECIPROCALS[2 * m + 1] * RECIPROCALS[2 * m + 2];
            outer = outer.zip(&q, |outer, q| outer * (q * next));
        }
        Self(coefficients)
    }

    /// S at the square roots of `t`.
    #[inline(always)]
    pub(super) fn at(&self, t: &Lanes) -> Lanes {
        let mut sum = Lanes::ZERO;
        for coefficients in &self.0 {
            for lane in 0..LANES {
                sum.0[lane] = sum.0[lane] * t.0[lane] + coefficients.0[lane];
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numeric::{LN_SQRT_2PI, log_gauss_mass};

    #[test]
    fn powers_of_e_are_those_of_libm() {
        for k in -7_000..=7_000 {
            let x = f64::from(k) * 0.099_9;
            let (ours, exact) = (exp(Lanes::splat(x)).0[3], libm::exp(x));
            assert!((ours / exact - 1.0).abs() < 1e-15, "{x}: {ours} is not {exact}");
        }
        assert!(exp(Lanes::ZERO).0.iter().all(|power| power.to_bits() == 1.0_f64.to_bits()));
        assert!(exp(Lanes::splat(f64::NAN)).0[0] < 1e-300);
    }

    #[test]
    fn cells_have_the_mass_of_the_normal_distribution() {
        for k in 0..4_000 {
            let (z, h) = (f64::from(k % 200) * 0.08 - 8.0, libm::exp(f64::from(k / 200) * 0.4 - 6.0));
            let (t, h) = (Lanes::splat(z * z), h.min(WIDEST_CELL));
            let shape = CellShape::new(h).at(&t).0[0];
            let one_by_one = CellShapes::new(&Lanes::splat(h)).at(&t).0[0];
            assert!((one_by_one / shape - 1.0).abs() < 1e-13, "{z} {h}: {one_by_one} is not {shape}");
            let other = cell_shapes(&t, &Lanes::splat(h)).0[0];
            assert!((other / shape - 1.0).abs() < 1e-10, "{z} {h}: {other} is not {shape}");
            let ours = libm::log(shape * h) - 0.5 * z * z - LN_SQRT_2PI;
            let exact = log_gauss_mass(z - 0.5 * h, z + 0.5 * h);
            // The exact form loses digits of narrow cells by cancellation.
            let tolerance = if z.abs() <= REACH { 1e-10 } else { 1e-8 } + 1e-14 * (z * z + 1.0) / h;
            assert!((ours - exact).abs() < tolerance, "{z} {h}: {ours} is not {exact}");
        }
    }
}
