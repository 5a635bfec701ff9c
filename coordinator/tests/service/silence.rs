//! Trials of Optuna clients that went away without a word.

use std::net::SocketAddr;
use std::time::Duration;

use fleetune_coordinator::scheduler::EngineOptions;
use fleetune_coordinator::storage::testing::PrivatePostgres;
use fleetune_coordinator::{Coordinator, Server as Port, transport};
use fleetune_proto::optuna as wire;
use fleetune_proto::optuna::storage_service_client::StorageServiceClient;
use fleetune_proto::v1;
use fleetune_proto::v1::study_service_client::StudyServiceClient;
use prost::Message as _;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::harness::{config, database, fresh_id, quick};

/// Long enough for a busy machine to show life in time.
const SILENCE: Duration = Duration::from_secs(3);

const DEADLINE: Duration = Duration::from_mins(1);

/// A coordinator that fails silent trials.
struct Watchful {
    address: SocketAddr,
    inside: StorageServiceClient<Channel>,
    studies: StudyServiceClient<Channel>,
    stop: CancellationToken,
    served: JoinHandle<()>,
}

impl Watchful {
    async fn start(url: &str) -> Self {
        let stop = CancellationToken::new();
        let port = Port::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = port.address();
        let options = EngineOptions { optuna_silence: Some(SILENCE), ..quick() };
        let coordinator = Coordinator::start(url, options, stop.clone()).await.unwrap();
        let channel = transport::in_process(coordinator.routes(), stop.clone()).await.unwrap();
        let served = tokio::spawn(async move {
            port.serve(&coordinator).await.unwrap();
            coordinator.close().await;
        });
        let (inside, studies) = (StorageServiceClient::new(channel.clone()), StudyServiceClient::new(channel));
        Self { address, inside, studies, stop, served }
    }

    async fn connect(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    async fn stop(self) {
        self.stop.cancel();
        self.served.await.unwrap();
    }

    async fn trial(&mut self, trial_id: i64) -> wire::Trial {
        let answer = self.inside.get_trial(wire::GetTrialRequest { trial_id }).await.unwrap();
        wire::Trial::decode(answer.into_inner().trial).unwrap()
    }

    async fn is_running(&mut self, trial: i64) -> bool {
        self.trial(trial).await.state() == wire::TrialState::Running
    }

    /// Waits until a trial has failed; `meanwhile` is called between looks.
    async fn until_failed(&mut self, trial: i64, mut meanwhile: impl AsyncFnMut(&mut Self)) -> wire::Trial {
        let failed = async {
            loop {
                let found = self.trial(trial).await;
                if found.state() != wire::TrialState::Running {
                    assert_eq!(found.state(), wire::TrialState::Fail);
                    return found;
                }
                meanwhile(self).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(DEADLINE, failed).await.expect("the trial is failed")
    }
}

async fn new_study(client: &mut StorageServiceClient<Channel>) -> i64 {
    let directions = vec![wire::StudyDirection::Minimize.into()];
    let request = wire::CreateNewStudyRequest { study_name: "s".to_owned(), directions };
    client.create_new_study(request).await.unwrap().into_inner().study_id
}

async fn new_trial(client: &mut StorageServiceClient<Channel>, study_id: i64) -> i64 {
    let request = wire::CreateNewTrialRequest { study_id, template_trial: None, template_trial_is_none: true };
    client.create_new_trial(request).await.unwrap().into_inner().trial_id
}

async fn set_step(client: &mut StorageServiceClient<Channel>, trial_id: i64, step: i64) {
    let request = wire::SetTrialIntermediateValueRequest { trial_id, step, intermediate_value: 1.0 };
    client.set_trial_intermediate_value(request).await.unwrap();
}

/// Asks for a trial of the study `own`, with a lease or without.
async fn ask(client: &mut StudyServiceClient<Channel>, lease: bool) -> i64 {
    let lease = lease.then_some(prost_types::Duration { seconds: 600, nanos: 0 });
    let request = v1::AskRequest {
        request_id: fresh_id(),
        study: "own".to_owned(),
        count: 1,
        lease,
        ..v1::AskRequest::default()
    };
    client.ask(request).await.unwrap().into_inner().trials.remove(0).number
}

async fn gone_clients(url: &str) {
    let mut server = Watchful::start(url).await;
    // Another one, which sees none of these connections.
    let other = Watchful::start(url).await;
    let mut stays = StorageServiceClient::new(server.connect().await);
    let study = new_study(&mut stays).await;
    let held = new_trial(&mut stays, study).await;

    let channel = server.connect().await;
    let mut own = StudyServiceClient::new(channel.clone());
    let request = v1::CreateStudyRequest {
        request_id: fresh_id(),
        name: "own".to_owned(),
        config: Some(config(None)),
        ..v1::CreateStudyRequest::default()
    };
    own.create_study(request).await.unwrap();
    let asked = [ask(&mut own, false).await, ask(&mut own, true).await];
    let mut leaves = StorageServiceClient::new(channel);
    let left = new_trial(&mut leaves, study).await;
    drop((leaves, own));

    let failed = server.until_failed(left, async |_| {}).await;
    let why = &failed.system_attributes["fleetune:fail_reason"];
    assert!(why.starts_with("\"its client is gone") && why.contains("for 3 s"), "{why}");
    let request = v1::GetTrialRequest { study: "s".to_owned(), number: failed.number };
    let shown = server.studies.get_trial(request).await.unwrap().into_inner().trial.unwrap();
    let failure = shown.failure.unwrap();
    assert_eq!(failure.kind(), v1::FailKind::Error);
    assert!(failure.message.contains("nothing was written to it"), "{failure:?}");

    // A whole period later the rest still runs, for both coordinators.
    let mut leaves = StorageServiceClient::new(server.connect().await);
    let left = new_trial(&mut leaves, study).await;
    drop(leaves);
    server.until_failed(left, async |_| {}).await;
    assert!(server.is_running(held).await, "a trial whose client is there was failed");
    for number in asked {
        let request = v1::GetTrialRequest { study: "own".to_owned(), number };
        let trial = server.studies.get_trial(request).await.unwrap().into_inner().trial.unwrap();
        assert_eq!(trial.state(), v1::TrialState::Running, "{trial:?}");
    }
    drop(stays);
    server.until_failed(held, async |_| {}).await;
    server.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn a_trial_whose_client_went_away_is_failed_on_sqlite() {
    let (_folder, url) = database();
    gone_clients(&url).await;
}

#[tokio::test]
async fn a_trial_whose_client_went_away_is_failed_on_postgres() {
    gone_clients(&PrivatePostgres::start().database().await).await;
}

async fn restart(url: &str) {
    let server = Watchful::start(url).await;
    let mut client = StorageServiceClient::new(server.connect().await);
    let study = new_study(&mut client).await;
    let [silent, written] = [new_trial(&mut client, study).await, new_trial(&mut client, study).await];
    server.stop().await;

    let mut server = Watchful::start(url).await;
    let mut step = 0;
    server
        .until_failed(silent, async |server| {
            step += 1;
            set_step(&mut server.inside, written, step).await;
        })
        .await;
    assert!(server.is_running(written).await, "a trial that is written to was failed");
    server.until_failed(written, async |_| {}).await;
    server.stop().await;
}

#[tokio::test]
async fn after_a_restart_a_trial_without_a_sign_of_life_is_failed_on_sqlite() {
    let (_folder, url) = database();
    restart(&url).await;
}

#[tokio::test]
async fn after_a_restart_a_trial_without_a_sign_of_life_is_failed_on_postgres() {
    restart(&PrivatePostgres::start().database().await).await;
}
