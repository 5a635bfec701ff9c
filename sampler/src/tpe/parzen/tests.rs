use fleetune_core::TrialNumber;
use fleetune_core::distribution::{Choices, Distribution, FloatRange, IntRange};

use super::super::column::Column;
use super::super::options::LeastBandwidth;
use super::super::order::others;
use super::*;
use crate::rng::{below, trial_rng};

const OPTUNA: ParzenOptions = ParzenOptions::OPTUNA;
const COARSE: ParzenOptions = ParzenOptions { least: LeastBandwidth::Share(0.03), ..OPTUNA };

fn distributions() -> Vec<Distribution> {
    let int = |low, high, log| Distribution::Int(IntRange::new(low, high, 1, log).unwrap());
    let float = |low, high, step, log| Distribution::Float(FloatRange::new(low, high, step, log).unwrap());
    vec![
        int(3, 40, false),
        int(1, 200, true),
        int(1, 5, true),
        float(0.0, 2.0, Some(0.1), false),
        Distribution::Categorical(Choices::new((0..7).map(|i| format!("c{i}").as_str().into()).collect()).unwrap()),
        Distribution::Categorical(Choices::new((0..7).map(fleetune_core::Value::Int).collect()).unwrap()),
        int(0, 1_000_000, false),
        float(1e-5, 1.0, None, true),
        float(-1.0, 1.0, None, false),
    ]
}

fn observations(columns: &[Column], rows: &[Vec<f64>], options: ParzenOptions) -> Observations {
    let mut observations = Observations::new(columns, options);
    for (number, raw) in rows.iter().enumerate() {
        observations.insert(number as i64, raw);
    }
    observations
}

/// Also with observations that lack the parameter.
#[test]
fn densities_integrate_to_one() {
    for options in [OPTUNA, COARSE] {
        for distribution in &distributions()[..6] {
            let column = Column::new(distribution, true);
            let count = distribution.cardinality().unwrap();
            let raw = |index: u64| column.encode(&distribution.value_at(index % count));
            let rows = [raw(0), raw(5), raw(5), f64::NAN, raw(count - 1), raw(5)].map(|raw| vec![raw]);
            let observations = observations(std::slice::from_ref(&column), &rows, options);
            let parzen = Parzen::new(&observations, &[0], &others(&[], 0, 6), &[], Weights::Recency, options);
            let points = (0..count).map(|index| vec![raw(index)]).collect::<Vec<_>>();
            let mass = parzen.log_density(&points).into_iter().map(f64::exp).sum::<f64>();
            assert!((mass - 1.0).abs() < 1e-9, "{distribution} {mass}");
        }
    }
}

/// Rows that are not there, off the grid, out of the range or choices that do not exist among them.
#[test]
fn sums_are_those_of_the_terms_one_by_one() {
    let columns = distributions().iter().map(|distribution| Column::new(distribution, true)).collect::<Vec<_>>();
    let all = (0..columns.len()).collect::<Vec<_>>();
    let tiny = ParzenOptions { least: LeastBandwidth::Tiny, ..OPTUNA };
    for (case, options) in [OPTUNA, COARSE, tiny, OPTUNA, COARSE, COARSE].into_iter().enumerate() {
        let mut rng = trial_rng(case as u64, TrialNumber(0), &[]);
        let mut row = |strange: u64| {
            let raw = |column: &Column| match below(&mut rng, 40) {
                0 if strange > 0 => f64::NAN,
                1 if strange > 1 => 2.5,
                _ => {
                    if let Some(count) = column.cardinality() {
                        column.raw_at(below(&mut rng, count))
                    } else {
                        let Kind::Numeric { low, high, .. } = *column.kind() else { unreachable!() };
                        column.snap(column.invert(low + unit(&mut rng) * (high - low)))
                    }
                }
            };
            columns.iter().map(raw).collect::<Vec<_>>()
        };
        let n = [5, 40, 30, 300, 300, 300][case];
        let rows = (0..n).map(|_| row([0, 1, 2, 0, 0, 2][case])).collect::<Vec<_>>();
        let running = (0..7).map(|k| (k * 31, row(1))).collect::<Vec<_>>();
        let points = (0..20).map(|_| row(1)).collect::<Vec<_>>();
        let observations = observations(&columns, &rows, options);
        let ranges = [0..n / 3, n / 3 + 1..n];
        let parzen = Parzen::new(&observations, &all, &ranges, &running, Weights::Recency, options);
        // Compiled here, it has no vector instructions beyond those of every processor.
        for (plain, sum) in parzen.block_of(&points[..16]).0.iter().zip(parzen.sums(&points)) {
            assert!(plain.to_bits() == sum.to_bits() || plain.is_nan() && sum.is_nan(), "case {case}");
        }
        for (point, sum) in points.iter().zip(parzen.sums(&points)) {
            let exact = parzen.log_sum(point);
            if options == tiny && !sum.is_finite() {
                // So narrow a kernel that far outside is left to the logarithms.
                continue;
            }
            assert!((sum.ln() - exact).abs() < 1e-9, "case {case}, {point:?}: {} is not {exact}", sum.ln());
        }
    }
}

/// Also where rows are left out that were the first or the last of their part of the range.
#[test]
fn bandwidths_are_those_of_the_rows_alone() {
    let columns = distributions().iter().map(|distribution| Column::new(distribution, true)).collect::<Vec<_>>();
    let all = (0..columns.len()).collect::<Vec<_>>();
    for seed in 0..6 {
        let mut rng = trial_rng(seed, TrialNumber(0), &[]);
        let mut raw = |column: &Column| match (below(&mut rng, 30), column.kind()) {
            (0, _) => f64::NAN,
            (_, Kind::Categorical { .. }) => 0.0,
            (_, Kind::Numeric { low, high, .. }) => {
                // Fewer and fewer toward one end, so that there are gaps.
                let u = unit(&mut rng) * unit(&mut rng) * unit(&mut rng);
                column.snap(column.invert(low + u * (high - low)))
            }
        };
        let rows = (0..700).map(|_| columns.iter().map(&mut raw).collect::<Vec<_>>()).collect::<Vec<_>>();
        let running = (0..5).map(|k| (k * 100 + 1, columns.iter().map(&mut raw).collect())).collect::<Vec<_>>();
        let kept = (0..700).filter(|row| row % 2 == 0 && (row / 2) % (2 + seed as usize) != 0).collect::<Vec<_>>();
        for options in [OPTUNA, COARSE] {
            let (mut store, mut alone) = (Observations::new(&columns, options), Observations::new(&columns, options));
            // Even numbers, the last first; running ones lie between.
            for row in (0..700).rev().filter(|row| row % 2 == 0) {
                store.insert(row as i64, &rows[row]);
            }
            for row in &kept {
                alone.insert(*row as i64, &rows[*row]);
            }
            // With so many others nothing is taken from what is known of all.
            for (row, raw) in rows.iter().enumerate() {
                alone.insert(1_000 + row as i64, raw);
            }
            let places = super::super::order::ranges(kept.iter().map(|row| row / 2));
            let of_store = Parzen::new(&store, &all, &places, &running, Weights::Recency, options);
            let whole = others(&[], 0, kept.len());
            let of_alone = Parzen::new(&alone, &all, &whole, &running, Weights::Recency, options);
            for place in 0..columns.len() {
                assert_eq!(of_store.bandwidths(place), of_alone.bandwidths(place), "{place}");
            }
        }
    }
}
