//! Which engine a `llama-bench` holds, and the devices it sees.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use fleetune_core::FailKind;
use fleetune_core::runner::{Device, DeviceKind, Engine};

use super::capabilities::{Capabilities, ask};
use crate::executor::Failure;

/// Libraries of the engine, which a build may keep in files of their own.
const LIBRARIES: [&str; 3] = ["libllama", "libggml", "ggml"];

/// Asks the program, and reads it: the same version is built in many ways.
pub(super) async fn look(program: &Path, known: &Capabilities) -> Result<(Engine, Vec<Device>), Failure> {
    let said = if known.has("--version") { ask(program, "--version").await? } else { String::new() };
    let version = said.lines().find_map(|line| line.trim().strip_prefix("version: ")).unwrap_or("unknown").to_owned();
    let built = said.lines().find_map(|line| line.trim().strip_prefix("built with ")).unwrap_or_default().to_owned();
    let listed = if known.has("--list-devices") { devices(&ask(program, "--list-devices").await?) } else { Vec::new() };
    let path = program.to_owned();
    let hash =
        tokio::task::spawn_blocking(move || digest(&path)).await.unwrap_or_else(|_| Err(io::ErrorKind::Other.into()));
    let hash = hash.map_err(|problem| {
        Failure::new(FailKind::Error, format!("`{}` cannot be read: {problem}", program.display()))
    })?;
    let engine = Engine {
        name: "llama-bench".to_owned(),
        version,
        ggml_version: "of the same build".to_owned(),
        crate_version: "none".to_owned(),
        system_info: built,
        build: format!("blake3 {hash}"),
    };
    Ok((engine, listed))
}

/// Of the program and of the engine's libraries beside it, in the order of their names.
fn digest(program: &Path) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(program)?)?;
    for library in libraries(program) {
        hasher.update_reader(File::open(library)?)?;
    }
    Ok(hasher.finalize().to_hex()[..16].to_owned())
}

fn libraries(program: &Path) -> Vec<PathBuf> {
    let resolved = program.canonicalize().unwrap_or_else(|_| program.to_owned());
    let is_library = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let ends = [".so", ".dylib", ".dll"].iter().any(|end| name.contains(end));
        ends && LIBRARIES.iter().any(|library| name.starts_with(library)) && path.is_file()
    };
    let entries = resolved.parent().and_then(|folder| std::fs::read_dir(folder).ok()).into_iter().flatten();
    let mut found: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_library).collect();
    found.sort_unstable();
    found
}

/// Reads `  CUDA0: NVIDIA GeForce RTX 3090 (24576 MiB, 23892 MiB free)`.
fn devices(listing: &str) -> Vec<Device> {
    let listed = listing.split_once("Available devices:").map_or("", |(_, listed)| listed);
    listed.lines().filter_map(device).collect()
}

fn device(line: &str) -> Option<Device> {
    let (name, rest) = line.trim().split_once(": ")?;
    let (description, memory) = rest.rsplit_once(" (")?;
    let (total, free) = memory.strip_suffix(" MiB free)")?.split_once(" MiB, ")?;
    Some(Device {
        name: name.to_owned(),
        description: description.to_owned(),
        backend: name.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned(),
        kind: DeviceKind::Gpu,
        memory_total_mib: total.parse().ok()?,
        memory_free_mib: free.parse().ok()?,
        pci_id: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_from_the_listing() {
        let found = devices(include_str!("../../tests/fixtures/llama-bench/devices-cuda.txt"));
        let facts: Vec<_> = found.iter().map(|d| (d.name.as_str(), d.backend.as_str(), d.memory_total_mib)).collect();
        assert_eq!(facts, [("CUDA0", "CUDA", 24_576), ("CUDA1", "CUDA", 12_288)]);
        assert_eq!((found[1].description.as_str(), found[1].memory_free_mib), ("NVIDIA GeForce RTX 3060", 11_900));
        assert_eq!(devices(include_str!("../../tests/fixtures/llama-bench/devices-none.txt")), []);
        assert_eq!(devices("error: invalid parameter for argument: --list-devices"), []);
    }

    #[test]
    fn another_library_is_another_build() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("llama-bench");
        std::fs::write(&program, "program").unwrap();
        let alone = digest(&program).unwrap();
        std::fs::write(folder.path().join("notes.txt"), "x").unwrap();
        assert_eq!(digest(&program).unwrap(), alone);
        std::fs::write(folder.path().join("libggml-cuda.so.0"), "x").unwrap();
        assert_ne!(digest(&program).unwrap(), alone);
    }
}
