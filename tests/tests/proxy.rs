//! Optuna's clients, which know neither TLS nor tokens, on a server that asks for both.

mod certificates;

use std::time::Duration;

use certificates::{certificates, token};
use fleetune_proto::optuna::storage_service_client::StorageServiceClient;
use fleetune_proto::v1::study_service_client::StudyServiceClient;
use fleetune_proto::{optuna, v1};
use fleetune_tests::{Place, Running, Served, place};
use nix::sys::signal::Signal;
use prost::Message as _;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

const TLS: [&str; 4] = ["--tls-cert", "server.crt", "--tls-key", "server.key"];
const MIB: usize = 1 << 20;

/// A server that speaks TLS and asks for a token.
fn serve(place: &Place, storage: &str, listen: &str) -> Served {
    let serve = ["serve", "--storage", storage, "--listen", listen];
    let mut running = place.start(&[&serve[..], &TLS].concat());
    let address = listening(&mut running).replace("127.0.0.1", "localhost");
    Served { running, address }
}

/// A proxy to it, and where it listens.
fn proxy(place: &Place, server: &Served, token_file: &str) -> (Running, String) {
    let url = format!("https://{}", server.address);
    let words =
        ["proxy", "--server", &url, "--token-file", token_file, "--tls-ca", "ca.crt", "--listen", "127.0.0.1:0"];
    let mut running = place.start(&words);
    let url = format!("http://{}", listening(&mut running));
    (running, url)
}

async fn connect(url: &str) -> Channel {
    Endpoint::from_shared(url.to_owned()).unwrap().connect().await.unwrap()
}

fn new_study(name: &str) -> optuna::CreateNewStudyRequest {
    optuna::CreateNewStudyRequest {
        study_name: name.to_owned(),
        directions: vec![optuna::StudyDirection::Minimize.into()],
    }
}

fn running_trial(study_id: i64) -> optuna::CreateNewTrialRequest {
    optuna::CreateNewTrialRequest { study_id, template_trial: None, template_trial_is_none: true }
}

/// Calls until the answer is `wanted`.
async fn until_answered(client: &mut StorageServiceClient<Channel>, wanted: Code) -> String {
    tokio::time::timeout(fleetune_tests::wait::DEADLINE, async {
        loop {
            let answer = client.get_all_studies(optuna::GetAllStudiesRequest {}).await;
            let (code, message) = answer
                .map_or_else(|status| (status.code(), status.message().to_owned()), |_| (Code::Ok, String::new()));
            if code == wanted {
                return message;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("no answer was {wanted:?}"))
}

#[tokio::test]
async fn calls_and_streams_pass_with_token_and_tls() {
    let place = place!();
    certificates(&place);
    let storage = place.sqlite("a.db");
    let file = token(&place, &storage, "ann", "client");
    let server = serve(&place, &storage, "127.0.0.1:0");
    let (proxy, url) = proxy(&place, &server, &file);

    let channel = connect(&url).await;
    let mut storage = StorageServiceClient::new(channel.clone()).max_decoding_message_size(128 * MIB);
    let study_id = storage.create_new_study(new_study("s")).await.unwrap().into_inner().study_id;
    // A status comes with its message and what else is said.
    let refused = storage.create_new_study(new_study("s")).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists, "{refused:?}");
    assert!(refused.metadata().contains_key("fleetune-reason"), "{refused:?}");

    // A stream gives its parts as they come.
    let watch = v1::WatchRequest { study: "s".to_owned(), after: 0 };
    let mut changes = StudyServiceClient::new(channel).watch(watch).await.unwrap().into_inner();
    let first = changes.message().await.unwrap().unwrap().event.unwrap();
    assert!(matches!(first, v1::watch_event::Event::Study(_)), "{first:?}");
    let trial = storage.create_new_trial(running_trial(study_id)).await.unwrap().into_inner().trial_id;
    loop {
        if let v1::watch_event::Event::Trial(seen) = changes.message().await.unwrap().unwrap().event.unwrap() {
            assert_eq!(seen.number, 0);
            break;
        }
    }

    // Longer than any limit that nobody raised.
    let long = format!("\"{}\"", "x".repeat(40 * MIB));
    let attribute =
        optuna::SetTrialUserAttributeRequest { trial_id: trial, key: "long".to_owned(), value: long.clone() };
    storage.set_trial_user_attribute(attribute).await.unwrap();
    assert!(read(&mut storage, trial).await.user_attributes["long"] == long, "the attribute was changed on its way");

    // Other programs use it as well, and the stream that is open does not hold up the end for long.
    place.run(&["study", "list", "--server", &url]).ok().prints("s");
    proxy.signal(Signal::SIGTERM);
    proxy.wait().ok().says("were cut");
}

#[tokio::test]
async fn a_wrong_token_is_refused_and_a_replaced_one_taken_into_use() {
    let place = place!();
    certificates(&place);
    let storage = place.sqlite("a.db");
    let file = token(&place, &storage, "ann", "client");
    let server = serve(&place, &storage, "127.0.0.1:0");
    place.write("used.token", &format!("fleetune_{}\n", "0".repeat(64)));
    let used = place.path("used.token").display().to_string();
    let (proxy, url) = proxy(&place, &server, &used);

    let mut storage = StorageServiceClient::new(connect(&url).await);
    let refused = storage.create_new_study(new_study("s")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");
    std::fs::copy(file, used).unwrap();
    until_answered(&mut storage, Code::Ok).await;
    proxy.signal(Signal::SIGINT);
    proxy.wait().ok();
}

#[tokio::test]
async fn a_server_that_is_away_is_unavailable_until_it_is_back() {
    let place = place!();
    certificates(&place);
    let storage = place.sqlite("a.db");
    let file = token(&place, &storage, "ann", "client");
    let server = serve(&place, &storage, "127.0.0.1:0");
    let address = server.address.replace("localhost", "127.0.0.1");
    let (proxy, url) = proxy(&place, &server, &file);

    let channel = connect(&url).await;
    let mut client = StorageServiceClient::new(channel.clone());
    client.create_new_study(new_study("s")).await.unwrap();
    let watch = v1::WatchRequest { study: "s".to_owned(), after: 0 };
    let mut changes = StudyServiceClient::new(channel).watch(watch).await.unwrap().into_inner();
    changes.message().await.unwrap().unwrap();
    server.kill();
    // An answer that breaks off in its midst says why, too.
    let broken = changes.message().await.unwrap_err();
    assert_eq!(broken.code(), Code::Unavailable, "{broken:?}");
    assert!(broken.message().contains("the coordinator at https://localhost:"), "{broken:?}");
    let why = until_answered(&mut client, Code::Unavailable).await;
    assert!(why.contains("the coordinator at https://localhost:"), "{why}");
    let _server = serve(&place, &storage, &address);
    until_answered(&mut client, Code::Ok).await;
    client.get_study_id_from_name(optuna::GetStudyIdFromNameRequest { study_name: "s".to_owned() }).await.unwrap();
    proxy.signal(Signal::SIGTERM);
    proxy.wait().ok();
}

#[tokio::test]
async fn a_client_that_goes_away_is_missed_behind_a_proxy_too() {
    let place = place!();
    let mut command = place.command();
    command.args(["serve", "--storage", &place.sqlite("a.db"), "--listen", "127.0.0.1:0"]);
    command.env("FLEETUNE_OPTUNA_SILENCE", "3s");
    let mut server = place.start_command(command);
    let address = listening(&mut server);
    let mut proxy = place.start(&["proxy", "--server", &address, "--listen", "127.0.0.1:0"]);
    let url = format!("http://{}", listening(&mut proxy));

    let mut stays = StorageServiceClient::new(connect(&url).await);
    let study_id = stays.create_new_study(new_study("s")).await.unwrap().into_inner().study_id;
    let held = stays.create_new_trial(running_trial(study_id)).await.unwrap().into_inner().trial_id;
    for _ in 0..2 {
        let mut leaves = StorageServiceClient::new(connect(&url).await);
        let left = leaves.create_new_trial(running_trial(study_id)).await.unwrap().into_inner().trial_id;
        drop(leaves);
        until_failed(&mut stays, left).await;
    }
    assert_eq!(read(&mut stays, held).await.state(), optuna::TrialState::Running);
    let shown = place.run(&["trial", "show", "s", "1", "--server", &format!("http://{address}")]).ok();
    shown.prints("its client is gone");
}

/// Where a program that was started listens.
fn listening(running: &mut Running) -> String {
    running.until_it_prints("listening on ").trim().rsplit(' ').next().unwrap().to_owned()
}

async fn read(client: &mut StorageServiceClient<Channel>, trial_id: i64) -> optuna::Trial {
    let answer = client.get_trial(optuna::GetTrialRequest { trial_id }).await.unwrap();
    optuna::Trial::decode(answer.into_inner().trial).unwrap()
}

async fn until_failed(client: &mut StorageServiceClient<Channel>, id: i64) {
    let failed = async {
        while read(client, id).await.state() != optuna::TrialState::Fail {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(fleetune_tests::wait::DEADLINE, failed).await.expect("the trial is failed");
}

#[test]
fn a_proxy_is_for_this_machine_alone_and_needs_a_server() {
    let place = place!();
    let server = ["proxy", "--server", "http://127.0.0.1:1"];
    place.run(&[&server[..], &["--listen", "0.0.0.0:0"]].concat()).exits(2).says("refused to listen on 0.0.0.0:0");
    place.run(&[&server[..], &["--token-file", "missing"]].concat()).exits(3).says("missing");
    place.run(&["proxy"]).exits(2).says("--server https://HOST:PORT");
}
