//! Dense linear algebra for covariance matrices: small, and the same bits on every machine, since every sum has a fixed
//! order. Sums run in eight lanes, which compilers turn into vector instructions without changing a result.

/// Σ aᵢ bᵢ.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    const LANES: usize = 8;
    let mut lanes = [0.0; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(a, b)| a * b).sum::<f64>();
    for (a, b) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (b + f)) + ((c + g) + (d + h)) + rest
}

/// y ← y + factor · x.
fn add_scaled(y: &mut [f64], factor: f64, x: &[f64]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += factor * x;
    }
}

/// A lower triangle, row after row; row i has i + 1 entries.
#[derive(Clone, Debug, Default)]
pub(super) struct Triangle {
    size: usize,
    entries: Vec<f64>,
}

/// Where row `row` of a lower triangle starts.
fn offset(row: usize) -> usize {
    row * (row + 1) / 2
}

impl Triangle {
    /// The triangle with these rows, one after the other.
    pub(super) fn from_entries(size: usize, entries: Vec<f64>) -> Self {
        assert_eq!(entries.len(), offset(size), "a lower triangle of {size} rows");
        Self { size, entries }
    }

    /// Row `row` up to and with the diagonal.
    pub(super) fn row(&self, row: usize) -> &[f64] {
        &self.entries[offset(row)..offset(row + 1)]
    }

    pub(super) fn entries(&self) -> &[f64] {
        &self.entries
    }
}

/// The Cholesky factor L of a covariance matrix K = L Lᵀ.
#[derive(Clone, Debug, Default)]
pub(super) struct Cholesky(Triangle);

impl Cholesky {
    /// Factors the matrix whose lower triangle is given; `None` when it is not positive definite.
    pub(super) fn of(matrix: &Triangle) -> Option<Self> {
        let mut factor = Self(Triangle { size: 0, entries: Vec::with_capacity(matrix.entries.len()) });
        for row in 0..matrix.size {
            let row = matrix.row(row);
            factor.append(&row[..row.len() - 1], row[row.len() - 1])?;
        }
        Some(factor)
    }

    /// Adds a row and column to the matrix; `None`, and nothing changed, when it would not be positive definite.
    pub(super) fn append(&mut self, covariances: &[f64], variance: f64) -> Option<()> {
        let mut row = covariances.to_vec();
        self.solve_lower(&mut row);
        let pivot = variance - dot(&row, &row);
        // Less is rounding. NaN is refused as well.
        if pivot.is_nan() || pivot <= 1e-13 * variance.abs() {
            return None;
        }
        self.0.entries.extend_from_slice(&row);
        self.0.entries.push(pivot.sqrt());
        self.0.size += 1;
        Some(())
    }

    /// b ← L⁻¹ b.
    pub(super) fn solve_lower(&self, b: &mut [f64]) {
        for index in 0..self.0.size {
            let row = self.0.row(index);
            b[index] = (b[index] - dot(&row[..index], &b[..index])) / row[index];
        }
    }

    /// b ← L⁻ᵀ b.
    fn solve_upper(&self, b: &mut [f64]) {
        for index in (0..self.0.size).rev() {
            let row = self.0.row(index);
            b[index] /= row[index];
            let (head, tail) = b.split_at_mut(index);
            add_scaled(head, -tail[0], &row[..index]);
        }
    }

    /// b ← K⁻¹ b.
    pub(super) fn solve(&self, b: &mut [f64]) {
        self.solve_lower(b);
        self.solve_upper(b);
    }

    /// log |K|.
    pub(super) fn log_determinant(&self) -> f64 {
        (0..self.0.size).map(|row| 2.0 * libm::log(self.0.row(row)[row])).sum()
    }

    /// The lower triangle of K⁻¹.
    pub(super) fn inverse(&self) -> Triangle {
        let size = self.0.size;
        // Rows of L⁻¹: Lᵢᵢ vᵢ = eᵢ − Σ Lᵢₖ vₖ.
        let mut inverse = Vec::<f64>::with_capacity(offset(size));
        for index in 0..size {
            let row = self.0.row(index);
            let mut next = vec![0.0; index + 1];
            for (k, factor) in row[..index].iter().enumerate() {
                add_scaled(&mut next[..=k], -factor, &inverse[offset(k)..offset(k + 1)]);
            }
            next[index] = 1.0;
            inverse.extend(next.iter().map(|entry| entry / row[index]));
        }
        // K⁻¹ = L⁻ᵀ L⁻¹.
        let mut product = vec![0.0; offset(size)];
        for index in 0..size {
            let row = &inverse[offset(index)..offset(index + 1)];
            for (a, factor) in row.iter().enumerate() {
                add_scaled(&mut product[offset(a)..offset(a + 1)], *factor, &row[..=a]);
            }
        }
        Triangle { size, entries: product }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(size: usize) -> Triangle {
        let entry = |a: usize, b: usize| {
            let gap = (a as f64 - b as f64) / 3.0;
            libm::exp(-gap * gap) + if a == b { 0.1 } else { 0.0 }
        };
        let entries = (0..size).flat_map(|a| (0..=a).map(move |b| entry(a, b))).collect();
        Triangle::from_entries(size, entries)
    }

    fn at(triangle: &Triangle, a: usize, b: usize) -> f64 {
        triangle.row(a.max(b))[a.min(b)]
    }

    #[test]
    fn the_inverse_inverts() {
        let matrix = matrix(19);
        let factor = Cholesky::of(&matrix).unwrap();
        let inverse = factor.inverse();
        for a in 0..19 {
            let mut column = (0..19).map(|b| at(&matrix, a, b)).collect::<Vec<_>>();
            for b in 0..19 {
                let product = (0..19).map(|k| at(&inverse, b, k) * at(&matrix, k, a)).sum::<f64>();
                assert!((product - f64::from(u8::from(a == b))).abs() < 1e-12);
            }
            factor.solve(&mut column);
            for (b, entry) in column.iter().enumerate() {
                assert!((entry - f64::from(u8::from(a == b))).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn a_factor_grows_row_by_row_to_the_same_bits() {
        let (small, large) = (matrix(12), matrix(20));
        let mut grown = Cholesky::of(&small).unwrap();
        for row in 12..20 {
            let row = large.row(row);
            grown.append(&row[..row.len() - 1], row[row.len() - 1]).unwrap();
        }
        assert_eq!(grown.0.entries, Cholesky::of(&large).unwrap().0.entries);
    }

    #[test]
    fn what_is_not_positive_definite_is_refused() {
        let refused = |entries: Vec<f64>| Cholesky::of(&Triangle::from_entries(2, entries)).is_none();
        assert!(refused(vec![1.0, 1.0, 1.0]));
        assert!(refused(vec![1.0, 2.0, 1.0]));
        assert!(refused(vec![f64::NAN, 0.0, 1.0]));
        assert!(!refused(vec![1.0, 0.5, 1.0]));
    }
}
