//! What the default sampler makes of what is known besides values: equal settings, times, noise, memory.

#![allow(clippy::format_collect, reason = "a few lines")]

mod common;
#[path = "common/problems.rs"]
#[allow(dead_code, missing_docs, reason = "shared with an example")]
mod problems;

use common::{Study, complete, config};
use fleetune_core::study::{Budget, SamplerConfig, StudyConfig};
use fleetune_core::{FailKind, Params, SearchSpace, TrialNumber, Turn, Value};
use fleetune_sampler::{Ask, Ended, Estimate, Event, Outcome, Running, Sampler, build, trial_rng};
use problems::benchmark;

fn number(params: &Params, name: &str) -> f64 {
    params.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN)
}

/// An engine whose small batch is at most its large one, and which takes `auto` as `on`.
struct Engine;

impl Estimate for Engine {
    fn memory_ratios(&self, _: &Params) -> Vec<f64> {
        Vec::new()
    }

    fn effective(&self, params: &Params) -> Option<Params> {
        let mut params = params.clone();
        let least = params["n_batch"].as_f64()?.min(params["n_ubatch"].as_f64()?);
        params.insert("n_ubatch".to_owned(), Value::Int(least as i64));
        if params["fa"].as_str() == Some("auto") {
            params.insert("fa".to_owned(), "on".into());
        }
        Some(params)
    }
}

fn ended(trial: &Running, outcome: Outcome, seconds: f64) -> Event {
    Event::Ended(Ended {
        number: trial.number,
        params: trial.params.clone(),
        outcome,
        series: Vec::new(),
        repetitions_planned: 1,
        standard_error: None,
        seconds,
    })
}

fn ask(sampler: &dyn Sampler, seed: u64, number: i64, running: &[Running], estimate: Option<&dyn Estimate>) -> Running {
    let (number, fixed) = (TrialNumber(number), Params::new());
    let ask = Ask { number, fixed: &fixed, running, estimate };
    let params = sampler.suggest(&ask, &mut trial_rng(seed, number, &[])).unwrap();
    Running { turn: Turn(number.0), number, params }
}

const BATCHES: &str = "[parameters]\nn_batch = [32, 64, 128, 256, 512]\nn_ubatch = [32, 64, 128, 256, 512]\n\
                       fa = ['on', 'off', 'auto']\nx = { type = 'float', low = 0, high = 1 }";

#[test]
fn settings_are_suggested_as_the_engine_takes_them() {
    let space = SearchSpace::from_toml(BATCHES).unwrap();
    let mut sampler = build(&config(&space, SamplerConfig::Auto, 1)).unwrap();
    let mut running = Vec::new();
    for trial in 0..40 {
        let asked = ask(sampler.as_ref(), 1, trial, &running, Some(&Engine));
        assert_eq!(Engine.effective(&asked.params).as_ref(), Some(&asked.params), "trial {trial}");
        running.push(asked);
        if running.len() == 2 {
            let trial = running.remove(0);
            let loss = (number(&trial.params, "n_ubatch").log2() - 7.0).abs() + number(&trial.params, "x");
            sampler.observe(&ended(&trial, complete(loss), 1.0));
        }
    }
}

/// What was tried under another name, before anything was known of the engine, is the same point: its value speaks for
/// it, and it is not tried again.
#[test]
fn observations_are_merged_by_what_the_engine_takes() {
    let space =
        SearchSpace::from_toml("[parameters]\nn_batch = [32, 64]\nn_ubatch = [32, 64]\nfa = ['on', 'off', 'auto']");
    let space = space.unwrap();
    let mut sampler = build(&config(&space, SamplerConfig::Auto, 1)).unwrap();
    let all = |names: &[(i64, i64, &str)]| {
        let of = |(n_batch, n_ubatch, fa): &(i64, i64, &str)| {
            let settings =
                [("n_batch", Value::Int(*n_batch)), ("n_ubatch", Value::Int(*n_ubatch)), ("fa", (*fa).into())];
            Params::from(settings.map(|(name, value)| (name.to_owned(), value)))
        };
        names.iter().map(of).collect::<Vec<_>>()
    };
    // Of twelve configurations six are different; five of them were tried, some under other names.
    let tried = all(&[(32, 64, "auto"), (32, 32, "off"), (64, 32, "auto"), (64, 64, "off"), (64, 64, "auto")]);
    for (turn, params) in tried.into_iter().enumerate() {
        let trial = Running { turn: Turn(turn as i64), number: TrialNumber(turn as i64), params };
        sampler.observe(&ended(&trial, complete(turn as f64), 1.0));
    }
    let left = ask(sampler.as_ref(), 1, 5, &[], Some(&Engine)).params;
    assert_eq!(vec![left], all(&[(64, 32, "off")]));
}

/// The seconds that went into what is slow and no better.
fn slow_seconds(budget: Option<f64>, seed: u64) -> f64 {
    let space = "[parameters]\nslow = ['a', 'b', 'c', 'd']\nx = { type = 'float', low = 0, high = 1 }\n\
                 y = { type = 'float', low = 0, high = 1 }";
    let space = SearchSpace::from_toml(space).unwrap();
    let budget = Budget { seconds: budget, ..Budget::default() };
    let mut sampler = build(&StudyConfig { budget, ..config(&space, SamplerConfig::Auto, seed) }).unwrap();
    let mut slow = 0.0;
    for turn in 0..30 {
        let trial = ask(sampler.as_ref(), seed, turn, &[], None);
        let seconds = if ["a", "b"].contains(&trial.params["slow"].as_str().unwrap()) { 60.0 } else { 1.0 };
        let loss = 1.0 + (number(&trial.params, "x") - 0.3).powi(2) + (number(&trial.params, "y") - 0.6).powi(2);
        slow += if seconds > 1.0 { seconds } else { 0.0 };
        sampler.observe(&ended(&trial, complete(loss), seconds));
    }
    slow
}

#[test]
fn with_a_time_budget_what_is_slow_is_tried_less() {
    let mean = |budget| (0..4).map(|seed| slow_seconds(budget, seed)).sum::<f64>() / 4.0;
    let (hurried, patient) = (mean(Some(5_000.0)), mean(None));
    assert!(hurried <= 0.75 * patient, "{hurried:.0} s against {patient:.0} s");
}

/// A study of measurements on a line, the best in the middle.
fn measured(lucky: usize) -> Study {
    let space = SearchSpace::from_toml("[parameters]\nn_threads = { type = 'float', low = 0, high = 1 }").unwrap();
    let benchmark = Some(benchmark());
    let mut study = Study::of(&StudyConfig { benchmark, ..config(&space, SamplerConfig::Auto, 3) });
    for turn in 0..41 {
        let x = turn as f64 / 40.0;
        study.ask(&Params::from([("n_threads".to_owned(), Value::Float(x))])).unwrap();
        // Deterministic noise of 3 %, and one trial that had luck.
        let noise = 1.0 + 0.03 * ((turn * 7_919 % 41) as f64 / 20.0 - 1.0);
        let value = (10.0 + 40.0 * (x - 0.5) * (x - 0.5)) * noise * if turn == lucky { 0.8 } else { 1.0 };
        study.tell(0, |_| complete(value));
    }
    study
}

#[test]
fn luck_is_not_the_answer() {
    let study = measured(34);
    let ranking = study.sampler.ranking(None);
    assert_eq!(ranking.len(), 41);
    assert!((14..=26).contains(&ranking[0].0), "{ranking:?}");
}

#[test]
fn failures_and_stopped_trials_are_no_answer() {
    let mut study = measured(34);
    for outcome in [
        Outcome::Failed { kind: FailKind::Oom },
        Outcome::Pruned { value: Some(0.1), last_step: Some(1), constraints: vec![] },
        Outcome::Complete { values: vec![0.1], constraints: vec![1.0] },
    ] {
        study.ask(&Params::new()).unwrap();
        study.tell(0, |_| outcome);
    }
    assert!(study.sampler.ranking(None).iter().all(|number| number.0 < 41));
}

/// A client's values may be exact: they alone decide.
#[test]
fn what_clients_tell_is_ranked_by_value() {
    let space = SearchSpace::from_toml("[parameters]\nx = { type = 'float', low = 0, high = 1 }").unwrap();
    let mut study = Study::new(&space, SamplerConfig::Auto, 3);
    for turn in 0..15 {
        study.ask(&Params::new()).unwrap();
        study.tell(0, |_| complete(f64::from(turn)));
    }
    assert!(study.sampler.ranking(None).is_empty());
}
