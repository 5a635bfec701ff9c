//! The 19 calls.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use fleetune_core::{StudyId, TrialId, TrialNumber, TrialState};
use fleetune_proto::convert::Invalid;
use fleetune_proto::encoded;
use fleetune_proto::optuna as wire;
use fleetune_proto::optuna::storage_service_server::StorageService;
use tonic::{Request, Response, Status};

use super::cache::Cache;
use super::{decode, encode};
use crate::scheduler::{Engine, EngineError, Line};
use crate::service::{Peer, status};
use crate::storage::{AttributeKind, StoreError, TrialMark, WholeTrial, audit};

/// Trials whose study is remembered, at most.
const MAX_PLACES: usize = 200_000;

/// `StorageService` over an engine.
pub struct OptunaApi {
    engine: Engine,
    cache: Cache,
    distributions: decode::Distributions,
    /// The study of each trial that was heard of. It never changes.
    places: Mutex<HashMap<TrialId, StudyId>>,
}

type Answer<T> = Result<Response<T>, Status>;

impl OptunaApi {
    /// Over `engine`.
    pub fn new(engine: Engine) -> Self {
        Self {
            engine,
            cache: Cache::default(),
            distributions: decode::Distributions::default(),
            places: Mutex::default(),
        }
    }

    async fn study_of(&self, id: TrialId) -> Result<StudyId, Status> {
        let known = self.places.lock().unwrap_or_else(PoisonError::into_inner).get(&id).copied();
        if let Some(study) = known {
            return Ok(study);
        }
        let (study, _) = self.engine.place_of(id).await.map_err(refused)?;
        self.remember(id, study);
        Ok(study)
    }

    fn remember(&self, id: TrialId, study: StudyId) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if places.len() >= MAX_PLACES {
            places.clear();
        }
        places.insert(id, study);
    }

    /// The trials, encoded; those that are gone meanwhile are left out.
    async fn encoded(&self, study: StudyId, marks: &[TrialMark]) -> Result<Vec<Bytes>, Status> {
        let mut trials = self.cache.get(marks);
        let missing = |trials: &[Option<Bytes>]| -> Vec<TrialId> {
            marks.iter().zip(trials).filter(|(_, known)| known.is_none()).map(|(mark, _)| mark.id).collect()
        };
        let fill = |trials: &mut [Option<Bytes>], whole: &WholeTrial| {
            if let Ok(index) = marks.binary_search_by_key(&whole.record.id, |mark| mark.id) {
                trials[index] = Some(self.encode(whole));
            }
        };
        for whole in self.engine.remembered(study, &missing(&trials)) {
            fill(&mut trials, &whole);
        }
        let missing: Vec<i64> = missing(&trials).into_iter().map(|id| id.0).collect();
        if !missing.is_empty() {
            for whole in self.engine.whole_trials(&missing).await.map_err(refused)? {
                fill(&mut trials, &whole);
            }
        }
        Ok(trials.into_iter().flatten().collect())
    }

    fn encode(&self, whole: &WholeTrial) -> Bytes {
        let bytes = encode::trial(whole, self.engine.options().optuna_times);
        self.cache.put(&whole.record, bytes.clone());
        bytes
    }

    async fn set_study_attribute(
        &self,
        kind: AttributeKind,
        id: i64,
        key: String,
        value: String,
    ) -> Result<(), Status> {
        let attribute = decode::attribute(kind, key, value).map_err(invalid)?;
        self.engine.set_study_attribute(StudyId(id), attribute).await.map_err(refused)
    }

    async fn study_attributes<T: FromIterator<(String, String)>>(
        &self,
        kind: AttributeKind,
        id: i64,
    ) -> Result<T, Status> {
        let attributes = self.engine.study_attributes(StudyId(id), kind).await.map_err(refused)?;
        Ok(attributes.into_iter().collect())
    }

    async fn set_trial_attribute(
        &self,
        kind: AttributeKind,
        id: i64,
        key: String,
        value: String,
        line: Option<Line>,
    ) -> Result<(), Status> {
        let id = TrialId(id);
        let study = self.study_of(id).await?;
        let attribute = decode::attribute(kind, key, value).map_err(invalid)?;
        let meaning = decode::meaning(&attribute);
        self.engine.set_trial_attribute(study, id, attribute, meaning).await.map_err(refused)?;
        self.engine.note_holder(id, line);
        Ok(())
    }
}

#[tonic::async_trait]
impl StorageService for OptunaApi {
    async fn create_new_study(
        &self,
        request: Request<wire::CreateNewStudyRequest>,
    ) -> Answer<wire::CreateNewStudyReply> {
        let request = request.into_inner();
        audit::about("study", &request.study_name);
        let directions = request.directions.into_iter().map(decode::direction).collect::<Result<_, _>>();
        let directions = directions.map_err(invalid)?;
        let id = self.engine.create_foreign_study(request.study_name, directions).await.map_err(refused)?;
        Ok(Response::new(wire::CreateNewStudyReply { study_id: id.0 }))
    }

    async fn delete_study(&self, request: Request<wire::DeleteStudyRequest>) -> Answer<wire::DeleteStudyReply> {
        let study = self.engine.study_record(StudyId(request.into_inner().study_id)).await.map_err(refused)?;
        audit::about("study", &study.name);
        self.engine.delete_foreign_study(study.id).await.map_err(refused)?;
        Ok(Response::new(wire::DeleteStudyReply {}))
    }

    async fn set_study_user_attribute(
        &self,
        request: Request<wire::SetStudyUserAttributeRequest>,
    ) -> Answer<wire::SetStudyUserAttributeReply> {
        let wire::SetStudyUserAttributeRequest { study_id, key, value } = request.into_inner();
        self.set_study_attribute(AttributeKind::User, study_id, key, value).await?;
        Ok(Response::new(wire::SetStudyUserAttributeReply {}))
    }

    async fn set_study_system_attribute(
        &self,
        request: Request<wire::SetStudySystemAttributeRequest>,
    ) -> Answer<wire::SetStudySystemAttributeReply> {
        let wire::SetStudySystemAttributeRequest { study_id, key, value } = request.into_inner();
        self.set_study_attribute(AttributeKind::System, study_id, key, value).await?;
        Ok(Response::new(wire::SetStudySystemAttributeReply {}))
    }

    async fn get_study_id_from_name(
        &self,
        request: Request<wire::GetStudyIdFromNameRequest>,
    ) -> Answer<wire::GetStudyIdFromNameReply> {
        let id = self.engine.study_id(&request.into_inner().study_name).await.map_err(refused)?;
        Ok(Response::new(wire::GetStudyIdFromNameReply { study_id: id.0 }))
    }

    async fn get_study_name_from_id(
        &self,
        request: Request<wire::GetStudyNameFromIdRequest>,
    ) -> Answer<wire::GetStudyNameFromIdReply> {
        let study = self.engine.study_record(StudyId(request.into_inner().study_id)).await.map_err(refused)?;
        Ok(Response::new(wire::GetStudyNameFromIdReply { study_name: study.name }))
    }

    async fn get_study_directions(
        &self,
        request: Request<wire::GetStudyDirectionsRequest>,
    ) -> Answer<wire::GetStudyDirectionsReply> {
        let study = self.engine.study_record(StudyId(request.into_inner().study_id)).await.map_err(refused)?;
        let directions = encode::directions(&study.config.directions);
        Ok(Response::new(wire::GetStudyDirectionsReply { directions }))
    }

    async fn get_study_user_attributes(
        &self,
        request: Request<wire::GetStudyUserAttributesRequest>,
    ) -> Answer<wire::GetStudyUserAttributesReply> {
        let user_attributes = self.study_attributes(AttributeKind::User, request.into_inner().study_id).await?;
        Ok(Response::new(wire::GetStudyUserAttributesReply { user_attributes }))
    }

    async fn get_study_system_attributes(
        &self,
        request: Request<wire::GetStudySystemAttributesRequest>,
    ) -> Answer<wire::GetStudySystemAttributesReply> {
        let system_attributes = self.study_attributes(AttributeKind::System, request.into_inner().study_id).await?;
        Ok(Response::new(wire::GetStudySystemAttributesReply { system_attributes }))
    }

    async fn get_all_studies(&self, _: Request<wire::GetAllStudiesRequest>) -> Answer<wire::GetAllStudiesReply> {
        let studies = self.engine.studies_with_attributes().await.map_err(refused)?;
        let studies = studies.into_iter().map(|(record, attributes)| encode::study(&record, &attributes)).collect();
        Ok(Response::new(wire::GetAllStudiesReply { studies }))
    }

    async fn create_new_trial(
        &self,
        request: Request<wire::CreateNewTrialRequest>,
    ) -> Answer<wire::CreateNewTrialReply> {
        let line = line(&request);
        let request = request.into_inner();
        let study = StudyId(request.study_id);
        let template = if request.template_trial_is_none {
            None
        } else {
            // Whether there is a study at all is said first.
            self.engine.study_record(study).await.map_err(refused)?;
            Some(decode::template(request.template_trial.unwrap_or_default()).map_err(invalid)?)
        };
        let trial = self.engine.add_trial(study, template).await.map_err(refused)?;
        self.remember(trial.id, study);
        if trial.state == TrialState::Running {
            self.engine.note_holder(trial.id, line);
        }
        Ok(Response::new(wire::CreateNewTrialReply { trial_id: trial.id.0 }))
    }

    async fn set_trial_parameter(
        &self,
        request: Request<wire::SetTrialParameterRequest>,
    ) -> Answer<wire::SetTrialParameterReply> {
        let line = line(&request);
        let request = request.into_inner();
        let id = TrialId(request.trial_id);
        let study = self.study_of(id).await?;
        let name = request.param_name;
        let distribution = self.distributions.read(&name, &request.distribution).map_err(invalid)?;
        let param = decode::param(&name, request.param_value_internal, distribution).map_err(invalid)?;
        self.engine.set_parameter(study, id, name, param).await.map_err(refused)?;
        self.engine.note_holder(id, line);
        Ok(Response::new(wire::SetTrialParameterReply {}))
    }

    async fn get_trial_id_from_study_id_trial_number(
        &self,
        request: Request<wire::GetTrialIdFromStudyIdTrialNumberRequest>,
    ) -> Answer<wire::GetTrialIdFromStudyIdTrialNumberReply> {
        let wire::GetTrialIdFromStudyIdTrialNumberRequest { study_id, trial_number } = request.into_inner();
        let id = self.engine.trial_id(StudyId(study_id), TrialNumber(trial_number)).await.map_err(refused)?;
        Ok(Response::new(wire::GetTrialIdFromStudyIdTrialNumberReply { trial_id: id.0 }))
    }

    async fn set_trial_state_values(
        &self,
        request: Request<wire::SetTrialStateValuesRequest>,
    ) -> Answer<wire::SetTrialStateValuesReply> {
        let line = line(&request);
        let request = request.into_inner();
        let id = TrialId(request.trial_id);
        let study = self.study_of(id).await?;
        let state = decode::state(request.state).map_err(invalid)?;
        let trial_updated = self.engine.set_trial_state(study, id, state, request.values).await.map_err(refused)?;
        match state {
            TrialState::Running if trial_updated => self.engine.note_holder(id, line),
            TrialState::Running => {}
            TrialState::Waiting | TrialState::Complete | TrialState::Pruned | TrialState::Fail => {
                self.engine.note_end(id);
            }
        }
        Ok(Response::new(wire::SetTrialStateValuesReply { trial_updated }))
    }

    async fn set_trial_intermediate_value(
        &self,
        request: Request<wire::SetTrialIntermediateValueRequest>,
    ) -> Answer<wire::SetTrialIntermediateValueReply> {
        let line = line(&request);
        let request = request.into_inner();
        let id = TrialId(request.trial_id);
        let study = self.study_of(id).await?;
        let step = decode::step(request.step).map_err(invalid)?;
        self.engine.set_step(study, id, step, request.intermediate_value).await.map_err(refused)?;
        self.engine.note_holder(id, line);
        Ok(Response::new(wire::SetTrialIntermediateValueReply {}))
    }

    async fn set_trial_user_attribute(
        &self,
        request: Request<wire::SetTrialUserAttributeRequest>,
    ) -> Answer<wire::SetTrialUserAttributeReply> {
        let line = line(&request);
        let wire::SetTrialUserAttributeRequest { trial_id, key, value } = request.into_inner();
        self.set_trial_attribute(AttributeKind::User, trial_id, key, value, line).await?;
        Ok(Response::new(wire::SetTrialUserAttributeReply {}))
    }

    async fn set_trial_system_attribute(
        &self,
        request: Request<wire::SetTrialSystemAttributeRequest>,
    ) -> Answer<wire::SetTrialSystemAttributeReply> {
        let line = line(&request);
        let wire::SetTrialSystemAttributeRequest { trial_id, key, value } = request.into_inner();
        self.set_trial_attribute(AttributeKind::System, trial_id, key, value, line).await?;
        Ok(Response::new(wire::SetTrialSystemAttributeReply {}))
    }

    async fn get_trial(&self, request: Request<wire::GetTrialRequest>) -> Answer<encoded::Reply> {
        let id = TrialId(request.into_inner().trial_id);
        let study = self.study_of(id).await?;
        let mark = self.engine.mark(study, id).await.map_err(refused)?;
        let trial = self.encoded(study, &[mark]).await?.pop();
        let trial = trial.ok_or_else(|| refused(StoreError::NoTrialOfId(id).into()))?;
        Ok(Response::new(encoded::Reply { trial }))
    }

    async fn get_trials(&self, request: Request<wire::GetTrialsRequest>) -> Answer<encoded::Replies> {
        let request = request.into_inner();
        let (study, above) = (StudyId(request.study_id), TrialId(request.trial_id_greater_than));
        let marks = self.engine.marks(study, above, &request.included_trial_ids).await.map_err(refused)?;
        Ok(Response::new(encoded::Replies { trials: self.encoded(study, &marks).await? }))
    }
}

/// The connection of a call, unless it comes from this process.
fn line<T>(request: &Request<T>) -> Option<Line> {
    request.extensions().get::<Peer>().map(|peer| peer.line.clone())
}

#[expect(clippy::needless_pass_by_value, reason = "fits map_err")]
fn refused(error: EngineError) -> Status {
    status::engine(&error)
}

#[expect(clippy::needless_pass_by_value, reason = "fits map_err")]
fn invalid(error: Invalid) -> Status {
    status::invalid(&error)
}
