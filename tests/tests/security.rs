//! Tokens and TLS, as people use them: real processes, real certificates.

mod certificates;

use std::os::unix::fs::PermissionsExt as _;

use certificates::{certificates, token};
use fleetune_tests::{Served, place};
use serde_json::json;

#[test]
fn a_fleet_with_tokens_works_and_keeps_others_out() {
    let place = place!();
    place.script(&json!({"repetition_ms": 1}));
    let storage = place.sqlite("a.db");
    let boss = token(&place, &storage, "boss", "admin");
    let mode = std::fs::metadata(&boss).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = std::fs::read_to_string(&boss).unwrap();
    assert!(text.starts_with("fleetune_") && text.trim().len() == 73, "{text}");
    let server = place.serve(&storage);
    let url = server.url();

    let refused = place.run(&["study", "list", "--server", &url]).exits(4);
    refused.says("asks for a token").says("--token-file");
    let with = |file: &str, words: &[&str]| place.run(&[words, &["--server", &url, "--token-file", file]].concat());
    let worker = place.path("w.token").display().to_string();
    with(&boss, &["token", "create", "gpu-1", "--role", "worker", "--output", &worker]).ok();
    let printed = with(&boss, &["token", "create", "ann", "--role", "client"]).ok();
    printed.says("the only time");
    place.write("ann.token", &with(&boss, &["token", "create", "bob", "--role", "client"]).ok().stdout);
    let client = place.path("ann.token").display().to_string();
    // A file that is there is not overwritten, and nothing is created then.
    with(&boss, &["token", "create", "cyd", "--role", "client", "--output", &worker]).exits(3);

    with(&worker, &["study", "list"]).exits(4).says("has the role worker");
    with(&client, &["token", "list"]).exits(4).says("needs admin");
    place.run(&["token", "list", "--server", &url]).exits(4);
    let listed = with(&boss, &["token", "list", "--format", "json"]).ok();
    let names: Vec<_> = listed.json().as_array().unwrap().iter().map(|token| token["name"].clone()).collect();
    assert_eq!(names, ["boss", "gpu-1", "ann", "bob"]);
    assert!(!listed.stdout.contains("fleetune_"), "a token is shown");

    // A whole search, each with a token of its own.
    let _worker = place.start_worker(&url, &["--token-file", &worker]);
    let model = ["study", "create", "s", "--model", "m", "--space", "space.toml", "--trials", "3", "--no-confirm"];
    with(&client, &model).ok();
    let watched = with(&client, &["study", "watch", "s"]).ok();
    watched.prints("study `s` is finished");

    let audit = with(&boss, &["audit", "--study", "s", "--format", "json"]).ok().json();
    assert_eq!((&audit[0]["actor"], &audit[0]["action"]), (&json!("bob"), &json!("CreateStudy")), "{audit}");

    with(&boss, &["token", "revoke", "bob"]).ok().prints("is revoked");
    with(&client, &["study", "list"]).exits(4).says("was revoked");
}

#[test]
fn a_token_is_never_shown_by_the_configuration() {
    let place = place!();
    let mut command = place.command();
    command.args(["config", "show"]).env("FLEETUNE_TOKEN", "fleetune_secret");
    let shown = place.start_command(command).wait().ok();
    assert!(!shown.stdout.contains("fleetune_secret"), "{}", shown.stdout);
    shown.prints("token = [redacted]  # environment FLEETUNE_TOKEN");
    let mut command = place.command();
    command.args(["config", "show"]).env("FLEETUNE_TOKEN", "x").env("FLEETUNE_TOKEN_FILE", "y");
    place.start_command(command).wait().exits(2).says("both a token and a file");
    place.run(&["study", "list", "--server", "http://127.0.0.1:1", "--token-file", "missing"]).exits(3).says("missing");
}

#[test]
fn an_address_that_others_reach_needs_tls_and_a_token() {
    let place = place!();
    certificates(&place);
    let storage = place.sqlite("a.db");
    let listen = ["serve", "--storage", &storage, "--listen", "0.0.0.0:0"];
    let tls = ["--tls-cert", "server.crt", "--tls-key", "server.key"];
    place.run(&listen).exits(2).says("without TLS");
    place.run(&[&listen[..], &tls].concat()).exits(2).says("the storage holds no token");
    place.run(&[&listen[..], &["--tls-cert", "server.crt"]].concat()).exits(2).says("belong together");
    place.run(&[&listen[..], &["--tls-client-ca", "ca.crt"]].concat()).exits(2).says("there is no TLS");
    place.run(&[&listen[..], &["--tls-cert", "nothing", "--tls-key", "server.key"]].concat()).exits(2).says("nothing");
    let boss = token(&place, &storage, "boss", "admin");

    let mut running = place.start(&[&listen[..], &tls, &["--tls-client-ca", "ca.crt"]].concat());
    let printed = running.until_it_prints("listening on ");
    let port = printed.trim().rsplit(':').next().unwrap().to_owned();
    let server = Served { running, address: format!("localhost:{port}") };
    let url = format!("https://{}", server.address);
    let list = ["study", "list", "--server", &url, "--token-file", &boss];
    let trust = ["--tls-ca", "ca.crt"];
    let identity = ["--tls-cert", "client.crt", "--tls-key", "client.key"];
    place.run(&[&list[..], &trust, &identity].concat()).ok();
    place.run(&[&list[..], &trust].concat()).exits(4);
    place.run(&[&list[..], &["--tls-ca", "other.crt"], &identity].concat()).exits(4).says("--tls-ca FILE");
    let without_token = [&["study", "list", "--server", &url][..], &trust, &identity].concat();
    place.run(&without_token).exits(4).says("asks for a token");
    let plain = url.replace("https:", "http:");
    place.run(&["study", "list", "--server", &plain]).exits(4);
}

#[test]
fn https_to_a_server_in_the_clear_says_so() {
    let place = place!();
    let server = place.serve(&place.sqlite("a.db"));
    certificates(&place);
    let url = server.url().replace("http:", "https:");
    place.run(&["study", "list", "--server", &url, "--tls-ca", "ca.crt"]).exits(4).says("speaks no TLS");
}
