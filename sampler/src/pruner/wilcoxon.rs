//! Stops a trial that Wilcoxon's signed-rank test finds worse than the best one, over the steps that both reported.
//! Made for repeated measurements or instances of a problem as steps.

use std::f64::consts::SQRT_2;

use fleetune_core::Direction;

use super::{Candidate, Field, Pruner, Series};

/// Most differences whose distribution is enumerated. Origin: `SciPy`'s `wilcoxon`.
const MOST_EXACT: usize = 50;
/// The same where differences are tied or zero.
const MOST_EXACT_TIED: usize = 13;

pub(super) struct Wilcoxon {
    pub(super) direction: Direction,
    pub(super) threshold: f64,
    pub(super) startup_steps: usize,
}

impl Pruner for Wilcoxon {
    fn should_stop(&self, field: &Field<'_>, own: &Candidate<'_>) -> bool {
        let Some(best) = field.best(self.direction).filter(|best| best.number != own.number) else { return false };
        let usable = |steps: Series<'_>| !steps.is_empty() && steps.iter().all(|(_, value)| value.is_finite());
        if !usable(own.steps) || !usable(best.steps) {
            return false;
        }
        let difference = |(step, value): &(u32, f64)| {
            let index = best.steps.binary_search_by_key(step, |(step, _)| *step).ok()?;
            Some(self.direction.minimized(*value) - self.direction.minimized(best.steps[index].1))
        };
        let differences = own.steps.iter().filter_map(difference).collect::<Vec<_>>();
        if differences.len() < self.startup_steps.max(2) || signed_rank_p(&differences) >= self.threshold {
            return false;
        }
        // The test looks at common steps alone: it has no say where the means contradict it.
        let mean = |steps: Series<'_>| steps.iter().map(|(_, value)| value).sum::<f64>() / steps.len() as f64;
        self.direction.better(mean(best.steps), mean(own.steps))
    }
}

/// The probability of a sum of positive ranks as large as that of `differences` were they symmetric about 0.
///
/// Zeros count half to each side. Exact for up to 50 differences, with ties or zeros for up to 13; else by the normal
/// approximation without correction for continuity: the choices of `SciPy`.
pub fn signed_rank_p(differences: &[f64]) -> f64 {
    let n = differences.len();
    let mut order = (0..n).collect::<Vec<_>>();
    order.sort_by(|a, b| differences[*a].abs().total_cmp(&differences[*b].abs()));
    // Twice the mean ranks, which are whole numbers.
    let mut ranks = vec![0_usize; n];
    let mut tied = 0.0;
    for group in order.chunk_by(|a, b| differences[*a].abs().total_cmp(&differences[*b].abs()).is_eq()) {
        let first = order.partition_point(|other| differences[*other].abs() < differences[group[0]].abs());
        for index in group {
            ranks[*index] = 2 * first + group.len() + 1;
        }
        let size = group.len() as f64;
        tied += size * size * size - size;
    }
    let twice_plus = differences.iter().zip(&ranks).map(|(difference, rank)| match difference {
        0.0 => *rank as f64 / 2.0,
        positive if *positive > 0.0 => *rank as f64,
        _ => 0.0,
    });
    let twice_plus = twice_plus.sum::<f64>();
    let any_zero = differences.contains(&0.0);
    let most_exact = if tied > 0.0 || any_zero { MOST_EXACT_TIED } else { MOST_EXACT };
    if n <= most_exact {
        let zeros = differences.iter().zip(&ranks).filter(|(difference, _)| **difference == 0.0);
        let zeros = zeros.map(|(_, rank)| rank).sum::<usize>() as f64 / 2.0;
        let signed = differences.iter().zip(&ranks).filter(|(difference, _)| **difference != 0.0);
        return upper_tail(&signed.map(|(_, rank)| *rank).collect::<Vec<_>>(), twice_plus - zeros);
    }
    let count = n as f64;
    let mean = count * (count + 1.0) / 4.0;
    let variance = (count * (count + 1.0) * (2.0 * count + 1.0) - tied / 2.0) / 24.0;
    0.5 * libm::erfc((twice_plus / 2.0 - mean) / variance.sqrt() / SQRT_2)
}

/// The share of the subsets of `ranks` whose sum is at least `bound`.
fn upper_tail(ranks: &[usize], bound: f64) -> f64 {
    let mut ways = vec![0.0; ranks.iter().sum::<usize>() + 1];
    ways[0] = 1.0;
    for rank in ranks {
        for sum in (*rank..ways.len()).rev() {
            ways[sum] += ways[sum - rank];
        }
    }
    let tail = ways.iter().enumerate().filter(|(sum, _)| *sum as f64 >= bound).map(|(_, ways)| ways);
    tail.sum::<f64>() / ways.iter().sum::<f64>()
}
