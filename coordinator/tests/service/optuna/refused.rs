//! What is refused by its content: nothing of it may be left, for another client could not read the study any more.

use std::collections::BTreeMap;

use fleetune_proto::optuna as wire;
use fleetune_proto::optuna::TrialState::Complete;
use tonic::Code;

use super::{ABC, UNIT, code, server};

fn text(name: &str, attributes: &str) -> String {
    format!(r#"{{"name": "{name}Distribution", "attributes": {{{attributes}}}}}"#)
}

fn float(attributes: &str) -> String {
    text("Float", attributes)
}

fn int(attributes: &str) -> String {
    text("Int", attributes)
}

fn choices(choices: &str) -> String {
    text("Categorical", &format!(r#""choices": [{choices}]"#))
}

#[tokio::test]
async fn a_parameter_keeps_its_kind_scale_and_choices_and_nothing_else() {
    let (_folder, mut server) = server().await;
    let study = server.new_study("a", &[0]).await.unwrap();
    let other = server.new_study("b", &[0]).await.unwrap();
    let known = [
        float(r#""step": null, "low": 1.0, "high": 2.0, "log": false"#),
        float(r#""step": null, "low": 1.0, "high": 2.0, "log": true"#),
        int(r#""log": false, "step": 1, "low": 1, "high": 2"#),
        int(r#""log": true, "step": 1, "low": 1, "high": 2"#),
        choices(r#"1, true, "a", NaN, null"#),
        choices(r#"1, true, "a", NaN"#),
        choices(r#""a", 1, true, NaN, null"#),
    ];
    // The same to Python, each in its place.
    let alike = [
        vec![
            float(r#""step": 0.5, "low": -7.0, "high": 9.0, "log": false"#),
            text("Uniform", r#""low": 3.0, "high": 4.0"#),
            text("DiscreteUniform", r#""low": 0.0, "high": 4.0, "q": 0.5"#),
            r#"{"type": "float", "low": 0.0, "high": 1.0}"#.to_owned(),
        ],
        vec![text("LogUniform", r#""low": 3.0, "high": 4.0"#)],
        vec![
            text("IntUniform", r#""low": 3, "high": 4, "step": 1"#),
            r#"{"type": "int", "low": 0, "high": 9}"#.to_owned(),
        ],
        vec![text("IntLogUniform", r#""low": 3, "high": 4"#)],
        vec![choices(r#"true, 1.0, "a", NaN, null"#)],
        Vec::new(),
        Vec::new(),
    ];
    let first = server.new_trial(study, None).await.unwrap();
    for (index, distribution) in known.iter().enumerate() {
        server.set_param(first, &format!("p{index}"), 1.0, distribution).await.unwrap();
    }
    for (index, alike) in alike.iter().enumerate() {
        let name = format!("p{index}");
        for (other, distribution) in known.iter().enumerate() {
            let trial = server.new_trial(study, None).await.unwrap();
            let answer = server.set_param(trial, &name, 1.0, distribution).await;
            if other == index {
                answer.unwrap();
            } else {
                assert_eq!(code(answer), Code::InvalidArgument, "{name}: {distribution}");
                assert_eq!(server.optuna_trial(trial).await.unwrap().params, BTreeMap::new());
            }
        }
        for distribution in alike {
            let trial = server.new_trial(study, None).await.unwrap();
            server
                .set_param(trial, &name, 1.0, distribution)
                .await
                .unwrap_or_else(|why| panic!("{distribution}: {why}"));
        }
        // Of another study nothing is known.
        let elsewhere = server.new_trial(other, None).await.unwrap();
        server.set_param(elsewhere, &name, 1.0, &known[(index + 1) % known.len()]).await.unwrap();
    }
}

#[tokio::test]
async fn what_was_refused_leaves_no_word_of_itself() {
    let (_folder, mut server) = server().await;
    let study = server.new_study("a", &[0]).await.unwrap();
    let id = server.new_trial(study, None).await.unwrap();
    assert_eq!(code(server.set_param(id, "first", 3.0, ABC).await), Code::InvalidArgument);
    let template = wire::Trial {
        state: Complete.into(),
        params: [("second".to_owned(), 1.0), ("third".to_owned(), 3.0)].into(),
        distributions: [("second".to_owned(), ABC.to_owned()), ("third".to_owned(), ABC.to_owned())].into(),
        ..wire::Trial::default()
    };
    assert_eq!(code(server.new_trial(study, Some(template)).await), Code::InvalidArgument);
    // Else the study would know them as something else.
    for name in ["first", "second", "third"] {
        server.set_param(id, name, 0.5, UNIT).await.unwrap();
    }
    let bad = wire::SetStudyUserAttributeRequest { study_id: study, key: "k".to_owned(), value: "{".to_owned() };
    assert_eq!(code(server.optuna.set_study_user_attribute(bad).await), Code::InvalidArgument);
    assert_eq!(code(server.set_user(id, "k", "{").await), Code::InvalidArgument);
    let request = wire::GetStudyUserAttributesRequest { study_id: study };
    assert!(server.optuna.get_study_user_attributes(request).await.unwrap().into_inner().user_attributes.is_empty());
    let trials = server.optuna_trials(study, -1, &[]).await.unwrap();
    assert_eq!(trials.iter().map(|trial| (trial.number, trial.params.len())).collect::<Vec<_>>(), [(0, 3)]);
    assert!(trials[0].user_attributes.is_empty());
}

#[tokio::test]
async fn a_template_is_checked_like_a_parameter() {
    let (_folder, mut server) = server().await;
    let study = server.new_study("a", &[0]).await.unwrap();
    let int = int(r#""log": false, "step": 1, "low": 0, "high": 5"#);
    for (internal, distribution) in [
        (3.0, ABC),
        (-1.0, ABC),
        (0.5, ABC),
        (f64::NAN, ABC),
        (f64::NAN, &int),
        (f64::INFINITY, &int),
        (0.5, &UNIT.replace("1.0", "-1.0")),
        (0.5, &UNIT.replace("Float", "Wide")),
    ] {
        let template = wire::Trial {
            state: Complete.into(),
            params: [("x".to_owned(), internal)].into(),
            distributions: [("x".to_owned(), distribution.to_owned())].into(),
            ..wire::Trial::default()
        };
        let answer = server.new_trial(study, Some(template.clone())).await;
        assert_eq!(code(answer), Code::InvalidArgument, "{internal} of {distribution}");
        // What there is not is said first.
        assert_eq!(code(server.new_trial(study + 1, Some(template)).await), Code::NotFound);
    }
    assert!(server.optuna_trials(study, -1, &[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn long_words_are_taken_and_come_back() {
    let (_folder, mut server) = server().await;
    let name = "ü".repeat(1_000);
    let study = server.new_study(&name, &[0]).await.unwrap();
    let request = wire::GetStudyIdFromNameRequest { study_name: name };
    assert_eq!(server.optuna.get_study_id_from_name(request).await.unwrap().into_inner().study_id, study);
    let id = server.new_trial(study, None).await.unwrap();
    let key = "k".repeat(5_000);
    server.set_param(id, &key, 0.5, UNIT).await.unwrap();
    server.set_user(id, &key, "NaN").await.unwrap();
    server.set_system(id, &key, "-Infinity").await.unwrap();
    let trial = server.optuna_trial(id).await.unwrap();
    assert_eq!(trial.params[&key].to_bits(), 0.5_f64.to_bits());
    assert_eq!((trial.user_attributes[&key].as_str(), trial.system_attributes[&key].as_str()), ("NaN", "-Infinity"));
}

#[tokio::test]
async fn no_number_is_too_large_to_be_unknown() {
    let (_folder, mut server) = server().await;
    let study = server.new_study("a", &[0]).await.unwrap();
    for id in [i64::MIN, i64::MAX] {
        assert_eq!(code(server.optuna_trial(id).await), Code::NotFound);
        assert_eq!(code(server.optuna_trials(id, -1, &[]).await), Code::NotFound);
        assert_eq!(code(server.set_state(id, Complete, &[]).await), Code::NotFound);
        let request = wire::GetTrialIdFromStudyIdTrialNumberRequest { study_id: study, trial_number: id };
        assert_eq!(code(server.optuna.get_trial_id_from_study_id_trial_number(request).await), Code::NotFound);
        assert_eq!(server.optuna_trials(study, i64::MAX, &[id]).await.unwrap(), []);
    }
}
