//! Optuna's protocol by raw calls: every refusal, what another client must be able to read afterwards, and one model of
//! data with the native services.

use std::collections::BTreeMap;

use fleetune_proto::optuna as wire;
use fleetune_proto::optuna::TrialState::{Complete, Fail, Pruned, Running, Waiting};
use fleetune_proto::v1;
use prost::Message as _;
use tonic::{Code, Status};

use super::harness::{Server, config, database, fresh_id, value};

mod refused;

const UNIT: &str =
    r#"{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0, "high": 1.0, "log": false}}"#;
const ABC: &str = r#"{"name": "CategoricalDistribution", "attributes": {"choices": ["a", "b", "c"]}}"#;

impl Server {
    async fn new_study(&mut self, name: &str, directions: &[i32]) -> Result<i64, Status> {
        let request = wire::CreateNewStudyRequest { directions: directions.to_vec(), study_name: name.to_owned() };
        Ok(self.optuna.create_new_study(request).await?.into_inner().study_id)
    }

    async fn new_trial(&mut self, study_id: i64, template: Option<wire::Trial>) -> Result<i64, Status> {
        let template_trial_is_none = template.is_none();
        let request = wire::CreateNewTrialRequest { study_id, template_trial: template, template_trial_is_none };
        Ok(self.optuna.create_new_trial(request).await?.into_inner().trial_id)
    }

    async fn set_param(&mut self, trial_id: i64, name: &str, internal: f64, distribution: &str) -> Result<(), Status> {
        let request = wire::SetTrialParameterRequest {
            trial_id,
            param_name: name.to_owned(),
            param_value_internal: internal,
            distribution: distribution.to_owned(),
        };
        self.optuna.set_trial_parameter(request).await.map(drop)
    }

    async fn set_state(&mut self, trial_id: i64, state: wire::TrialState, values: &[f64]) -> Result<bool, Status> {
        self.set_state_number(trial_id, state.into(), values).await
    }

    async fn set_state_number(&mut self, trial_id: i64, state: i32, values: &[f64]) -> Result<bool, Status> {
        let request = wire::SetTrialStateValuesRequest { trial_id, state, values: values.to_vec() };
        Ok(self.optuna.set_trial_state_values(request).await?.into_inner().trial_updated)
    }

    async fn set_step(&mut self, trial_id: i64, step: i64, intermediate_value: f64) -> Result<(), Status> {
        let request = wire::SetTrialIntermediateValueRequest { trial_id, step, intermediate_value };
        self.optuna.set_trial_intermediate_value(request).await.map(drop)
    }

    async fn set_user(&mut self, trial_id: i64, key: &str, value: &str) -> Result<(), Status> {
        let (key, value) = (key.to_owned(), value.to_owned());
        let request = wire::SetTrialUserAttributeRequest { trial_id, key, value };
        self.optuna.set_trial_user_attribute(request).await.map(drop)
    }

    async fn set_system(&mut self, trial_id: i64, key: &str, value: &str) -> Result<(), Status> {
        let (key, value) = (key.to_owned(), value.to_owned());
        let request = wire::SetTrialSystemAttributeRequest { trial_id, key, value };
        self.optuna.set_trial_system_attribute(request).await.map(drop)
    }

    async fn optuna_trial(&mut self, trial_id: i64) -> Result<wire::Trial, Status> {
        let reply = self.optuna.get_trial(wire::GetTrialRequest { trial_id }).await?.into_inner();
        Ok(wire::Trial::decode(reply.trial).unwrap())
    }

    async fn optuna_trials(&mut self, study_id: i64, above: i64, named: &[i64]) -> Result<Vec<wire::Trial>, Status> {
        let request =
            wire::GetTrialsRequest { study_id, included_trial_ids: named.to_vec(), trial_id_greater_than: above };
        let reply = self.optuna.get_trials(request).await?.into_inner();
        Ok(reply.trials.into_iter().map(|trial| wire::Trial::decode(trial).unwrap()).collect())
    }
}

async fn server() -> (tempfile::TempDir, Server) {
    let (folder, url) = database();
    let server = Server::start(&url).await;
    (folder, server)
}

fn code<T: std::fmt::Debug>(answer: Result<T, Status>) -> Code {
    let status = answer.unwrap_err();
    assert!(!status.message().is_empty(), "{status:?}");
    status.code()
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let (_folder, mut server) = server().await;
    let study = server.new_study("a", &[0]).await.unwrap();
    let trial = server.new_trial(study, None).await.unwrap();
    assert!(study >= 1 && trial >= 1);
    for id in [0, -1, study + 1] {
        macro_rules! missing {
            ($call:ident, $request:ident { $($field:ident: $value:expr),* }) => {
                let request = wire::$request { $($field: $value),* };
                assert_eq!(code(server.optuna.$call(request).await), Code::NotFound, stringify!($call));
            };
        }
        missing!(delete_study, DeleteStudyRequest { study_id: id });
        missing!(get_study_name_from_id, GetStudyNameFromIdRequest { study_id: id });
        missing!(get_study_directions, GetStudyDirectionsRequest { study_id: id });
        missing!(get_study_user_attributes, GetStudyUserAttributesRequest { study_id: id });
        missing!(get_study_system_attributes, GetStudySystemAttributesRequest { study_id: id });
        missing!(
            set_study_user_attribute,
            SetStudyUserAttributeRequest { study_id: id, key: String::new(), value: "1".to_owned() }
        );
        missing!(
            set_study_system_attribute,
            SetStudySystemAttributeRequest { study_id: id, key: String::new(), value: "1".to_owned() }
        );
        missing!(
            create_new_trial,
            CreateNewTrialRequest { study_id: id, template_trial: None, template_trial_is_none: false }
        );
        missing!(
            create_new_trial,
            CreateNewTrialRequest { study_id: id, template_trial: None, template_trial_is_none: true }
        );
        missing!(
            get_trials,
            GetTrialsRequest { study_id: id, included_trial_ids: Vec::new(), trial_id_greater_than: 0 }
        );
        missing!(
            get_trial_id_from_study_id_trial_number,
            GetTrialIdFromStudyIdTrialNumberRequest { study_id: id, trial_number: 0 }
        );
    }
    for id in [0, -1, trial + 1] {
        assert_eq!(code(server.optuna_trial(id).await), Code::NotFound);
        // What there is not is said before what is wrong with the rest.
        assert_eq!(code(server.set_param(id, "x", 0.0, "nonsense").await), Code::NotFound);
        assert_eq!(code(server.set_state_number(id, 77, &[]).await), Code::NotFound);
        assert_eq!(code(server.set_step(id, -1, 0.0).await), Code::NotFound);
        assert_eq!(code(server.set_user(id, "k", "{").await), Code::NotFound);
        assert_eq!(code(server.set_system(id, "k", "{").await), Code::NotFound);
    }
    for number in [-1, 1] {
        let request = wire::GetTrialIdFromStudyIdTrialNumberRequest { study_id: study, trial_number: number };
        assert_eq!(code(server.optuna.get_trial_id_from_study_id_trial_number(request).await), Code::NotFound);
    }
    let name = wire::GetStudyIdFromNameRequest { study_name: "A".to_owned() };
    assert_eq!(code(server.optuna.get_study_id_from_name(name).await), Code::NotFound);
}

#[tokio::test]
async fn a_name_is_given_once_and_ids_never_again() {
    let (_folder, mut server) = server().await;
    for name in ["", "a/b", "ü"] {
        let id = server.new_study(name, &[0, 1]).await.unwrap();
        assert_eq!(code(server.new_study(name, &[0]).await), Code::AlreadyExists);
        server.optuna.delete_study(wire::DeleteStudyRequest { study_id: id }).await.unwrap();
        let next = server.new_study(name, &[0]).await.unwrap();
        assert!(next > id);
        let trial = server.new_trial(next, None).await.unwrap();
        server.optuna.delete_study(wire::DeleteStudyRequest { study_id: next }).await.unwrap();
        assert_eq!(code(server.optuna_trial(trial).await), Code::NotFound);
        assert_eq!(code(server.set_user(trial, "k", "1").await), Code::NotFound);
        let last = server.new_study(name, &[0]).await.unwrap();
        assert!(server.new_trial(last, None).await.unwrap() > trial);
    }
    for (name, directions) in
        [("zero", &[][..]), ("unknown", &[2][..]), ("nul\0", &[0][..]), (&"x".repeat(2_001), &[0][..])]
    {
        assert_eq!(code(server.new_study(name, directions).await), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn ended_trials_refuse_every_write() {
    let (_folder, mut server) = server().await;
    let study = server.new_study("a", &[0]).await.unwrap();
    for state in [Complete, Pruned, Fail] {
        let id = server.new_trial(study, None).await.unwrap();
        assert!(server.set_state(id, state, &[1.0]).await.unwrap());
        let before = server.optuna_trial(id).await.unwrap();
        // Incompatible or not: that it has ended comes first.
        for distribution in [UNIT, ABC] {
            assert_eq!(code(server.set_param(id, "x", 0.0, distribution).await), Code::FailedPrecondition);
        }
        for next in [Running, Waiting, Complete] {
            assert_eq!(code(server.set_state(id, next, &[2.0]).await), Code::FailedPrecondition);
        }
        assert_eq!(code(server.set_step(id, 0, 0.0).await), Code::FailedPrecondition);
        assert_eq!(code(server.set_user(id, "k", "1").await), Code::FailedPrecondition);
        assert_eq!(code(server.set_system(id, "k", "1").await), Code::FailedPrecondition);
        assert_eq!(server.optuna_trial(id).await.unwrap(), before);
        assert_eq!((before.state(), before.values.as_slice()), (state, &[1.0][..]));
    }
}

#[tokio::test]
async fn what_another_client_could_not_read_is_refused_and_not_stored() {
    let (_folder, mut server) = server().await;
    let study = server.new_study("a", &[0]).await.unwrap();
    let id = server.new_trial(study, None).await.unwrap();
    server.set_param(id, "c", 2.0, ABC).await.unwrap();
    let before = server.optuna_trials(study, -1, &[]).await.unwrap();
    for index in [3.0, -1.0, 0.5, f64::NAN, f64::INFINITY] {
        assert_eq!(code(server.set_param(id, "d", index, ABC).await), Code::InvalidArgument, "{index}");
    }
    let int = r#"{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 0, "high": 5}}"#;
    assert_eq!(code(server.set_param(id, "i", f64::NAN, int).await), Code::InvalidArgument);
    let reversed = UNIT.replace("1.0", "-1.0");
    for text in ["", "nonsense", "{}", "[1]", reversed.as_str()] {
        assert_eq!(code(server.set_param(id, "x", 0.0, text).await), Code::InvalidArgument, "{text}");
    }
    assert_eq!(code(server.set_param(id, "c", 0.5, UNIT).await), Code::InvalidArgument);
    for text in ["", "{", "nan", "'a'", "[1,]"] {
        assert_eq!(code(server.set_user(id, "k", text).await), Code::InvalidArgument, "{text}");
        assert_eq!(code(server.set_system(id, "k", text).await), Code::InvalidArgument, "{text}");
        let (key, value) = ("k".to_owned(), text.to_owned());
        let of_study = wire::SetStudyUserAttributeRequest { study_id: study, key: key.clone(), value: value.clone() };
        assert_eq!(code(server.optuna.set_study_user_attribute(of_study).await), Code::InvalidArgument, "{text}");
        let of_study = wire::SetStudySystemAttributeRequest { study_id: study, key, value };
        assert_eq!(code(server.optuna.set_study_system_attribute(of_study).await), Code::InvalidArgument, "{text}");
    }
    assert_eq!(code(server.set_state_number(id, 5, &[]).await), Code::InvalidArgument);
    assert_eq!(code(server.set_step(id, -1, 0.0).await), Code::InvalidArgument);

    let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let x = || [("x".to_owned(), 0.5)].into();
    let good = || wire::Trial { state: Complete.into(), ..wire::Trial::default() };
    let bad = [
        wire::Trial { params: x(), ..good() },
        wire::Trial { distributions: map(&[("x", UNIT)]), ..good() },
        wire::Trial { params: x(), distributions: map(&[("x", "{")]), ..good() },
        wire::Trial { params: x(), distributions: map(&[("x", ABC)]), ..good() },
        wire::Trial { params: [("c".to_owned(), 0.5)].into(), distributions: map(&[("c", UNIT)]), ..good() },
        wire::Trial { datetime_start: "yesterday".to_owned(), ..good() },
        wire::Trial { datetime_complete: "2026-11-21".to_owned(), ..good() },
        wire::Trial { user_attributes: map(&[("k", "{")]), ..good() },
        wire::Trial { system_attributes: map(&[("k", "")]), ..good() },
        wire::Trial { intermediate_values: [(-1, 0.0)].into(), ..good() },
        wire::Trial { state: 9, ..good() },
    ];
    for template in bad {
        let answer = server.new_trial(study, Some(template.clone())).await;
        assert_eq!(code(answer), Code::InvalidArgument, "{template:?}");
    }
    assert_eq!(server.optuna_trials(study, -1, &[]).await.unwrap(), before);
    assert_eq!(server.new_trial(study, None).await.unwrap(), id + 1);
}

#[tokio::test]
async fn a_template_is_copied_but_for_id_and_number() {
    let (_folder, mut server) = server().await;
    let study = server.new_study("a", &[0]).await.unwrap();
    let empty = server.new_trial(study, Some(wire::Trial::default())).await.unwrap();
    let empty = server.optuna_trial(empty).await.unwrap();
    assert_eq!((empty.state(), empty.datetime_start.as_str(), empty.number), (Running, "", 0));
    for state in [Running, Complete, Pruned, Fail, Waiting] {
        let given = wire::Trial {
            trial_id: 77,
            number: 77,
            state: state.into(),
            values: vec![f64::MAX, f64::NEG_INFINITY],
            datetime_start: "2026-11-21 05:27:54.752916".to_owned(),
            datetime_complete: if state == Fail { String::new() } else { "2026-11-21 06:00:00.000001".to_owned() },
            params: [("c".to_owned(), 1.0), ("x".to_owned(), 7.5)].into(),
            distributions: [
                ("c".to_owned(), ABC.replace(": ", ":").replace(", ", ",")),
                ("x".to_owned(), UNIT.replace(": ", ":").replace(", ", ",")),
            ]
            .into(),
            user_attributes: [("u".to_owned(), "{\"a\":  NaN}".to_owned())].into(),
            system_attributes: [("s".to_owned(), "\"\\u00fc\"".to_owned())].into(),
            intermediate_values: [(0, f64::INFINITY), (5, 0.25)].into(),
        };
        let id = server.new_trial(study, Some(given.clone())).await.unwrap();
        let copy = server.optuna_trial(id).await.unwrap();
        assert_eq!(copy, wire::Trial { trial_id: id, number: copy.number, ..given });
    }
}

#[tokio::test]
async fn times_may_come_in_the_new_form() {
    let (_folder, mut server) = server().await;
    let study = server.new_study("a", &[0]).await.unwrap();
    let given =
        |text: &str| wire::Trial { state: Complete.into(), datetime_start: text.to_owned(), ..wire::Trial::default() };
    let mut shown = Vec::new();
    for text in ["2026-11-21T05:27:54.752916+00:00", "2026-11-21T07:27:54.752916+02:00", "2026-11-21T05:27:54.752916Z"]
    {
        let id = server.new_trial(study, Some(given(text))).await.unwrap();
        shown.push(server.optuna_trial(id).await.unwrap().datetime_start);
    }
    assert!(
        shown.iter().all(|text| *text == shown[0] && text.len() == "2026-11-21 05:27:54.752916".len()),
        "{shown:?}"
    );
}

#[tokio::test]
async fn of_many_takers_each_queue_entry_goes_to_one() {
    let (_folder, mut server) = server().await;
    let study = server.new_study("a", &[0]).await.unwrap();
    let entry = wire::Trial { state: Waiting.into(), ..wire::Trial::default() };
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.push(server.new_trial(study, Some(entry.clone())).await.unwrap());
    }
    let mut takers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (mut client, ids) = (server.optuna.clone(), ids.clone());
        takers.spawn(async move {
            let mut taken = 0;
            for id in ids {
                let request =
                    wire::SetTrialStateValuesRequest { trial_id: id, state: Running.into(), values: Vec::new() };
                taken += u32::from(client.set_trial_state_values(request).await.unwrap().into_inner().trial_updated);
            }
            taken
        });
    }
    assert_eq!(takers.join_all().await.into_iter().sum::<u32>(), 10);
    // One that runs goes back, and is taken again.
    assert!(!server.set_state(ids[0], Running, &[]).await.unwrap());
    assert!(server.set_state(ids[0], Waiting, &[]).await.unwrap());
    assert!(server.set_state(ids[0], Running, &[]).await.unwrap());
}

#[tokio::test]
async fn a_restart_forgets_no_running_trial() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    let study = server.new_study("a", &[1]).await.unwrap();
    let id = server.new_trial(study, None).await.unwrap();
    server.set_param(id, "x", 0.5, UNIT).await.unwrap();
    drop(server);
    let mut server = Server::start(&url).await;
    server.set_param(id, "c", 1.0, ABC).await.unwrap();
    assert_eq!(code(server.set_param(id, "x", 0.0, ABC).await), Code::InvalidArgument);
    assert!(server.set_state(id, Complete, &[3.0]).await.unwrap());
    let trial = server.optuna_trial(id).await.unwrap();
    assert_eq!((trial.params.len(), trial.values.as_slice()), (2, &[3.0][..]));
}

#[tokio::test]
async fn get_trials_gives_what_is_above_and_what_is_named() {
    let (_folder, mut server) = server().await;
    let study = server.new_study("a", &[0]).await.unwrap();
    let mut ids = Vec::new();
    for index in 0..5 {
        let id = server.new_trial(study, None).await.unwrap();
        server.set_step(id, index, 0.5).await.unwrap();
        ids.push(id);
    }
    let of = |trials: Vec<wire::Trial>| trials.into_iter().map(|trial| trial.trial_id).collect::<Vec<_>>();
    assert_eq!(of(server.optuna_trials(study, -1, &[]).await.unwrap()), ids);
    assert_eq!(
        of(server.optuna_trials(study, ids[2], &[ids[0], ids[4], 9_999]).await.unwrap()),
        [ids[0], ids[3], ids[4]]
    );
    assert_eq!(of(server.optuna_trials(study, i64::MAX, &[]).await.unwrap()), [0; 0]);
    // From the cache or not, the answer is the same, and newer than what is kept.
    server.set_state(ids[1], Complete, &[1.0]).await.unwrap();
    let first = server.optuna_trials(study, -1, &[]).await.unwrap();
    assert_eq!(first[1].state(), Complete);
    assert_eq!(server.optuna_trials(study, -1, &[]).await.unwrap(), first);
}

#[tokio::test]
async fn a_study_of_python_is_seen_by_everybody() {
    let (_folder, mut server) = server().await;
    let study = server.new_study("of python", &[0]).await.unwrap();
    for (value, constraint) in [(3.0, "[-1.0]"), (1.0, "[-1.0]"), (0.5, "[2.0]")] {
        let id = server.new_trial(study, None).await.unwrap();
        server.set_param(id, "c", 1.0, ABC).await.unwrap();
        server.set_system(id, "constraints", constraint).await.unwrap();
        server.set_step(id, 3, value).await.unwrap();
        server.set_state(id, Complete, &[value]).await.unwrap();
    }
    for value in [f64::NAN, f64::NEG_INFINITY] {
        let id = server.new_trial(study, None).await.unwrap();
        server.set_state(id, Complete, &[value]).await.unwrap();
    }
    let shown = server.study("of python").await;
    assert_eq!(shown.counts.unwrap().complete, 5);
    let trials = server.trials("of python").await;
    assert_eq!(trials[0].params["c"].kind, Some(v1::value::Kind::Text("b".to_owned())));
    assert_eq!(trials[1].steps, [v1::Step { step: 3, value: 1.0 }]);
    assert_eq!(trials[2].constraints, [2.0]);
    let request = v1::BestRequest { study: "of python".to_owned(), count: 5 };
    let best = server.studies.best(request).await.unwrap().into_inner();
    // The infinite one is what its client said it is; NaN is no value at all; the infeasible one does not count.
    assert_eq!(best.trials.iter().map(|trial| trial.number).collect::<Vec<_>>(), [4, 1, 0]);
}

#[tokio::test]
async fn a_study_of_ours_is_seen_by_optuna() {
    let (_folder, mut server) = server().await;
    server.create("ours", config(None)).await.unwrap();
    let [sampled] = &server.ask("ours", 1).await.unwrap()[..] else { panic!("one was asked for") };
    server.report("ours", sampled.number, 1, 0.5).await.unwrap();
    server.tell("ours", sampled.number, 0.25).await.unwrap();
    let fixed = v1::FixedParams { params: [("n".to_owned(), value(7))].into() };
    let enqueue =
        v1::EnqueueRequest { request_id: fresh_id(), study: "ours".to_owned(), trials: vec![fixed], force: false };
    server.studies.enqueue(enqueue).await.unwrap();

    let name = wire::GetStudyIdFromNameRequest { study_name: "ours".to_owned() };
    let id = server.optuna.get_study_id_from_name(name).await.unwrap().into_inner().study_id;
    let all = server.optuna.get_all_studies(wire::GetAllStudiesRequest {}).await.unwrap().into_inner().studies;
    assert_eq!(all.iter().map(|study| (study.study_id, study.study_name.as_str())).collect::<Vec<_>>(), [(id, "ours")]);
    let trials = server.optuna_trials(id, -1, &[]).await.unwrap();
    assert_eq!((trials[0].state(), trials[0].values.as_slice()), (Complete, &[0.25][..]));
    assert_eq!(trials[0].params.keys().collect::<Vec<_>>(), ["n", "x"]);
    assert_eq!(trials[0].intermediate_values, [(1, 0.5)].into());
    assert_eq!((trials[1].state(), trials[1].system_attributes["fixed_params"].as_str()), (Waiting, r#"{"n": 7}"#));

    // A client of Optuna takes the entry, tries something else, and ours goes on with what it told.
    assert!(server.set_state(trials[1].trial_id, Running, &[]).await.unwrap());
    let int = &trials[0].distributions["n"];
    server.set_param(trials[1].trial_id, "n", 300.0, int).await.unwrap();
    let float = &trials[0].distributions["x"];
    server.set_param(trials[1].trial_id, "x", 0.3, float).await.unwrap();
    assert_eq!(code(server.set_param(trials[1].trial_id, "n", 0.5, UNIT).await), Code::InvalidArgument);
    server.set_state(trials[1].trial_id, Complete, &[0.0]).await.unwrap();
    // Outside of the space, incomplete, without a value: kept, shown, and nothing a sampler of ours may trip over.
    for (name, internal, values) in [("n", 5_000.0, &[0.1][..]), ("n", 1.0, &[]), ("other", 0.5, &[f64::NAN, 1.0])] {
        let id = server.new_trial(id, None).await.unwrap();
        server.set_param(id, name, internal, if name == "n" { int } else { UNIT }).await.unwrap();
        server.set_state(id, Complete, values).await.unwrap();
    }
    let foreign = wire::Trial {
        state: Waiting.into(),
        system_attributes: [("fixed_params".to_owned(), r#"{"other": 1}"#.to_owned())].into(),
        ..wire::Trial::default()
    };
    server.new_trial(id, Some(foreign)).await.unwrap();
    let own = wire::Trial {
        state: Waiting.into(),
        system_attributes: [("fixed_params".to_owned(), r#"{"x": 0}"#.to_owned())].into(),
        ..wire::Trial::default()
    };
    server.new_trial(id, Some(own)).await.unwrap();
    let asked = server.ask("ours", 1).await.unwrap().remove(0);
    assert_eq!((asked.number, asked.params["x"].kind.clone()), (6, Some(v1::value::Kind::Float(0.0))));
    for _ in 0..12 {
        let asked = server.ask("ours", 1).await.unwrap().remove(0);
        server.tell("ours", asked.number, 1.0).await.unwrap();
    }
    assert_eq!(server.verify("ours").await, 14);
    assert_eq!(server.study("ours").await.counts.unwrap().waiting, 1);
}

#[tokio::test]
async fn a_leased_trial_is_the_workers() {
    let (_folder, mut server) = server().await;
    server.create("ours", config(None)).await.unwrap();
    let request = v1::AskRequest {
        request_id: fresh_id(),
        study: "ours".to_owned(),
        count: 1,
        lease: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        holder: "somebody".to_owned(),
    };
    let leased = server.studies.ask(request).await.unwrap().into_inner().trials.remove(0);
    let before = server.optuna_trial(leased.id).await.unwrap();
    assert!(!server.set_state(leased.id, Running, &[]).await.unwrap());
    for state in [Complete, Pruned, Fail, Waiting] {
        assert_eq!(code(server.set_state(leased.id, state, &[1.0]).await), Code::FailedPrecondition);
    }
    assert_eq!(code(server.set_param(leased.id, "x", 0.1, UNIT).await), Code::FailedPrecondition);
    assert_eq!(code(server.set_step(leased.id, 1, 0.1).await), Code::FailedPrecondition);
    assert_eq!(code(server.set_system(leased.id, "constraints", "[1.0]").await), Code::FailedPrecondition);
    assert_eq!(server.optuna_trial(leased.id).await.unwrap(), before);
    server.set_user(leased.id, "note", "\"seen\"").await.unwrap();
}

#[tokio::test]
async fn a_large_attribute_is_taken() {
    let (_folder, mut server) = server().await;
    let study = server.new_study("a", &[0]).await.unwrap();
    let id = server.new_trial(study, None).await.unwrap();
    let text = format!("\"{}\"", "x".repeat(9 << 20));
    server.set_user(id, "large", &text).await.unwrap();
    server.optuna = server.optuna.clone().max_decoding_message_size(64 << 20);
    assert_eq!(server.optuna_trial(id).await.unwrap().user_attributes["large"], text);
}
