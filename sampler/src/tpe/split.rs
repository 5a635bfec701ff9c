//! Which trials are good.

use std::cmp::Ordering;

use super::history::Fate;
use super::options::TpeOptions;
use super::subset::subset;
use crate::analysis::ranks;

/// Rows by group, each ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// Those of the density l.
    pub good: Vec<usize>,
    /// Those of the density g.
    pub bad: Vec<usize>,
    /// Failed and infeasible ones, when feasibility has densities of its own.
    pub failed: Vec<usize>,
}

/// Splits trials. Feasible complete ones are good first, by value; then pruned ones, the further the better, then by
/// value; then, unless `options.feasibility`, infeasible ones by violation. Ties go to the earlier row. `losses`: of
/// each row where there are several objectives, else empty; see [`best_rows`].
pub fn split(fates: &[Fate], losses: &[Vec<f64>], options: &TpeOptions) -> Split {
    let failed = |fate: &Fate| if options.feasibility { !fate.is_ok() } else { matches!(fate, Fate::Failed) };
    let mut split = Split::default();
    let mut ranked = Vec::with_capacity(fates.len());
    for (row, fate) in fates.iter().enumerate() {
        if !failed(fate) {
            ranked.push(row);
        } else if options.feasibility {
            split.failed.push(row);
        }
    }
    let share = (options.good_share * ranked.len() as f64).ceil() as usize;
    let good = if losses.is_empty() { share.min(options.good_cap) } else { share };
    (split.good, split.bad) = best_rows(fates, losses, ranked, good);
    split
}

/// The `count` best of `rows`, and the others, both ascending. With `losses`, complete ones are chosen by whole ranks
/// of non-domination, and from the rank that does not fit by hypervolume.
pub fn best_rows(fates: &[Fate], losses: &[Vec<f64>], mut rows: Vec<usize>, count: usize) -> (Vec<usize>, Vec<usize>) {
    let count = count.min(rows.len());
    if count == 0 {
        rows.sort_unstable();
        return (Vec::new(), rows);
    }
    if losses.is_empty() {
        if count < rows.len() {
            rows.select_nth_unstable_by(count - 1, |a, b| better(&fates[*a], &fates[*b]).then(a.cmp(b)));
        }
    } else {
        rows.sort_by(|a, b| class(&fates[*a]).cmp(&class(&fates[*b])).then(a.cmp(b)));
        let complete = rows.partition_point(|row| class(&fates[*row]) == 0);
        if count < complete {
            let points = rows[..complete].iter().map(|row| losses[*row].clone()).collect::<Vec<_>>();
            let ranks = ranks(&points);
            let of_rank = |rank: usize| (0..complete).filter(|point| ranks[*point] == rank).collect::<Vec<_>>();
            let mut chosen = Vec::new();
            for rank in 0.. {
                let next = of_rank(rank);
                if chosen.len() + next.len() > count {
                    chosen.extend(subset(&points, &next, count - chosen.len()));
                    break;
                }
                chosen.extend(next);
            }
            let mut is_good = vec![false; complete];
            for point in chosen {
                is_good[point] = true;
            }
            let (good, bad): (Vec<_>, Vec<_>) = (0..complete).partition(|point| is_good[*point]);
            let reordered = good.into_iter().chain(bad).map(|point| rows[point]).collect::<Vec<_>>();
            rows[..complete].copy_from_slice(&reordered);
        } else {
            rows[complete..].sort_by(|a, b| better(&fates[*a], &fates[*b]).then(a.cmp(b)));
        }
    }
    let mut others = rows.split_off(count);
    rows.sort_unstable();
    others.sort_unstable();
    (rows, others)
}

/// Orders trials, better first.
pub(crate) fn better(a: &Fate, b: &Fate) -> Ordering {
    let order = |x: f64, y: f64| x.partial_cmp(&y).unwrap_or_else(|| x.is_nan().cmp(&y.is_nan()));
    match (a, b) {
        _ if class(a) != class(b) => class(a).cmp(&class(b)),
        (Fate::Complete { violation: x, .. } | Fate::Pruned { violation: x, .. }, _) if class(a) == 2 => {
            order(*x, violation(b))
        }
        (Fate::Complete { value: x, .. }, Fate::Complete { value: y, .. }) => order(*x, *y),
        (Fate::Pruned { last_step: i, value: x, .. }, Fate::Pruned { last_step: j, value: y, .. }) => {
            // Without a report: behind all others, and equal among themselves.
            j.cmp(i).then_with(|| if i.is_some() { order(*x, *y) } else { Ordering::Equal })
        }
        (_, _) => Ordering::Equal,
    }
}

/// Complete, pruned, infeasible, failed.
fn class(fate: &Fate) -> u8 {
    match fate {
        Fate::Complete { .. } if fate.is_ok() => 0,
        Fate::Pruned { .. } if fate.is_ok() => 1,
        Fate::Complete { .. } | Fate::Pruned { .. } => 2,
        Fate::Failed => 3,
    }
}

fn violation(fate: &Fate) -> f64 {
    match fate {
        Fate::Complete { violation, .. } | Fate::Pruned { violation, .. } => *violation,
        Fate::Failed => f64::INFINITY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(value: f64, violation: f64) -> Fate {
        Fate::Complete { value, violation }
    }

    fn pruned(last_step: Option<u32>, value: f64) -> Fate {
        Fate::Pruned { last_step, value, violation: 0.0 }
    }

    #[test]
    fn complete_before_pruned_before_infeasible() {
        let fates =
            [complete(9.0, 0.0), complete(-9.0, 1.0), pruned(None, 0.0), pruned(Some(1), 1.0), pruned(Some(2), 5.0)];
        let good = |count: usize, feasibility| {
            let options = TpeOptions { good_share: count as f64 / 5.0, feasibility, ..TpeOptions::OPTUNA };
            split(&fates, &[], &options).good
        };
        assert_eq!(good(1, false), [0]);
        assert_eq!(good(2, false), [0, 4]);
        assert_eq!(good(3, false), [0, 3, 4]);
        assert_eq!(good(4, false), [0, 2, 3, 4]);
        assert_eq!(good(5, false), [0, 1, 2, 3, 4]);
        assert_eq!(good(5, true), [0, 2, 3, 4]);
    }

    #[test]
    fn the_good_share_is_rounded_up_and_capped() {
        let fates = (0..1_000).map(|row| complete(f64::from(row), 0.0)).collect::<Vec<_>>();
        assert_eq!(split(&fates[..11], &[], &TpeOptions::OPTUNA).good, [0, 1]);
        assert_eq!(split(&fates, &[], &TpeOptions::OPTUNA).good, (0..25).collect::<Vec<_>>());
        assert_eq!(split(&[], &[], &TpeOptions::OPTUNA), Split::default());
    }

    #[test]
    fn equal_values_and_infinities_are_no_trouble() {
        let fates = [complete(f64::INFINITY, 0.0), complete(f64::NEG_INFINITY, 0.0), Fate::Failed, complete(0.0, 0.0)];
        let split = split(&fates, &[], &TpeOptions::default());
        assert_eq!((split.good, split.bad, split.failed), (vec![1], vec![0, 3], vec![2]));
    }
}
