//! A client that knows nothing but the .proto files, in another language, over TCP.

use std::path::{Path, PathBuf};
use std::process::Command;

use fleetune_tests::place;
use nix::sys::signal::Signal;

/// A Python that has the packages of `tests/python/requirements.txt`.
fn python() -> PathBuf {
    let python = std::env::var_os("FLEETUNE_PYTHON");
    python.expect("FLEETUNE_PYTHON names no Python with gRPC; run `make test`, which installs one").into()
}

#[test]
fn python_client_made_of_the_proto_files_searches() {
    let python = python();
    let place = place!();
    let server = place.serve(&place.sqlite("s.db"));

    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut client = Command::new(python);
    place.isolate(&mut client);
    client.arg(repository.join("tests/python/client.py")).arg(&server.address).arg(repository.join("proto/proto"));
    place.start_command(client).wait().ok().prints("best of 15 trials");

    server.running.signal(Signal::SIGTERM);
    server.running.wait().ok();
}
