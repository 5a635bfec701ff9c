//! StudyService.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use fleetune_core::{Distribution, LeaseToken, Revision, StudyId, TrialNumber};
use fleetune_proto::v1::study_service_server::StudyService;
use fleetune_proto::{convert, v1};
use futures::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::worker::own_token;
use super::{analysis, status, view, watch};
use crate::scheduler::{ClientLease, Engine, EngineError, Tell};
use crate::storage::{TrialFilter, audit, external};

/// Trials read at a time for a stream.
const PAGE: u32 = 500;

/// StudyService over an engine.
pub struct StudyApi {
    engine: Engine,
    stop: CancellationToken,
}

impl StudyApi {
    /// Over `engine`; streams and waits end when `stop` is cancelled.
    pub fn new(engine: Engine, stop: CancellationToken) -> Self {
        Self { engine, stop }
    }
}

fn token(text: &str) -> Result<Option<LeaseToken>, Status> {
    convert::token(text).map_err(|error| status::invalid(&error))
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl StudyService for StudyApi {
    type ListTrialsStream = Pin<Box<dyn Stream<Item = Result<v1::Trial, Status>> + Send>>;
    type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::WatchEvent, Status>> + Send>>;

    async fn create_study(&self, request: Request<v1::CreateStudyRequest>) -> Answer<v1::CreateStudyResponse> {
        let request = request.into_inner();
        audit::about("study", &request.name);
        let wire = request.config.ok_or_else(|| status::invalid(&convert::Invalid::missing("config")))?;
        let config = convert::config(wire).map_err(|error| status::invalid(&error))?;
        let schedule = request.schedule.map(convert::schedule).unwrap_or_default();
        let per = convert::per(&request.per).map_err(|error| status::invalid(&error))?;
        let record = self
            .engine
            .create_study(&request.name, &request.request_id, config, schedule, per)
            .await
            .map_err(refused)?;
        let summary = self.engine.study(&record.name).await.map_err(refused)?;
        Ok(Response::new(v1::CreateStudyResponse { study: Some(view::study(&summary)) }))
    }

    async fn get_study(&self, request: Request<v1::GetStudyRequest>) -> Answer<v1::GetStudyResponse> {
        let summary = self.engine.study(&request.into_inner().name).await.map_err(refused)?;
        let children = self.engine.children(&summary.record).await.map_err(refused)?;
        let study = v1::Study { children: children.iter().map(view::child).collect(), ..view::study(&summary) };
        Ok(Response::new(v1::GetStudyResponse { study: Some(study) }))
    }

    async fn list_studies(&self, request: Request<v1::ListStudiesRequest>) -> Answer<v1::ListStudiesResponse> {
        let request = request.into_inner();
        let after = match request.page_token.as_str() {
            "" => 0,
            token => token.parse().map_err(|_| {
                status::invalid(&convert::Invalid::new("page_token", "is none that this service gave out"))
            })?,
        };
        let size = if request.page_size == 0 { 100 } else { request.page_size.min(1000) };
        let studies = self.engine.studies(StudyId(after), size, request.archived).await.map_err(refused)?;
        let full = studies.len() as u32 >= size;
        let next_page_token = match studies.last() {
            Some(last) if full => last.record.id.to_string(),
            _ => String::new(),
        };
        let studies = studies.iter().map(view::study).collect();
        Ok(Response::new(v1::ListStudiesResponse { studies, next_page_token }))
    }

    async fn update_study(&self, request: Request<v1::UpdateStudyRequest>) -> Answer<v1::UpdateStudyResponse> {
        let request = request.into_inner();
        audit::about("study", &request.name);
        let budget = request.budget.map(convert::budget).transpose().map_err(|error| status::invalid(&error))?;
        let schedule = request.schedule.map(convert::schedule);
        let summary = self.engine.update(&request.name, budget, schedule).await.map_err(refused)?;
        Ok(Response::new(v1::UpdateStudyResponse { study: Some(view::study(&summary)) }))
    }

    async fn pause_study(&self, request: Request<v1::PauseStudyRequest>) -> Answer<v1::PauseStudyResponse> {
        let name = request.into_inner().name;
        audit::about("study", &name);
        let summary = self.engine.pause(&name).await.map_err(refused)?;
        Ok(Response::new(v1::PauseStudyResponse { study: Some(view::study(&summary)) }))
    }

    async fn resume_study(&self, request: Request<v1::ResumeStudyRequest>) -> Answer<v1::ResumeStudyResponse> {
        let name = request.into_inner().name;
        audit::about("study", &name);
        let summary = self.engine.resume(&name).await.map_err(refused)?;
        Ok(Response::new(v1::ResumeStudyResponse { study: Some(view::study(&summary)) }))
    }

    async fn cancel_study(&self, request: Request<v1::CancelStudyRequest>) -> Answer<v1::CancelStudyResponse> {
        let name = request.into_inner().name;
        audit::about("study", &name);
        let summary = self.engine.cancel(&name).await.map_err(refused)?;
        Ok(Response::new(v1::CancelStudyResponse { study: Some(view::study(&summary)) }))
    }

    async fn archive_study(&self, request: Request<v1::ArchiveStudyRequest>) -> Answer<v1::ArchiveStudyResponse> {
        let name = request.into_inner().name;
        audit::about("study", &name);
        let summary = self.engine.archive(&name).await.map_err(refused)?;
        Ok(Response::new(v1::ArchiveStudyResponse { study: Some(view::study(&summary)) }))
    }

    async fn unarchive_study(&self, request: Request<v1::UnarchiveStudyRequest>) -> Answer<v1::UnarchiveStudyResponse> {
        let name = request.into_inner().name;
        audit::about("study", &name);
        let summary = self.engine.unarchive(&name).await.map_err(refused)?;
        Ok(Response::new(v1::UnarchiveStudyResponse { study: Some(view::study(&summary)) }))
    }

    async fn delete_study(&self, request: Request<v1::DeleteStudyRequest>) -> Answer<v1::DeleteStudyResponse> {
        let request = request.into_inner();
        audit::about("study", &request.name);
        self.engine.delete_study(&request.name, request.force).await.map_err(refused)?;
        Ok(Response::new(v1::DeleteStudyResponse {}))
    }

    async fn ask(&self, request: Request<v1::AskRequest>) -> Answer<v1::AskResponse> {
        let request = request.into_inner();
        let lease = match request.lease {
            None => None,
            Some(lease) => {
                let ttl = convert::duration("lease", lease).map_err(|error| status::invalid(&error))?;
                Some(ClientLease::new(ttl, &request.holder).map_err(refused)?)
            }
        };
        let (study, count) = (&request.study, request.count.max(1));
        let given = self.engine.ask(study, &request.request_id, count, lease, &self.stop).await.map_err(refused)?;
        Ok(Response::new(v1::AskResponse {
            trials: given.iter().map(|started| view::trial(&started.trial)).collect(),
            leases: given.iter().filter_map(|started| started.lease.as_ref()).map(view::lease).collect(),
        }))
    }

    async fn report(&self, request: Request<v1::ReportRequest>) -> Answer<v1::ReportResponse> {
        let caller = own_token(&request);
        let request = request.into_inner();
        let token = token(&request.lease_token)?;
        if let Some(token) = token {
            self.engine.check_holder(caller, token).await.map_err(refused)?;
        }
        let number = TrialNumber(request.number);
        let stop =
            self.engine.report(&request.study, number, request.step, request.value, token).await.map_err(refused)?;
        let verdict = if stop { v1::Verdict::Stop } else { v1::Verdict::Continue };
        Ok(Response::new(v1::ReportResponse { verdict: verdict.into() }))
    }

    async fn tell(&self, request: Request<v1::TellRequest>) -> Answer<v1::TellResponse> {
        let request = request.into_inner();
        let invalid = |error: convert::Invalid| status::invalid(&error);
        let fail = match request.failure {
            None => None,
            Some(failure) => Some((convert::fail_kind(failure.kind).map_err(invalid)?, bounded(failure.message))),
        };
        let tell = Tell {
            state: convert::trial_state(request.state).map_err(invalid)?,
            values: request.values,
            constraints: request.constraints,
            fail,
        };
        let token = token(&request.lease_token)?;
        let trial =
            self.engine.tell(&request.study, TrialNumber(request.number), tell, token).await.map_err(refused)?;
        Ok(Response::new(v1::TellResponse { trial: Some(view::trial(&trial)) }))
    }

    async fn suggest(&self, request: Request<v1::SuggestRequest>) -> Answer<v1::SuggestResponse> {
        let request = request.into_inner();
        let mut space = BTreeMap::new();
        for (name, text) in request.distributions {
            let distribution = Distribution::from_optuna_json(&text)
                .map_err(|error| status::invalid(&convert::Invalid::new(format!("distributions.{name}"), error)))?;
            space.insert(name, Arc::new(distribution));
        }
        let params = self.engine.suggest(&request.study, TrialNumber(request.number), space).await.map_err(refused)?;
        Ok(Response::new(v1::SuggestResponse {
            params: convert::params_to_wire(&external(&params)),
            distributions: params.iter().map(|(name, it)| (name.clone(), it.distribution.to_optuna_json())).collect(),
            internal: params.into_iter().map(|(name, param)| (name, param.internal)).collect(),
        }))
    }

    async fn should_prune(&self, request: Request<v1::ShouldPruneRequest>) -> Answer<v1::ShouldPruneResponse> {
        let request = request.into_inner();
        let pruner = request
            .pruner
            .map(|pruner| convert::pruner(Some(pruner)))
            .transpose()
            .map_err(|error| status::invalid(&error))?;
        let number = TrialNumber(request.number);
        let stop = self.engine.should_prune(&request.study, number, pruner.as_ref()).await.map_err(refused)?;
        let verdict = if stop { v1::Verdict::Stop } else { v1::Verdict::Continue };
        Ok(Response::new(v1::ShouldPruneResponse { verdict: verdict.into() }))
    }

    async fn enqueue(&self, request: Request<v1::EnqueueRequest>) -> Answer<v1::EnqueueResponse> {
        let request = request.into_inner();
        audit::about("study", &request.study);
        let fixed = request
            .trials
            .into_iter()
            .map(|fixed| convert::params(fixed.params))
            .collect::<Result<_, _>>()
            .map_err(|error| status::invalid(&error))?;
        let trials =
            self.engine.enqueue(&request.study, &request.request_id, fixed, request.force).await.map_err(refused)?;
        Ok(Response::new(v1::EnqueueResponse { trials: trials.iter().map(view::trial).collect() }))
    }

    async fn cancel_trial(&self, request: Request<v1::CancelTrialRequest>) -> Answer<v1::CancelTrialResponse> {
        let request = request.into_inner();
        audit::about_trial(&request.study, request.number);
        let trial = self.engine.cancel_trial(&request.study, TrialNumber(request.number)).await.map_err(refused)?;
        Ok(Response::new(v1::CancelTrialResponse { trial: Some(view::trial(&trial)) }))
    }

    async fn get_trial(&self, request: Request<v1::GetTrialRequest>) -> Answer<v1::GetTrialResponse> {
        let request = request.into_inner();
        let (trial, attempts) =
            self.engine.trial(&request.study, TrialNumber(request.number)).await.map_err(refused)?;
        let mut trial = view::trial(&trial);
        trial.attempts = attempts.iter().map(view::attempt).collect();
        Ok(Response::new(v1::GetTrialResponse { trial: Some(trial) }))
    }

    async fn list_trials(&self, request: Request<v1::ListTrialsRequest>) -> Answer<Self::ListTrialsStream> {
        let request = request.into_inner();
        let states = request
            .states
            .into_iter()
            .map(convert::trial_state)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| status::invalid(&error))?;
        // The first page is read before the stream begins, so that an unknown study is an error of the call.
        let mut left = if request.limit == 0 { u32::MAX } else { request.limit };
        let filter = TrialFilter { states, from: TrialNumber(request.from.max(0)), limit: PAGE.min(left) };
        let first = self.engine.trials(&request.study, &filter).await.map_err(refused)?;
        let engine = self.engine.clone();
        let pages = async_stream(move |sender| async move {
            let mut page = first;
            let mut filter = filter;
            loop {
                let full = page.len() as u32 >= filter.limit;
                left = left.saturating_sub(page.len() as u32);
                for trial in &page {
                    filter.from = TrialNumber(trial.number.0 + 1);
                    if sender.send(Ok(view::trial(trial))).await.is_err() {
                        return;
                    }
                }
                if !full || left == 0 {
                    return;
                }
                filter.limit = PAGE.min(left);
                match engine.trials(&request.study, &filter).await {
                    Ok(next) => page = next,
                    Err(error) => {
                        let _ = sender.send(Err(status::engine(&error))).await;
                        return;
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(pages)))
    }

    async fn best(&self, request: Request<v1::BestRequest>) -> Answer<v1::BestResponse> {
        let request = request.into_inner();
        let count = if request.count == 0 { 5 } else { request.count.min(1000) };
        let best = self.engine.best(&request.study, count).await.map_err(refused)?;
        Ok(Response::new(view::best(&best)))
    }

    async fn importances(&self, request: Request<v1::ImportancesRequest>) -> Answer<v1::ImportancesResponse> {
        let request = request.into_inner();
        let method = analysis::method(request.method).map_err(|error| status::invalid(&error))?;
        let objective = request.objective.map(|objective| objective as usize);
        let found = self.engine.importances(&request.study, method, objective).await.map_err(refused)?;
        Ok(Response::new(analysis::importances(&found, method)))
    }

    async fn pareto_front(&self, request: Request<v1::ParetoFrontRequest>) -> Answer<v1::ParetoFrontResponse> {
        let request = request.into_inner();
        let front = self.engine.pareto_front(&request.study, request.reference).await.map_err(refused)?;
        Ok(Response::new(analysis::front(&front)))
    }

    async fn sensitivity(&self, request: Request<v1::SensitivityRequest>) -> Answer<v1::SensitivityResponse> {
        let request = request.into_inner();
        let number = request.number.map(TrialNumber);
        let objective = request.objective.map(|objective| objective as usize);
        let found = self.engine.sensitivity(&request.study, number, objective).await.map_err(refused)?;
        Ok(Response::new(analysis::sensitivity(&found)))
    }

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Answer<Self::WatchStream> {
        let request = request.into_inner();
        self.engine.study(&request.study).await.map_err(refused)?;
        let (engine, stop) = (self.engine.clone(), self.stop.clone());
        let events =
            async_stream(move |sender| watch::run(engine, request.study, Revision(request.after.max(0)), sender, stop));
        Ok(Response::new(Box::pin(events)))
    }

    async fn verify_study(&self, request: Request<v1::VerifyStudyRequest>) -> Answer<v1::VerifyStudyResponse> {
        let verification = self.engine.verify(&request.into_inner().study).await.map_err(refused)?;
        let mismatches = verification
            .mismatches
            .iter()
            .map(|(number, stored, recomputed)| v1::Mismatch {
                number: number.0,
                stored: convert::params_to_wire(stored),
                recomputed: convert::params_to_wire(recomputed),
            })
            .collect();
        let (checked, skipped) = (verification.checked, verification.skipped);
        Ok(Response::new(v1::VerifyStudyResponse { checked, skipped, mismatches }))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "fits map_err")]
fn refused(error: EngineError) -> Status {
    status::engine(&error)
}

/// A message for people, cut to what is stored.
pub(super) fn bounded(mut message: String) -> String {
    const MOST: usize = 8 * 1024;
    if message.len() > MOST {
        let end = (0..=MOST).rev().find(|&index| message.is_char_boundary(index)).unwrap_or(0);
        message.truncate(end);
    }
    message
}

/// A stream fed by a task over a small channel; the task ends when the client leaves.
fn async_stream<T, F>(
    feed: impl FnOnce(tokio::sync::mpsc::Sender<Result<T, Status>>) -> F,
) -> impl Stream<Item = Result<T, Status>>
where
    T: Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let (sender, receiver) = tokio::sync::mpsc::channel(64);
    tokio::spawn(feed(sender));
    tokio_stream::wrappers::ReceiverStream::new(receiver)
}
