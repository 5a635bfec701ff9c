//! What clients write that sample themselves.

use std::collections::BTreeSet;
use std::sync::Arc;

use fleetune_coordinator::storage::{
    AttributeKind, FAIL_REASON, HeldTrial, Meaning, NewTrial, Param, Store, StoreError, WholeTrial,
};
use fleetune_core::{Distribution, FailKind, Params, StudyId, TrialId, TrialNumber, TrialState};

use super::harness::{Db, at, start_at, unit, worker};

fn param(internal: f64, text: &str) -> Param {
    Param { distribution: Arc::new(Distribution::from_optuna_json(text).unwrap()), internal }
}

fn categorical(choices: &str) -> String {
    format!(r#"{{"name":"CategoricalDistribution","attributes":{{"choices":{choices}}}}}"#)
}

fn system(key: &str, value: &str) -> (AttributeKind, String, String) {
    (AttributeKind::System, key.to_owned(), value.to_owned())
}

async fn whole(db: &Db, id: TrialId) -> WholeTrial {
    db.store.whole_trials(&[id.0]).await.unwrap().remove(0)
}

async fn running(db: &Db, study: StudyId, seconds: i64) -> TrialId {
    db.store.add_trial(study, NewTrial::running(at(seconds)), at(seconds)).await.unwrap().id
}

pub async fn a_client_writes_its_trial_fact_by_fact(db: Db) {
    let study = db.study("a").await.id;
    let id = running(&db, study, 1).await;
    assert_eq!(db.store.place_of(id).await.unwrap().0, study);
    let odd = f64::from_bits(0x7ff0_0000_dead_beef);
    let choices = categorical("[NaN, null, true, 1, 1]");
    db.store.set_parameter(study, id, "ü\0".to_owned(), param(4.0, &choices)).await.unwrap();
    db.store.set_parameter(study, id, "x".to_owned(), Param { distribution: unit(), internal: odd }).await.unwrap();
    for value in [1.0, odd] {
        db.store.set_step(study, id, 7, value).await.unwrap();
    }
    for value in ["1", "NaN\0"] {
        db.store.set_own_attribute(study, id, system("k", value), Meaning::None).await.unwrap();
    }
    for (key, value) in [("constraints:b", "2.0"), ("constraints", "[-1.0]"), ("constraints:a", "0.5")] {
        db.store.set_own_attribute(study, id, system(key, value), Meaning::Constraints).await.unwrap();
    }
    let before = whole(&db, id).await.record.revision;
    let (did, _) = db.store.set_state(study, id, TrialState::Complete, vec![odd, -0.0], at(3)).await.unwrap();
    assert!(did);

    let WholeTrial { record, attributes } = whole(&db, id).await;
    assert_eq!(record.params["ü\0"].internal.to_bits(), 4.0_f64.to_bits());
    assert_eq!(record.params["ü\0"].distribution.to_optuna_json(), choices.replace(' ', ""));
    assert_eq!(record.params["x"].internal.to_bits(), odd.to_bits());
    assert_eq!(record.steps.iter().map(|step| (step.0, step.1.to_bits())).collect::<Vec<_>>(), [(7, odd.to_bits())]);
    assert_eq!(
        record.values.iter().map(|value| value.to_bits()).collect::<Vec<_>>(),
        [odd.to_bits(), (-0.0_f64).to_bits()]
    );
    assert_eq!(record.constraints, [-1.0, 0.5, 2.0]);
    assert!(attributes.contains(&system("k", "NaN\0")), "{attributes:?}");
    assert_eq!((record.started_at, record.ended_at, record.seconds), (Some(at(1)), Some(at(3)), 2.0));
    assert!(record.revision > before && record.ended_revision == Some(record.revision));
    assert_eq!(db.store.trials_since(study, before, 10).await.unwrap().len(), 1);
}

pub async fn a_trial_is_brought_whole(db: Db) {
    let study = db.study("a").await.id;
    for state in TrialState::ALL {
        for (started_at, ended_at) in
            [(None, None), (Some(at(5)), None), (Some(at(5)), Some(at(9))), (None, Some(at(9)))]
        {
            let new = NewTrial {
                state,
                values: vec![1.5, f64::INFINITY],
                constraints: vec![0.25],
                started_at,
                ended_at,
                fixed: Params::from([("x".to_owned(), 0.5.into())]),
                params: [("x".to_owned(), Param { distribution: unit(), internal: 0.5 })].into(),
                steps: vec![(0, 3.0), (2, f64::NEG_INFINITY)],
                attributes: vec![system("s", "[]"), (AttributeKind::User, "u".to_owned(), "1".to_owned())],
            };
            let added = db.store.add_trial(study, new.clone(), at(20)).await.unwrap();
            let WholeTrial { record, attributes } = whole(&db, added.id).await;
            assert_eq!(record, added);
            assert_eq!((record.state, record.started_at, record.ended_at), (state, started_at, ended_at), "{state}");
            assert_eq!(
                (&record.values, &record.constraints, &record.steps),
                (&new.values, &new.constraints, &new.steps)
            );
            assert_eq!((&record.fixed, &record.params), (&new.fixed, &new.params));
            assert_eq!(attributes.len(), 2);
            assert_eq!(record.turn.is_none(), state == TrialState::Waiting);
            let kind = record.fail.map(|(kind, _)| kind);
            assert_eq!(kind, (state == TrialState::Fail).then_some(FailKind::Error));
        }
    }
    let numbers: Vec<_> = db.store.trials_since(study, fleetune_core::Revision(0), 100).await.unwrap();
    assert_eq!(numbers.iter().map(|trial| trial.number.0).collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
}

pub async fn many_trials_are_brought_at_once_or_not_at_all(db: Db) {
    let study = db.study("a").await.id;
    let new = |internal: f64, text: &str| NewTrial {
        state: TrialState::Complete,
        values: vec![internal],
        params: [("x".to_owned(), param(internal, text))].into(),
        steps: vec![(0, internal)],
        attributes: vec![system("k", &internal.to_string())],
        ..NewTrial::running(at(1))
    };
    let float = unit().to_optuna_json();
    let trials = |numbers: std::ops::Range<i64>| numbers.map(|number| new(number as f64, &float)).collect::<Vec<_>>();
    let add = async |first: i64, new: Vec<NewTrial>| {
        db.store.add_trials(study, TrialNumber(first), new, at(2)).await.map(|next| next.0)
    };
    assert_eq!(add(0, trials(0..5)).await.unwrap(), 5);
    // A repeat, and one that goes further.
    assert_eq!(add(0, trials(0..5)).await.unwrap(), 5);
    assert_eq!(add(3, trials(3..8)).await.unwrap(), 8);
    assert_eq!(add(8, Vec::new()).await.unwrap(), 8);
    assert!(matches!(add(9, trials(9..10)).await, Err(StoreError::TrialNotFound { number: TrialNumber(8), .. })));
    // The second of them does not fit to the first.
    let odd = vec![new(8.0, &float), new(0.0, &categorical("[1]"))];
    assert!(matches!(add(8, odd).await, Err(StoreError::Incompatible { .. })));
    let both = |text: &str| NewTrial { params: [("y".to_owned(), param(0.0, text))].into(), ..new(8.0, &float) };
    let odd = vec![both(&float), both(&categorical("[1]"))];
    assert!(matches!(add(8, odd).await, Err(StoreError::Incompatible { .. })));
    assert_eq!(add(8, vec![both(&categorical("[1]"))]).await.unwrap(), 9);

    let marks = db.store.marks(study, TrialId(0), &[]).await.unwrap();
    let ids: Vec<_> = marks.iter().map(|mark| mark.id.0).collect();
    for (number, whole) in (0..).zip(db.store.whole_trials(&ids).await.unwrap()) {
        let value = number as f64;
        assert_eq!((whole.record.number, &whole.record.values), (TrialNumber(number), &vec![value]));
        assert_eq!(whole.record.steps, [(0, value)]);
        assert_eq!(whole.attributes, [system("k", &value.to_string())]);
    }
    assert_eq!(ids.len(), 9);
}

pub async fn a_study_gets_a_name_that_is_free(db: Db) {
    let (study, other) = (db.study("not whole").await.id, db.study("other").await.id);
    let name = async |name: &str| db.store.name_study(study, name.to_owned()).await;
    assert!(matches!(name("other").await, Err(StoreError::NameTaken(taken)) if taken == "other"));
    for _ in 0..2 {
        name("whole").await.unwrap();
    }
    assert_eq!(db.store.study_by_name("whole").await.unwrap().id, study);
    assert!(matches!(db.store.study_by_name("not whole").await, Err(StoreError::StudyNotFound(_))));
    assert_eq!(db.store.study(other).await.unwrap().name, "other");
    let missing = db.store.name_study(StudyId(77), "x".to_owned()).await;
    assert!(matches!(missing, Err(StoreError::StudyNotFound(_))));
}

pub async fn marks_are_those_above_an_id_and_those_named(db: Db) {
    let (study, other) = (db.study("a").await.id, db.study("b").await.id);
    let mut ids = Vec::new();
    for second in 0..6 {
        ids.push(running(&db, study, second).await.0);
        running(&db, other, second).await;
    }
    db.store.set_state(study, TrialId(ids[5]), TrialState::Fail, vec![], at(9)).await.unwrap();
    let foreign = ids[0] + 1;
    let marks = db.store.marks(study, TrialId(ids[3]), &[ids[1], ids[4], foreign, 99_999]).await.unwrap();
    let found: Vec<_> = marks.iter().map(|mark| (mark.id.0, mark.ended)).collect();
    assert_eq!(found, [(ids[1], false), (ids[4], false), (ids[5], true)]);
    assert_eq!(marks[2].revision, whole(&db, TrialId(ids[5])).await.record.revision);
    assert!(db.store.marks(study, TrialId(i64::MAX), &[]).await.unwrap().is_empty());
    assert!(matches!(db.store.marks(StudyId(77), TrialId(0), &[]).await, Err(StoreError::StudyNotFound(_))));
}

pub async fn a_queue_entry_goes_to_one_client(db: Db) {
    let study = db.study("a").await.id;
    let entry = NewTrial { state: TrialState::Waiting, started_at: None, ..NewTrial::running(at(0)) };
    let id = db.store.add_trial(study, entry, at(0)).await.unwrap().id;
    let second = db.second().await;
    let mut takers = tokio::task::JoinSet::new();
    for index in 0..16 {
        let store = if index % 2 == 0 { db.store.clone() } else { second.clone() };
        takers.spawn(async move { store.set_state(study, id, TrialState::Running, vec![], at(1)).await.unwrap().0 });
    }
    let taken = takers.join_all().await.into_iter().filter(|taken| *taken).count();
    assert_eq!(taken, 1);
    let record = whole(&db, id).await.record;
    assert_eq!((record.state, record.started_at), (TrialState::Running, Some(at(1))));
}

pub async fn a_held_trial_may_go_back_into_the_queue(db: Db) {
    let study = db.study("a").await;
    let id = running(&db, study.id, 1).await;
    assert!(db.store.set_state(study.id, id, TrialState::Waiting, vec![], at(2)).await.unwrap().0);
    let record = whole(&db, id).await.record;
    assert_eq!((record.state, record.turn, record.started_at), (TrialState::Waiting, None, Some(at(1))));
    assert!(db.store.set_state(study.id, id, TrialState::Running, vec![], at(3)).await.unwrap().0);
    assert_eq!(whole(&db, id).await.record.started_at, Some(at(3)));
}

pub async fn an_incompatible_parameter_leaves_nothing(db: Db) {
    let study = db.study("a").await;
    let first = running(&db, study.id, 1).await;
    let set = async |id, text: &str| db.store.set_parameter(study.id, id, "x".to_owned(), param(0.0, text)).await;
    set(first, &categorical("[1, 2]")).await.unwrap();
    let second = running(&db, study.id, 2).await;
    set(second, &categorical("[1.0, 2]")).await.unwrap();
    let third = running(&db, study.id, 3).await;
    let revision = db.reread(&study).await.revision;
    let error = set(third, &categorical("[2, 1]")).await.unwrap_err();
    assert!(matches!(error, StoreError::Incompatible { .. }), "{error}");
    let params = [("x".to_owned(), Param { distribution: unit(), internal: 0.0 })].into();
    let whole_trial = NewTrial { params, ..NewTrial::running(at(4)) };
    let error = db.store.add_trial(study.id, whole_trial, at(4)).await.unwrap_err();
    assert!(matches!(error, StoreError::Incompatible { .. }), "{error}");
    let now = db.reread(&study).await;
    assert_eq!((now.revision, now.next_number.0), (revision, 3));
    // Other studies know nothing of it.
    let other = db.study("b").await.id;
    let id = running(&db, other, 5).await;
    db.store.set_parameter(other, id, "x".to_owned(), Param { distribution: unit(), internal: 0.0 }).await.unwrap();
}

pub async fn ended_and_leased_trials_refuse_clients(db: Db) {
    let study = db.study("a").await;
    let ended = running(&db, study.id, 1).await;
    db.store.set_state(study.id, ended, TrialState::Pruned, vec![], at(2)).await.unwrap();
    let mut start = start_at(study.id, db.reread(&study).await.next_turn, &[fleetune_core::TrialNumber(1)]);
    start.lease = Some((worker("w"), super::harness::TTL));
    let leased = db.store.start(start, at(3)).await.unwrap().remove(0).trial.id;
    for id in [ended, leased] {
        let before = whole(&db, id).await;
        let store = &db.store;
        let x = || Param { distribution: unit(), internal: 0.0 };
        let mut refusals = vec![
            store.set_parameter(study.id, id, "x".to_owned(), x()).await.unwrap_err(),
            store.set_step(study.id, id, 0, 1.0).await.unwrap_err(),
            store.set_state(study.id, id, TrialState::Complete, vec![], at(4)).await.unwrap_err(),
            store.set_state(study.id, id, TrialState::Waiting, vec![], at(4)).await.unwrap_err(),
            store.set_own_attribute(study.id, id, system("constraints", "[]"), Meaning::Constraints).await.unwrap_err(),
        ];
        let plain = store.set_own_attribute(study.id, id, system("k", "1"), Meaning::None).await;
        if id == ended {
            refusals.push(plain.unwrap_err());
            refusals.push(store.set_state(study.id, id, TrialState::Running, vec![], at(4)).await.unwrap_err());
            assert!(refusals.iter().all(|why| matches!(why, StoreError::WrongTrialState { .. })), "{refusals:?}");
            assert_eq!(whole(&db, id).await, before);
        } else {
            plain.unwrap();
            assert!(!store.set_state(study.id, id, TrialState::Running, vec![], at(4)).await.unwrap().0);
            assert!(refusals.iter().all(|why| matches!(why, StoreError::TrialLeased { .. })), "{refusals:?}");
        }
    }
    assert!(matches!(db.store.place_of(TrialId(999)).await, Err(StoreError::NoTrialOfId(_))));
}

pub async fn a_silent_trial_is_failed_unless_it_was_written_to(db: Db) {
    let study = db.study("a").await;
    let (one, other) = (running(&db, study.id, 1).await, running(&db, study.id, 1).await);
    // Those are somebody else's: asked for, leased, waiting, ended.
    db.start(&study, None, 2).await;
    db.leased(&study, "w", 2).await;
    let waiting = running(&db, study.id, 1).await;
    db.store.set_state(study.id, waiting, TrialState::Waiting, vec![], at(2)).await.unwrap();
    let ended = running(&db, study.id, 1).await;
    db.store.set_state(study.id, ended, TrialState::Complete, vec![0.0], at(2)).await.unwrap();
    let held = db.store.held_trials(TrialId(0), 10).await.unwrap();
    assert_eq!(held.iter().map(|held| held.id).collect::<Vec<_>>(), [one, other]);
    assert_eq!(db.store.held_trials(one, 10).await.unwrap(), held[1..]);
    assert_eq!(db.store.held_trials(TrialId(0), 1).await.unwrap(), held[..1]);

    // A sign of life counts as a write, but is none for a trial that is not held.
    let before = whole(&db, waiting).await;
    db.store.show_life(study.id, vec![other, waiting, ended, TrialId(1 << 40)]).await.unwrap();
    assert_eq!(whole(&db, waiting).await, before);
    let fail = |held: HeldTrial| db.store.fail_silent(held, "it \"left\"".to_owned(), at(9));
    assert_eq!(fail(held[1]).await.unwrap(), None);
    let (number, may_be_over) = fail(held[0]).await.unwrap().unwrap();
    assert_eq!(fail(held[0]).await.unwrap(), None);
    let WholeTrial { record, attributes } = whole(&db, one).await;
    assert_eq!((record.number, record.state, record.ended_at), (number, TrialState::Fail, Some(at(9))));
    assert_eq!(record.fail, Some((FailKind::Error, "it \"left\"".to_owned())));
    assert!(attributes.contains(&system(FAIL_REASON, r#""it \"left\"""#)), "{attributes:?}");
    assert_eq!(may_be_over, study.config.budget != fleetune_core::study::Budget::default());
    let revision = whole(&db, other).await.record.revision;
    assert_eq!(db.store.held_trials(TrialId(0), 10).await.unwrap(), [HeldTrial { revision, ..held[1] }]);
    // Of a study that is gone nothing is left.
    db.store.delete_study(study.id).await.unwrap();
    assert_eq!(fail(HeldTrial { revision, ..held[1] }).await.unwrap(), None);
    db.store.show_life(study.id, vec![other]).await.unwrap();
}

/// What a client does with trials of one study over one store; how many there were.
async fn drive(store: Store, study: StudyId, name: &str) -> usize {
    const TRIALS: usize = 12;
    for index in 0..TRIALS as i64 {
        let id = store.add_trial(study, NewTrial::running(at(index)), at(index)).await.unwrap().id;
        let x = Param { distribution: unit(), internal: index as f64 / 16.0 };
        store.set_parameter(study, id, "x".to_owned(), x).await.unwrap();
        // One that every client has narrowed for itself.
        let own = unit().to_optuna_json().replace("1.0", &format!("{}.5", index + name.len() as i64));
        store.set_parameter(study, id, "y".to_owned(), param(0.25, &own)).await.unwrap();
        for step in 0..3 {
            store.set_step(study, id, step % 2, f64::from(step)).await.unwrap();
        }
        store.set_own_attribute(study, id, system("constraints:a", "1.5"), Meaning::Constraints).await.unwrap();
        for value in ["\"first\"", "\"second\""] {
            let note = (AttributeKind::User, "note".to_owned(), value.to_owned());
            store.set_own_attribute(study, id, note, Meaning::None).await.unwrap();
        }
        let mark = store.mark(study, id).await.unwrap();
        let kept = store.remembered(study, &[id]);
        let stored = store.whole_trials(&[id.0]).await.unwrap().remove(0);
        assert_eq!((mark.revision, mark.ended), (stored.record.revision, false));
        for kept in kept {
            let sorted = |whole: &WholeTrial| {
                let mut attributes = whole.attributes.clone();
                attributes.sort();
                attributes
            };
            assert_eq!((&kept.record, sorted(&kept)), (&stored.record, sorted(&stored)));
        }
        if index % 4 == 3 {
            // It goes back into the queue, and somebody gets it.
            assert!(store.set_state(study, id, TrialState::Waiting, vec![], at(30)).await.unwrap().0);
            assert!(store.set_state(study, id, TrialState::Running, vec![], at(31)).await.unwrap().0);
            assert!(!store.set_state(study, id, TrialState::Running, vec![], at(32)).await.unwrap().0);
        }
        assert!(store.set_state(study, id, TrialState::Complete, vec![index as f64], at(40)).await.unwrap().0);
        let late = store.set_step(study, id, 9, 0.0).await;
        assert!(matches!(late, Err(StoreError::WrongTrialState { .. })), "{late:?}");
    }
    TRIALS
}

pub async fn clients_of_several_processes_write_to_one_study(db: Db) {
    let study = db.study("a").await.id;
    let mut clients = tokio::task::JoinSet::new();
    for (store, name) in [(db.store.clone(), "a"), (db.store.clone(), "ab"), (db.second().await, "abc")] {
        clients.spawn(drive(store, study, name));
    }
    let count: usize = clients.join_all().await.into_iter().sum();
    let marks = db.store.marks(study, TrialId(0), &[]).await.unwrap();
    let ids: Vec<i64> = marks.iter().map(|mark| mark.id.0).collect();
    let whole = db.store.whole_trials(&ids).await.unwrap();
    assert_eq!(
        whole.iter().map(|trial| trial.record.number.0).collect::<Vec<_>>(),
        (0..count as i64).collect::<Vec<_>>()
    );
    for (mark, WholeTrial { record, attributes }) in marks.iter().zip(&whole) {
        assert_eq!((mark.revision, mark.ended), (record.revision, true));
        assert_eq!(record.params.keys().collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!((record.steps.as_slice(), record.constraints.as_slice()), (&[(0, 2.0), (1, 1.0)][..], &[1.5][..]));
        assert_eq!(attributes.len(), 2);
        assert!(attributes.contains(&(AttributeKind::User, "note".to_owned(), "\"second\"".to_owned())));
    }
    let revisions: BTreeSet<_> = whole.iter().map(|trial| trial.record.revision).collect();
    let turns: BTreeSet<_> = whole.iter().map(|trial| trial.record.turn.unwrap()).collect();
    assert_eq!((revisions.len(), turns.len()), (count, count));
    assert!(db.store.study(study).await.unwrap().revision >= *revisions.last().unwrap());
    let odd = param(0.0, &categorical("[1]"));
    let id = running(&db, study, 50).await;
    let refused = db.store.set_parameter(study, id, "x".to_owned(), odd).await;
    assert!(matches!(refused, Err(StoreError::Incompatible { .. })), "{refused:?}");
}

pub async fn a_trial_with_many_steps_is_written_on(db: Db) {
    let study = db.study("a").await.id;
    let mut new = NewTrial::running(at(0));
    new.steps = (0..5_000).map(|step| (step, 1.0)).collect();
    let id = db.store.add_trial(study, new, at(0)).await.unwrap().id;
    for (step, value) in [(5_000, 2.0), (0, 3.0)] {
        db.store.set_step(study, id, step, value).await.unwrap();
    }
    db.store.set_parameter(study, id, "x".to_owned(), Param { distribution: unit(), internal: 0.5 }).await.unwrap();
    assert!(db.store.set_state(study, id, TrialState::Complete, vec![1.0], at(3)).await.unwrap().0);
    let stored = whole(&db, id).await.record;
    assert_eq!((stored.steps.len(), stored.steps[0].1, stored.steps[5_000].1), (5_001, 3.0, 2.0));
    assert_eq!(db.store.mark(study, id).await.unwrap().revision, stored.revision);
}

pub async fn a_study_that_is_gone_takes_no_facts(db: Db) {
    let study = db.study("a").await.id;
    let id = running(&db, study, 0).await;
    db.store.mark(study, id).await.unwrap();
    db.second().await.delete_study(study).await.unwrap();
    let added = db.store.add_trial(study, NewTrial::running(at(1)), at(1)).await;
    assert!(matches!(added, Err(StoreError::StudyNotFound(_))), "{added:?}");
    let ended = db.store.set_state(study, id, TrialState::Fail, vec![], at(1)).await;
    assert!(matches!(ended, Err(StoreError::NoTrialOfId(gone)) if gone == id), "{ended:?}");
    assert!(matches!(db.store.mark(study, id).await, Err(StoreError::NoTrialOfId(gone)) if gone == id));
}
