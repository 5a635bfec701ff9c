//! Several objectives: each question looks at them through one number of its own, so that all parts of the Pareto front
//! are looked for in turn.
//!
//! Source: Knowles 2006, "`ParEGO`: a hybrid algorithm with on-line landscape approximation". Departs from it: objectives are transformed as single ones are before they are
//! weighed, so that the tail of one does not hide the others.

use rand::rngs::ChaCha8Rng;

use super::history::{Fate, Row};
use super::transform::transform;
use crate::rng::unit;

/// The share of the weighed sum besides the largest weighed loss: without it what is only weakly dominated would do.
const SUM_SHARE: f64 = 0.05;

/// The rows with one loss made of several, by weights drawn from `rng`.
pub(super) fn scalarized(rows: &[Row], rng: &mut ChaCha8Rng) -> Vec<Row> {
    let mut rows = rows.to_vec();
    let usable = |row: &Row| row.measured().is_some() && row.losses.iter().all(|loss| loss.is_finite());
    let measured = (0..rows.len()).filter(|index| usable(&rows[*index])).collect::<Vec<_>>();
    let Some(objectives) = measured.first().map(|first| rows[*first].losses.len()) else { return rows };
    // Uniform on the simplex.
    let weights = (0..objectives).map(|_| -libm::log(unit(rng).max(1e-12))).collect::<Vec<_>>();
    let total = weights.iter().sum::<f64>();
    let (mut largest, mut sum) = (vec![0.0_f64; measured.len()], vec![0.0; measured.len()]);
    for (objective, weight) in weights.into_iter().enumerate() {
        let losses = measured.iter().map(|index| rows[*index].losses[objective]).collect::<Vec<_>>();
        let scaled = transform(&losses).values;
        let best = scaled.iter().copied().fold(f64::INFINITY, f64::min);
        for (index, loss) in scaled.into_iter().enumerate() {
            let share = weight / total * (loss - best);
            largest[index] = largest[index].max(share);
            sum[index] += share;
        }
    }
    for (place, index) in measured.iter().enumerate() {
        if let Fate::Ran { measured: Some(measured), .. } = &mut rows[*index].fate {
            measured.value = largest[place] + SUM_SHARE * sum[place];
        }
    }
    for row in &mut rows {
        // What cannot be weighed says only that it ran.
        if let Fate::Ran { measured, .. } = &mut row.fate
            && (row.losses.len() != objectives || !row.losses.iter().all(|loss| loss.is_finite()))
        {
            *measured = None;
        }
    }
    rows
}
