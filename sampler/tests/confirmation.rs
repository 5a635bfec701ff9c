//! The comparison at the end of a search, on simulated machines.

#[path = "common/machine.rs"]
mod machine;

use fleetune_core::Direction;
use fleetune_core::measurement::median;
use fleetune_sampler::confirmation::{Cell, Next, Plan, Round, Verdict, Winner};
use machine::Machine;

/// Measures until the verdict. `value(candidate, round)`: `None` is a failed cell.
fn run(plan: &Plan, mut value: impl FnMut(usize, u32) -> Option<f64>) -> (Verdict, Vec<Vec<usize>>) {
    let (mut rounds, mut orders) = (Vec::new(), Vec::new());
    loop {
        match plan.next(&rounds) {
            Next::Done(verdict) => {
                assert_eq!(plan.remaining_cells(&rounds), 0);
                return (verdict, orders);
            }
            Next::Measure { round, order } => {
                assert_eq!(round as usize, rounds.len());
                assert!(rounds.len() < 24, "bounded");
                let cell = |candidate: &usize| Cell { candidate: *candidate, value: value(*candidate, round) };
                rounds.push(Round { cells: order.iter().map(cell).collect() });
                orders.push(order);
            }
        }
    }
}

/// Speeds of the candidates, the last one the baseline.
fn plan(candidates: usize, seed: u64) -> Plan {
    Plan::new(seed, candidates, Some(candidates - 1), Direction::Maximize)
}

#[test]
fn halving_chooses_and_fresh_pairs_decide() {
    let speeds = [10.0, 11.0, 12.0, 10.5, 10.0];
    let (verdict, orders) = run(&plan(5, 1), |candidate, round| Some(speeds[candidate] + f64::from(round) * 0.01));
    assert_eq!(orders.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]);
    assert_eq!((verdict.challenger, verdict.winner), (Some(2), Winner::Challenger));
    let gain = verdict.gain.unwrap();
    assert!((gain.ratio - 1.2).abs() < 0.01 && gain.low > 1.19 && gain.rounds == 8, "{gain:?}");
    assert_eq!(plan(5, 1).remaining_cells(&[]), 4 + 4 + 2 + 2 + 16);
    let pairs = &orders[4..];
    assert!(pairs.windows(2).all(|pair| pair[0][0] != pair[1][0]), "order alternates: {pairs:?}");
}

#[test]
fn a_smaller_time_is_a_gain() {
    let plan = Plan::new(1, 2, Some(1), Direction::Minimize);
    let (verdict, _) = run(&plan, |candidate, round| Some([1.0, 2.0][candidate] * (1.0 + f64::from(round % 3) * 0.01)));
    assert!((verdict.gain.unwrap().ratio - 2.0).abs() < 0.05);
    assert_eq!(verdict.winner, Winner::Challenger);
}

#[test]
fn no_gain_no_announcement() {
    let (verdict, _) = run(&plan(2, 1), |candidate, round| Some(10.0 + f64::from((round + candidate as u32) % 2)));
    assert_eq!(verdict.winner, Winner::Baseline);
    assert!(verdict.gain.unwrap().low < 1.0);
}

#[test]
fn alone_is_settled_without_rounds() {
    let settled = |plan: Plan| run(&plan, |_, _| None);
    assert_eq!(settled(plan(1, 0)).0, Verdict { challenger: None, gain: None, winner: Winner::Baseline });
    assert_eq!(settled(Plan::new(0, 0, None, Direction::Maximize)).0.winner, Winner::None);
    let (verdict, orders) = settled(Plan::new(0, 1, None, Direction::Maximize));
    assert_eq!((verdict.winner, verdict.gain, orders.len()), (Winner::Challenger, None, 0));
}

#[test]
fn without_baseline_the_challenger_is_named_without_a_gain() {
    let plan = Plan::new(0, 3, None, Direction::Maximize);
    let (verdict, orders) = run(&plan, |candidate, _| Some(candidate as f64 + 1.0));
    assert_eq!(verdict, Verdict { challenger: Some(2), gain: None, winner: Winner::Challenger });
    assert_eq!(orders.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 2, 2]);
}

#[test]
fn a_candidate_that_fails_is_out() {
    let speeds = [10.0, 11.0, 12.0, 10.5, 10.0];
    let at_once = |candidate: usize, _| (candidate != 2).then_some(speeds[candidate]);
    let (verdict, _) = run(&plan(5, 1), at_once);
    assert_eq!(verdict.challenger, Some(1));
    let (verdict, orders) =
        run(&plan(5, 1), |candidate, round| (candidate != 2 || round < 6).then_some(speeds[candidate]));
    assert_eq!(verdict.challenger, Some(1), "the runner-up takes over");
    assert_eq!((verdict.gain.unwrap().rounds, orders.len()), (8, 4 + 3 + 8));
    let (verdict, _) = run(&plan(3, 1), |candidate, _| (candidate == 2).then_some(1.0));
    assert_eq!((verdict.winner, verdict.challenger), (Winner::Baseline, None));
    let (verdict, _) = run(&plan(3, 1), |candidate, _| (candidate != 2).then_some(1.0));
    assert_eq!((verdict.winner, verdict.gain), (Winner::Challenger, None));
    let (verdict, _) = run(&plan(2, 1), |_, _| Some(0.0));
    assert_eq!(verdict.winner, Winner::None, "a speed of zero is a failure");
}

/// What confirmations came to.
struct Calibration {
    /// Of those with an interval, those that cover the true gain.
    covered: u32,
    judged: u32,
    /// The same among the announced ones.
    covered_announced: u32,
    announced: u32,
    /// Announced although the challenger is no better.
    wrong: u32,
}

/// 1,000 confirmations with one to five challengers; every cell is the median of five repetitions. `gain` draws the true gain of a challenger.
fn calibrate(within: f64, between: f64, mut gain: impl FnMut(&mut Machine) -> f64) -> Calibration {
    let mut machine = Machine::new(within, between);
    let mut result = Calibration { covered: 0, judged: 0, covered_announced: 0, announced: 0, wrong: 0 };
    for study in 0..1_000 {
        let challengers = 1 + study as usize % 5;
        let gains = (0..challengers).map(|_| gain(&mut machine)).chain([1.0]).collect::<Vec<_>>();
        let direction = if study % 2 == 0 { Direction::Maximize } else { Direction::Minimize };
        let plan = Plan::new(study, gains.len(), Some(challengers), direction);
        let (verdict, _) = run(&plan, |candidate, _| {
            let speed = median(&machine.run(100.0 * gains[candidate], 5))?;
            Some(if direction == Direction::Maximize { speed } else { 1.0 / speed })
        });
        let (Some(interval), Some(challenger)) = (verdict.gain, verdict.challenger) else { continue };
        let covers = interval.low <= gains[challenger] && gains[challenger] <= interval.high;
        let announced = verdict.winner == Winner::Challenger;
        result.judged += 1;
        result.covered += u32::from(covers);
        result.announced += u32::from(announced);
        result.covered_announced += u32::from(announced && covers);
        result.wrong += u32::from(announced && gains[challenger] <= 1.0);
    }
    result
}

/// Deviations within and between processes: published sweeps, a quiet machine, a laptop.
const MACHINES: [(f64, f64); 3] = [(0.003, 0.034), (0.01, 0.003), (0.05, 0.08)];
/// Least share of the announced gains that their intervals cover. Where the noise exceeds the gains, those that are
/// announced are the lucky ones.
const ANNOUNCED: [f64; 3] = [0.9, 0.93, 0.8];

/// Challengers differ by a few percent either way, as the best of a search do; halving takes the luckiest of them.
#[test]
fn the_interval_covers_the_true_gain() {
    for ((within, between), least) in MACHINES.into_iter().zip(ANNOUNCED) {
        let result = calibrate(within, between, |machine| (0.05 * machine.normal()).exp());
        assert_eq!(result.judged, 1_000);
        assert!((930..=970).contains(&result.covered), "{} of 1000, {within} and {between}", result.covered);
        assert!(result.wrong <= 25, "{} announced without a gain, {within} and {between}", result.wrong);
        let share = f64::from(result.covered_announced) / f64::from(result.announced);
        assert!(share >= least, "{share} of {} announced, {within} and {between}", result.announced);
    }
}

#[test]
fn a_baseline_that_is_best_is_rarely_beaten() {
    for (within, between) in MACHINES {
        // As good as the baseline, which is the hardest; and up to 10 % worse.
        let equal = calibrate(within, between, |_| 1.0);
        assert!(equal.wrong <= 45, "{} of 1000 by equals, {within} and {between}", equal.wrong);
        let worse = calibrate(within, between, |machine| 1.0 - 0.1 * machine.uniform());
        assert!(worse.wrong <= 25, "{} of 1000 by worse ones, {within} and {between}", worse.wrong);
    }
}
