//! Analyses on the wire: losses become values of the objective again.

use fleetune_core::Direction;
use fleetune_proto::{convert, v1};
use fleetune_sampler::analysis::{Change, ImportanceMethod, Importances, Outlook};

use super::view;
use crate::scheduler::{Front, Sensitivity};

/// Checks a method; unset is the default.
pub fn method(wire: i32) -> Result<ImportanceMethod, convert::Invalid> {
    match v1::ImportanceMethod::try_from(wire) {
        Ok(v1::ImportanceMethod::Unspecified) => Ok(ImportanceMethod::default()),
        Ok(v1::ImportanceMethod::PedAnova) => Ok(ImportanceMethod::PedAnova),
        Ok(v1::ImportanceMethod::Fanova) => Ok(ImportanceMethod::Fanova),
        Err(_) => Err(convert::Invalid::new("method", format!("{wire} is none of its values"))),
    }
}

/// Importances.
pub fn importances(found: &Importances, method: ImportanceMethod) -> v1::ImportancesResponse {
    let method = match method {
        ImportanceMethod::PedAnova => v1::ImportanceMethod::PedAnova,
        ImportanceMethod::Fanova => v1::ImportanceMethod::Fanova,
    };
    let parameters = found.parameters.iter().map(|parameter| v1::ParameterImportance {
        name: parameter.name.clone(),
        importance: parameter.share,
        low: parameter.low,
        high: parameter.high,
        active: parameter.active,
    });
    v1::ImportancesResponse { parameters: parameters.collect(), trials: found.trials as u64, method: method.into() }
}

/// A front.
pub fn front(front: &Front) -> v1::ParetoFrontResponse {
    v1::ParetoFrontResponse {
        trials: front.trials.iter().map(view::trial).collect(),
        hypervolume: front.hypervolume,
        reference: front.reference.clone(),
        knee: front.knee.map(|number| number.0),
    }
}

/// Sensitivity and outlook.
pub fn sensitivity(found: &Sensitivity) -> v1::SensitivityResponse {
    v1::SensitivityResponse {
        number: found.number.0,
        params: convert::params_to_wire(&found.params),
        predicted: found.direction.minimized(found.predicted),
        changes: found.changes.iter().map(|each| change(each, found.direction, found.predicted)).collect(),
        outlook: Some(outlook(&found.outlook)),
    }
}

fn change(change: &Change, direction: Direction, base: f64) -> v1::ParameterChange {
    v1::ParameterChange {
        name: change.name.clone(),
        from: Some(convert::value_to_wire(&change.from)),
        to: Some(convert::value_to_wire(&change.to)),
        predicted: direction.minimized(base + change.loss),
        sd: change.sd,
        loss: change.relative,
    }
}

fn outlook(outlook: &Outlook) -> v1::Outlook {
    let Outlook { gain, relative, threshold } = *outlook;
    v1::Outlook { gain, relative, threshold, may_stop: outlook.may_stop() }
}
