//! The one door to gRPC: calls in, views out.

mod admin;
mod analysis;
mod fleet;
mod llama_server;
pub mod proxy;
mod read;
mod transfer;
mod trial;
mod watch;

use fleetune_core::Schedule;
use fleetune_core::schedule::Per;
use fleetune_core::study::{Budget, StudyConfig};
use fleetune_proto::link::Link;
use fleetune_proto::v1::study_service_client::StudyServiceClient;
use fleetune_proto::{convert, v1};
use tokio_stream::StreamExt as _;

use crate::error::{CliError, CliResult};
use crate::view::{BestView, ComparisonView, GainView, MismatchView, StudyView, TrialView, VerifyView};

pub use admin::Admin;
pub use fleet::Fleet;
use llama_server::note;
pub use llama_server::{llama_server, quoted};
use read::{checked, incomplete, study, trial};
pub use transfer::Transfer;
pub use trial::{End, request_id};
pub use watch::{Broken, Change};

/// Longest message that is read, bytes.
const MAX_MESSAGE: usize = 64 << 20;

/// StudyService as the commands use it.
#[derive(Clone)]
pub struct Client {
    studies: StudyServiceClient<Link>,
}

impl Client {
    /// Over `link`.
    pub fn new(link: Link) -> Self {
        Self { studies: StudyServiceClient::new(link).max_decoding_message_size(MAX_MESSAGE) }
    }

    /// Creates a study. A retry with the same `request_id` gives the same study.
    pub async fn create(
        &mut self,
        name: &str,
        request_id: &str,
        config: &StudyConfig,
        schedule: &Schedule,
        per: Option<&Per>,
    ) -> CliResult<StudyView> {
        let request = v1::CreateStudyRequest {
            per: per.map(Per::name).unwrap_or_default(),
            request_id: request_id.to_owned(),
            name: name.to_owned(),
            config: Some(convert::config_to_wire(config)),
            schedule: Some(convert::schedule_to_wire(schedule)),
        };
        let answer = self.studies.create_study(request).await;
        study(answer.map_err(failed(format!("failed to create study `{name}`")))?.into_inner().study)
    }

    /// A study, or none of that name.
    pub async fn find(&mut self, name: &str) -> CliResult<Option<StudyView>> {
        match self.show(name).await {
            Ok(study) => Ok(Some(study)),
            Err(error) if error.reason == Some(fleetune_proto::reason::Reason::StudyNotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A study.
    pub async fn show(&mut self, name: &str) -> CliResult<StudyView> {
        let answer = self.studies.get_study(v1::GetStudyRequest { name: name.to_owned() }).await;
        study(answer.map_err(failed(format!("failed to read study `{name}`")))?.into_inner().study)
    }

    /// The configuration of a study, whole.
    pub async fn config(&mut self, name: &str) -> CliResult<StudyConfig> {
        let answer = self.studies.get_study(v1::GetStudyRequest { name: name.to_owned() }).await;
        let wire = answer.map_err(failed(format!("failed to read study `{name}`")))?.into_inner().study;
        checked(convert::config(wire.and_then(|study| study.config).ok_or_else(incomplete)?))
    }

    /// Every study; archived ones where `archived` says so.
    pub async fn list(&mut self, archived: bool) -> CliResult<Vec<StudyView>> {
        let mut studies = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = v1::ListStudiesRequest { page_size: 500, page_token, archived };
            let page = self.studies.list_studies(request).await;
            let page = page.map_err(failed("failed to list the studies"))?.into_inner();
            for wire in page.studies {
                studies.push(study(Some(wire))?);
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(studies);
            }
        }
    }

    /// Replaces what is given of budget and schedule.
    pub async fn update(
        &mut self,
        name: &str,
        budget: Option<&Budget>,
        schedule: Option<&Schedule>,
    ) -> CliResult<StudyView> {
        let request = v1::UpdateStudyRequest {
            name: name.to_owned(),
            budget: budget.map(convert::budget_to_wire),
            schedule: schedule.map(convert::schedule_to_wire),
        };
        let answer = self.studies.update_study(request).await;
        study(answer.map_err(failed(format!("failed to change study `{name}`")))?.into_inner().study)
    }

    /// Starts no more trials.
    pub async fn pause(&mut self, name: &str) -> CliResult<StudyView> {
        let answer = self.studies.pause_study(v1::PauseStudyRequest { name: name.to_owned() }).await;
        study(answer.map_err(failed(format!("failed to pause study `{name}`")))?.into_inner().study)
    }

    /// Undoes a pause.
    pub async fn resume(&mut self, name: &str) -> CliResult<StudyView> {
        let answer = self.studies.resume_study(v1::ResumeStudyRequest { name: name.to_owned() }).await;
        study(answer.map_err(failed(format!("failed to resume study `{name}`")))?.into_inner().study)
    }

    /// Ends a study.
    pub async fn cancel(&mut self, name: &str) -> CliResult<StudyView> {
        let answer = self.studies.cancel_study(v1::CancelStudyRequest { name: name.to_owned() }).await;
        study(answer.map_err(failed(format!("failed to cancel study `{name}`")))?.into_inner().study)
    }

    /// Puts a study away.
    pub async fn archive(&mut self, name: &str) -> CliResult<StudyView> {
        let answer = self.studies.archive_study(v1::ArchiveStudyRequest { name: name.to_owned() }).await;
        study(answer.map_err(failed(format!("failed to archive study `{name}`")))?.into_inner().study)
    }

    /// Fetches a study back.
    pub async fn unarchive(&mut self, name: &str) -> CliResult<StudyView> {
        let answer = self.studies.unarchive_study(v1::UnarchiveStudyRequest { name: name.to_owned() }).await;
        study(answer.map_err(failed(format!("failed to fetch study `{name}` back")))?.into_inner().study)
    }

    /// Removes a study.
    pub async fn delete(&mut self, name: &str, force: bool) -> CliResult<()> {
        let answer = self.studies.delete_study(v1::DeleteStudyRequest { name: name.to_owned(), force }).await;
        answer.map(|_| ()).map_err(failed(format!("failed to delete study `{name}`")))
    }

    /// Recomputes every suggestion.
    pub async fn verify(&mut self, name: &str) -> CliResult<VerifyView> {
        let answer = self.studies.verify_study(v1::VerifyStudyRequest { study: name.to_owned() }).await;
        let found = answer.map_err(failed(format!("failed to verify study `{name}`")))?.into_inner();
        let mismatches = found
            .mismatches
            .into_iter()
            .map(|mismatch| {
                Ok(MismatchView {
                    number: mismatch.number,
                    stored: checked(convert::params(mismatch.stored))?,
                    recomputed: checked(convert::params(mismatch.recomputed))?,
                })
            })
            .collect::<CliResult<_>>()?;
        Ok(VerifyView { checked: found.checked, skipped: found.skipped, mismatches })
    }

    /// The trials of a study by number.
    pub async fn trials(&mut self, name: &str, states: &[fleetune_core::TrialState]) -> CliResult<Vec<TrialView>> {
        let what = format!("failed to list the trials of study `{name}`");
        let request = v1::ListTrialsRequest {
            study: name.to_owned(),
            states: states.iter().map(|&state| convert::trial_state_to_wire(state).into()).collect(),
            from: 0,
            limit: 0,
        };
        let mut stream = self.studies.list_trials(request).await.map_err(failed(what.clone()))?.into_inner();
        let mut trials = Vec::new();
        while let Some(wire) = stream.next().await {
            trials.push(trial(wire.map_err(failed(what.clone()))?)?);
        }
        Ok(trials)
    }

    /// A trial with its executions.
    pub async fn trial(&mut self, name: &str, number: i64) -> CliResult<TrialView> {
        let answer = self.studies.get_trial(v1::GetTrialRequest { study: name.to_owned(), number }).await;
        let wire = answer.map_err(failed(format!("failed to read trial {number} of study `{name}`")))?.into_inner();
        trial(wire.trial.ok_or_else(incomplete)?)
    }

    /// The best of a study.
    pub async fn best(&mut self, name: &str, count: u32) -> CliResult<BestView> {
        let shown = self.show(name).await?;
        let answer = self.studies.best(v1::BestRequest { study: name.to_owned(), count }).await;
        let best = answer.map_err(failed(format!("failed to read the best of study `{name}`")))?.into_inner();
        let winner = best.winner.map(trial).transpose()?;
        let llama_server_note = winner.as_ref().and_then(|_| note(&shown));
        let llama_server = match (&winner, &shown.model) {
            (Some(winner), Some(model)) => Some(llama_server(model, &shown, &winner.params)?),
            _ => None,
        };
        Ok(BestView {
            study: shown.name,
            state: shown.state,
            directions: shown.directions,
            unit: shown.unit,
            trials: best.trials.into_iter().map(trial).collect::<CliResult<_>>()?,
            baseline: best.baseline.map(trial).transpose()?,
            comparison: best.comparison.map(|verdict| ComparisonView {
                challenger: verdict.challenger,
                baseline: verdict.baseline,
                gain: verdict.gain.map(|gain| GainView {
                    ratio: gain.ratio,
                    low: gain.low,
                    high: gain.high,
                    pairs: gain.pairs,
                }),
                proven: verdict.proven,
                rounds: verdict.rounds,
            }),
            winner,
            llama_server,
            llama_server_note,
        })
    }
}

fn failed(what: impl Into<String>) -> impl FnOnce(tonic::Status) -> CliError {
    let what = what.into();
    move |status| CliError::from_status(what, &status)
}
