//! Workers as the coordinator sees them: describe, trials, comparison; leases lost and returned.

use fleetune_proto::reason::Reason;
use fleetune_proto::v1;

use super::harness::{Server, database, reason};
use super::machine::{
    ENGINE, acquire_as, complete, description, finish, job, measure, model_config, prepared, register, speed, token,
    trial, worker_id,
};

fn comparison(job: &v1::Job) -> &v1::ComparisonJob {
    match &job.work {
        Some(v1::job::Work::Comparison(work)) => work,
        other => panic!("no comparison: {other:?}"),
    }
}

fn candidates(job: &v1::Job) -> &[v1::Candidate] {
    &comparison(job).candidates
}

/// The cells that worker `a` measures for `round`.
fn cells(job: &v1::Job, round: &v1::Round) -> Vec<v1::Cell> {
    let noise = 1.0 + 0.001 * f64::from(round.round % 3);
    let value = |index: u32| speed(&candidates(job)[index as usize].params) * noise;
    round
        .order
        .iter()
        .map(|&index| v1::Cell { candidate: index, value: Some(value(index)), ..v1::Cell::default() })
        .collect()
}

/// Measures a comparison to its end: how many rounds it took.
async fn compare(server: &mut Server, job: &v1::Job) -> u32 {
    let mut next = comparison(job).next.clone();
    let mut rounds = 0;
    while let Some(round) = next {
        let request = v1::RecordRoundRequest { lease_token: token(job), round: round.round, cells: cells(job, &round) };
        next = server.workers.record_round(request).await.unwrap().into_inner().next;
        rounds += 1;
    }
    rounds
}

async fn give_trials(server: &mut Server, trials: u32) -> v1::Study {
    let budget = Some(v1::Budget { trials: Some(trials), ..v1::Budget::default() });
    let request = v1::UpdateStudyRequest { name: "s".to_owned(), budget, ..v1::UpdateStudyRequest::default() };
    server.studies.update_study(request).await.unwrap().into_inner().study.unwrap()
}

#[tokio::test]
async fn asks_wait_for_the_description_and_trial_0_is_the_default() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    server.create("s", model_config(5, false)).await.unwrap();
    assert_eq!(server.study("s").await.state(), v1::StudyState::Preparing);
    assert_eq!(reason(&server.ask("s", 1).await.unwrap_err()), Reason::StudyPreparing);
    register(&mut server, 'a', ENGINE).await;
    let describe = job(&mut server, 'a').await;
    finish(&mut server, &describe, description(), &[]).await;
    let study = server.study("s").await;
    assert_eq!(study.state(), v1::StudyState::Active);
    assert_eq!(study.pin.unwrap().engine, ENGINE);
    let first = job(&mut server, 'a').await;
    assert_eq!(trial(&first).0, 0);
    let trials = server.trials("s").await;
    assert_eq!(trials[0].origin(), v1::TrialOrigin::Default);
    assert_eq!(trials[0].params["n_threads"], super::harness::value(4));
}

#[tokio::test]
async fn the_value_is_the_median_of_the_repetitions_and_the_comparison_has_the_last_word() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    prepared(&mut server, 6, true).await;
    for _ in 0..6 {
        let job = job(&mut server, 'a').await;
        let (_, params) = trial(&job);
        finish(&mut server, &job, complete(), &[speed(&params), speed(&params) + 1.0]).await;
    }
    assert_eq!(server.study("s").await.state(), v1::StudyState::Confirming);
    let comparison = job(&mut server, 'a').await;
    assert_eq!(candidates(&comparison).iter().filter(|candidate| candidate.baseline).count(), 1);
    let rounds = compare(&mut server, &comparison).await;
    let study = server.study("s").await;
    assert_eq!(study.state(), v1::StudyState::Finished);
    let best = server.studies.best(v1::BestRequest { study: "s".to_owned(), count: 5 }).await.unwrap().into_inner();
    let verdict = best.comparison.unwrap();
    assert_eq!(verdict.rounds, rounds);
    assert_eq!(verdict.baseline, Some(0));
    let gain = verdict.gain.unwrap();
    assert!(gain.pairs >= 8 && gain.low <= gain.ratio && gain.ratio <= gain.high, "{gain:?}");
    let winner = best.winner.unwrap();
    let expected = if verdict.proven { verdict.challenger } else { verdict.baseline };
    assert_eq!(Some(winner.number), expected);
    assert_eq!(best.baseline.unwrap().values, [40.5]);
}

#[tokio::test]
async fn a_budget_that_grows_during_the_comparison_is_used_after_it() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    prepared(&mut server, 3, true).await;
    measure(&mut server, 3).await;
    assert_eq!(server.study("s").await.state(), v1::StudyState::Confirming);
    assert_eq!(give_trials(&mut server, 5).await.state(), v1::StudyState::Confirming);
    let first = job(&mut server, 'a').await;
    compare(&mut server, &first).await;
    let study = server.study("s").await;
    assert_eq!((study.state(), study.reason.as_str()), (v1::StudyState::Active, ""));
    measure(&mut server, 2).await;
    // The end that comes later has a comparison of its own.
    let second = job(&mut server, 'a').await;
    assert_ne!(token(&second), token(&first));
    compare(&mut server, &second).await;
    assert_eq!(server.study("s").await.state(), v1::StudyState::Finished);
    // The same budget again leaves no room.
    assert_eq!(give_trials(&mut server, 5).await.state(), v1::StudyState::Finished);
    assert_eq!(give_trials(&mut server, 6).await.state(), v1::StudyState::Active);
}

#[tokio::test]
async fn a_comparison_that_fails_gives_way_to_a_larger_budget_too() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    prepared(&mut server, 3, true).await;
    measure(&mut server, 3).await;
    let comparison = job(&mut server, 'a').await;
    give_trials(&mut server, 4).await;
    let failure = v1::Failure { kind: v1::FailKind::Error.into(), message: "no".to_owned() };
    finish(&mut server, &comparison, v1::finish_request::Outcome::Failed(failure), &[]).await;
    assert_eq!(server.study("s").await.state(), v1::StudyState::Active);
}

#[tokio::test]
async fn without_a_verdict_the_baseline_wins() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    prepared(&mut server, 3, true).await;
    for value in [1.0, 2.0, 3.0] {
        let job = job(&mut server, 'a').await;
        finish(&mut server, &job, complete(), &[value, value]).await;
    }
    let comparison = job(&mut server, 'a').await;
    let failure = v1::Failure { kind: v1::FailKind::Error.into(), message: "no".to_owned() };
    finish(&mut server, &comparison, v1::finish_request::Outcome::Failed(failure), &[]).await;
    assert_eq!(server.study("s").await.state(), v1::StudyState::Finished);
    let best = server.studies.best(v1::BestRequest { study: "s".to_owned(), count: 1 }).await.unwrap().into_inner();
    assert_eq!((best.trials[0].number, best.comparison), (2, None));
    assert_eq!((best.baseline.unwrap().number, best.winner.unwrap().number), (0, 0));
}

#[tokio::test]
async fn a_round_is_taken_when_it_is_the_next_one_and_whole() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    prepared(&mut server, 6, true).await;
    measure(&mut server, 6).await;
    let job = job(&mut server, 'a').await;
    let round = comparison(&job).next.clone().unwrap();
    let whole = cells(&job, &round);
    let mut record = async |round, cells: &[v1::Cell]| {
        let request = v1::RecordRoundRequest { lease_token: token(&job), round, cells: cells.to_vec() };
        server.workers.record_round(request).await.map(|answer| answer.into_inner().next)
    };
    let twice = [&whole[..], &whole[..1]].concat();
    for (number, wrong) in [(0, &whole[1..]), (0, &twice), (0, &[]), (1, &whole[..])] {
        assert_eq!(reason(&record(number, wrong).await.unwrap_err()), Reason::InvalidArgument);
    }
    let mut turned = whole.clone();
    turned.reverse();
    let next = record(0, &turned).await.unwrap();
    assert_eq!(next.as_ref().unwrap().round, 1);
    assert_eq!(record(0, &turned).await.unwrap(), next);
}

#[tokio::test]
async fn a_returning_worker_gets_its_trial_again_before_anything_fresh() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    prepared(&mut server, 5, false).await;
    let lost = job(&mut server, 'a').await;
    register(&mut server, 'a', ENGINE).await;
    let again = job(&mut server, 'a').await;
    assert_eq!(trial(&again), trial(&lost));
    assert_eq!(again.lease.as_ref().unwrap().attempt, 2);
    // The first attempt is over: its result is refused, and kept.
    let request = v1::FinishRequest {
        lease_token: token(&lost),
        outcome: Some(complete()),
        detail: Some(v1::AttemptDetail::default()),
    };
    assert_eq!(reason(&server.workers.finish(request).await.unwrap_err()), Reason::TrialLeaseLost);
    finish(&mut server, &again, complete(), &[1.0, 2.0]).await;
    let request = v1::GetTrialRequest { study: "s".to_owned(), number: 0 };
    let ended = server.studies.get_trial(request).await.unwrap().into_inner().trial.unwrap();
    let states: Vec<_> = ended.attempts.iter().map(|attempt| attempt.state.as_str()).collect();
    assert_eq!((ended.values.as_slice(), states), (&[1.5][..], vec!["lost", "finished"]));
}

#[tokio::test]
async fn a_repeated_acquire_gets_the_same_job_or_none() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    // A study that always has something for whoever asks anew.
    server.create("earlier", model_config(9, false)).await.unwrap();
    server.create("s", model_config(9, false)).await.unwrap();
    register(&mut server, 'a', ENGINE).await;
    let first = acquire_as(&mut server, 'a', "earlier".to_owned()).await;
    let second = acquire_as(&mut server, 'a', "later".to_owned()).await;
    assert_ne!(first.jobs[0].study, second.jobs[0].study);
    for job in [&first.jobs[0], &second.jobs[0]] {
        assert!(matches!(job.work, Some(v1::job::Work::Describe(_))));
    }
    finish(&mut server, &first.jobs[0], description(), &[]).await;
    // Trials of the first study are to be had now; the repeat of the other study's request gets none of them.
    assert_eq!(acquire_as(&mut server, 'a', "later".to_owned()).await.jobs, second.jobs);
    assert_eq!(acquire_as(&mut server, 'a', "earlier".to_owned()).await.jobs, []);
    let started = acquire_as(&mut server, 'a', "trial".to_owned()).await;
    assert_eq!(trial(&started.jobs[0]).0, 0);
    assert_eq!(acquire_as(&mut server, 'a', "trial".to_owned()).await.jobs, started.jobs);
    finish(&mut server, &started.jobs[0], complete(), &[1.0, 1.0]).await;
    assert_eq!(acquire_as(&mut server, 'a', "trial".to_owned()).await.jobs, []);
    assert_eq!(server.trials("earlier").await.iter().filter(|trial| trial.turn.is_some()).count(), 1);
}

#[tokio::test]
async fn a_leased_trial_is_written_by_its_holder_alone() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    prepared(&mut server, 5, false).await;
    job(&mut server, 'a').await;
    assert_eq!(reason(&server.tell("s", 0, 1.0).await.unwrap_err()), Reason::TrialLeased);
    assert_eq!(reason(&server.report("s", 0, 1, 1.0).await.unwrap_err()), Reason::TrialLeased);
}

#[tokio::test]
async fn a_cancelled_trial_is_over_and_its_worker_hears_of_it() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    prepared(&mut server, 5, false).await;
    let job = job(&mut server, 'a').await;
    let request = v1::CancelTrialRequest { study: "s".to_owned(), number: 0 };
    server.studies.cancel_trial(request).await.unwrap();
    let request = v1::HeartbeatRequest { worker_id: worker_id('a'), tokens: vec![token(&job)], gauges: None };
    let beat = server.workers.heartbeat(request).await.unwrap().into_inner();
    assert_eq!(beat.leases[0].state(), v1::LeaseState::Cancelled);
}

#[tokio::test]
async fn failures_are_kept_by_kind_and_skipped_trials_are_free() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    prepared(&mut server, 2, false).await;
    let kinds = [v1::FailKind::UnsafeRegion, v1::FailKind::Oom, v1::FailKind::Timeout];
    for kind in kinds {
        let job = job(&mut server, 'a').await;
        let failure = Some(v1::Failure { kind: kind.into(), message: "because".to_owned() });
        let state = v1::TrialState::Fail.into();
        let outcome = v1::finish_request::Outcome::Trial(v1::TrialOutcome { state, failure, seconds: 0.0 });
        finish(&mut server, &job, outcome, &[]).await;
    }
    let study = server.study("s").await;
    assert_eq!(study.state(), v1::StudyState::Finished);
    let counts = study.counts.unwrap();
    assert_eq!((counts.fail, counts.skipped), (3, 1));
    let found: Vec<_> = server.trials("s").await.iter().map(|trial| trial.failure.clone().unwrap().kind()).collect();
    assert_eq!(found, kinds);
}

#[tokio::test]
async fn a_model_that_cannot_be_described_fails_the_study_with_its_reason() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    server.create("s", model_config(5, true)).await.unwrap();
    register(&mut server, 'a', ENGINE).await;
    let describe = job(&mut server, 'a').await;
    let failure = v1::Failure { kind: v1::FailKind::Error.into(), message: "no such file".to_owned() };
    finish(&mut server, &describe, v1::finish_request::Outcome::Failed(failure), &[]).await;
    let study = server.study("s").await;
    assert_eq!((study.state(), study.reason.as_str()), (v1::StudyState::Failed, "no such file"));
}

#[tokio::test]
async fn a_setting_that_llama_cpp_does_not_have_is_refused_by_name() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    let mut config = model_config(5, true);
    config.space = Some(v1::SearchSpace {
        parameters: vec![super::harness::parameter("n_bach", super::harness::int(1, 8))],
        ..v1::SearchSpace::default()
    });
    let refused = server.create("s", config).await.unwrap_err();
    assert_eq!(reason(&refused), Reason::InvalidArgument);
    assert!(refused.message().contains("n_batch"), "{}", refused.message());
}

#[tokio::test]
async fn a_context_that_cannot_hold_the_workload_is_refused_before_anything_runs() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    let fixed = |n_ctx| {
        let mut config = model_config(5, true);
        let benchmark = config.benchmark.as_mut().unwrap();
        benchmark.fixed = [("n_ctx".to_owned(), super::harness::value(n_ctx))].into();
        config
    };
    let searched = |high| {
        let n_ctx = super::harness::parameter("n_ctx", super::harness::int(8, high));
        let space = v1::SearchSpace { parameters: vec![n_ctx], ..v1::SearchSpace::default() };
        v1::StudyConfig { space: Some(space), ..model_config(5, true) }
    };
    for (name, config) in [("a", fixed(79)), ("b", searched(79))] {
        let refused = server.create(name, config).await.unwrap_err();
        assert_eq!(reason(&refused), Reason::InvalidArgument);
        let expected = "n_ctx=79 is too small for a prompt of 64 and 16 generated tokens";
        assert!(refused.message().contains(expected), "{}", refused.message());
    }
    server.create("c", fixed(80)).await.unwrap();
    server.create("d", searched(80)).await.unwrap();
}
