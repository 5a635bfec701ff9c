//! The covariance of two configurations: Matérn 5/2 over a weighted sum of distances, one for each dimension.

/// What a dimension of a point is; a coordinate that is NaN belongs to a parameter that is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dimension {
    /// A number, 0 to 1 over its range.
    Number,
    /// The index of a choice.
    Category,
}

/// Squared distance of a category from a parameter that is off; at the least possible height above the choices.
const OFF_CATEGORY: f64 = 0.5;
/// The same for a number, above the middle of the range. A distance that is equal for all numbers would make no
/// covariance: no point is equally far from all points of a line.
const OFF_NUMBER: f64 = 0.4;

impl Dimension {
    /// The squared distance of two coordinates: at most 1 within the range.
    pub(super) fn distance(self, a: f64, b: f64) -> f64 {
        match (self, a.is_nan(), b.is_nan()) {
            (_, true, true) => 0.0,
            (Self::Number, false, false) => (a - b) * (a - b),
            (Self::Category, false, false) => f64::from(u8::from((a - b).abs() > 0.5)),
            (Self::Number, true, false) => (b - 0.5) * (b - 0.5) + OFF_NUMBER,
            (Self::Number, false, true) => (a - 0.5) * (a - 0.5) + OFF_NUMBER,
            (Self::Category, _, _) => OFF_CATEGORY,
        }
    }
}

/// Points in columns, one per dimension.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Points {
    columns: Vec<Vec<f64>>,
    /// Whether a column has a coordinate that is off.
    gaps: Vec<bool>,
    rows: usize,
}

impl Points {
    pub(super) fn new<'a>(dimensions: usize, points: impl IntoIterator<Item = &'a [f64]>) -> Self {
        let mut all = Self { columns: vec![Vec::new(); dimensions], gaps: vec![false; dimensions], rows: 0 };
        for point in points {
            all.push(point);
        }
        all
    }

    pub(super) fn push(&mut self, point: &[f64]) {
        for ((column, gaps), coordinate) in self.columns.iter_mut().zip(&mut self.gaps).zip(point) {
            column.push(*coordinate);
            *gaps |= coordinate.is_nan();
        }
        self.rows += 1;
    }

    pub(super) fn len(&self) -> usize {
        self.rows
    }

    pub(super) fn dimensions(&self) -> usize {
        self.columns.len()
    }

    pub(super) fn column(&self, dimension: usize) -> &[f64] {
        &self.columns[dimension]
    }

    /// Whether both hold the same bits.
    pub(super) fn same(&self, other: &Self) -> bool {
        let bits = |a: &Vec<f64>, b: &Vec<f64>| same_bits(a, b);
        self.rows == other.rows && self.columns.iter().zip(&other.columns).all(|(a, b)| bits(a, b))
    }
}

/// Whether both hold the same bits.
pub(super) fn same_bits(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// The kernel σ² M₅₂(r), r² = Σ weight · distance.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Kernel {
    pub(super) dimensions: Vec<Dimension>,
    /// e^(−2θ), θ the logarithm of a length scale.
    pub(super) weights: Vec<f64>,
    /// σ².
    pub(super) signal: f64,
}

const SQRT_5: f64 = 2.236_067_977_499_79;

/// M₅₂ and −½ its derivative by r² (without the factor 5/3): e^(−a) (1 + a + a²/3) and e^(−a) (1 + a), a = √5 r.
pub(super) fn matern(r2: f64) -> (f64, f64) {
    let a = SQRT_5 * r2.sqrt();
    let fall = libm::exp(-a);
    (fall * (1.0 + a + a * a / 3.0), fall * (1.0 + a))
}

impl Kernel {
    /// The covariances of `point` with each of `points`.
    pub(super) fn covariances(&self, points: &Points, point: &[f64]) -> Vec<f64> {
        let mut r2 = vec![0.0; points.len()];
        for (index, (dimension, weight)) in self.dimensions.iter().zip(&self.weights).enumerate() {
            let (column, own) = (points.column(index), point[index]);
            if points.gaps[index] || own.is_nan() {
                let distances = column.iter().map(|other| dimension.distance(own, *other));
                r2.iter_mut().zip(distances).for_each(|(r2, distance)| *r2 += weight * distance);
                continue;
            }
            match dimension {
                Dimension::Number => {
                    r2.iter_mut().zip(column).for_each(|(r2, other)| *r2 += weight * (own - other) * (own - other));
                }
                Dimension::Category => {
                    let cost = |other: f64| if (own - other).abs() > 0.5 { *weight } else { 0.0 };
                    r2.iter_mut().zip(column).for_each(|(r2, other)| *r2 += cost(*other));
                }
            }
        }
        for r2 in &mut r2 {
            *r2 = self.signal * matern(*r2).0;
        }
        r2
    }

    /// Σ weight · distance of two points.
    #[cfg(test)]
    pub(super) fn squared_distance(&self, a: &[f64], b: &[f64]) -> f64 {
        let terms = self.dimensions.iter().zip(&self.weights).zip(a.iter().zip(b));
        terms.map(|((dimension, weight), (a, b))| weight * dimension.distance(*a, *b)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn covariances_fall_with_the_distance() {
        let kernel = Kernel {
            dimensions: vec![Dimension::Number, Dimension::Category, Dimension::Number],
            weights: vec![4.0, 1.0, 2.0],
            signal: 2.0,
        };
        let off = f64::NAN;
        let points = [[0.5, 1.0, off], [0.6, 1.0, off], [0.5, 0.0, off], [0.5, 1.0, 0.3]];
        let all = Points::new(3, points.iter().map(<[f64; 3]>::as_slice));
        let covariances = kernel.covariances(&all, &points[0]);
        assert_eq!(covariances[0].to_bits(), 2.0_f64.to_bits());
        for (point, covariance) in points.iter().zip(&covariances) {
            let expected = 2.0 * matern(kernel.squared_distance(&points[0], point)).0;
            assert!((covariance - expected).abs() < 1e-14);
        }
        assert!(covariances[1] > covariances[2] && covariances[1] > covariances[3]);
    }
}
