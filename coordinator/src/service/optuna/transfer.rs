//! `TransferService`: whole trials, many at a time.

use std::collections::VecDeque;
use std::pin::Pin;

use bytes::Bytes;
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
use crate::storage::{NewTrial, StoreError, audit};

/// Most trials of one call: they are one transaction.
const MAX_TRIALS: usize = 10_000;

/// Trials of one message of an export, at most.
const PAGE: usize = 250;
/// Bytes of one message of an export, about: a page ends with the trial that reaches them.
const PAGE_BYTES: usize = 8 * 1024 * 1024;

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
        let ids = marks.iter().map(|mark| mark.id.0).collect();
        let export = Export { engine: self.engine.clone(), study, ids, at_once: PAGE, read: VecDeque::new() };
        let pages = try_unfold(export, async |mut export| Ok(export.page().await?.map(|page| (page, export))));
        Ok(Response::new(Box::pin(pages)))
    }
}

/// An export under way.
struct Export {
    engine: Engine,
    study: StudyId,
    /// Of the trials that are still to be read.
    ids: VecDeque<i64>,
    /// How many to read at once: about as many as fill a page.
    at_once: usize,
    /// Trials that were read, encoded.
    read: VecDeque<Bytes>,
}

impl Export {
    /// The next message; `None` when all was said.
    async fn page(&mut self) -> Result<Option<v1::ExportTrialsResponse>, Status> {
        let (mut trials, mut bytes) = (Vec::new(), 0);
        while bytes < PAGE_BYTES && trials.len() < PAGE {
            if self.read.is_empty() {
                self.read().await?;
            }
            let Some(trial) = self.read.pop_front() else { break };
            bytes += trial.len();
            trials.push(trial.into());
        }
        Ok((!trials.is_empty()).then_some(v1::ExportTrialsResponse { trials }))
    }

    async fn read(&mut self) -> Result<(), Status> {
        let ids: Vec<i64> = self.ids.drain(..self.at_once.min(self.ids.len())).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let whole = self.engine.whole_trials(&ids).await.map_err(|error| status::engine(&error))?;
        // Half a study must not look like a whole one.
        if whole.len() != ids.len() {
            let gone = StoreError::StudyNotFound(self.study.to_string());
            return Err(status::engine(&gone.into()));
        }
        self.read.extend(whole.iter().map(|whole| encode::trial(whole, OptunaTimes::Iso)));
        let bytes: usize = self.read.iter().map(Bytes::len).sum();
        self.at_once = (PAGE_BYTES * ids.len() / bytes.max(1)).clamp(1, PAGE);
        Ok(())
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
