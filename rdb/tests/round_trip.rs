//! What is written is read again, whatever it is.

use std::collections::BTreeMap;

use fleetune_core::{Direction, Timestamp, TrialState};
use fleetune_rdb::{Param, RdbError, Reader, Study, Trial, Writer};
use proptest::prelude::*;

/// Numbers that SQLite keeps: it has one zero and no NaN.
fn kept() -> impl Strategy<Value = f64> {
    any::<f64>().prop_map(|value| if value.is_nan() || value == 0.0 { 0.0 } else { value })
}

fn step_value() -> impl Strategy<Value = f64> {
    prop_oneof![9 => kept(), 1 => Just(f64::NAN)]
}

fn text() -> impl Strategy<Value = String> {
    // SQLite takes a zero byte, Optuna writes it escaped.
    any::<String>().prop_map(|text| text.replace('\0', ""))
}

fn time() -> impl Strategy<Value = Option<Timestamp>> {
    proptest::option::of((-62_135_596_800_000_000_i64..253_402_300_800_000_000).prop_map(Timestamp))
}

prop_compose! {
    fn trial()(
        state in proptest::sample::select(TrialState::ALL.to_vec()),
        values in proptest::option::of(proptest::collection::vec(kept(), 2)),
        started_at in time(),
        ended_at in time(),
        params in proptest::collection::btree_map(text(), (kept(), text()), 0..4),
        steps in proptest::collection::btree_map(0..i64::from(u32::MAX), step_value(), 0..4),
        user_attributes in proptest::collection::btree_map(text(), text(), 0..3),
        system_attributes in proptest::collection::btree_map(text(), text(), 0..3),
    ) -> Trial {
        let param = |(name, (internal, distribution))| (name, Param { internal, distribution });
        let params = params.into_iter().map(param).collect();
        let values = values.unwrap_or_default();
        Trial { number: 0, state, values, started_at, ended_at, params, steps, user_attributes, system_attributes }
    }
}

fn study(name: &str) -> Study {
    Study {
        id: 0,
        name: name.to_owned(),
        directions: vec![Direction::Minimize, Direction::Maximize],
        user_attributes: BTreeMap::from([("a".to_owned(), "[NaN]".to_owned())]),
        system_attributes: BTreeMap::from([("b".to_owned(), "{}".to_owned())]),
        counts: BTreeMap::new(),
    }
}

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// The trials of `studies`, written into a file of their own and read again.
async fn through_a_file(studies: &[Vec<Trial>]) -> Vec<Vec<Trial>> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("optuna.db");
    let mut writer = Writer::create(&file).await.unwrap();
    for (index, trials) in studies.iter().enumerate() {
        let id = writer.study(&study(&index.to_string())).await.unwrap();
        for trial in trials {
            writer.trial(id, trial).await.unwrap();
        }
    }
    writer.finish().await.unwrap();
    let mut reader = Reader::open(&file.display().to_string()).await.unwrap();
    let mut read = Vec::new();
    for (index, found) in reader.studies().await.unwrap().iter().enumerate() {
        let written = study(&index.to_string());
        assert_eq!((&found.name, &found.directions), (&written.name, &written.directions));
        assert_eq!(found.user_attributes, written.user_attributes);
        assert_eq!(found.system_attributes, written.system_attributes);
        let (mut trials, mut cursor) = (Vec::new(), Reader::trials(found));
        loop {
            let page = reader.page(&mut cursor).await.unwrap();
            if page.is_empty() {
                break;
            }
            trials.extend(page);
        }
        assert_eq!(trials.len() as u64, found.trials());
        read.push(trials);
    }
    reader.close().await;
    read
}

/// With what `==` says of NaN left aside.
fn in_words(studies: &[Vec<Trial>]) -> String {
    format!("{studies:?}")
}

fn numbered(mut trials: Vec<Trial>) -> Vec<Trial> {
    for (number, trial) in (0..).zip(&mut trials) {
        trial.number = number;
    }
    trials
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn what_is_written_is_read(studies in proptest::collection::vec(proptest::collection::vec(trial(), 0..6), 1..3)) {
        let studies: Vec<_> = studies.into_iter().map(numbered).collect();
        let read = run(through_a_file(&studies));
        prop_assert_eq!(in_words(&read), in_words(&studies));
    }
}

fn plain(attribute: String) -> Trial {
    Trial {
        number: 0,
        state: TrialState::Complete,
        values: vec![1.0, 2.0],
        started_at: None,
        ended_at: None,
        params: BTreeMap::new(),
        steps: BTreeMap::new(),
        user_attributes: BTreeMap::from([("a".to_owned(), attribute)]),
        system_attributes: BTreeMap::new(),
    }
}

#[test]
fn many_trials_and_large_ones_are_read_in_pages() {
    let large = |index: usize| if index.is_multiple_of(7) { "x".repeat(3 << 20) } else { String::new() };
    let trials =
        numbered((0..1_100).map(|index| plain(if index < 40 { large(index) } else { String::new() })).collect());
    // Another study's ids lie between.
    let read = run(through_a_file(&[trials.clone(), numbered(vec![plain(large(0)); 4])]));
    assert!(read[0] == trials && read[1].len() == 4);
}

#[test]
fn a_file_is_whole_or_not_there() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("optuna.db");
        let mut writer = Writer::create(&file).await.unwrap();
        let id = writer.study(&study("s")).await.unwrap();
        writer.trial(id, &plain(String::new())).await.unwrap();
        let odd = Trial { values: vec![f64::NAN, 1.0], ..plain(String::new()) };
        assert!(matches!(writer.trial(id, &odd).await, Err(RdbError::NoForm { number: 0, .. })));
        assert!(matches!(Writer::create(&file).await, Err(RdbError::Exists(_))), "somebody writes it");
        drop(writer);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "half a file is left");
        Writer::create(&file).await.unwrap().finish().await.unwrap();
        assert!(matches!(Writer::create(&file).await, Err(RdbError::Exists(_))));
    });
}
