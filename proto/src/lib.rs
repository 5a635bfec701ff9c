//! The protocols `fleetune.v1` and `optuna`: generated types, and `convert`, the only gate between the first and the
//! domain.
//!
//! Behind the gate every value is valid; generated types go no further than services and clients.

pub mod convert;
pub mod encoded;
pub mod link;
pub mod reason;
pub mod retry;

/// Generated from `proto/fleetune/v1`.
#[expect(missing_docs, clippy::pedantic, clippy::large_enum_variant, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("fleetune.v1");
}

/// Generated from `proto/optuna`.
#[expect(missing_docs, clippy::pedantic, reason = "generated code")]
pub mod optuna {
    tonic::include_proto!("optuna");
}

/// The protocols' descriptors, for reflection.
pub const DESCRIPTORS: &[u8] = tonic::include_file_descriptor_set!("descriptor");
