//! Whole studies, to and from other databases: `TransferService` and what Optuna's protocol has for studies.

use std::collections::BTreeMap;

use fleetune_core::{Direction, Timestamp, TrialState};
use fleetune_proto::link::Link;
use fleetune_proto::optuna as wire;
use fleetune_proto::optuna::storage_service_client::StorageServiceClient;
use fleetune_proto::v1::transfer_service_client::TransferServiceClient;
use fleetune_proto::{convert, v1};
use fleetune_rdb::{Param, Study, Trial};
use prost::Message as _;
use tonic::Code;

use super::failed;
use super::read::incomplete;
use crate::error::CliResult;

/// Longest message that is read, bytes: a trial may have attributes of any length.
const MAX_MESSAGE: usize = 512 << 20;

/// Whole studies, to and from other databases.
#[derive(Clone)]
pub struct Transfer {
    optuna: StorageServiceClient<Link>,
    transfer: TransferServiceClient<Link>,
}

/// The trials of a study, on their way here.
pub struct Trials {
    stream: tonic::Streaming<v1::ExportTrialsResponse>,
    what: String,
}

impl Transfer {
    /// Over `link`.
    pub fn new(link: Link) -> Self {
        Self {
            optuna: StorageServiceClient::new(link.clone()).max_decoding_message_size(MAX_MESSAGE),
            transfer: TransferServiceClient::new(link).max_decoding_message_size(MAX_MESSAGE),
        }
    }

    /// The id of a study, if there is one of that name.
    pub async fn find(&mut self, name: &str) -> CliResult<Option<i64>> {
        let request = wire::GetStudyIdFromNameRequest { study_name: name.to_owned() };
        match self.optuna.get_study_id_from_name(request).await {
            Ok(found) => Ok(Some(found.into_inner().study_id)),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(failed(format!("failed to look for study `{name}`"))(status)),
        }
    }

    /// Creates a study that is called `name` for now, with everything of `study` but its trials; gives its id.
    pub async fn create(&mut self, name: &str, study: &Study) -> CliResult<i64> {
        let direction = |direction: &Direction| match direction {
            Direction::Minimize => wire::StudyDirection::Minimize.into(),
            Direction::Maximize => wire::StudyDirection::Maximize.into(),
        };
        let directions = study.directions.iter().map(direction).collect();
        let request = wire::CreateNewStudyRequest { directions, study_name: name.to_owned() };
        let created = self.optuna.create_new_study(request).await;
        Ok(created.map_err(failed(format!("failed to create study `{name}`")))?.into_inner().study_id)
    }

    /// Gives a study the attributes of `study`.
    pub async fn set_attributes(&mut self, study_id: i64, study: &Study) -> CliResult<()> {
        let what = || format!("failed to copy the attributes of study `{}`", study.name);
        for (key, value) in study.user_attributes.clone() {
            let request = wire::SetStudyUserAttributeRequest { study_id, key, value };
            self.optuna.set_study_user_attribute(request).await.map_err(failed(what()))?;
        }
        for (key, value) in study.system_attributes.clone() {
            let request = wire::SetStudySystemAttributeRequest { study_id, key, value };
            self.optuna.set_study_system_attribute(request).await.map_err(failed(what()))?;
        }
        Ok(())
    }

    /// Adds trials, which follow each other in number, to a study.
    pub async fn add(&mut self, study_id: i64, name: &str, trials: Vec<Trial>) -> CliResult<()> {
        let Some(first_number) = trials.first().map(|trial| trial.number) else { return Ok(()) };
        let trials = trials.into_iter().map(|trial| to_wire(trial).encode_to_vec()).collect();
        let added = self.transfer.import_trials(v1::ImportTrialsRequest { study_id, first_number, trials }).await;
        added.map(drop).map_err(failed(format!("failed to copy the trials of study `{name}`")))
    }

    /// Gives a study that is whole its name.
    pub async fn finish(&mut self, study_id: i64, name: &str) -> CliResult<()> {
        let request = v1::FinishImportRequest { study_id, name: name.to_owned() };
        let finished = self.transfer.finish_import(request).await;
        finished.map(drop).map_err(failed(format!("failed to give study `{name}` its name")))
    }

    /// Removes a study.
    pub async fn remove(&mut self, study_id: i64) -> CliResult<()> {
        let removed = self.optuna.delete_study(wire::DeleteStudyRequest { study_id }).await;
        removed.map(drop).map_err(failed("failed to remove what was copied so far"))
    }

    /// A study without its trials and their counts.
    pub async fn study(&mut self, name: &str) -> CliResult<Study> {
        let what = || failed(format!("failed to read study `{name}`"));
        let request = wire::GetStudyIdFromNameRequest { study_name: name.to_owned() };
        let study_id = self.optuna.get_study_id_from_name(request).await.map_err(what())?.into_inner().study_id;
        let request = wire::GetStudyDirectionsRequest { study_id };
        let directions = self.optuna.get_study_directions(request).await.map_err(what())?.into_inner().directions;
        let direction = |&number: &i32| match wire::StudyDirection::try_from(number) {
            Ok(wire::StudyDirection::Minimize) => Ok(Direction::Minimize),
            Ok(wire::StudyDirection::Maximize) => Ok(Direction::Maximize),
            Err(error) => Err(incomplete().because(error)),
        };
        let request = wire::GetStudyUserAttributesRequest { study_id };
        let user = self.optuna.get_study_user_attributes(request).await.map_err(what())?.into_inner();
        let request = wire::GetStudySystemAttributesRequest { study_id };
        let system = self.optuna.get_study_system_attributes(request).await.map_err(what())?.into_inner();
        Ok(Study {
            id: study_id,
            name: name.to_owned(),
            directions: directions.iter().map(direction).collect::<CliResult<_>>()?,
            user_attributes: user.user_attributes,
            system_attributes: system.system_attributes,
            counts: BTreeMap::new(),
        })
    }

    /// The trials of a study, by number.
    pub async fn trials(&mut self, study: &Study) -> CliResult<Trials> {
        let what = format!("failed to read the trials of study `{}`", study.name);
        let stream = self.transfer.export_trials(v1::ExportTrialsRequest { study_id: study.id }).await;
        Ok(Trials { stream: stream.map_err(failed(what.clone()))?.into_inner(), what })
    }
}

impl Trials {
    /// Some more; none at the end.
    pub async fn next(&mut self) -> CliResult<Vec<Trial>> {
        let page = self.stream.message().await.map_err(failed(self.what.clone()))?;
        let trials = page.map(|page| page.trials).unwrap_or_default();
        trials.iter().map(|bytes| from_wire(bytes)).collect()
    }
}

fn to_wire(trial: Trial) -> wire::Trial {
    let state = match trial.state {
        TrialState::Waiting => wire::TrialState::Waiting,
        TrialState::Running => wire::TrialState::Running,
        TrialState::Complete => wire::TrialState::Complete,
        TrialState::Pruned => wire::TrialState::Pruned,
        TrialState::Fail => wire::TrialState::Fail,
    };
    let time = |at: Option<Timestamp>| at.map(|at| convert::timestamp_to_wire(at).to_string()).unwrap_or_default();
    let (mut params, mut distributions) = (BTreeMap::new(), BTreeMap::new());
    for (name, param) in trial.params {
        params.insert(name.clone(), param.internal);
        distributions.insert(name, param.distribution);
    }
    wire::Trial {
        trial_id: 0,
        number: trial.number,
        state: state.into(),
        values: trial.values,
        datetime_start: time(trial.started_at),
        datetime_complete: time(trial.ended_at),
        params,
        distributions,
        user_attributes: trial.user_attributes,
        system_attributes: trial.system_attributes,
        intermediate_values: trial.steps,
    }
}

fn from_wire(bytes: &[u8]) -> CliResult<Trial> {
    let trial = wire::Trial::decode(bytes).map_err(|error| incomplete().because(error))?;
    let state = match wire::TrialState::try_from(trial.state).map_err(|error| incomplete().because(error))? {
        wire::TrialState::Running => TrialState::Running,
        wire::TrialState::Complete => TrialState::Complete,
        wire::TrialState::Pruned => TrialState::Pruned,
        wire::TrialState::Fail => TrialState::Fail,
        wire::TrialState::Waiting => TrialState::Waiting,
    };
    let time = |text: &str| -> CliResult<Option<Timestamp>> {
        if text.is_empty() {
            return Ok(None);
        }
        let at: prost_types::Timestamp = text.parse().map_err(|error| incomplete().because(error))?;
        Ok(Some(convert::timestamp(&at)))
    };
    let mut distributions = trial.distributions;
    let param = |(name, internal): (String, f64)| {
        let distribution = distributions.remove(&name).ok_or_else(incomplete)?;
        Ok((name, Param { internal, distribution }))
    };
    Ok(Trial {
        number: trial.number,
        state,
        values: trial.values,
        started_at: time(&trial.datetime_start)?,
        ended_at: time(&trial.datetime_complete)?,
        params: trial.params.into_iter().map(param).collect::<CliResult<_>>()?,
        steps: trial.intermediate_values,
        user_attributes: trial.user_attributes,
        system_attributes: trial.system_attributes,
    })
}
