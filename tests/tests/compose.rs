//! The container files, as far as they can be checked without Docker: the compose file follows the specification and the
//! rules of this project, and what it names is there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use fleetune_tests::place;
use nix::sys::signal::Signal;
use serde_json::Value;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(name: &str) -> String {
    fs::read_to_string(repository().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn compose() -> Value {
    serde_saphyr::from_str(&read("docker-compose.yml")).expect("docker-compose.yml is YAML")
}

/// Name and definition of every service.
fn services() -> Vec<(String, Value)> {
    let compose = compose();
    let services = compose["services"].as_object().expect("there are services");
    services.iter().map(|(name, service)| (name.clone(), service.clone())).collect()
}

/// The strings of a list.
fn words(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The stages of the Dockerfile that have a name.
fn stages() -> Vec<String> {
    let dockerfile = read("Dockerfile");
    let names = dockerfile.lines().filter(|line| line.starts_with("FROM ")).filter_map(|line| line.split_once(" AS "));
    names.map(|(_, name)| name.trim().to_owned()).collect()
}

#[test]
fn compose_file_follows_the_specification() {
    let schema = read("tests/fixtures/compose/compose-spec.json");
    let schema: Value = serde_json::from_str(&schema).expect("the schema is JSON");
    let validator = jsonschema::validator_for(&schema).expect("the schema is one");
    let compose = compose();
    let errors: Vec<_> = validator.iter_errors(&compose).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}");

    let mut wrong = compose;
    wrong["services"]["worker"]["initt"] = true.into();
    assert!(!validator.is_valid(&wrong), "a misspelt key must not pass");
}

#[test]
fn published_ports_are_bound_to_loopback() {
    let mut published = 0;
    for (name, service) in services() {
        let ports = service["ports"].as_array().cloned().unwrap_or_default();
        for port in ports {
            let port = port.as_str().unwrap_or_else(|| panic!("{name}: write `{port}` as \"127.0.0.1:PORT:PORT\""));
            assert!(port.starts_with("127.0.0.1:"), "{name} publishes `{port}` to other machines");
            published += 1;
        }
        assert_ne!(service["network_mode"], "host", "{name} opens its ports on all addresses of the host");
    }
    assert_eq!(published, 1, "the coordinator's port, and no other");
}

#[test]
fn every_image_is_named_or_a_stage_of_the_dockerfile() {
    let stages = stages();
    for (name, service) in services() {
        let build = &service["build"];
        if build.is_null() {
            let image = service["image"].as_str().unwrap_or_else(|| panic!("{name} has neither image nor build"));
            assert!(image.contains(':') && !image.ends_with(":latest"), "{name}: `{image}` names no version");
            continue;
        }
        let target = build["target"].as_str().unwrap_or_else(|| panic!("{name} names no target"));
        assert!(stages.iter().any(|stage| stage == target), "{name}: the Dockerfile has {stages:?}, not `{target}`");
        assert!(
            repository().join(build["context"].as_str().expect("a build has a context")).join("Dockerfile").exists()
        );
        for argument in build["args"].as_object().into_iter().flat_map(serde_json::Map::keys) {
            assert!(read("Dockerfile").contains(&format!("ARG {argument}=")), "{name}: there is no ARG {argument}");
        }
    }
}

#[test]
fn workers_reap_orphans_and_cannot_write_to_models() {
    let workers: Vec<_> = services().into_iter().filter(|(name, _)| name.starts_with("worker")).collect();
    assert!(!workers.is_empty());
    for (name, worker) in workers {
        assert_eq!(worker["init"], true, "{name}");
        let volumes = words(&worker["volumes"]);
        assert!(volumes.contains(&"./models:/models:ro"), "{name}: {volumes:?}");
    }
}

#[test]
fn database_is_reachable_for_the_coordinator_alone() {
    assert_eq!(compose()["networks"]["storage"]["internal"], true);
    let on_storage = |service: &Value| words(&service["networks"]).contains(&"storage");
    let there: Vec<_> =
        services().into_iter().filter(|(_, service)| on_storage(service)).map(|(name, _)| name).collect();
    assert_eq!(there, ["coordinator", "postgres"]);
}

#[test]
fn volumes_networks_and_dependencies_exist() {
    let compose = compose();
    for (name, service) in services() {
        for volume in words(&service["volumes"]) {
            let source = volume.split(':').next().expect("a split has a first part");
            assert!(source.starts_with('.') || compose["volumes"].get(source).is_some(), "{name}: volume `{source}`");
        }
        for network in words(&service["networks"]) {
            assert!(compose["networks"].get(network).is_some(), "{name}: network `{network}`");
        }
        for (other, how) in service["depends_on"].as_object().into_iter().flatten() {
            assert!(compose["services"].get(other).is_some(), "{name} depends on `{other}`");
            assert_eq!(how["condition"], "service_healthy", "{name} needs {other} to answer");
        }
    }
}

#[test]
fn images_run_as_an_ordinary_user() {
    let dockerfile = read("Dockerfile");
    for stage in ["coordinator", "worker"] {
        let start = dockerfile.find(&format!(" AS {stage}\n")).expect("the stage is there");
        let stage_text = dockerfile[start..].split("\nFROM ").next().expect("a split has a first part");
        assert!(stage_text.contains("\nUSER fleetune\n"), "{stage}");
        assert!(!stage_text.contains("--insecure"), "{stage}: an image is safe by default; the compose file says more");
    }
}

/// What the images copy from the build context is there, and `.dockerignore` lets it through.
#[test]
fn build_context_holds_what_is_built() {
    let ignore = read(".dockerignore");
    let members = read("Cargo.toml");
    let members = members.lines().find_map(|line| line.strip_prefix("members = ")).expect("a workspace has members");
    let members: Vec<String> = serde_json::from_str(members).expect("a list of strings");
    let folders = members.iter().map(|member| member.split('/').next().expect("a split has a first part"));
    for name in folders.chain(["Cargo.toml", "Cargo.lock", "Makefile", "scripts", "migrations", "deploy"]) {
        assert!(ignore.lines().any(|line| line == format!("!{name}")), ".dockerignore keeps `{name}` out");
    }
    for word in read("Dockerfile").split_whitespace().filter(|word| word.starts_with("deploy/")) {
        assert!(repository().join(word).exists(), "{word}");
    }
}

#[test]
fn health_check_of_the_image_asks_whether_the_server_is_ready() {
    let place = place!();
    let server = place.serve(&place.sqlite("s.db"));
    let port = server.address.rsplit(':').next().expect("an address has a port").to_owned();
    let check = || {
        let mut check = Command::new(repository().join("deploy/ready.sh"));
        place.isolate(&mut check);
        check.arg(&port);
        place.start_command(check).wait()
    };
    check().ok();
    server.running.signal(Signal::SIGTERM);
    server.running.wait().ok();
    check().exits(1);
}
