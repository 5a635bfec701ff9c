//! What the completed trials say: importances, the front, the winner's sensitivity.

use fleetune_proto::reason::Reason;
use fleetune_proto::v1;

use super::harness::{Server, config, database, float, int, parameter, reason};

/// A study of `x` in [0, 1], `n` in 0..=3 and `idle`, whose values are told by `objectives`.
async fn measured(
    server: &mut Server,
    directions: &[v1::Direction],
    trials: u32,
    objectives: impl Fn(f64, f64) -> Vec<f64>,
) {
    let mut config = config(Some(trials));
    config.directions = directions.iter().map(|&direction| direction.into()).collect();
    config.space = Some(v1::SearchSpace {
        parameters: vec![parameter("x", float(0.0, 1.0)), parameter("n", int(0, 3)), parameter("idle", int(0, 9))],
        ..v1::SearchSpace::default()
    });
    config.sampler = Some(v1::Sampler { name: "random".to_owned(), ..v1::Sampler::default() });
    server.create("s", config).await.unwrap();
    for trial in server.ask("s", trials).await.unwrap() {
        let number = |name: &str| match trial.params[name].kind.clone().unwrap() {
            v1::value::Kind::Float(float) => float,
            v1::value::Kind::Int(int) => int as f64,
            other => panic!("{other:?}"),
        };
        let request = v1::TellRequest {
            study: "s".to_owned(),
            number: trial.number,
            state: v1::TrialState::Complete.into(),
            values: objectives(number("x"), number("n")),
            ..v1::TellRequest::default()
        };
        server.studies.tell(request).await.unwrap();
    }
}

fn importances(method: v1::ImportanceMethod, objective: Option<u32>) -> v1::ImportancesRequest {
    v1::ImportancesRequest { study: "s".to_owned(), method: method.into(), objective }
}

fn front(reference: Vec<f64>) -> v1::ParetoFrontRequest {
    v1::ParetoFrontRequest { study: "s".to_owned(), reference }
}

fn sensitivity(number: Option<i64>, objective: Option<u32>) -> v1::SensitivityRequest {
    v1::SensitivityRequest { study: "s".to_owned(), number, objective }
}

#[tokio::test]
async fn what_matters_comes_first_and_repeats_itself() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    measured(&mut server, &[v1::Direction::Maximize], 80, |x, n| vec![100.0 - 50.0 * (x - 0.3).abs() + n]).await;
    for method in [v1::ImportanceMethod::PedAnova, v1::ImportanceMethod::Fanova] {
        let found = server.studies.importances(importances(method, None)).await.unwrap().into_inner();
        assert_eq!((found.method(), found.trials), (method, 80));
        let first = &found.parameters[0];
        assert!(first.name == "x" && first.importance > 0.6 && first.low > 0.3 && first.high <= 1.0, "{found:?}");
        let again = server.studies.importances(importances(method, Some(0))).await.unwrap().into_inner();
        assert_eq!(again, found);
    }
    let unset = server.studies.importances(importances(v1::ImportanceMethod::Unspecified, None)).await.unwrap();
    assert_eq!(unset.into_inner().method(), v1::ImportanceMethod::PedAnova);
    let refused = server.studies.importances(importances(v1::ImportanceMethod::Fanova, Some(1))).await.unwrap_err();
    assert_eq!(reason(&refused), Reason::InvalidArgument);
}

#[tokio::test]
async fn the_winner_is_shown_with_what_each_change_costs() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    measured(&mut server, &[v1::Direction::Maximize], 120, |x, n| vec![100.0 - 50.0 * x + n]).await;
    let found = server.studies.sensitivity(sensitivity(None, None)).await.unwrap().into_inner();
    let best = server.studies.best(v1::BestRequest { study: "s".to_owned(), count: 1 }).await.unwrap().into_inner();
    assert_eq!(found.number, best.winner.unwrap().number);
    assert!((90.0..104.0).contains(&found.predicted), "{found:?}");
    let worst = found.changes.iter().max_by(|a, b| a.loss.total_cmp(&b.loss)).unwrap();
    assert!(worst.name == "x" && (0.4..0.6).contains(&worst.loss) && worst.predicted < 60.0, "{worst:?}");
    assert!(found.changes.iter().any(|change| change.name == "idle" && change.loss.abs() < 0.05), "{found:?}");
    let outlook = found.outlook.unwrap();
    assert!(outlook.gain >= 0.0 && (outlook.relative < outlook.threshold) == outlook.may_stop, "{outlook:?}");
    let zero = server.studies.sensitivity(sensitivity(Some(0), None)).await.unwrap().into_inner();
    assert_eq!(zero.number, 0);
    let refused = server.studies.sensitivity(sensitivity(Some(999), None)).await.unwrap_err();
    assert_eq!(reason(&refused), Reason::TrialNotFound);
}

#[tokio::test]
async fn nothing_on_the_front_is_beaten() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    let directions = [v1::Direction::Minimize, v1::Direction::Maximize];
    measured(&mut server, &directions, 40, |x, n| vec![x + n, x.sqrt() - n]).await;
    let found = server.studies.pareto_front(front(vec![])).await.unwrap().into_inner();
    let values = found.trials.iter().map(|trial| (trial.values[0], trial.values[1])).collect::<Vec<_>>();
    assert!(values.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1), "{values:?}");
    let knee = found.knee.expect("a root bends");
    assert!(found.trials.iter().any(|trial| trial.number == knee));
    assert!(found.hypervolume.unwrap() > 0.0 && found.reference[0] > 3.0 && found.reference[1] < -2.0, "{found:?}");
    let box_only = server.studies.pareto_front(front(vec![1.0, 0.0])).await.unwrap().into_inner();
    assert!((0.3..0.7).contains(&box_only.hypervolume.unwrap()), "{:?}", box_only.hypervolume);
    let refused = server.studies.pareto_front(front(vec![1.0])).await.unwrap_err();
    assert_eq!(reason(&refused), Reason::InvalidArgument);
    // Importances for reaching the front, and for each objective.
    for objective in [None, Some(0), Some(1)] {
        let found = server.studies.importances(importances(v1::ImportanceMethod::PedAnova, objective)).await;
        assert_eq!(found.unwrap().into_inner().trials, 40);
    }
    let refused = server.studies.sensitivity(sensitivity(None, None)).await.unwrap_err();
    assert_eq!(reason(&refused), Reason::InvalidArgument);
    let found = server.studies.sensitivity(sensitivity(None, Some(1))).await.unwrap().into_inner();
    assert!(found.changes.iter().any(|change| change.name == "n" && change.loss > 0.0));
}

#[tokio::test]
async fn a_young_study_says_how_many_trials_it_needs() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    measured(&mut server, &[v1::Direction::Minimize], 3, |x, _| vec![x]).await;
    let refused = server.studies.importances(importances(v1::ImportanceMethod::PedAnova, None)).await.unwrap_err();
    assert_eq!(reason(&refused), Reason::TooFewTrials);
    assert_eq!(refused.message(), "study `s`: 3 completed trials have a finite value, but 4 are needed");
    let refused = server.studies.sensitivity(sensitivity(None, None)).await.unwrap_err();
    assert_eq!(reason(&refused), Reason::TooFewTrials);
    let found = server.studies.pareto_front(front(vec![])).await.unwrap().into_inner();
    assert_eq!((found.trials.len(), found.knee), (1, None));
    let nobody = v1::ImportancesRequest { study: "nobody".to_owned(), ..v1::ImportancesRequest::default() };
    assert_eq!(reason(&server.studies.importances(nobody).await.unwrap_err()), Reason::StudyNotFound);
}
