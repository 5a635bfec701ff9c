//! What clients do with trials: report, tell, queue, cancel, look.

use fleetune_core::{LeaseToken, Params, StudyState, TrialNumber};

use super::desk::Told;
use super::engine::{Engine, check_batch, check_request_id};
use super::error::EngineError;
use super::outcome::{self, Tell};
use crate::storage::{AttemptRecord, NewWaiting, Origin, StoreError, TrialFilter, TrialRecord};

impl Engine {
    /// Stores an intermediate value; whether to stop.
    pub async fn report(
        &self,
        name: &str,
        number: TrialNumber,
        step: u32,
        value: f64,
        token: Option<LeaseToken>,
    ) -> Result<bool, EngineError> {
        if !value.is_finite() {
            return Err(EngineError::NonFinite { number, value });
        }
        let record = self.store.study_by_name(name).await?;
        let trial = self.store.trial(record.id, number).await?;
        let stop = {
            let desk = self.desk(record.id).await?;
            let mut live = desk.live().lock().await;
            live.catch_up().await?;
            live.should_stop(number, &trial.steps, step, value)
        };
        let verdict = self.store.report(record.id, number, token, step, value, stop, self.now()).await?;
        self.noted();
        Ok(verdict)
    }

    /// Ends a trial as a client says.
    pub async fn tell(
        &self,
        name: &str,
        number: TrialNumber,
        mut tell: Tell,
        token: Option<LeaseToken>,
    ) -> Result<TrialRecord, EngineError> {
        if token.is_none() {
            let desk = self.desk_of(name).await?;
            match desk.tell(number, tell.clone()).await {
                Ok(Told::Ended { trial, last }) => {
                    self.noted();
                    if last {
                        self.conclude(trial.study).await?;
                    }
                    return Ok(*trial);
                }
                Ok(Told::AskStorage(back)) => tell = back,
                // Another study may have its name by now.
                Err(EngineError::Store(StoreError::StudyNotFound(_))) => self.forget(desk.id()).await,
                Err(error) => return Err(error),
            }
        }
        let record = self.store.study_by_name(name).await?;
        let trial = self.store.trial(record.id, number).await?;
        let now = self.now();
        let end = outcome::told(&record.config, &trial, tell, now)?;
        let detail = serde_json::Value::Null;
        let trial = self.store.finish(record.id, number, token, end, detail, now).await?;
        self.noted();
        self.conclude(record.id).await?;
        Ok(trial)
    }

    /// Queues trials with partly fixed parameters; `force` takes them out of quarantine.
    pub async fn enqueue(
        &self,
        name: &str,
        request_id: &str,
        trials: Vec<Params>,
        force: bool,
    ) -> Result<Vec<TrialRecord>, EngineError> {
        check_request_id(request_id)?;
        check_batch(trials.len())?;
        let record = self.store.study_by_name(name).await?;
        let space = match (&record.config.space, record.state) {
            (Some(space), _) => space,
            (None, StudyState::Preparing) => return Err(EngineError::Preparing(name.to_owned())),
            (None, _) => return Err(EngineError::NoSpace(name.to_owned())),
        };
        let entries = trials
            .iter()
            .map(|params| {
                let fixed = super::prepare::check_queue_entry(space, params)?;
                super::regions::check_safe(&record, &fixed, force)?;
                Ok(NewWaiting { fixed, origin: Origin::Enqueued })
            })
            .collect::<Result<_, EngineError>>()?;
        let (id, now) = (request_id.to_owned(), self.now());
        let trials = if force {
            self.store.enqueue_out_of_quarantine(record.id, id, entries, now).await?
        } else {
            self.store.enqueue(record.id, id, entries, now).await?
        };
        self.changed();
        Ok(trials)
    }

    /// Ends a trial without a result, whoever holds it.
    pub async fn cancel_trial(&self, name: &str, number: TrialNumber) -> Result<TrialRecord, EngineError> {
        let record = self.store.study_by_name(name).await?;
        let trial = self.store.cancel_trial(record.id, number, self.now()).await?;
        self.changed();
        self.conclude(record.id).await?;
        Ok(trial)
    }

    /// A trial with its executions.
    pub async fn trial(
        &self,
        name: &str,
        number: TrialNumber,
    ) -> Result<(TrialRecord, Vec<AttemptRecord>), EngineError> {
        let record = self.store.study_by_name(name).await?;
        let trial = self.store.trial(record.id, number).await?;
        let attempts = match trial.job {
            Some(job) => self.store.attempts(job).await?,
            None => Vec::new(),
        };
        Ok((trial, attempts))
    }

    /// A page of trials by number.
    pub async fn trials(&self, name: &str, filter: &TrialFilter) -> Result<Vec<TrialRecord>, EngineError> {
        let record = self.store.study_by_name(name).await?;
        Ok(self.store.trials(record.id, filter).await?)
    }
}
