//! Compiles the protocol without `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_files([
        "fleetune/v1/common.proto",
        "fleetune/v1/study.proto",
        "fleetune/v1/worker.proto",
        "fleetune/v1/fleet.proto",
        "optuna/storage.proto",
        "fleetune/v1/admin.proto",
        "fleetune/v1/transfer.proto",
    ])?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptor.bin"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure()
        .btree_map(".")
        // Ended trials are kept encoded and sent as they are.
        .extern_path(".optuna.GetTrialReply", "crate::encoded::Reply")
        .extern_path(".optuna.GetTrialsReply", "crate::encoded::Replies")
        .compile_fds(compiler.file_descriptor_set())?;
    println!("cargo::rerun-if-changed=proto");
    Ok(())
}
