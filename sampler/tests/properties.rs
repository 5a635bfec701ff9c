//! What holds for every space, history and seed.

mod common;

use std::collections::BTreeSet;

use common::{Study, complete};
use fleetune_core::distribution::{Choices, Distribution, FloatRange, IntRange};
use fleetune_core::study::{SamplerConfig, TpeOptuna5Config};
use fleetune_core::value::params_line;
use fleetune_core::{FailKind, Params, SearchSpace, Value};
use fleetune_sampler::{Event, Outcome, SpaceExhausted, build};
use proptest::prelude::*;

/// One parameter: its distribution, whether it hangs on the first categorical before it, and a cut for a clause.
fn distributions() -> impl Strategy<Value = Distribution> {
    let int = (0_i64..50, 0_i64..40, 1_i64..4)
        .prop_map(|(low, count, step)| Distribution::Int(IntRange::new(low, low + count * step, step, false).unwrap()));
    let log = (1_i64..9, 0_i64..5_000)
        .prop_map(|(low, more)| Distribution::Int(IntRange::new(low, low + more, 1, true).unwrap()));
    let float = (-3.0..3.0, 0.0..9.0).prop_map(|(low, more): (f64, f64)| {
        Distribution::Float(FloatRange::new(low, low + more, None, false).unwrap())
    });
    let wide = Just(Distribution::Float(FloatRange::new(1e-9, 1e3, None, true).unwrap()));
    let tenths = (1_u32..30).prop_map(|count| {
        Distribution::Float(FloatRange::lenient(0.0, f64::from(count) / 10.0, Some(0.1), false).unwrap())
    });
    let texts = (1_usize..6).prop_map(|count| choices((0..count).map(|c| format!("c{c}").as_str().into()).collect()));
    let sizes = (1_u32..6).prop_map(|count| choices((0..count).map(|c| Value::Int(8 << c)).collect()));
    prop_oneof![int, log, float, wide, tenths, texts.clone(), texts, sizes]
}

fn choices(values: Vec<Value>) -> Distribution {
    Distribution::Categorical(Choices::new(values).unwrap())
}

fn spaces(finite: bool) -> impl Strategy<Value = SearchSpace> {
    let parameter = (distributions(), any::<bool>(), any::<bool>());
    prop::collection::vec(parameter, 1..7).prop_filter_map("allows nothing", move |parameters| {
        let mut builder = SearchSpace::builder();
        let mut parent = None::<String>;
        for (index, (distribution, hangs, cut)) in parameters.into_iter().enumerate() {
            if finite && distribution.cardinality().is_none_or(|count| count > 40) {
                continue;
            }
            let name = format!("p{index}");
            let number = !matches!(distribution, Distribution::Categorical(_));
            builder = match &parent {
                Some(parent) if hangs => {
                    builder.conditional(&name, distribution.clone(), None, &format!("{parent} != 'c0'"))
                }
                _ => builder.parameter(&name, distribution.clone(), None),
            };
            if let (true, true, Some(parent)) = (cut, number, &parent) {
                let middle = distribution.value_at(distribution.cardinality().unwrap_or(0) / 2);
                builder = builder.forbid(&format!("{name} > {middle} && {parent} == 'c1'"), "cut");
            }
            let texts = matches!(distribution.value_at(0), Value::Text(_));
            if texts {
                parent = Some(name);
            }
        }
        builder.build().ok()
    })
}

/// Those that take any space.
fn samplers() -> impl Strategy<Value = SamplerConfig> {
    prop_oneof![fresh(), optunas()]
}

/// Of these, those that try nothing twice.
fn fresh() -> impl Strategy<Value = SamplerConfig> {
    let those =
        [SamplerConfig::Auto, SamplerConfig::Random, SamplerConfig::Tpe, SamplerConfig::CmaEs, SamplerConfig::NsgaIi];
    proptest::sample::select(those.to_vec())
}

/// Of these, those that do not care in which order trials end.
fn orderless() -> impl Strategy<Value = SamplerConfig> {
    prop_oneof![
        Just(SamplerConfig::Random),
        Just(SamplerConfig::Qmc),
        Just(SamplerConfig::Tpe),
        Just(SamplerConfig::Auto),
        optunas()
    ]
}

fn optunas() -> impl Strategy<Value = SamplerConfig> {
    (any::<bool>(), any::<bool>()).prop_map(|(multivariate, group)| {
        let multivariate = Some(multivariate || group);
        SamplerConfig::TpeOptuna5(TpeOptuna5Config { multivariate, group, ..TpeOptuna5Config::default() })
    })
}

/// Those that see everything.
fn exhaustive() -> impl Strategy<Value = SamplerConfig> {
    prop_oneof![Just(SamplerConfig::Grid), Just(SamplerConfig::BruteForce)]
}

/// A value for a configuration, some failures, prunings and violations among them, all decided by `salt`.
fn outcome(params: &Params, salt: u64) -> Outcome {
    let hash =
        params_line(params).bytes().fold(salt, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    let value = (hash >> 40) as f64 / 1_000.0;
    match hash % 11 {
        0 => Outcome::Failed { kind: FailKind::Oom },
        1 => Outcome::Failed { kind: FailKind::Error },
        2 => Outcome::Pruned { value: Some(value), last_step: Some((hash >> 20) as u32 % 4), constraints: vec![] },
        3 => Outcome::Complete { values: vec![value], constraints: vec![value - 5_000.0] },
        4 => Outcome::Complete { values: vec![f64::NAN], constraints: vec![] },
        5 => Outcome::Complete { values: vec![f64::INFINITY], constraints: vec![f64::NAN] },
        _ => complete(value),
    }
}

/// Runs `trials` with up to three at once.
fn run(space: &SearchSpace, sampler: SamplerConfig, seed: u64, trials: u64) -> Study {
    let mut study = Study::new(space, sampler, seed);
    for turn in 0..trials {
        study.ask(&Params::new()).unwrap();
        if turn % 4 != 0 && study.running.len() > 1 || study.running.len() == 3 {
            study.tell((turn % 2) as usize, |params| outcome(params, seed));
        }
    }
    study
}

fn rebuilt(study: &Study, space: &SearchSpace, sampler: SamplerConfig, events: &[Event]) -> Study {
    let mut other = Study::new(space, sampler, study.seed);
    for event in events {
        other.sampler.observe(event);
    }
    other.running.clone_from(&study.running);
    other
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_suggestion_is_a_configuration(space in spaces(false), sampler in samplers(), seed: u64) {
        let study = run(&space, sampler, seed, 30);
        for event in &study.events {
            let Event::Ended(ended) = event else { continue };
            prop_assert_eq!(space.check(&ended.params), Ok(()));
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_answers(space in spaces(false), sampler in samplers(), seed: u64) {
        let (one, two) = (run(&space, sampler.clone(), seed, 25), run(&space, sampler, seed, 25));
        prop_assert_eq!(format!("{:?}", one.events), format!("{:?}", two.events));
        prop_assert_eq!(one.peek(&Params::new()), two.peek(&Params::new()));
    }

    /// The trial's number does not count here: both studies ask for number 0 after the same history.
    #[test]
    fn a_rebuilt_state_equals_the_live_one(space in spaces(false), sampler in samplers(), seed: u64) {
        let study = run(&space, sampler.clone(), seed, 25);
        let live = rebuilt(&study, &space, sampler.clone(), &study.events);
        for _ in 0..3 {
            // Asks leave no trace.
            live.peek(&Params::new()).unwrap();
        }
        let again = rebuilt(&study, &space, sampler.clone(), &study.events);
        prop_assert_eq!(live.peek(&Params::new()), again.peek(&Params::new()));
    }

    #[test]
    fn where_order_does_not_count_it_leaves_no_trace(space in spaces(false), sampler in orderless(), seed: u64) {
        let study = run(&space, sampler.clone(), seed, 25);
        let backwards = study.events.iter().rev().cloned().collect::<Vec<_>>();
        let one = rebuilt(&study, &space, sampler.clone(), &study.events);
        let two = rebuilt(&study, &space, sampler, &backwards);
        prop_assert_eq!(one.peek(&Params::new()), two.peek(&Params::new()));
    }

    /// TPE reads objective values through their order alone; doubling is exact in binary.
    #[test]
    fn doubling_every_value_changes_no_suggestion(space in spaces(false), seed: u64) {
        let study = run(&space, SamplerConfig::Tpe, seed, 30);
        let doubled = study.events.iter().cloned().map(|event| match event {
            Event::Ended(mut ended) => {
                match &mut ended.outcome {
                    Outcome::Complete { values, .. } => values.iter_mut().for_each(|value| *value *= 2.0),
                    Outcome::Pruned { value: Some(value), .. } => *value *= 2.0,
                    Outcome::Pruned { .. } | Outcome::Failed { .. } => {}
                }
                Event::Ended(ended)
            }
            other => other,
        });
        let one = rebuilt(&study, &space, SamplerConfig::Tpe, &study.events);
        let two = rebuilt(&study, &space, SamplerConfig::Tpe, &doubled.collect::<Vec<_>>());
        prop_assert_eq!(one.peek(&Params::new()), two.peek(&Params::new()));
    }

    #[test]
    fn fixed_parameters_are_kept(space in spaces(false), sampler in samplers(), seed: u64, keep in 0_usize..6) {
        let study = run(&space, sampler, seed, 15);
        let whole = study.peek(&Params::new()).unwrap();
        let fixed = whole.into_iter().skip(keep).step_by(2).collect::<Params>();
        let completed = study.peek(&fixed).unwrap();
        prop_assert_eq!(space.check(&completed), Ok(()));
        for (name, value) in &fixed {
            prop_assert_eq!(completed.get(name), Some(value));
        }
    }

    #[test]
    fn each_allowed_configuration_is_visited_once(space in spaces(true), sampler in exhaustive(), seed: u64) {
        prop_assume!(space.cardinality().is_some_and(|count| count <= 400));
        let mut study = Study::new(&space, sampler, seed);
        let mut seen = BTreeSet::new();
        let exhausted = loop {
            match study.ask(&Params::new()) {
                Ok(trial) => {
                    prop_assert_eq!(space.check(&trial.params), Ok(()));
                    prop_assert!(seen.insert(params_line(&trial.params)), "twice: {}", params_line(&trial.params));
                }
                Err(error) => break error,
            }
            if study.running.len() == 3 {
                study.tell(1, |params| outcome(params, seed));
            }
        };
        prop_assert_eq!(exhausted, SpaceExhausted::AllTried);
        prop_assert_eq!(Some(seen.len() as u64), space.cardinality());
    }

    #[test]
    fn small_spaces_are_tried_without_repeats(space in spaces(true), sampler in fresh(), seed: u64) {
        let count = space.cardinality().filter(|count| *count <= 60);
        prop_assume!(count.is_some());
        let mut study = Study::new(&space, sampler, seed);
        let mut seen = BTreeSet::new();
        for _ in 0..count.unwrap() {
            let trial = study.ask(&Params::new()).unwrap();
            prop_assert!(seen.insert(params_line(&trial.params)));
            study.tell(0, |params| outcome(params, seed));
        }
        // All used: a repeat, still a configuration.
        prop_assert_eq!(space.check(&study.peek(&Params::new()).unwrap()), Ok(()));
    }
}

#[test]
fn when_everything_was_tried_tpe_repeats_the_best() {
    let space = SearchSpace::from_json(r#"{"a":[1,2,3,4],"b":["x","y","z"]}"#).unwrap();
    let mut study = Study::new(&space, SamplerConfig::Tpe, 3);
    for _ in 0..12 {
        study.ask(&Params::new()).unwrap();
        study.tell(0, |params| {
            complete((params["a"].as_f64().unwrap() - 3.0).abs() + f64::from(params["b"].as_str() != Some("y")))
        });
    }
    assert_eq!(params_line(&study.peek(&Params::new()).unwrap()), "a=3 b=y");
    let fixed = Params::from([("a".to_owned(), Value::Int(1))]);
    assert_eq!(params_line(&study.peek(&fixed).unwrap()), "a=1 b=y");
}

#[test]
fn a_millionth_of_the_space_is_found() {
    let range = || Distribution::Int(IntRange::new(0, 99, 1, false).unwrap());
    let clauses = ["a != 17", "b != 18", "c != 19"];
    let builder = SearchSpace::builder().parameter("a", range(), None).parameter("b", range(), None);
    let builder = builder.parameter("c", range(), None).parameter("d", range(), None);
    let space = clauses.iter().fold(builder, |builder, clause| builder.forbid(clause, "")).build().unwrap();
    for name in SamplerConfig::NAMES {
        let sampler = SamplerConfig::from_name(name).unwrap();
        let study = run(&space, sampler, 1, 20);
        for event in &study.events {
            let Event::Ended(ended) = event else { continue };
            assert_eq!(space.check(&ended.params), Ok(()));
        }
    }
}

#[test]
fn hopeless_histories_are_no_trouble() {
    let space = SearchSpace::from_toml(
        "[parameters]\nx = { type = 'float', low = 1e-9, high = 1e3, log = true }\nn = { type = 'int', low = 9007199254740900, high = 9007199254740992 }\nk = { choices = ['a', 'b'] }",
    )
    .unwrap();
    let optunas = SamplerConfig::TpeOptuna5(TpeOptuna5Config::default());
    let samplers = [SamplerConfig::Tpe, optunas, SamplerConfig::CmaEs, SamplerConfig::NsgaIi];
    for (sampler, kind) in samplers.iter().flat_map(|sampler| (0..5).map(move |kind| (sampler, kind))) {
        let mut study = Study::new(&space, sampler.clone(), kind);
        for _ in 0..70 {
            let trial = study.ask(&Params::new()).unwrap();
            space.check(&trial.params).unwrap();
            study.tell(0, |_| match kind {
                0 => complete(1.0),
                1 => complete(f64::INFINITY),
                2 => Outcome::Failed { kind: FailKind::Oom },
                3 => Outcome::Complete { values: vec![1.0], constraints: vec![1.0] },
                _ => Outcome::Complete { values: vec![], constraints: vec![] },
            });
        }
    }
}

#[test]
fn foreign_parameters_are_ignored() {
    let space = SearchSpace::from_json(r#"{"a":[1,2,3,4],"b":["x","y","z"]}"#).unwrap();
    let optunas = SamplerConfig::TpeOptuna5(TpeOptuna5Config::default());
    for sampler in [SamplerConfig::Tpe, optunas, SamplerConfig::CmaEs, SamplerConfig::NsgaIi] {
        let mut study = Study::new(&space, sampler, 3);
        for index in 0..60 {
            study.ask(&Params::new()).unwrap();
            study.running[0].params.insert("zz".to_owned(), Value::Int(index));
            study.running[0].params.insert("b".to_owned(), Value::Int(index));
            study.tell(0, |_| complete(index as f64));
        }
        space.check(&study.peek(&Params::new()).unwrap()).unwrap();
    }
}

#[test]
fn exhaustive_samplers_refuse_what_has_no_end() {
    let space = SearchSpace::from_toml("[parameters]\nx = { type = 'float', low = 0, high = 1 }").unwrap();
    let error = build(&common::config(&space, SamplerConfig::Grid, 0)).err().unwrap();
    assert_eq!(error.to_string(), "sampler `grid` needs finitely many values, but parameter `x` is continuous");
    assert_eq!(error.hint().unwrap(), "give `x` a `step`, or use `--sampler tpe`");
    let space = SearchSpace::from_toml("[parameters]\nx = { type = 'int', low = 0, high = 1000000 }").unwrap();
    let error = build(&common::config(&space, SamplerConfig::BruteForce, 0)).err().unwrap();
    let message = "sampler `brute-force` would never come to the end of the 1000001 values of parameter `x`";
    assert_eq!(error.to_string(), message);
    assert_eq!(error.hint().unwrap(), "give `x` a larger `step`, or use `--sampler tpe`");
}
