//! Who survives of a front that has no room for all: reference points instead of crowding, where there are more than
//! three objectives and nearly everything is on one front.
//!
//! Source: Deb and Jain 2014, NSGA-III. Departs from it: what is largest among the candidates stands for the intercepts
//! of a hyperplane through extreme points, which in populations of fifty is often none; and where the paper draws lots,
//! the earlier one is taken, so that the same history gives the same parents.

/// Parts into which an objective's share is divided. Origin: Optuna's default.
const DIVISIONS: usize = 3;

/// Points of the unit simplex whose coordinates are multiples of 1 / [`DIVISIONS`].
fn references(objectives: usize) -> Vec<Vec<f64>> {
    fn extend(point: &mut Vec<usize>, left: usize, objectives: usize, points: &mut Vec<Vec<f64>>) {
        if point.len() + 1 == objectives {
            let shares = point.iter().copied().chain([left]);
            points.push(shares.map(|share| share as f64 / DIVISIONS as f64).collect());
            return;
        }
        for share in 0..=left {
            point.push(share);
            extend(point, left - share, objectives, points);
            point.pop();
        }
    }
    let mut points = Vec::new();
    extend(&mut Vec::new(), DIVISIONS, objectives, &mut points);
    points
}

/// Of the `front`, `count` indices of points, ascending, to go with those in `sure`: such that each direction of the
/// objectives has about as many. Smaller is better; what is not finite counts as the worst that is.
pub(super) fn survivors(points: &[Vec<f64>], sure: &[usize], front: &[usize], count: usize) -> Vec<usize> {
    let Some(objectives) = front.first().map(|first| points[*first].len()) else { return Vec::new() };
    let considered = || sure.iter().chain(front);
    let ends = (0..objectives).map(|objective| {
        let finite = considered().map(|index| points[*index][objective]).filter(|loss| loss.is_finite());
        finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), loss| (low.min(loss), high.max(loss)))
    });
    let ends = ends.collect::<Vec<_>>();
    let normalized = |index: usize| {
        let share = |(loss, (low, high)): (&f64, &(f64, f64))| {
            if !loss.is_finite() {
                return if *loss == f64::NEG_INFINITY { 0.0 } else { 1.0 };
            }
            if high > low { (loss - low) / (high - low) } else { 0.0 }
        };
        points[index].iter().zip(&ends).map(share).collect::<Vec<_>>()
    };
    let references = references(objectives);
    // The nearest direction, the first on ties, and the square of the distance from its line.
    let niche = |index: usize| {
        let point = normalized(index);
        let square = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let distance = |reference: &Vec<f64>| {
            let along = square(&point, reference);
            square(&point, &point) - along * along / square(reference, reference)
        };
        let distances = references.iter().map(distance).enumerate();
        distances.reduce(|best, next| if next.1 < best.1 { next } else { best }).unwrap_or((0, 0.0))
    };
    let mut counts = vec![0; references.len()];
    for index in sure {
        counts[niche(*index).0] += 1;
    }
    let mut left = front.iter().map(|index| (*index, niche(*index))).collect::<Vec<_>>();
    let mut chosen = Vec::with_capacity(count);
    while chosen.len() < count && !left.is_empty() {
        // Of the directions that have fewest; there the nearest one.
        let key = |(_, (niche, distance)): &(usize, (usize, f64))| (counts[*niche], *niche, *distance);
        let best = (1..left.len()).fold(0, |best, place| {
            let (a, b) = (key(&left[place]), key(&left[best]));
            if (a.0, a.1).cmp(&(b.0, b.1)).then(a.2.total_cmp(&b.2)).is_lt() { place } else { best }
        });
        let (index, (niche, _)) = left.remove(best);
        counts[niche] += 1;
        chosen.push(index);
    }
    chosen.sort_unstable();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_divide_the_simplex_evenly() {
        assert_eq!(references(4).len(), 20);
        assert_eq!(references(6).len(), 56);
        assert!(references(5).iter().all(|point| (point.iter().sum::<f64>() - 1.0).abs() < 1e-12));
    }

    #[test]
    fn each_direction_has_its_survivors() {
        // Ten points near one corner of the front, and one near each of the others.
        let corner = |own: usize, more: f64| {
            (0..4).map(|objective| if objective == own { 0.0 } else { 1.0 + more }).collect::<Vec<_>>()
        };
        let mut points = (0..10).map(|k| corner(0, f64::from(k) * 1e-3)).collect::<Vec<_>>();
        points.extend((1..4).map(|own| corner(own, 0.0)));
        let front = (0..13).collect::<Vec<_>>();
        let four = survivors(&points, &[], &front, 4);
        assert_eq!(four[1..], [10, 11, 12], "{four:?}");
        // What is there already counts.
        let one = survivors(&points, &[0, 10, 11], &[1, 2, 12], 1);
        assert_eq!(one, [12]);
    }

    #[test]
    fn strange_losses_are_no_trouble() {
        let points = [vec![f64::NAN, 0.0, 1.0, 2.0], vec![f64::INFINITY; 4], vec![f64::NEG_INFINITY; 4], vec![1.0; 4]];
        assert_eq!(survivors(&points, &[], &[0, 1, 2, 3], 3).len(), 3);
        assert_eq!(survivors(&points, &[], &[1], 3), [1]);
        assert!(survivors(&points, &[0], &[], 3).is_empty());
    }
}
