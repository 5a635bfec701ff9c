//! Racing on simulated machines whose noise is known.

use fleetune_core::measurement::median;
use fleetune_core::study::{PrunerConfig, RacingConfig};
use fleetune_core::{Direction, Revision, TrialState};
use fleetune_sampler::build_pruner;
use fleetune_sampler::pruner::Field;

use crate::machine::Machine;
use crate::trial::Trial;

const REPETITIONS: u32 = 5;

/// The steps of one process.
fn run(machine: &mut Machine, speed: f64) -> Vec<(u32, f64)> {
    (1..).zip(machine.run(speed, REPETITIONS)).collect()
}

fn complete(steps: Vec<(u32, f64)>, ended: i64) -> Trial {
    let value = median(&steps.iter().map(|(_, value)| *value).collect::<Vec<_>>());
    Trial { state: TrialState::Complete, ended: Some(Revision(ended)), value, feasible: true, steps }
}

/// The repetition at which racing stops `steps` against trials that are complete.
fn stopped_at(config: &PrunerConfig, direction: Direction, others: &[Trial], steps: &[(u32, f64)]) -> Option<u32> {
    let pruner = build_pruner(config, direction);
    let trials = others.iter().enumerate().map(|(number, trial)| trial.candidate(number as i64)).collect();
    let field = Field { study: "s", trials, repetitions: Some(REPETITIONS) };
    let state = TrialState::Running;
    (1..=steps.len()).find_map(|count| {
        let own = Trial { state, ended: None, value: None, feasible: true, steps: steps[..count].to_vec() };
        pruner.should_stop(&field, &own.candidate(1_000)).then_some(steps[count - 1].0)
    })
}

/// The share of 4,000 runs in which a configuration `gain` times as fast as the only complete one, itself as drawn, is
/// stopped by repetition `by`.
fn share_stopped(machine: &mut Machine, gain: f64, by: u32) -> f64 {
    let stopped = (0..4_000).filter(|_| {
        let others = [complete(run(machine, 100.0), 1)];
        let own = run(machine, 100.0 * gain);
        stopped_at(&PrunerConfig::racing(), Direction::Maximize, &others, &own).is_some_and(|at| at <= by)
    });
    stopped.count() as f64 / 4_000.0
}

#[test]
fn racing_keeps_what_is_better_and_stops_what_is_much_worse() {
    for (within, between) in [(0.003, 0.034), (0.003, 0.01), (0.02, 0.034), (0.05, 0.02)] {
        let mut machine = Machine::new(within, between);
        let better = share_stopped(&mut machine, 1.03, REPETITIONS);
        assert!(better < 0.05, "a better one is stopped in {better} of runs, noise {within} and {between}");
        let worse = share_stopped(&mut machine, 0.8, 3);
        assert!(worse > 0.9, "a much worse one is stopped in {worse} of runs, noise {within} and {between}");
    }
}

/// A configuration exactly at the margin is the least that is worth keeping: it may be stopped as often as the
/// confidence leaves, as long as processes differ no more than the option says.
#[test]
fn racing_errs_no_more_often_than_stated() {
    for between in [0.0, 0.01, 0.034] {
        let share = share_stopped(&mut Machine::new(0.003, between), 1.01, REPETITIONS);
        assert!(share < 0.06, "{share} of runs, {between} between processes");
    }
    // Processes that differ by 5 % where 5 % was said, and where nothing was: an equal one is 1 % short of the margin.
    let mut machine = Machine::new(0.003, 0.05);
    let said = PrunerConfig::Racing(RacingConfig { process_noise: 0.05, ..RacingConfig::default() });
    let mut stopped = [0_u32; 2];
    for _ in 0..4_000 {
        let others = [complete(run(&mut machine, 100.0), 1)];
        let own = run(&mut machine, 100.0);
        for (config, stopped) in [&said, &PrunerConfig::racing()].into_iter().zip(&mut stopped) {
            *stopped += u32::from(stopped_at(config, Direction::Maximize, &others, &own).is_some());
        }
    }
    let [said, unsaid] = stopped.map(|count| f64::from(count) / 4_000.0);
    assert!(said < 0.08, "{said}");
    assert!(unsaid < 0.2, "{unsaid}");
}

#[test]
fn racing_waits_for_the_second_repetition_and_for_an_incumbent() {
    let racing = PrunerConfig::racing();
    let slow = [(1, 10.0), (2, 10.1)];
    let others = [complete(vec![(1, 100.0), (2, 101.0)], 1)];
    assert_eq!(stopped_at(&racing, Direction::Maximize, &others, &slow), Some(2));
    assert_eq!(stopped_at(&racing, Direction::Minimize, &others, &slow), None, "ten times better");
    assert_eq!(stopped_at(&racing, Direction::Maximize, &[], &slow), None);
    let mut infeasible = complete(vec![(1, 100.0), (2, 101.0)], 1);
    infeasible.feasible = false;
    assert_eq!(stopped_at(&racing, Direction::Maximize, &[infeasible], &slow), None);
    let patient = PrunerConfig::Racing(RacingConfig { min_repetitions: 4, ..RacingConfig::default() });
    let steps = [1, 2, 3, 4].map(|step| (step, 10.0));
    assert_eq!(stopped_at(&patient, Direction::Maximize, &others, &steps), Some(4));
}

/// Wild repetitions say little about the mean; but what even its best one cannot reach is out of reach.
#[test]
fn racing_stops_what_cannot_win_any_more() {
    let others = [complete([1, 2, 3, 4, 5].map(|step| (step, 100.0)).to_vec(), 1)];
    let wild = [(1, 5.0), (2, 80.0), (3, 80.0)];
    let stopped = |repetitions| {
        let trials = others.iter().map(|trial| trial.candidate(0)).collect();
        let own = Trial { steps: wild.to_vec(), state: TrialState::Running, ..complete(wild.to_vec(), 1) };
        let field = Field { study: "s", trials, repetitions };
        let config = RacingConfig { confidence: 0.999, ..RacingConfig::default() };
        build_pruner(&PrunerConfig::Racing(config), Direction::Maximize).should_stop(&field, &own.candidate(1))
    };
    assert!(stopped(Some(5)));
    assert!(!stopped(None), "a curve has no known length");
}

#[test]
fn racing_bears_zeros_and_odd_values() {
    let racing = PrunerConfig::racing();
    for values in [[0.0, 0.0], [-1.0, 1.0], [f64::MAX, f64::MIN_POSITIVE], [f64::INFINITY, f64::NAN]] {
        let steps = [(1, values[0]), (2, values[1])];
        for direction in [Direction::Minimize, Direction::Maximize] {
            stopped_at(&racing, direction, &[complete(steps.to_vec(), 1)], &[(1, 0.0), (2, -0.0)]);
            stopped_at(&racing, direction, &[complete(vec![(1, 1.0), (2, 2.0)], 1)], &steps);
        }
    }
    let zero = [complete(vec![(1, 0.0), (2, 0.0)], 1)];
    assert_eq!(stopped_at(&racing, Direction::Maximize, &zero, &[(1, 0.0), (2, 0.0)]), None);
    let exact = RacingConfig { process_noise: 0.0, ..RacingConfig::default() };
    let equal = [complete(vec![(1, 5.0), (2, 5.0)], 1)];
    let stopped = stopped_at(&PrunerConfig::Racing(exact), Direction::Maximize, &equal, &[(1, 5.0), (2, 5.0)]);
    assert_eq!(stopped, Some(2), "without any noise an equal one is not better");
}
