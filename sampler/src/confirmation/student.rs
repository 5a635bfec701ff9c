//! Quantiles of Student's t distribution.

use crate::numeric::normal_quantile;

/// The `p`-quantile (0 < p < 1) of Student's t with `degrees` > 0 degrees of freedom; infinity is the normal
/// distribution. Relative error below 1e-9.
pub fn t_quantile(p: f64, degrees: f64) -> f64 {
    if p < 0.5 {
        return -t_quantile(1.0 - p, degrees);
    }
    // Beyond this the difference to the normal distribution is below the accuracy promised.
    if degrees > 1e10 {
        return normal_quantile(p);
    }
    // Bisection on the survival function, which falls in t: robust, and called once per verdict.
    let survival = |t: f64| 0.5 * incomplete_beta(degrees / (degrees + t * t), degrees / 2.0, 0.5);
    let (mut low, mut high) = (0.0, 2.0);
    while survival(high) > 1.0 - p && high < 1e300 {
        high *= 2.0;
    }
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if survival(middle) > 1.0 - p { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// The regularised incomplete beta function Iₓ(a, b).
fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    let log_front = libm::lgamma(a + b) - libm::lgamma(a) - libm::lgamma(b) + a * libm::log(x) + b * libm::log1p(-x);
    let front = libm::exp(log_front);
    // The continued fraction converges fast on this side of the mean.
    if x < (a + 1.0) / (a + b + 2.0) {
        front * fraction(x, a, b) / a
    } else {
        1.0 - front * fraction(1.0 - x, b, a) / b
    }
}

/// Lentz's evaluation of the continued fraction of Iₓ(a, b), Abramowitz and Stegun 26.5.8.
fn fraction(x: f64, a: f64, b: f64) -> f64 {
    let guard = |number: f64| if number.abs() < 1e-300 { 1e-300 } else { number };
    let mut c = 1.0;
    let mut d = 1.0 / guard(1.0 - (a + b) * x / (a + 1.0));
    let mut result = d;
    for m in 1..500 {
        let m = f64::from(m);
        for term in [
            m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0)),
        ] {
            d = 1.0 / guard(1.0 + term * d);
            c = guard(1.0 + term / c);
            result *= c * d;
        }
        if (c * d - 1.0).abs() < 1e-15 {
            break;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::t_quantile;

    #[test]
    fn quantiles_agree_with_the_tables() {
        for (degrees, expected) in [
            (1.0, 12.706_204_736_174_7),
            (2.0, 4.302_652_729_749_46),
            (7.0, 2.364_624_251_592_78),
            (9.0, 2.262_157_162_798_2),
            (30.0, 2.042_272_456_301_24),
            (f64::INFINITY, 1.959_963_984_540_05),
        ] {
            let t = t_quantile(0.975, degrees);
            assert!((t - expected).abs() < 1e-8, "{degrees} {t}");
            assert!((t_quantile(0.025, degrees) + t).abs() < 1e-12);
        }
        assert!((t_quantile(0.5, 3.0)).abs() < 1e-9);
    }
}
