//! A study that learns from earlier ones.

use fleetune_proto::reason::Reason;
use fleetune_proto::v1;

use super::harness::{Server, config, database, objective, reason};

#[tokio::test]
async fn the_best_of_an_earlier_study_comes_first_and_stays_what_it_was() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    server.create("before", config(None)).await.unwrap();
    let mut told = Vec::new();
    for trial in server.ask("before", 12).await.unwrap() {
        let loss = objective(&trial.params);
        server.tell("before", trial.number, loss).await.unwrap();
        told.push((loss, trial.params));
    }
    told.sort_by(|a, b| a.0.total_cmp(&b.0));
    let warm = v1::StudyConfig { warm_start: vec!["before".to_owned()], seed: 8, ..config(Some(20)) };
    server.create("after", warm).await.unwrap();
    // What it learned is its own.
    let request = v1::DeleteStudyRequest { name: "before".to_owned(), force: true };
    server.studies.delete_study(request).await.unwrap();
    for turn in 0..12 {
        let trial = server.ask("after", 1).await.unwrap().remove(0);
        if turn == 0 {
            assert_eq!(trial.params, told[0].1);
        }
        server.tell("after", trial.number, objective(&trial.params)).await.unwrap();
    }
    assert_eq!(server.verify("after").await, 12);
    assert_eq!(server.study("after").await.config.unwrap().warm_start, ["before"]);
}

#[tokio::test]
async fn what_there_is_nothing_to_learn_from_is_refused() {
    let (_folder, url) = database();
    let mut server = Server::start(&url).await;
    server.create("empty", config(None)).await.unwrap();
    let warm = |name: &str, sampler: &str| v1::StudyConfig {
        warm_start: vec![name.to_owned()],
        sampler: Some(v1::Sampler { name: sampler.to_owned(), tpe_optuna5: None }),
        ..config(None)
    };
    for (name, sampler, why) in [
        ("nobody", "auto", "there is no study `nobody`"),
        ("empty", "auto", "study `empty` has no complete trial to learn from"),
        ("empty", "random", "only the sampler `auto` on one objective learns from earlier studies"),
    ] {
        let refused = server.create("after", warm(name, sampler)).await.unwrap_err();
        assert_eq!(reason(&refused), Reason::InvalidArgument, "{refused}");
        assert!(refused.message().contains(why), "{refused}");
    }
}
