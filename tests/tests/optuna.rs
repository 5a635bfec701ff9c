//! Unmodified Optuna against a server, on both databases: its own storage contract, programs as its users write them, also
//! while the server is killed under them, and its dashboard in a browser. And the Python package.

mod certificates;

use std::path::{Path, PathBuf};
use std::process::Command;

use certificates::{certificates, token};
use fleetune_coordinator::storage::testing::PrivatePostgres;
use fleetune_tests::{Place, place};
use nix::sys::signal::Signal;

/// `pytest` in the environment of `place`.
fn pytest(place: &Place, tests: &Path) -> Command {
    let python = std::env::var_os("FLEETUNE_OPTUNA_PYTHON");
    let python: PathBuf =
        python.expect("FLEETUNE_OPTUNA_PYTHON names no Python with Optuna; `make test-optuna` installs one").into();
    let mut pytest = Command::new(python);
    place.isolate(&mut pytest);
    pytest.env("PYTHONDONTWRITEBYTECODE", "1");
    pytest.args(["-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", "-W", "ignore"]).arg(tests);
    pytest
}

/// Runs the Python tests of `file` against what listens at `address`, with a database of Optuna's own for those that
/// want one.
fn run_at(place: &Place, address: &str, source: &str, file: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/optuna");
    let mut pytest = pytest(place, &folder.join(file));
    pytest.env("FLEETUNE_ADDRESS", address).env("FLEETUNE_SOURCE", source);
    pytest.env("FLEETUNE_PROGRAM", env!("CARGO_BIN_EXE_fleetune-e2e"));
    // Without the deadline of other programs: it is many tests, each with its own.
    let status = pytest.status().expect("Python can be started");
    assert!(status.success(), "{file}: {status}");
}

/// The same, against a server over `storage`.
fn run(place: &Place, storage: &str, file: &str) {
    run_beside(place, storage, "", file);
}

fn run_beside(place: &Place, storage: &str, source: &str, file: &str) {
    let server = place.serve(storage);
    run_at(place, &server.address, source, file);
    server.running.signal(Signal::SIGTERM);
    server.running.wait().ok();
}

/// Runs Python tests that start servers themselves.
fn run_with_program(place: &Place, storage: &str, tests: &str) {
    let mut pytest = pytest(place, &Path::new(env!("CARGO_MANIFEST_DIR")).join(tests));
    pytest.env("FLEETUNE_PROGRAM", env!("CARGO_BIN_EXE_fleetune-e2e")).env("FLEETUNE_STORAGE", storage);
    let status = pytest.status().expect("Python can be started");
    assert!(status.success(), "{tests}: {status}");
}

#[test]
#[ignore = "needs Optuna; `make test-optuna` installs it"]
fn contract_holds_on_sqlite() {
    let place = place!();
    run(&place, &place.sqlite("s.db"), "test_contract.py");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Optuna; `make test-optuna` installs it"]
async fn contract_holds_on_postgres() {
    let url = PrivatePostgres::start().database().await;
    tokio::task::spawn_blocking(move || run(&place!(), &url, "test_contract.py")).await.unwrap();
}

#[test]
#[ignore = "needs Optuna; `make test-optuna` installs it"]
fn programs_run_on_sqlite() {
    let place = place!();
    run(&place, &place.sqlite("s.db"), "test_programs.py");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Optuna; `make test-optuna` installs it"]
async fn programs_run_on_postgres() {
    let url = PrivatePostgres::start().database().await;
    tokio::task::spawn_blocking(move || run(&place!(), &url, "test_programs.py")).await.unwrap();
}

#[test]
#[ignore = "needs Optuna; `make test-optuna` installs it"]
fn programs_outlive_a_killed_server_on_sqlite() {
    let place = place!();
    run_with_program(&place, &place.sqlite("s.db"), "python/optuna/test_restart.py");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Optuna; `make test-optuna` installs it"]
async fn programs_outlive_a_killed_server_on_postgres() {
    let url = PrivatePostgres::start().database().await;
    let file = "python/optuna/test_restart.py";
    tokio::task::spawn_blocking(move || run_with_program(&place!(), &url, file)).await.unwrap();
}

#[test]
#[ignore = "needs optuna-dashboard and Chromium; `make test-optuna` installs them"]
fn dashboard_of_optuna_shows_every_study() {
    let place = place!();
    run(&place, &place.sqlite("s.db"), "test_dashboard.py");
}

#[test]
#[ignore = "needs optuna-dashboard and Chromium; `make test-optuna` installs them"]
fn dashboard_of_optuna_shows_every_study_through_the_proxy() {
    let place = place!();
    certificates(&place);
    let storage = place.sqlite("s.db");
    let file = token(&place, &storage, "ann", "client");
    let mut serve = place.command();
    serve.args(["serve", "--storage", &storage, "--listen", "127.0.0.1:0"]);
    serve.args(["--tls-cert", "server.crt", "--tls-key", "server.key"]);
    let server = place.serve_command(serve);
    // What the certificate is for.
    let url = server.address.replace("127.0.0.1", "https://localhost");
    let mut proxy = place.command();
    proxy.args(["proxy", "--server", &url, "--token-file", &file, "--tls-ca", "ca.crt", "--listen", "127.0.0.1:0"]);
    let proxy = place.serve_command(proxy);
    run_at(&place, &proxy.address, "", "test_dashboard.py");
}

#[test]
#[ignore = "needs Optuna; `make test-optuna` installs it"]
fn python_package_works() {
    let place = place!();
    run_with_program(&place, &place.sqlite("s.db"), "../python/tests");
}

#[test]
#[ignore = "needs Optuna; `make test-optuna` installs it"]
fn studies_move_from_sqlite_to_sqlite_and_back() {
    let place = place!();
    let source = format!("sqlite:///{}", place.path("optuna.db").display());
    run_beside(&place, &place.sqlite("s.db"), &source, "test_transfer.py");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Optuna; `make test-optuna` installs it"]
async fn studies_move_from_postgres_to_postgres_and_back() {
    let cluster = PrivatePostgres::start();
    let (url, source) = (cluster.database().await, cluster.empty_database());
    let source = source.replace("postgres:", "postgresql+psycopg2:");
    tokio::task::spawn_blocking(move || run_beside(&place!(), &url, &source, "test_transfer.py")).await.unwrap();
}
