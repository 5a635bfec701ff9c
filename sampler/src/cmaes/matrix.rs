//! Eigenvectors of a symmetric matrix, the same bits on every machine.

/// Sweeps after which what is left off the diagonal is left there; ten are plenty.
const SWEEPS: usize = 30;

/// Eigenvalues and eigenvectors (`vectors[row][k]` belongs to `values[k]`) of a symmetric matrix, by Jacobi rotations.
pub(super) fn eigen(matrix: &[Vec<f64>]) -> (Vec<f64>, Vec<Vec<f64>>) {
    let n = matrix.len();
    let mut a = matrix.to_vec();
    let vectors = (0..n).map(|row| (0..n).map(|k| f64::from(u8::from(row == k))).collect::<Vec<_>>());
    let mut vectors = vectors.collect::<Vec<_>>();
    for _ in 0..SWEEPS {
        let off = (0..n).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| a[i][j] * a[i][j]).sum::<f64>();
        let on = (0..n).map(|i| a[i][i] * a[i][i]).sum::<f64>();
        if off.is_nan() || off <= 1e-32 * on {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                rotate(&mut a, &mut vectors, p, q);
            }
        }
    }
    ((0..n).map(|k| a[k][k]).collect(), vectors)
}

/// Makes `a[p][q]` zero.
fn rotate(a: &mut [Vec<f64>], vectors: &mut [Vec<f64>], p: usize, q: usize) {
    if a[p][q] == 0.0 {
        return;
    }
    let theta = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
    let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
    let c = 1.0 / (t * t + 1.0).sqrt();
    let s = t * c;
    for row in a.iter_mut() {
        (row[p], row[q]) = (c * row[p] - s * row[q], s * row[p] + c * row[q]);
    }
    let (above, below) = a.split_at_mut(q);
    for (x, y) in above[p].iter_mut().zip(&mut below[0]) {
        (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
    }
    for row in vectors {
        (row[p], row[q]) = (c * row[p] - s * row[q], s * row[p] + c * row[q]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eigenvectors_give_the_matrix_back() {
        let matrix = vec![vec![4.0, 1.0, -2.0], vec![1.0, 2.0, 0.0], vec![-2.0, 0.0, 3.0]];
        let (values, vectors) = eigen(&matrix);
        for i in 0..3 {
            for j in 0..3 {
                let back = (0..3).map(|k| vectors[i][k] * values[k] * vectors[j][k]).sum::<f64>();
                let dot = (0..3).map(|k| vectors[k][i] * vectors[k][j]).sum::<f64>();
                assert!((back - matrix[i][j]).abs() < 1e-13);
                assert!((dot - f64::from(u8::from(i == j))).abs() < 1e-13);
            }
        }
    }
}
