//! Which points of a front are good, where there is room for some only.

use crate::analysis::{hypervolume, lexicographic};

/// In place of a reference coordinate of 0. Origin: Optuna.
const TINY: f64 = 1e-12;
/// What the exact volumes of one subset may cost in all, where one of n points in d objectives is taken to cost
/// n^(d − 1): some seconds. Beyond, upper bounds decide.
const WORK: f64 = 1e9;

/// A point a little worse than the worst of each coordinate. Origin: Optuna.
fn reference_point(points: &[&Vec<f64>]) -> Vec<f64> {
    let objectives = points.first().map_or(0, |point| point.len());
    let worst = |objective: usize| points.iter().map(|point| point[objective]).fold(f64::NEG_INFINITY, f64::max);
    let beyond = |worst: f64| (1.1 * worst).max(0.9 * worst);
    (0..objectives).map(|objective| beyond(worst(objective))).map(|c| if c == 0.0 { TINY } else { c }).collect()
}

/// Of `among`, indices of points in ascending order, `count` whose hypervolume is nearly the largest, found greedily.
///
/// Equal points count once; only where there are too few distinct ones repeats are taken, in order. Without a finite
/// reference point it is the first ones in lexicographic order.
///
/// Source: Guerreiro, Fonseca and Paquete 2016, "Greedy hypervolume subset selection in low dimensions", as Optuna
/// runs it. Departs from it where the exact volumes would take more than [`WORK`].
pub(super) fn subset(points: &[Vec<f64>], among: &[usize], count: usize) -> Vec<usize> {
    if count >= among.len() {
        return among.to_vec();
    }
    let mut distinct = among.to_vec();
    distinct.sort_by(|a, b| lexicographic(&points[*a], &points[*b]).then(a.cmp(b)));
    distinct.dedup_by(|a, b| points[*a] == points[*b]);
    if distinct.len() < count {
        let repeats = among.iter().filter(|index| !distinct.contains(index)).copied().collect::<Vec<_>>();
        let missing = count - distinct.len();
        distinct.extend(&repeats[..missing]);
        return distinct;
    }
    let reference = reference_point(&among.iter().map(|index| &points[*index]).collect::<Vec<_>>());
    if distinct.len() == count || reference.iter().any(|coordinate| !coordinate.is_finite()) {
        distinct.truncate(count);
        return distinct;
    }
    greedy(points, distinct, count, &reference)
}

/// Adds the point that adds most, the first one on ties.
fn greedy(points: &[Vec<f64>], distinct: Vec<usize>, count: usize, reference: &[f64]) -> Vec<usize> {
    let alone = |point: &[f64]| reference.iter().zip(point).map(|(limit, value)| limit - value).product::<f64>();
    let overlap = |a: usize, b: usize| points[a].iter().zip(&points[b]).map(|(a, b)| a.max(*b)).collect::<Vec<_>>();
    let mut work = WORK;
    let mut chosen = Vec::<usize>::with_capacity(count);
    // What each can add at most: a set that grows leaves ever less to add.
    let mut left = distinct.into_iter().map(|index| (index, alone(&points[index]))).collect::<Vec<_>>();
    while chosen.len() < count {
        if let Some(newest) = chosen.last() {
            for (index, bound) in &mut left {
                *bound = bound.min(difference(alone(&points[*index]), alone(&overlap(*index, *newest))));
            }
            let mut order = (0..left.len()).collect::<Vec<_>>();
            order.sort_by(|a, b| left[*b].1.total_cmp(&left[*a].1).then(a.cmp(b)));
            let cost = libm::pow(chosen.len() as f64, reference.len() as f64 - 1.0);
            let mut most = 0.0_f64;
            for place in order {
                let (index, bound) = left[place];
                if bound < most || work < cost {
                    break;
                }
                work -= cost;
                let overlaps = chosen.iter().map(|other| overlap(index, *other)).collect::<Vec<_>>();
                left[place].1 = difference(alone(&points[index]), hypervolume(&overlaps, reference)).min(bound);
                most = most.max(left[place].1);
            }
        }
        let first_best = (0..left.len()).reduce(|best, place| if left[place].1 > left[best].1 { place } else { best });
        let Some(best) = first_best else { break };
        chosen.push(left.remove(best).0);
    }
    chosen
}

/// Infinite less infinite counts as infinite: there is always more.
fn difference(volume: f64, overlap: f64) -> f64 {
    let difference = volume - overlap;
    if difference.is_nan() { f64::INFINITY } else { difference }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subset_spreads_over_the_front() {
        let points = [[0.0, 4.0], [0.1, 3.9], [2.0, 2.0], [3.9, 0.1], [4.0, 0.0]].map(Vec::from);
        let mut three = subset(&points, &[0, 1, 2, 3, 4], 3);
        three.sort_unstable();
        assert_eq!(three, [1, 2, 3]);
    }

    #[test]
    fn repeats_are_taken_last_and_in_order() {
        let points = [[1.0, 1.0], [1.0, 1.0], [0.0, 2.0], [1.0, 1.0]].map(Vec::from);
        let mut three = subset(&points, &[0, 1, 2, 3], 3);
        three.sort_unstable();
        assert_eq!(three, [0, 1, 2]);
    }

    #[test]
    fn many_objectives_end_in_time() {
        let coordinate = |k: u64, d: u64| ((k * 7_919 + d * 104_729 + k * d * 31) % 1_009) as f64;
        let points = (0..120).map(|k| (0..12).map(|d| coordinate(k, d)).collect()).collect::<Vec<Vec<f64>>>();
        let all = (0..120).collect::<Vec<_>>();
        assert_eq!(subset(&points, &all, 40).len(), 40);
    }
}
