//! The comparison at the end of a search, on simulated machines.

use fleetune_core::Direction;
use fleetune_sampler::confirmation::{Cell, Next, Plan, Round, Verdict, Winner};

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

/// Noise of 3.4 % between processes, as published sweeps show, a true gain of 2 % and four equal challengers.
#[test]
fn the_interval_covers_the_true_gain() {
    const TRUE_GAIN: f64 = 1.02;
    let mut state = 1_u64;
    let mut normal = || {
        // The sum of twelve uniforms, shifted: near enough to a normal for a mean of eight.
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        (0..12).map(|_| uniform()).sum::<f64>() - 6.0
    };
    let mut covered = 0;
    let mut announced_without_gain = 0;
    for study in 0..1_000 {
        let mut simulate = |gain: f64| {
            let speed = |candidate: usize| if candidate == 4 { 100.0 } else { 100.0 * gain };
            run(&plan(5, study), |candidate, _| Some(speed(candidate) * (0.034 * normal()).exp())).0
        };
        let gain = simulate(TRUE_GAIN).gain.unwrap();
        covered += u32::from(gain.low <= TRUE_GAIN && TRUE_GAIN <= gain.high);
        announced_without_gain += u32::from(simulate(1.0).winner == Winner::Challenger);
    }
    assert!((930..=970).contains(&covered), "{covered} of 1000");
    // One-sided: 2.5 % expected.
    assert!(announced_without_gain <= 45, "{announced_without_gain} of 1000");
}
