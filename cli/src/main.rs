//! The `fleetune` binary.

fn main() -> std::process::ExitCode {
    fleetune_cli::main()
}
