//! `optuna.StorageService`: Optuna's own storage protocol over the same studies and trials, for unmodified clients.

mod api;
mod cache;
mod decode;
mod encode;
mod times;
mod transfer;

pub use api::OptunaApi;
pub use transfer::TransferApi;
