//! The volume that a front dominates.

use super::pareto::{dominates, lexicographic, order};

/// Most objectives for which a volume is computed. The cost of the exact algorithm grows exponentially with them.
pub const MAX_VOLUME_OBJECTIVES: usize = 4;

/// The exact volume between `points` (smaller is better) and `reference`; points that are not better than the reference
/// everywhere add nothing. Cost: n log n for two objectives, worse than n² for four.
///
/// Source: While, Bradstreet and Barone 2012, the algorithm WFG.
pub fn hypervolume(points: &[Vec<f64>], reference: &[f64]) -> f64 {
    let inside = |point: &&Vec<f64>| point.iter().zip(reference).all(|(value, limit)| value < limit);
    let mut inside = points.iter().filter(inside).cloned().collect::<Vec<_>>();
    if reference.is_empty() {
        return 0.0;
    }
    // Worst last objective first: the limited sets that follow are then small.
    inside.sort_by(|a, b| lexicographic(b.iter().rev(), a.iter().rev()));
    wfg(&nondominated(&inside), reference)
}

/// The points that no other dominates, each once.
fn nondominated(points: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let beaten = |index: usize| {
        let point = &points[index];
        points[..index].contains(point) || points.iter().any(|other| dominates(other, point))
    };
    (0..points.len()).filter(|&index| !beaten(index)).map(|index| points[index].clone()).collect()
}

fn wfg(front: &[Vec<f64>], reference: &[f64]) -> f64 {
    if reference.len() == 2 {
        return area(front, reference);
    }
    let mut volume = 0.0;
    for (index, point) in front.iter().enumerate() {
        let own = point.iter().zip(reference).map(|(value, limit)| limit - value).product::<f64>();
        let limited = front[index + 1..]
            .iter()
            .map(|other| other.iter().zip(point).map(|(&x, &y)| x.max(y)).collect())
            .collect::<Vec<Vec<f64>>>();
        volume += own - wfg(&nondominated(&limited), reference);
    }
    volume
}

fn area(front: &[Vec<f64>], reference: &[f64]) -> f64 {
    let mut sorted = front.iter().map(|point| (point[0], point[1])).collect::<Vec<_>>();
    sorted.sort_by(|a, b| order(a.0, b.0).then(order(a.1, b.1)));
    let mut area = 0.0;
    let mut ceiling = reference[1];
    for (x, y) in sorted {
        if y < ceiling {
            area += (reference[0] - x) * (ceiling - y);
            ceiling = y;
        }
    }
    area
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{trial_rng, unit};
    use fleetune_core::TrialNumber;

    #[test]
    fn boxes_have_their_volume() {
        let is = |points: &[&[f64]], reference: &[f64], expected: f64| {
            let volume = hypervolume(&points.iter().map(|point| point.to_vec()).collect::<Vec<_>>(), reference);
            assert!((volume - expected).abs() < 1e-15, "{points:?}: {volume} is not {expected}");
        };
        is(&[&[0.25]], &[1.0], 0.75);
        is(&[&[0.0, 0.5], &[0.5, 0.0], &[0.5, 0.5]], &[1.0, 1.0], 0.75);
        is(&[&[0.0, 0.0, 0.5], &[0.5, 0.5, 0.0]], &[1.0; 3], 0.625);
        is(&[&[2.0, 0.0], &[f64::NAN, 0.0]], &[1.0, 1.0], 0.0);
        is(&[], &[1.0, 1.0], 0.0);
        is(&[], &[], 0.0);
    }

    /// By inclusion and exclusion over all subsets.
    #[test]
    fn volumes_agree_with_inclusion_and_exclusion() {
        let mut rng = trial_rng(3, TrialNumber(0), &[]);
        for objectives in 1..=4 {
            for _ in 0..20 {
                let points = (0..9).map(|_| (0..objectives).map(|_| unit(&mut rng)).collect::<Vec<_>>());
                let points = points.collect::<Vec<_>>();
                let subset = |mask: u32| {
                    let of = |o: usize| {
                        let chosen = (0..9).filter(|index| mask >> index & 1 == 1);
                        1.0 - chosen.map(|index| points[index][o]).fold(0.0, f64::max)
                    };
                    let sign = if mask.count_ones() % 2 == 1 { 1.0 } else { -1.0 };
                    sign * (0..objectives).map(of).product::<f64>()
                };
                let expected = (1..1_u32 << 9).map(subset).sum::<f64>();
                let volume = hypervolume(&points, &vec![1.0; objectives]);
                assert!((volume - expected).abs() < 1e-9, "{objectives}: {volume} is not {expected}");
            }
        }
    }
}
