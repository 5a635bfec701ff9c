//! The end of a drill: what is waiting is run, what was abandoned is cancelled, so that every trial has ended.

use std::sync::Arc;

use fleetune_proto::v1::study_service_client::StudyServiceClient;
use fleetune_proto::v1::{
    AskRequest, Budget, CancelTrialRequest, GetStudyRequest, ListTrialsRequest, TellRequest, Trial, TrialState,
    UpdateStudyRequest,
};
use tonic::Status;
use tonic::transport::Channel;

use super::arena::STUDY;
use super::bits;
use super::client::Shared;

type Service = StudyServiceClient<Channel>;

/// All trials that `request` names.
pub async fn list(mut service: Service, request: ListTrialsRequest) -> Result<Vec<Trial>, Status> {
    let mut stream = service.list_trials(request).await?.into_inner();
    let mut trials = Vec::new();
    while let Some(trial) = stream.message().await? {
        trials.push(trial);
    }
    Ok(trials)
}

async fn in_state(service: &Service, study: &str, state: TrialState) -> Result<Vec<Trial>, Status> {
    let request =
        ListTrialsRequest { study: study.to_owned(), states: vec![state.into()], ..ListTrialsRequest::default() };
    list(service.clone(), request).await
}

/// Ends every trial of the clients' studies.
pub async fn end_all(service: &mut Service, shared: &Arc<Shared>) -> Result<(), Status> {
    let studies: Vec<_> = shared.ledger().studies.keys().filter(|name| *name != STUDY).cloned().collect();
    for study in studies {
        let waiting = in_state(service, &study, TrialState::Waiting).await?;
        for (index, _) in waiting.iter().enumerate() {
            let request_id = format!("close-{index}");
            let request =
                AskRequest { request_id: request_id.clone(), study: study.clone(), count: 1, ..AskRequest::default() };
            for trial in service.ask(request).await?.into_inner().trials {
                let values = vec![0.1 * index as f64];
                let (number, state) = (trial.number, TrialState::Complete.into());
                let end = (state, bits::floats(&values));
                let tell = TellRequest { study: study.clone(), number, state, values, ..TellRequest::default() };
                service.tell(tell).await?;
                let mut ledger = shared.ledger();
                let book = ledger.book(&study);
                let given = book.given.entry((number, trial.attempt)).or_default();
                given.insert(request_id.clone(), bits::params(&trial.params));
                book.ends.insert(number, end);
            }
        }
        for trial in in_state(service, &study, TrialState::Running).await? {
            let cancel = CancelTrialRequest { study: study.clone(), number: trial.number };
            let ended = service.cancel_trial(cancel).await?.into_inner().trial.unwrap_or_default();
            if let Some(end) = bits::end(&ended) {
                shared.ledger().book(&study).ends.insert(ended.number, end);
            }
        }
    }
    Ok(())
}

/// Lets the workers' study hand out no more trials.
pub async fn stop_model_study(service: &mut Service) -> Result<(), Status> {
    let request = ListTrialsRequest { study: STUDY.to_owned(), ..ListTrialsRequest::default() };
    let trials = list(service.clone(), request).await?.len();
    let budget = Some(Budget { trials: Some(trials.max(1) as u32), ..Budget::default() });
    service
        .update_study(UpdateStudyRequest { name: STUDY.to_owned(), budget, ..UpdateStudyRequest::default() })
        .await?;
    Ok(())
}

/// The state of the workers' study.
pub async fn model_study_state(service: &mut Service) -> Result<i32, Status> {
    let request = GetStudyRequest { name: STUDY.to_owned() };
    Ok(service.get_study(request).await?.into_inner().study.unwrap_or_default().state)
}
