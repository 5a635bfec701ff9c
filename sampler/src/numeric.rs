//! The normal distribution in logarithms, the same bits on every machine.

use std::f64::consts::{LN_2, PI, SQRT_2};

/// Logarithms of masses never go below this (1e-300), so that no −∞ meets another.
pub(crate) const LOG_TINY: f64 = -690.775_527_898_213_7;

/// ln √(2π).
pub(crate) const LN_SQRT_2PI: f64 = 0.918_938_533_204_672_8;

/// log Φ(x). Relative error 4e-16 for x <= 0 and 1e-14 up to 10.
pub(crate) fn log_ndtr(x: f64) -> f64 {
    if x > 0.0 {
        libm::log1p(-0.5 * libm::erfc(x / SQRT_2))
    } else if x > -14.0 {
        libm::log(0.5 * libm::erfc(-x / SQRT_2))
    } else {
        let r = 1.0 / (x * x);
        // 1 − r + 3r² − 15r³ + …, whose terms still fall at the twentieth.
        let series = (1..=20_u32).rev().fold(1.0, |sum, k| 1.0 - f64::from(2 * k - 1) * r * sum);
        -0.5 * x * x - libm::log(-x) - LN_SQRT_2PI + libm::log(series)
    }
}

/// Φ(x).
pub(crate) fn ndtr(x: f64) -> f64 {
    0.5 * libm::erfc(-x / SQRT_2)
}

/// Φ(x), 0 where that is less than a rounding unit of 1.
pub(crate) fn tail(x: f64) -> f64 {
    if x < -9.0 { 0.0 } else { ndtr(x) }
}

/// log(Φ(b) − Φ(a)) for a <= b, at least [`LOG_TINY`].
pub(crate) fn log_gauss_mass(a: f64, b: f64) -> f64 {
    // The side on which both are negative loses nothing.
    let (a, b) = if a > 0.0 { (-b, -a) } else { (a, b) };
    let mass = if b <= 0.0 { log_diff_exp(log_ndtr(b), log_ndtr(a)) } else { libm::log1p(-ndtr(a) - ndtr(-b)) };
    // Also where rounding gave NaN.
    if mass > LOG_TINY { mass } else { LOG_TINY }
}

/// Beyond so many deviations a kernel adds less than e⁻⁴⁰ of its peak, far less than the prior does anywhere.
const FAR: f64 = 9.0;

/// log(Φ(z + h/2) − Φ(z − h/2)) with h > 0 and its logarithm, for the cells of a grid under the kernels of a mixture.
///
/// As [`log_gauss_mass`], to 1e-9 up to 9 deviations and to the order of magnitude beyond, but five times as fast:
/// narrow cells by the series φ(z) h Σ He₂ₖ(z) (h/2)²ᵏ / (2k + 1)!, whose rest is below 2e-10 where it is used.
pub(crate) fn log_cell_mass(z: f64, h: f64, log_h: f64) -> f64 {
    let near = z.abs() - 0.5 * h;
    let log_mass = if near > FAR {
        -0.5 * near * near - LN_SQRT_2PI + log_h.min(0.0)
    } else if h * (z.abs() + 2.0) < 1.2 {
        let (t, q) = (z * z, h * h);
        let he4 = (t - 6.0) * t + 3.0;
        let he6 = ((t - 15.0) * t + 45.0) * t - 15.0;
        let he8 = (((t - 28.0) * t + 210.0) * t - 420.0) * t + 105.0;
        let s = q * ((t - 1.0) / 24.0 + q * (he4 / 1_920.0 + q * (he6 / 322_560.0 + q * he8 / 92_897_280.0)));
        // log(1 + s) = 2 artanh(s / (2 + s)); |s| < 0.1.
        let w = s / (2.0 + s);
        let ww = w * w;
        -0.5 * t - LN_SQRT_2PI + log_h + 2.0 * w * (1.0 + ww * (1.0 / 3.0 + ww * (0.2 + ww * (1.0 / 7.0 + ww / 9.0))))
    } else {
        log_gauss_mass(z - 0.5 * h, z + 0.5 * h)
    };
    log_mass.max(LOG_TINY)
}

/// e^(x²) erfc(x) for x >= 0.
fn erfcx(x: f64) -> f64 {
    if x < 25.0 {
        return libm::exp(x * x) * libm::erfc(x);
    }
    let r = 1.0 / (2.0 * x * x);
    (1.0 - r * (1.0 - 3.0 * r * (1.0 - 5.0 * r))) / (x * PI.sqrt())
}

/// log(φ(z) + z Φ(z)), the expected improvement in units of the deviation, without cancellation.
///
/// Source: Ament et al. 2023, arXiv:2310.20708.
pub(crate) fn log_improvement(z: f64) -> f64 {
    if z > -1.0 {
        return libm::log(libm::exp(-0.5 * z * z - LN_SQRT_2PI) + z * ndtr(z));
    }
    let rest = if z < -1e3 {
        -2.0 * libm::log(-z) - 3.0 / (z * z)
    } else {
        libm::log1p((PI / 2.0).sqrt() * z * erfcx(-z / SQRT_2))
    };
    -0.5 * z * z - LN_SQRT_2PI + rest
}

/// log(eˣ − eʸ) for x >= y.
fn log_diff_exp(x: f64, y: f64) -> f64 {
    let gap = y - x;
    if gap > -LN_2 { x + libm::log(-libm::expm1(gap)) } else { x + libm::log1p(-libm::exp(gap)) }
}

/// log(eˣ + eʸ).
pub(crate) fn log_add_exp(x: f64, y: f64) -> f64 {
    let (low, high) = if x < y { (x, y) } else { (y, x) };
    if high == f64::NEG_INFINITY { high } else { high + libm::log1p(libm::exp(low - high)) }
}

/// The x with log Φ(x) = y, for y <= 0.
fn ndtri_exp(y: f64) -> f64 {
    if y > -LN_2 {
        // Above the median the complement is the exact one.
        return -ndtri_exp_lower(libm::log(-libm::expm1(y)));
    }
    ndtri_exp_lower(y)
}

/// [`ndtri_exp`] for y <= log ½: Newton's method on log Φ, which is concave.
fn ndtri_exp_lower(y: f64) -> f64 {
    if y < -1e300 {
        return f64::NEG_INFINITY;
    }
    let mut x =
        if y < -5.0 { -(-2.0 * (y + LN_SQRT_2PI)).sqrt() } else { -3.0_f64.sqrt() / PI * libm::log(libm::expm1(-y)) };
    for _ in 0..60 {
        let log_cdf = log_ndtr(x);
        let slope = libm::exp(-0.5 * x * x - LN_SQRT_2PI - log_cdf);
        let step = (log_cdf - y) / slope;
        x -= step;
        // NaN ends it too.
        if step.is_nan() || step.abs() <= 1e-9 * x.abs().max(1.0) {
            break;
        }
    }
    x
}

/// The p-quantile of the standard normal for 0 <= p <= ½, relative error 1e-15.
///
/// Source: Wichura 1988, algorithm AS 241.
fn ndtri_lower(p: f64) -> f64 {
    #[expect(clippy::excessive_precision, reason = "as published")]
    const CENTRAL: [[f64; 8]; 2] = [
        [
            3.387_132_872_796_366_608_0,
            1.331_416_678_917_843_774_5e2,
            1.971_590_950_306_551_442_7e3,
            1.373_169_376_550_946_112_5e4,
            4.592_195_393_154_987_145_7e4,
            6.726_577_092_700_870_085_3e4,
            3.343_057_558_358_812_810_5e4,
            2.509_080_928_730_122_672_7e3,
        ],
        [
            1.0,
            4.231_333_070_160_091_125_2e1,
            6.871_870_074_920_579_083_0e2,
            5.394_196_021_424_751_107_7e3,
            2.121_379_430_158_659_586_7e4,
            3.930_789_580_009_271_061_0e4,
            2.872_908_573_572_194_267_4e4,
            5.226_495_278_852_854_561_0e3,
        ],
    ];
    #[expect(clippy::excessive_precision, reason = "as published")]
    const MIDDLE: [[f64; 8]; 2] = [
        [
            1.423_437_110_749_683_577_34,
            4.630_337_846_156_545_295_90,
            5.769_497_221_460_691_405_50,
            3.647_848_324_763_204_605_04,
            1.270_458_252_452_368_382_58,
            2.417_807_251_774_506_117_70e-1,
            2.272_384_498_926_918_458_33e-2,
            7.745_450_142_783_414_076_40e-4,
        ],
        [
            1.0,
            2.053_191_626_637_758_821_87,
            1.676_384_830_183_803_849_40,
            6.897_673_349_851_000_045_50e-1,
            1.481_039_764_274_800_745_90e-1,
            1.519_866_656_361_645_719_66e-2,
            5.475_938_084_995_344_946_00e-4,
            1.050_750_071_644_416_843_24e-9,
        ],
    ];
    #[expect(clippy::excessive_precision, reason = "as published")]
    const FAR: [[f64; 8]; 2] = [
        [
            6.657_904_643_501_103_777_20,
            5.463_784_911_164_114_369_90,
            1.784_826_539_917_291_335_80,
            2.965_605_718_285_048_912_30e-1,
            2.653_218_952_657_612_309_30e-2,
            1.242_660_947_388_078_438_60e-3,
            2.711_555_568_743_487_578_15e-5,
            2.010_334_399_292_288_132_65e-7,
        ],
        [
            1.0,
            5.998_322_065_558_879_376_90e-1,
            1.369_298_809_227_358_053_10e-1,
            1.487_536_129_085_061_485_25e-2,
            7.868_691_311_456_132_591_00e-4,
            1.846_318_317_510_054_681_80e-5,
            1.421_511_758_316_445_888_70e-7,
            2.044_263_103_389_939_785_64e-15,
        ],
    ];
    let ratio = |[above, below]: &[[f64; 8]; 2], x: f64| {
        let horner = |of: &[f64; 8]| of.iter().rev().fold(0.0, |sum, coefficient| sum * x + coefficient);
        horner(above) / horner(below)
    };
    let q = p - 0.5;
    if q >= -0.425 {
        return q * ratio(&CENTRAL, 0.180_625 - q * q);
    }
    if p <= 0.0 {
        return f64::NEG_INFINITY;
    }
    let r = (-libm::log(p)).sqrt();
    -if r <= 5.0 { ratio(&MIDDLE, r - 1.6) } else { ratio(&FAR, r - 5.0) }
}

/// The `u`-quantile (0 <= u <= 1) of the standard normal truncated to [a, b].
pub(crate) fn truncated_quantile(u: f64, a: f64, b: f64) -> f64 {
    let x = if a <= 0.0 && b >= 0.0 {
        // Both tails are at most one half: nothing is lost without logarithms.
        let (below, above) = (tail(a), tail(-b));
        let mass = 1.0 - below - above;
        let (p, q) = (below + u * mass, above + (1.0 - u) * mass);
        if p <= q { ndtri_lower(p) } else { -ndtri_lower(q) }
    } else if a > 0.0 {
        -left_quantile(1.0 - u, -b, -a)
    } else {
        left_quantile(u, a, b)
    };
    if x.is_nan() { 0.5 * (a + b) } else { x.clamp(a, b) }
}

fn left_quantile(u: f64, a: f64, b: f64) -> f64 {
    ndtri_exp(log_add_exp(log_ndtr(a), libm::log(u) + log_gauss_mass(a, b)).min(0.0))
}

/// The `p`-quantile of the standard normal, 0 < p < 1.
pub(crate) fn normal_quantile(p: f64) -> f64 {
    ndtri_exp(libm::log(p))
}

/// log Σ eˣ; −∞ without terms.
pub(crate) fn log_sum_exp(terms: &[f64]) -> f64 {
    let largest = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if largest == f64::NEG_INFINITY {
        return largest;
    }
    // Terms below e⁻⁴⁵ of the largest are less than one rounding unit, even a thousand of them.
    let near = terms.iter().map(|term| term - largest).filter(|gap| *gap > -45.0);
    largest + libm::log(near.map(libm::exp).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() <= tolerance * b.abs().max(1.0), "{a} is not {b}");
    }

    #[test]
    fn log_phi_agrees_with_sixty_digit_arithmetic() {
        for (x, expected) in [
            (0.0, -LN_2),
            (-1.0, -1.841_021_645_009_263_5),
            (-13.9, -100.160_937_768_325_81),
            (-14.0, -101.563_034_407_449_96),
            (-14.1, -102.975_081_523_735_34),
            (-20.0, -203.917_155_371_097_26),
            (-40.0, -804.608_442_013_753_8),
            (3.0, -0.001_350_809_964_748_193_8),
        ] {
            close(log_ndtr(x), expected, 1e-15);
        }
        let tiny = log_ndtr(8.0);
        assert!((tiny / -6.220_960_574_271_786e-16 - 1.0).abs() < 1e-12, "{tiny}");
    }

    #[test]
    fn masses_in_the_far_tail_stay_finite() {
        for (a, b) in [(50.0, 51.0), (-51.0, -50.0), (1e8, 1e9), (0.0, 0.0), (-1e9, 1e9), (37.0, 1e300)] {
            let mass = log_gauss_mass(a, b);
            assert!((LOG_TINY..=0.0).contains(&mass), "{a} {b} {mass}");
        }
        close(log_gauss_mass(-1.0, 1.0), libm::log(0.682_689_492_137_085_9), 1e-14);
        close(log_gauss_mass(2.0, 3.0), log_gauss_mass(-3.0, -2.0), 1e-15);
    }

    #[test]
    fn the_fast_cell_mass_is_the_exact_one() {
        for k in 0..4_000 {
            let (z, h) = (f64::from(k % 200) * 0.08 - 8.0, libm::exp(f64::from(k / 200) * 0.5 - 9.0));
            let exact = log_gauss_mass(z - 0.5 * h, z + 0.5 * h);
            // The exact form loses digits of narrow cells by cancellation.
            let tolerance = 1e-9 + 1e-14 * (z * z + 1.0) / h;
            close(log_cell_mass(z, h, libm::log(h)), exact, tolerance);
        }
        assert!(log_cell_mass(1e9, 1.0, 0.0) >= LOG_TINY);
    }

    #[test]
    fn expected_improvement_has_no_gaps_and_no_cancellation() {
        close(log_improvement(0.0), -LN_SQRT_2PI, 1e-15);
        close(log_improvement(-5.0), -16.744_301_162_660_996, 1e-9);
        close(log_improvement(8.0), libm::log(8.0), 1e-12);
        for border in [-1.0, -25.0 * SQRT_2, -1e3] {
            let (above, below) = (log_improvement(border + 1e-9), log_improvement(border - 1e-9));
            assert!(above >= below && above - below < 3e-9 * border.abs() + 1e-8, "{border} {above} {below}");
        }
        let falling = (0..200).map(|k| log_improvement(10.0 - 1.3_f64.powi(k)));
        assert!(falling.clone().all(f64::is_finite) && falling.clone().zip(falling.skip(1)).all(|(a, b)| a > b));
    }

    #[test]
    fn quantiles_invert_the_distribution() {
        for (a, b) in [(-2.0, 3.0), (1.0, 4.0), (-9.0, -7.0), (20.0, 21.0), (-0.01, 0.01)] {
            for u in [0.0, 1e-9, 0.1, 0.5, 0.9, 1.0 - 1e-9, 1.0] {
                let x = truncated_quantile(u, a, b);
                assert!((a..=b).contains(&x), "{a} {b} {u} {x}");
                let back = libm::exp(log_gauss_mass(a, x) - log_gauss_mass(a, b));
                assert!((back - u).abs() < 1e-6, "{a} {b} {u} {back}");
            }
        }
        close(normal_quantile(0.975), 1.959_963_984_540_054, 1e-12);
        for k in 1..3_000 {
            // Straight and by Newton's method.
            let log_p = -0.23 * f64::from(k);
            let p = libm::exp(log_p).min(0.5);
            close(ndtri_lower(p), ndtri_exp(libm::log(p)), 2e-13);
        }
        assert!(ndtri_lower(0.0) < -1e300 && ndtri_lower(0.5).abs() < 1e-300);
    }
}
