//! `TransferService`: whole trials, many at a time.

use std::pin::Pin;

use fleetune_core::{StudyId, TrialId, TrialNumber};
use fleetune_proto::convert::Invalid;
use fleetune_proto::optuna as wire;
use fleetune_proto::v1;
use fleetune_proto::v1::transfer_service_server::TransferService;
use futures::Stream;
use futures::stream::try_unfold;
use prost::Message as _;
use tonic::{Request, Response, Status};

use super::{decode, encode};
use crate::scheduler::{Engine, OptunaTimes};
use crate::service::status;
use crate::storage::{NewTrial, TrialMark, audit};

/// Most trials of one call: they are one transaction.
const MAX_TRIALS: usize = 10_000;

/// Trials of one message of an export.
const PAGE: usize = 250;

/// `TransferService` over an engine.
pub struct TransferApi {
    engine: Engine,
}

impl TransferApi {
    /// Over `engine`.
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl TransferService for TransferApi {
    type ExportTrialsStream = Pin<Box<dyn Stream<Item = Result<v1::ExportTrialsResponse, Status>> + Send>>;

    async fn import_trials(&self, request: Request<v1::ImportTrialsRequest>) -> Answer<v1::ImportTrialsResponse> {
        let request = request.into_inner();
        let study = StudyId(request.study_id);
        let count = request.trials.len();
        // Whether there is a study at all is said first.
        self.engine.study_record(study).await.map_err(|error| status::engine(&error))?;
        if request.first_number < 0 || count > MAX_TRIALS {
            let why = format!("a call takes at most {MAX_TRIALS} trials, from a number that is not negative");
            return Err(status::invalid(&Invalid::new("trials", why)));
        }
        let trials = (request.first_number..).zip(request.trials);
        let trials = trials.map(|(number, bytes)| trial(number, &bytes)).collect::<Result<_, _>>();
        let trials = trials.map_err(|error| status::invalid(&error))?;
        let first = TrialNumber(request.first_number);
        let next = self.engine.import_trials(study, first, trials).await.map_err(|error| status::engine(&error))?;
        Ok(Response::new(v1::ImportTrialsResponse { next_number: next.0 }))
    }

    async fn finish_import(&self, request: Request<v1::FinishImportRequest>) -> Answer<v1::FinishImportResponse> {
        let request = request.into_inner();
        audit::about("study", &request.name);
        let finished = self.engine.finish_import(StudyId(request.study_id), request.name).await;
        finished.map_err(|error| status::engine(&error))?;
        Ok(Response::new(v1::FinishImportResponse {}))
    }

    async fn export_trials(&self, request: Request<v1::ExportTrialsRequest>) -> Answer<Self::ExportTrialsStream> {
        let study = StudyId(request.into_inner().study_id);
        let marks = self.engine.marks(study, TrialId(0), &[]).await.map_err(|error| status::engine(&error))?;
        let pages = try_unfold((self.engine.clone(), marks.into_iter()), async |(engine, mut marks)| {
            let ids: Vec<i64> = marks.by_ref().take(PAGE).map(|mark: TrialMark| mark.id.0).collect();
            if ids.is_empty() {
                return Ok(None);
            }
            let whole = engine.whole_trials(&ids).await.map_err(|error| status::engine(&error))?;
            let trials = whole.into_iter().map(|whole| encode::trial(&whole, OptunaTimes::Iso).into()).collect();
            Ok(Some((v1::ExportTrialsResponse { trials }, (engine, marks))))
        });
        Ok(Response::new(Box::pin(pages)))
    }
}

/// The trial that gets `number`; a complaint names it.
fn trial(number: i64, bytes: &[u8]) -> Result<NewTrial, Invalid> {
    let trial = wire::Trial::decode(bytes).map_err(|error| Invalid::new(format!("trial {number}"), error))?;
    decode::template(trial).map_err(|error| {
        let field = error.field.strip_prefix("template_trial: ").unwrap_or(&error.field);
        Invalid { field: format!("trial {number}: {field}"), ..error }
    })
}
