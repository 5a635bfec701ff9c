//! The `fleetune` program as the tests start it: always as fresh as they are.

fn main() -> std::process::ExitCode {
    fleetune_cli::main()
}
