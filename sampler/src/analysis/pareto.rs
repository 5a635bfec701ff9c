//! Several objectives at once: dominance, fronts, crowding, the knee. Smaller is better throughout.

use std::cmp::Ordering;

/// Whether `a` is at least as good as `b` everywhere and better somewhere. NaN is worse than any number.
pub fn dominates(a: &[f64], b: &[f64]) -> bool {
    let mut better = false;
    for (&x, &y) in a.iter().zip(b) {
        match order(x, y) {
            Ordering::Greater => return false,
            Ordering::Less => better = true,
            Ordering::Equal => {}
        }
    }
    better
}

/// Orders numbers, NaN last; the two zeros are equal.
pub(crate) fn order(x: f64, y: f64) -> Ordering {
    x.partial_cmp(&y).unwrap_or_else(|| x.is_nan().cmp(&y.is_nan()))
}

/// Orders points by their first different objective.
pub(crate) fn lexicographic<'a>(
    a: impl IntoIterator<Item = &'a f64>,
    b: impl IntoIterator<Item = &'a f64>,
) -> Ordering {
    a.into_iter().zip(b).map(|(&x, &y)| order(x, y)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

/// The front to which each point belongs: 0 for points that no other dominates, 1 for those dominated by front 0 only,
/// and so on. Equal points share a front.
///
/// Source: Zhang et al. 2015, efficient non-dominated sort with sequential search.
pub fn ranks(points: &[Vec<f64>]) -> Vec<usize> {
    let mut sorted = (0..points.len()).collect::<Vec<_>>();
    sorted.sort_by(|&a, &b| lexicographic(&points[a], &points[b]).then(a.cmp(&b)));
    let mut ranks = vec![0; points.len()];
    let mut fronts = Vec::<Vec<usize>>::new();
    for index in sorted {
        // The newest members of a front are the likeliest to dominate what comes next.
        let free = |front: &Vec<usize>| !front.iter().rev().any(|&other| dominates(&points[other], &points[index]));
        let rank = fronts.iter().position(free).unwrap_or(fronts.len());
        if rank == fronts.len() {
            fronts.push(Vec::new());
        }
        fronts[rank].push(index);
        ranks[index] = rank;
    }
    ranks
}

/// Indices of the points that no other dominates, ascending.
pub fn front(points: &[Vec<f64>]) -> Vec<usize> {
    let mut sorted = (0..points.len()).collect::<Vec<_>>();
    sorted.sort_by(|&a, &b| lexicographic(&points[a], &points[b]).then(a.cmp(&b)));
    let mut front = Vec::<usize>::new();
    for index in sorted {
        if !front.iter().rev().any(|&other| dominates(&points[other], &points[index])) {
            front.push(index);
        }
    }
    front.sort_unstable();
    front
}

/// How alone each point of one front is: the sum over objectives of the gap between its neighbours, as a share of the
/// front's range; infinite at an end. Of equal points only one in each objective counts as the end.
///
/// Source: Deb et al. 2002, section III-B.
pub fn crowding(points: &[Vec<f64>]) -> Vec<f64> {
    let mut distances = vec![0.0; points.len()];
    for objective in 0..points.first().map_or(0, Vec::len) {
        let mut sorted = (0..points.len()).collect::<Vec<_>>();
        sorted.sort_by(|&a, &b| order(points[a][objective], points[b][objective]).then(a.cmp(&b)));
        let at = |place: usize| points[sorted[place]][objective];
        let last = points.len() - 1;
        let range = at(last) - at(0);
        distances[sorted[0]] = f64::INFINITY;
        distances[sorted[last]] = f64::INFINITY;
        // Also skips ranges that are infinite or NaN.
        if !(range > 0.0 && range.is_finite()) {
            continue;
        }
        for place in 1..last {
            distances[sorted[place]] += (at(place + 1) - at(place - 1)) / range;
        }
    }
    distances
}

/// The point of a front that lies farthest below the plane through its ends, in objectives scaled to the front's
/// range. `None` unless some point lies below that plane: for fewer than three points, and for fronts that are
/// straight or bulge outward.
///
/// Departs from Branke et al. 2004 with three and more objectives: the plane is that of the scaled unit vectors, because
/// a front need not have one end in each objective.
pub fn knee(points: &[Vec<f64>]) -> Option<usize> {
    let objectives = points.first()?.len();
    let mut scaled = vec![0.0; points.len()];
    for objective in 0..objectives {
        let column = points.iter().map(|point| point[objective]);
        let low = column.clone().fold(f64::INFINITY, f64::min);
        let high = column.fold(f64::NEG_INFINITY, f64::max);
        if !(high - low > 0.0 && (high - low).is_finite()) {
            return None;
        }
        for (sum, point) in scaled.iter_mut().zip(points) {
            *sum += (point[objective] - low) / (high - low);
        }
    }
    // Rounding puts points of a straight front next to the plane, not on it.
    let lowest = (0..points.len()).min_by(|&a, &b| order(scaled[a], scaled[b]).then(a.cmp(&b)))?;
    (objectives > 1 && scaled[lowest] < 1.0 - 1e-9).then_some(lowest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(list: &[[f64; 2]]) -> Vec<Vec<f64>> {
        list.iter().map(|point| point.to_vec()).collect()
    }

    #[test]
    fn fronts_peel_off_one_by_one() {
        let points = points(&[[1.0, 4.0], [2.0, 2.0], [4.0, 1.0], [3.0, 3.0], [5.0, 5.0], [2.0, 2.0], [1.0, 5.0]]);
        assert_eq!(ranks(&points), [0, 0, 0, 1, 2, 0, 1]);
        assert_eq!(front(&points), [0, 1, 2, 5]);
    }

    #[test]
    fn what_is_not_a_number_is_dominated_by_every_number() {
        let points = points(&[[f64::NAN, 1.0], [f64::INFINITY, 1.0], [-0.0, f64::NAN], [0.0, f64::NAN]]);
        assert_eq!(ranks(&points), [1, 0, 0, 0]);
        assert_eq!(front(&[]), [] as [usize; 0]);
        assert!(crowding(&[]).is_empty());
    }

    #[test]
    fn the_ends_of_a_front_are_never_crowded() {
        let points = points(&[[0.0, 4.0], [1.0, 3.0], [2.0, 1.0], [4.0, 0.0]]);
        assert_eq!(crowding(&points), [f64::INFINITY, 0.5 + 0.75, 0.75 + 0.75, f64::INFINITY]);
    }

    #[test]
    fn the_knee_is_where_the_front_bends() {
        assert_eq!(knee(&points(&[[0.0, 10.0], [1.0, 2.0], [5.0, 1.0], [10.0, 0.0]])), Some(1));
        assert_eq!(knee(&points(&[[0.0, 1.0], [0.3, 0.7], [0.6, 0.4], [1.0, 0.0]])), None);
        assert_eq!(knee(&points(&[[0.0, 1.0], [1.0, 0.0]])), None);
        assert_eq!(knee(&points(&[[0.0, 1.0], [0.9, 0.9], [1.0, 0.0]])), None);
        assert_eq!(knee(&[vec![1.0]]), None);
    }
}
