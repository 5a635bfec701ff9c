//! Models that workers can read.

use fleetune_core::VisibleModel;

use super::Invalid;
use crate::v1;

/// Longest name, path or hash, bytes.
const MAX_TEXT: usize = 4_096;

/// A model.
pub fn model(wire: v1::Model) -> Result<VisibleModel, Invalid> {
    for (field, text) in [("model.name", &wire.name), ("model.path", &wire.path), ("model.hash", &wire.hash)] {
        if text.is_empty() || text.len() > MAX_TEXT {
            return Err(Invalid::new(field, format!("must have 1 to {MAX_TEXT} bytes")));
        }
    }
    Ok(VisibleModel { name: wire.name, path: wire.path, hash: wire.hash, bytes: wire.bytes })
}

/// A model.
pub fn model_to_wire(model: &VisibleModel) -> v1::Model {
    v1::Model { name: model.name.clone(), path: model.path.clone(), hash: model.hash.clone(), bytes: model.bytes }
}
