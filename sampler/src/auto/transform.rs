//! Objective values as a Gaussian process wants them: about normal, the bad tail pulled in.

use fleetune_core::measurement::median;

/// How far the bad tail may reach, in units of (median − best).
const TAIL: f64 = 2.5;

/// The transformed values (smaller is better, mean 0, deviation 1) and the slope of the transformation at each.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Transformed {
    pub(super) values: Vec<f64>,
    pub(super) slopes: Vec<f64>,
}

/// A monotone shape that values are brought into; y above the best in units of (median − best).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Shape {
    /// As they are.
    Linear,
    /// log(share + y): the smaller the share, the more do the values next to the best differ.
    Log(f64),
    /// The logarithm of the values themselves, where all have one sign.
    LogSize,
}

/// The shapes among which is chosen, the plainest first.
pub(super) const SHAPES: [Shape; 5] =
    [Shape::Linear, Shape::Log(1.0), Shape::LogSize, Shape::Log(0.1), Shape::Log(0.01)];
/// Those that are told apart by values alone.
const PLAIN: usize = 3;

impl Shape {
    /// The transformed finite values, the bad tail pulled in; `None` where they cannot be brought into the shape.
    pub(super) fn of(self, values: &[f64]) -> Option<Transformed> {
        let (values, slopes) = self.raw(values)?;
        let (values, slopes) = pull_in(values, slopes);
        Some(standardize(values, slopes))
    }

    fn raw(self, values: &[f64]) -> Option<(Vec<f64>, Vec<f64>)> {
        let best = values.iter().copied().fold(f64::INFINITY, f64::min);
        let spread = median(values).unwrap_or(best) - best;
        if values.len() < 4 || !(spread.is_finite() && spread > 0.0) {
            return None;
        }
        Some(match self {
            Self::Linear => shape(values, |y| ((y - best) / spread, 1.0 / spread)),
            Self::Log(share) => shape(values, |y| {
                let z = (y - best) / spread;
                (libm::log(share + z), 1.0 / (spread * (share + z)))
            }),
            Self::LogSize => {
                let least = values.iter().fold(f64::INFINITY, |least, y| least.min(y.abs()));
                let one_sign = values.iter().all(|y| *y > 0.0) || values.iter().all(|y| *y < 0.0);
                if !one_sign || least == 0.0 {
                    return None;
                }
                // Falling in |y| where all are negative.
                shape(values, |y| (libm::log(y.abs()) * y.signum(), 1.0 / y.abs()))
            }
        })
    }
}

/// Transforms finite values: of three shapes into the one that is nearest to a normal distribution.
pub(super) fn transform(values: &[f64]) -> Transformed {
    let abnormal = |shape: &Shape| Some((abnormality(&shape.raw(values)?.0), *shape));
    let nearest = SHAPES[..PLAIN].iter().filter_map(abnormal).reduce(|a, b| if b.0 < a.0 { b } else { a });
    let found = nearest.and_then(|(_, shape)| shape.of(values));
    found.unwrap_or_else(|| standardize(values.to_vec(), vec![1.0; values.len()]))
}

/// Limits the bad tail, where slopes become 0.
pub(super) fn pull_in(mut values: Vec<f64>, mut slopes: Vec<f64>) -> (Vec<f64>, Vec<f64>) {
    let best = values.iter().copied().fold(f64::INFINITY, f64::min);
    let middle = median(&values).unwrap_or(best);
    let limit = middle + TAIL * (middle - best);
    for (value, slope) in values.iter_mut().zip(&mut slopes) {
        if *value > limit {
            (*value, *slope) = (limit, 0.0);
        }
    }
    (values, slopes)
}

fn shape(values: &[f64], of: impl Fn(f64) -> (f64, f64)) -> (Vec<f64>, Vec<f64>) {
    values.iter().map(|y| of(*y)).unzip()
}

/// Mean 0, deviation 1; values that are all equal become 0.
pub(super) fn standardize(mut values: Vec<f64>, mut slopes: Vec<f64>) -> Transformed {
    // Half, so that the sum of two huge values stays finite.
    let largest = values.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
    let count = values.len() as f64;
    if largest > 0.0 {
        for entry in values.iter_mut().chain(&mut slopes) {
            *entry /= largest;
        }
    }
    let mean = values.iter().sum::<f64>() / count;
    let deviation = (values.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / count).sqrt();
    // Below rounding of the values nothing is left to explain.
    if deviation.is_nan() || deviation <= 1e-12 {
        return Transformed { values: vec![0.0; values.len()], slopes: vec![0.0; values.len()] };
    }
    for (value, slope) in values.iter_mut().zip(&mut slopes) {
        *value = (*value - mean) / deviation;
        *slope /= deviation;
    }
    Transformed { values, slopes }
}

/// |skewness| + ¼ |excess kurtosis|.
fn abnormality(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let moment = |power: i32| values.iter().map(|z| (z - mean).powi(power)).sum::<f64>() / count;
    let variance = moment(2);
    let abnormality =
        (moment(3) / (variance * variance.sqrt())).abs() + 0.25 * (moment(4) / (variance * variance) - 3.0).abs();
    if abnormality.is_nan() { f64::INFINITY } else { abnormality }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: &[f64]) -> Vec<f64> {
        for shape in SHAPES {
            if let Some(transformed) = shape.of(values) {
                keeps_order(values, transformed);
            }
        }
        keeps_order(values, transform(values))
    }

    fn keeps_order(values: &[f64], transformed: Transformed) -> Vec<f64> {
        let Transformed { values: z, slopes } = transformed;
        assert!(z.iter().chain(&slopes).all(|z| z.is_finite()), "{z:?} {slopes:?}");
        for (a, za) in values.iter().zip(&z) {
            for (b, zb) in values.iter().zip(&z) {
                assert!(a < b || za >= zb, "{a} {b} {za} {zb}");
            }
        }
        z
    }

    #[test]
    fn the_order_is_kept() {
        check(&[3.0, 1.0, 2.0, 9.0, 1e9, -4.0]);
        check(&[1e-9, 1e-3, 5.0, 1e3]);
        check(&[-1e-9, -1e-3, -5.0, -1e3, -7.0]);
        check(&[1.0, 1.0, 1.0, 1.0, 0.5]);
        check(&[f64::MAX, f64::MIN, 0.0, 1.0, 2.0]);
        check(&[1.0, 2.0]);
    }

    #[test]
    fn equal_values_say_nothing() {
        assert_eq!(check(&[7.0; 5]), [0.0; 5]);
        assert_eq!(check(&[0.0; 2]), [0.0; 2]);
        assert_eq!(check(&[5e-324; 9]), [0.0; 9]);
        assert_eq!(check(&[3.0]), [0.0]);
        assert!(check(&[]).is_empty());
    }

    #[test]
    fn a_heavy_tail_does_not_hide_the_rest() {
        let z = check(&[1.0, 1.1, 1.2, 1.3, 1.4, 1e12]);
        assert!(z[1] - z[0] > 0.1, "{z:?}");
    }
}
