//! Importances, fronts, sensitivity.

use fleetune_proto::{convert, v1};

use super::read::{checked, incomplete, trial};
use super::{Client, failed};
use crate::error::CliResult;
use crate::view::{ChangeView, FrontView, ImportanceView, ImportancesView, OutlookView, SensitivityView};

impl Client {
    /// Which parameters matter.
    pub async fn importances(
        &mut self,
        name: &str,
        method: v1::ImportanceMethod,
        objective: Option<u32>,
    ) -> CliResult<ImportancesView> {
        let request = v1::ImportancesRequest { study: name.to_owned(), method: method.into(), objective };
        let answer = self.studies.importances(request).await;
        let found = answer.map_err(failed(format!("failed to analyse study `{name}`")))?.into_inner();
        let method = match found.method() {
            v1::ImportanceMethod::Fanova => "fanova",
            v1::ImportanceMethod::PedAnova | v1::ImportanceMethod::Unspecified => "ped-anova",
        };
        let parameters = found.parameters.into_iter().map(|parameter| ImportanceView {
            name: parameter.name,
            importance: parameter.importance,
            low: parameter.low,
            high: parameter.high,
            active: parameter.active,
        });
        Ok(ImportancesView {
            study: name.to_owned(),
            method: method.to_owned(),
            trials: found.trials,
            parameters: parameters.collect(),
        })
    }

    /// The trials that no other beats.
    pub async fn pareto_front(&mut self, name: &str, reference: Vec<f64>) -> CliResult<FrontView> {
        let directions = self.show(name).await?.directions;
        let request = v1::ParetoFrontRequest { study: name.to_owned(), reference };
        let answer = self.studies.pareto_front(request).await;
        let found = answer.map_err(failed(format!("failed to analyse study `{name}`")))?.into_inner();
        Ok(FrontView {
            study: name.to_owned(),
            directions,
            trials: found.trials.into_iter().map(trial).collect::<CliResult<_>>()?,
            hypervolume: found.hypervolume,
            reference: found.reference,
            knee: found.knee,
        })
    }

    /// What each change of one parameter is predicted to cost.
    pub async fn sensitivity(
        &mut self,
        name: &str,
        number: Option<i64>,
        objective: Option<u32>,
    ) -> CliResult<SensitivityView> {
        let request = v1::SensitivityRequest { study: name.to_owned(), number, objective };
        let answer = self.studies.sensitivity(request).await;
        let found = answer.map_err(failed(format!("failed to analyse study `{name}`")))?.into_inner();
        let value = |wire: Option<v1::Value>| checked(convert::value(wire.ok_or_else(incomplete)?));
        let change = |change: v1::ParameterChange| {
            Ok(ChangeView {
                name: change.name,
                from: value(change.from)?,
                to: value(change.to)?,
                predicted: change.predicted,
                sd: change.sd,
                loss: change.loss,
            })
        };
        let v1::Outlook { gain, relative, threshold, may_stop } = found.outlook.ok_or_else(incomplete)?;
        Ok(SensitivityView {
            study: name.to_owned(),
            number: found.number,
            params: checked(convert::params(found.params))?,
            predicted: found.predicted,
            changes: found.changes.into_iter().map(change).collect::<CliResult<_>>()?,
            outlook: OutlookView { gain, relative, threshold, may_stop },
        })
    }
}
