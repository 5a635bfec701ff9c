//! Records how the engine inside this runner was built; it is part of the engine's fingerprint.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let variable = |name: &str| env::var(name).unwrap_or_default();
    let flags = variable("CARGO_ENCODED_RUSTFLAGS");
    // The engine's build script reads the same flag: `native` there means GGML_NATIVE.
    let cpu = flags.split('\x1f').find_map(|flag| flag.split_once("target-cpu=")).map_or("portable", |(_, cpu)| cpu);
    let backends: Vec<&str> = ["cuda", "rocm", "vulkan"]
        .into_iter()
        .filter(|backend| env::var_os(format!("CARGO_FEATURE_{}", backend.to_uppercase())).is_some())
        .collect();
    let backend = if backends.is_empty() { "cpu".to_owned() } else { backends.join("+") };
    println!("cargo::rustc-env=FLEETUNE_ENGINE_BUILD={} {cpu} {backend}", variable("TARGET"));
}
