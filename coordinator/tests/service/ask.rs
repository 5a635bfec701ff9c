//! Clients that measure themselves: ask, report, tell, enqueue, and the ways a study ends.

use fleetune_proto::reason::Reason;
use fleetune_proto::v1;

use super::harness::{Server, by_number, config, database, float, fresh_id, int, objective, parameter, reason, value};

#[tokio::test]
async fn a_batch_shares_what_it_has_seen() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    server.create("s", config(None)).await.unwrap();
    let trials = server.ask("s", 4).await.unwrap();
    assert_eq!(trials.iter().map(|trial| trial.number).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(trials.iter().map(|trial| trial.turn).collect::<Vec<_>>(), [Some(0), Some(1), Some(2), Some(3)]);
    assert!(trials.iter().all(|trial| trial.seen == trials[0].seen && trial.held));
}

#[tokio::test]
async fn a_repeated_ask_gives_the_same_trials_even_when_the_budget_is_used_up() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    server.create("s", config(Some(2))).await.unwrap();
    let first = server.ask_as("s", 2, "r").await.unwrap();
    assert_eq!(server.ask_as("s", 2, "r").await.unwrap(), first);
    let refused = server.ask("s", 1).await.unwrap_err();
    assert_eq!(reason(&refused), Reason::StudyFinished);
    assert_eq!(server.trials("s").await.len(), 2);
}

#[tokio::test]
async fn the_last_tell_ends_the_study_and_a_larger_budget_wakes_it() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    server.create("s", config(Some(2))).await.unwrap();
    for trial in server.ask("s", 5).await.unwrap() {
        assert_eq!(server.study("s").await.state(), v1::StudyState::Active);
        server.tell("s", trial.number, 1.0).await.unwrap();
    }
    let study = server.study("s").await;
    assert_eq!((study.state(), study.reason.as_str()), (v1::StudyState::Finished, "trial budget used up"));
    let request = v1::ResumeStudyRequest { name: "s".to_owned() };
    assert_eq!(reason(&server.studies.resume_study(request).await.unwrap_err()), Reason::StudyState);
    let budget = Some(v1::Budget { trials: Some(3), ..v1::Budget::default() });
    let request = v1::UpdateStudyRequest { name: "s".to_owned(), budget, ..v1::UpdateStudyRequest::default() };
    server.studies.update_study(request).await.unwrap();
    assert_eq!(server.ask("s", 5).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_target_ends_the_search() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    let mut config = config(Some(100));
    config.budget = Some(v1::Budget { trials: Some(100), target: Some(0.5), time: None });
    server.create("s", config).await.unwrap();
    let trials = server.ask("s", 2).await.unwrap();
    server.tell("s", trials[0].number, 0.6).await.unwrap();
    server.tell("s", trials[1].number, 0.5).await.unwrap();
    assert_eq!(server.study("s").await.reason, "target reached");
}

#[tokio::test]
async fn the_same_tell_succeeds_and_another_is_refused() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    server.create("s", config(None)).await.unwrap();
    let number = server.ask("s", 1).await.unwrap()[0].number;
    let told = server.tell("s", number, 1.5).await.unwrap();
    assert_eq!(server.tell("s", number, 1.5).await.unwrap(), told);
    assert_eq!(reason(&server.tell("s", number, 2.5).await.unwrap_err()), Reason::TrialEnded);
    assert_eq!(reason(&server.tell("s", 9, 2.5).await.unwrap_err()), Reason::TrialNotFound);
    assert_eq!(reason(&server.tell("t", 0, 2.5).await.unwrap_err()), Reason::StudyNotFound);
    let number = server.ask("s", 1).await.unwrap()[0].number;
    assert_eq!(reason(&server.tell("s", number, f64::NAN).await.unwrap_err()), Reason::NonFinite);
}

#[tokio::test]
async fn the_median_pruner_stops_a_bad_curve_and_repeats_its_verdict() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    let median = v1::MedianPruner { n_startup_trials: 3, ..v1::MedianPruner::default() };
    let pruner = Some(v1::Pruner { kind: Some(v1::pruner::Kind::Median(median)) });
    server.create("s", v1::StudyConfig { pruner, ..config(None) }).await.unwrap();
    for trial in server.ask("s", 3).await.unwrap() {
        assert_eq!(server.report("s", trial.number, 1, 1.0).await.unwrap(), v1::Verdict::Continue);
        server.tell("s", trial.number, 1.0).await.unwrap();
    }
    let number = server.ask("s", 1).await.unwrap()[0].number;
    assert_eq!(server.report("s", number, 1, 5.0).await.unwrap(), v1::Verdict::Stop);
    // The first report of a step counts, and so does its verdict.
    assert_eq!(server.report("s", number, 1, 0.1).await.unwrap(), v1::Verdict::Stop);
    let request = v1::TellRequest {
        study: "s".to_owned(),
        number,
        state: v1::TrialState::Pruned.into(),
        ..v1::TellRequest::default()
    };
    let pruned = server.studies.tell(request).await.unwrap().into_inner().trial.unwrap();
    assert_eq!(pruned.values, [5.0]);
}

#[tokio::test]
async fn a_queue_entry_is_completed_by_the_sampler_under_its_conditions() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    let mut conditional = parameter("draft", int(1, 8));
    conditional.when = "n > 500".to_owned();
    let space = v1::SearchSpace {
        parameters: vec![parameter("n", int(0, 1000)), parameter("x", float(0.0, 1.0)), conditional],
        ..v1::SearchSpace::default()
    };
    server.create("s", v1::StudyConfig { space: Some(space), ..config(None) }).await.unwrap();
    let fixed = |n| v1::FixedParams { params: [("n".to_owned(), value(n))].into() };
    let request = v1::EnqueueRequest {
        request_id: fresh_id(),
        study: "s".to_owned(),
        trials: vec![fixed(900), fixed(10)],
        force: false,
    };
    server.studies.enqueue(request).await.unwrap();
    let trials = server.ask("s", 3).await.unwrap();
    assert_eq!(trials[0].params.keys().collect::<Vec<_>>(), ["draft", "n", "x"]);
    assert_eq!(trials[0].params["n"], value(900));
    assert_eq!(trials[1].params.keys().collect::<Vec<_>>(), ["n", "x"]);
    assert_eq!(trials[2].origin(), v1::TrialOrigin::Sampled);
    let unknown = v1::EnqueueRequest {
        request_id: fresh_id(),
        study: "s".to_owned(),
        trials: vec![v1::FixedParams { params: [("m".to_owned(), value(1))].into() }],
        force: false,
    };
    assert_eq!(reason(&server.studies.enqueue(unknown).await.unwrap_err()), Reason::InvalidArgument);
}

#[tokio::test]
async fn a_queue_entry_that_nothing_can_complete_is_refused() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    let mut forbidding = config(None);
    let space = forbidding.space.as_mut().unwrap();
    space.forbid = vec![v1::Forbid { condition: "n == 5".to_owned(), why: "five is right out".to_owned() }];
    server.create("s", forbidding).await.unwrap();
    let request = v1::EnqueueRequest {
        request_id: fresh_id(),
        study: "s".to_owned(),
        trials: vec![v1::FixedParams { params: [("n".to_owned(), value(5))].into() }],
        force: false,
    };
    assert_eq!(reason(&server.studies.enqueue(request).await.unwrap_err()), Reason::InvalidArgument);
    assert_eq!(server.ask("s", 1).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_queue_entry_with_nothing_left_around_it_ends_alone() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    let space = v1::SearchSpace {
        parameters: vec![parameter("n", int(0, 1)), parameter("m", int(0, 1))],
        ..v1::SearchSpace::default()
    };
    let sampler = Some(v1::Sampler { name: "grid".to_owned(), ..v1::Sampler::default() });
    server.create("s", v1::StudyConfig { space: Some(space), sampler, ..config(None) }).await.unwrap();
    let fixed = |n| v1::FixedParams { params: [("n".to_owned(), value(n))].into() };
    let trials = vec![fixed(0), fixed(0), fixed(0), fixed(0)];
    let request = v1::EnqueueRequest { request_id: fresh_id(), study: "s".to_owned(), trials, force: false };
    server.studies.enqueue(request).await.unwrap();
    let mut asked = Vec::new();
    for _ in 0..4 {
        let trial = server.ask("s", 1).await.unwrap().remove(0);
        server.tell("s", trial.number, 1.0).await.unwrap();
        asked.push(trial.number);
    }
    // The first two entries use up what there is with n = 0; the search of the rest goes on.
    assert_eq!(asked, [0, 1, 4, 5]);
    for number in [2, 3] {
        let failure = server.trials("s").await[number].failure.clone().unwrap();
        assert_eq!(failure.message, "nothing left to try around its fixed parameters");
    }
    assert_eq!(server.study("s").await.state(), v1::StudyState::Active);
}

#[tokio::test]
async fn a_paused_study_starts_nothing_and_goes_on_where_it_was() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    server.create("s", config(Some(2))).await.unwrap();
    let running = server.ask("s", 1).await.unwrap()[0].number;
    server.studies.pause_study(v1::PauseStudyRequest { name: "s".to_owned() }).await.unwrap();
    assert_eq!(reason(&server.ask("s", 1).await.unwrap_err()), Reason::StudyState);
    server.tell("s", running, 1.0).await.unwrap();
    for _ in 0..2 {
        server.studies.resume_study(v1::ResumeStudyRequest { name: "s".to_owned() }).await.unwrap();
    }
    let last = server.ask("s", 1).await.unwrap()[0].number;
    server.tell("s", last, 1.0).await.unwrap();
    assert_eq!(server.study("s").await.state(), v1::StudyState::Finished);
}

#[tokio::test]
async fn a_resumed_study_suggests_what_an_uninterrupted_one_does() {
    let mut runs = Vec::new();
    for lives in [1, 6] {
        let (_folder, url) = database();
        for life in 0..lives {
            let mut server = Server::start(&url).await;
            if life == 0 {
                server.create("s", config(Some(30))).await.unwrap();
            }
            for _ in 0..30 / lives {
                let trial = server.ask("s", 1).await.unwrap().remove(0);
                server.tell("s", trial.number, objective(&trial.params)).await.unwrap();
            }
            if life == lives - 1 {
                assert_eq!(server.verify("s").await, 30);
                runs.push(by_number(&server.trials("s").await));
            }
        }
    }
    assert_eq!(runs[0], runs[1]);
}

#[tokio::test]
async fn a_watcher_learns_every_end_and_then_the_stream_ends() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    server.create("s", config(Some(3))).await.unwrap();
    let request = v1::WatchRequest { study: "s".to_owned(), after: 0 };
    let mut stream = server.studies.watch(request).await.unwrap().into_inner();
    for trial in server.ask("s", 3).await.unwrap() {
        server.tell("s", trial.number, 1.0).await.unwrap();
    }
    let mut ended = std::collections::BTreeSet::new();
    let mut state = v1::StudyState::Unspecified;
    while let Some(event) = stream.message().await.unwrap() {
        match event.event.unwrap() {
            v1::watch_event::Event::Trial(trial) if trial.state() == v1::TrialState::Complete => {
                ended.insert(trial.number);
            }
            v1::watch_event::Event::Study(study) => state = study.state(),
            _ => {}
        }
    }
    assert_eq!(ended.into_iter().collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(state, v1::StudyState::Finished);
}

#[tokio::test]
async fn a_larger_budget_changes_no_suggestion_that_was_made_before() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    let sampler = Some(v1::Sampler { name: "auto".to_owned(), ..v1::Sampler::default() });
    server.create("s", v1::StudyConfig { sampler, ..config(Some(6)) }).await.unwrap();
    let mut told = 0;
    for budget in [6, 200] {
        let request = v1::UpdateStudyRequest {
            name: "s".to_owned(),
            budget: Some(v1::Budget { trials: Some(budget), ..v1::Budget::default() }),
            ..v1::UpdateStudyRequest::default()
        };
        server.studies.update_study(request).await.unwrap();
        for _ in 0..6 {
            let trial = server.ask("s", 1).await.unwrap().remove(0);
            server.tell("s", trial.number, objective(&trial.params)).await.unwrap();
            told += 1;
        }
    }
    assert_eq!(server.verify("s").await, told);
}
