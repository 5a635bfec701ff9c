//! Unsafe regions and what shows them.

use fleetune_core::region::{Incident, UnsafeRegion};
use fleetune_core::{Attempt, TrialNumber, WorkerId};

use super::{Invalid, fail_kind, fail_kind_to_wire, params, params_to_wire, timestamp, timestamp_to_wire};
use crate::v1;

/// A region.
pub fn region(wire: v1::UnsafeRegion) -> Result<UnsafeRegion, Invalid> {
    let (device_class, model_hash) = (wire.device_class, wire.model_hash);
    let incident = |incident| incident_of(incident, &device_class, &model_hash);
    let evidence = wire.evidence.into_iter().map(incident).collect::<Result<_, _>>()?;
    Ok(UnsafeRegion { id: wire.id, settings: params(wire.settings)?, evidence, device_class, model_hash })
}

/// A region.
pub fn region_to_wire(region: &UnsafeRegion) -> v1::UnsafeRegion {
    v1::UnsafeRegion {
        id: region.id,
        device_class: region.device_class.clone(),
        model_hash: region.model_hash.clone(),
        settings: params_to_wire(&region.settings),
        evidence: region.evidence.iter().map(incident_to_wire).collect(),
        why: region.why(),
    }
}

fn incident_of(wire: v1::Incident, device_class: &str, model_hash: &str) -> Result<Incident, Invalid> {
    Ok(Incident {
        id: wire.id,
        device_class: device_class.to_owned(),
        model_hash: model_hash.to_owned(),
        kind: fail_kind(wire.kind)?,
        worker: WorkerId(wire.worker),
        study: wire.study,
        trial: TrialNumber(wire.trial),
        attempt: Attempt(wire.attempt),
        at: wire.at.as_ref().map(timestamp).unwrap_or_default(),
        settings: params(wire.settings)?,
        message: wire.message,
        refuted: false,
    })
}

fn incident_to_wire(incident: &Incident) -> v1::Incident {
    v1::Incident {
        id: incident.id,
        kind: fail_kind_to_wire(incident.kind).into(),
        worker: incident.worker.0.clone(),
        study: incident.study.clone(),
        trial: incident.trial.0,
        attempt: incident.attempt.0,
        at: Some(timestamp_to_wire(incident.at)),
        settings: params_to_wire(&incident.settings),
        message: incident.message.clone(),
    }
}
