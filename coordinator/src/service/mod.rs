//! The fleetune.v1 services, and Optuna's storage service, over the engine. Every Status is made in `status`; every value passes `convert`.

pub mod access;
mod admin;
mod analysis;
mod fleet;
mod optuna;
mod peer;
mod status;
mod study;
mod view;
mod watch;
mod worker;

pub use admin::AdminApi;
pub use fleet::FleetApi;
pub use optuna::{OptunaApi, TransferApi};
pub use peer::Peer;
pub use study::StudyApi;
pub use worker::WorkerApi;

use access::{Gate, Tokens};
use fleetune_proto::optuna::storage_service_server::StorageServiceServer;
use fleetune_proto::v1::admin_service_server::AdminServiceServer;
use fleetune_proto::v1::fleet_service_server::FleetServiceServer;
use fleetune_proto::v1::study_service_server::StudyServiceServer;
use fleetune_proto::v1::transfer_service_server::TransferServiceServer;
use fleetune_proto::v1::worker_service_server::WorkerServiceServer;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::scheduler::Engine;

/// Longest request that is read, bytes.
const MAX_REQUEST: usize = 8 * 1024 * 1024;

/// Longest request of an Optuna client that is read, bytes: long lists of ids, large attributes.
const MAX_OPTUNA_REQUEST: usize = 128 * 1024 * 1024;

/// All services over one engine. Streams and long polls end when `stop` is cancelled.
pub fn routes(engine: &Engine, tokens: &Tokens, stop: &CancellationToken) -> Routes {
    let study = StudyServiceServer::new(StudyApi::new(engine.clone(), stop.clone()));
    let worker = WorkerServiceServer::new(WorkerApi::new(engine.clone(), stop.clone()));
    let fleet = FleetServiceServer::new(FleetApi::new(engine.clone()));
    let optuna = StorageServiceServer::new(OptunaApi::new(engine.clone()));
    let transfer = TransferServiceServer::new(TransferApi::new(engine.clone()));
    let admin = AdminServiceServer::new(AdminApi::new(engine.clone(), tokens.clone()));
    let mut builder = Routes::builder();
    builder
        .add_service(study.max_decoding_message_size(MAX_REQUEST))
        .add_service(worker.max_decoding_message_size(MAX_REQUEST))
        .add_service(fleet.max_decoding_message_size(MAX_REQUEST))
        .add_service(optuna.max_decoding_message_size(MAX_OPTUNA_REQUEST))
        .add_service(transfer.max_decoding_message_size(MAX_OPTUNA_REQUEST))
        .add_service(admin.max_decoding_message_size(MAX_REQUEST));
    builder.routes()
}

/// `router` behind `gate`.
pub fn behind(gate: Gate, router: axum::Router) -> Routes {
    Routes::from(router.layer(axum::middleware::from_fn_with_state(gate, access::pass)))
}
