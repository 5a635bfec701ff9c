//! Which observations an estimator has, in which order, and what they weigh.

use std::ops::Range;

/// Observations that get full weight; older ones get a ramp. Origin: Optuna's default weights.
const RECENT: usize = 25;

/// What observations weigh, the oldest first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Weights {
    /// The last 25 weigh 1, the ones before a ramp from 1/n to 1.
    Recency,
    /// All weigh 1.
    Uniform,
}

/// The weights of so many observations.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ramp {
    n: usize,
    /// So many of the oldest weigh less than 1.
    length: usize,
    start: f64,
    step: f64,
}

impl Ramp {
    pub(super) fn new(weights: Weights, n: usize) -> Self {
        let length = if weights == Weights::Recency { n.saturating_sub(RECENT) } else { 0 };
        let start = 1.0 / n.max(1) as f64;
        Self { n, length, start, step: if length > 1 { (1.0 - start) / (length - 1) as f64 } else { 0.0 } }
    }

    #[inline]
    pub(super) fn weight(&self, rank: usize) -> f64 {
        if rank < self.length { self.start + rank as f64 * self.step } else { 1.0 }
    }

    pub(super) fn sum(&self) -> f64 {
        let length = self.length as f64;
        (self.n - self.length) as f64 + length * (self.start + 0.5 * self.step * (length - 1.0).max(0.0))
    }
}

/// Consecutive rows of consecutive ranks.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) rank: usize,
    pub(super) rows: Range<usize>,
}

/// Where an observation comes from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    Row(usize),
    Running(usize),
}

/// Rows and running trials by trial number; the rank is the place in this order.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) runs: Vec<Run>,
    /// Rank and index of each running trial, by rank.
    pub(super) running: Vec<(usize, usize)>,
    pub(super) len: usize,
}

impl Order {
    /// `rows`: ascending ranges of rows, `numbers`: of all rows, `running`: trial numbers.
    pub(super) fn new(rows: &[Range<usize>], numbers: &[i64], running: impl Iterator<Item = i64>) -> Self {
        let place = |(index, number): (usize, i64)| (numbers.partition_point(|known| *known < number), number, index);
        let mut waiting = running.enumerate().map(place).collect::<Vec<_>>();
        waiting.sort_unstable_by_key(|(place, number, _)| (*place, *number));
        let mut waiting = waiting.into_iter().peekable();
        let mut order = Self { runs: Vec::new(), running: Vec::new(), len: 0 };
        for range in rows {
            let mut start = range.start;
            while start < range.end {
                while let Some((_, _, index)) = waiting.next_if(|(place, _, _)| *place <= start) {
                    order.running.push((order.len, index));
                    order.len += 1;
                }
                let end = waiting.peek().map_or(range.end, |(place, _, _)| range.end.min(*place));
                order.runs.push(Run { rank: order.len, rows: start..end });
                order.len += end - start;
                start = end;
            }
        }
        for (_, _, index) in waiting {
            order.running.push((order.len, index));
            order.len += 1;
        }
        order
    }

    /// The rank of a row; `None` for one that is not among these.
    pub(super) fn rank_of(&self, row: usize) -> Option<usize> {
        let run = &self.runs[self.runs.partition_point(|run| run.rows.start <= row).checked_sub(1)?];
        run.rows.contains(&row).then(|| run.rank + row - run.rows.start)
    }

    /// The source of each rank.
    pub(super) fn source(&self, rank: usize) -> Source {
        if let Ok(found) = self.running.binary_search_by_key(&rank, |(rank, _)| *rank) {
            return Source::Running(self.running[found].1);
        }
        let run = &self.runs[self.runs.partition_point(|run| run.rank <= rank) - 1];
        Source::Row(run.rows.start + rank - run.rank)
    }
}

/// Ascending rows as ranges.
pub(super) fn ranges(rows: impl IntoIterator<Item = usize>) -> Vec<Range<usize>> {
    let mut ranges = Vec::<Range<usize>>::new();
    for row in rows {
        match ranges.last_mut() {
            Some(last) if last.end == row => last.end += 1,
            Some(_) | None => ranges.push(row..row + 1),
        }
    }
    ranges
}

/// The rows from `start` to `end` that are not in `without`, which ascends.
pub(super) fn others(without: &[usize], start: usize, end: usize) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut from = start;
    for row in without.iter().copied().filter(|row| (start..end).contains(row)).chain([end]) {
        if from < row {
            ranges.push(from..row);
        }
        from = row + 1;
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(n: usize) -> Vec<f64> {
        let ramp = Ramp::new(Weights::Recency, n);
        (0..n).map(|rank| ramp.weight(rank)).collect()
    }

    #[test]
    fn weights_ramp_up_to_the_last_25() {
        assert_eq!(weights(3), [1.0; 3]);
        assert!((weights(30)[0] - 1.0 / 30.0).abs() < 1e-15 && (weights(30)[4] - 1.0).abs() < 1e-15);
        assert!((weights(26)[0] - 1.0 / 26.0).abs() < 1e-15);
        assert!(weights(0).is_empty());
        for n in [0, 3, 26, 27, 30, 1_000] {
            let sum = weights(n).iter().sum::<f64>();
            assert!((Ramp::new(Weights::Recency, n).sum() - sum).abs() < 1e-9, "{n}");
        }
    }

    #[test]
    fn running_trials_have_the_rank_of_their_number() {
        let numbers = [0, 1, 2, 4, 6, 7, 9];
        let order = Order::new(&[1..3, 4..7], &numbers, [10, 3, 0, 8].into_iter());
        let number = |rank| match order.source(rank) {
            Source::Row(row) => numbers[row],
            Source::Running(index) => [10, 3, 0, 8][index],
        };
        assert_eq!((0..order.len).map(number).collect::<Vec<_>>(), [0, 1, 2, 3, 6, 7, 8, 9, 10]);
        let ranks = [None, Some(1), Some(2), None, Some(4), Some(5), Some(7)];
        assert_eq!((0..7).map(|row| order.rank_of(row)).collect::<Vec<_>>(), ranks);
    }

    #[test]
    fn rows_and_the_others_are_all_rows() {
        let rows = [0, 1, 4, 6];
        assert_eq!(ranges(rows), [0..2, 4..5, 6..7]);
        assert_eq!(others(&rows, 0, 8), [2..4, 5..6, 7..8]);
        assert_eq!(others(&rows, 3, 7), [3..4, 5..6]);
        assert_eq!(others(&[], 0, 2).len(), 1);
    }
}
