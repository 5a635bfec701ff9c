//! Where jobs come from: register, keep what is registered true, acquire.

use std::time::Duration;

use fleetune_core::FailKind;

use super::run::Agent;
use super::setbacks::Pause;
use super::trial::trial_failed;
use super::{AgentError, AgentEvent};
use crate::client::{Acquired, BadJob, ClientError, Job, Outcome, Reason, Terms};
use crate::executor::Failure;
use crate::identity::random_hex;

/// How long the coordinator may keep an Acquire without a job.
const ACQUIRE_WAIT: Duration = Duration::from_secs(20);

/// How long an agent that stops looks for a job that it was given unheard.
const GIVE_BACK_LIMIT: Duration = Duration::from_secs(2);

impl Agent {
    /// Registers, for as long as it takes; `None` when the agent is to stop before.
    pub(super) async fn register(&self) -> Result<Option<Terms>, AgentError> {
        let mut pause = Pause::default();
        loop {
            let answer = tokio::select! {
                biased;
                () = self.ending() => return Ok(None),
                answer = self.session.register() => answer,
            };
            match answer {
                Ok(terms) => {
                    self.deliver_spooled().await;
                    return Ok(Some(terms));
                }
                Err(error) if error.is_transient() => {
                    self.disconnected(&error);
                    pause.wait(self).await;
                }
                Err(error) => return Err(AgentError::Refused(error)),
            }
        }
    }

    /// Waits for a job; `None` when the agent is to stop before there is one. No job is left leased then.
    pub(super) async fn next_job(&self, told: &mut Option<Vec<String>>) -> Result<Option<Job>, AgentError> {
        let mut unanswered = None;
        let job = self.wait_for_job(told, &mut unanswered).await;
        if let Some(request_id) = unanswered {
            self.give_back(&request_id).await;
        }
        job
    }

    /// Gives back what an Acquire leased whose answer nobody heard: without, the attempt would count as lost.
    async fn give_back(&self, request_id: &str) {
        let session = &self.session;
        let again = async {
            let acquired =
                session.client.acquire(&session.worker, self.study.as_deref(), Duration::ZERO, request_id).await?;
            let jobs = acquired.jobs.iter().map(|job| job.token);
            for token in jobs.chain(acquired.bad.iter().map(|bad| bad.token)) {
                session.release(&session.leases.hold(token)).await;
            }
            Ok::<(), ClientError>(())
        };
        match tokio::time::timeout(GIVE_BACK_LIMIT, again).await {
            Ok(Ok(())) => {}
            // Its lease ends by itself.
            Ok(Err(error)) => tracing::debug!(%error, "unknown whether a job was leased"),
            Err(_) => tracing::debug!("unknown whether a job was leased"),
        }
    }

    /// Waits for a job. `unanswered` is the request of an Acquire that may have leased one unheard.
    async fn wait_for_job(
        &self,
        told: &mut Option<Vec<String>>,
        unanswered: &mut Option<String>,
    ) -> Result<Option<Job>, AgentError> {
        let session = &self.session;
        let mut request_id = random_hex();
        let mut pause = Pause::default();
        let mut runner_away = None;
        loop {
            if session.stop.is_cancelled() || session.drain.is_cancelled() {
                return Ok(None);
            }
            if !session.spool.tokens().is_empty() {
                self.deliver_spooled().await;
                if session.spool.is_full() {
                    pause.wait(self).await;
                    continue;
                }
            }
            match session.refresh_engine().await {
                Ok(false) => runner_away = None,
                Ok(true) => {
                    runner_away = None;
                    if self.register().await?.is_none() {
                        return Ok(None);
                    }
                }
                // It may be on its way to be replaced by a newer one.
                Err(error) => {
                    let since = *runner_away.get_or_insert_with(|| {
                        tracing::warn!(%error, "runner does not answer");
                        session.tell(AgentEvent::RunnerMissing { message: error.to_string() });
                        tokio::time::Instant::now()
                    });
                    if since.elapsed() >= self.runner_patience {
                        return Err(error.into());
                    }
                    pause.wait(self).await;
                    continue;
                }
            }
            let others = tokio::select! {
                biased;
                () = self.ending() => return Ok(None),
                others = session.refresh_models() => others,
            };
            if others && self.register().await?.is_none() {
                return Ok(None);
            }
            *unanswered = Some(request_id.clone());
            let answer = tokio::select! {
                biased;
                () = self.ending() => return Ok(None),
                answer = session.client.acquire(&session.worker, self.study.as_deref(), ACQUIRE_WAIT, &request_id) => answer,
            };
            match answer {
                Ok(Acquired { mut jobs, bad, obstacles }) => {
                    *unanswered = None;
                    request_id = random_hex();
                    for bad in bad {
                        self.refuse(bad).await;
                    }
                    if let Some(job) = jobs.pop() {
                        *told = None;
                        return Ok(Some(job));
                    }
                    self.idle(told, obstacles);
                    // The wait is the server's; this only keeps one that does not wait from being flooded.
                    let mut pause = Pause::default();
                    pause.wait(self).await;
                }
                Err(error) if error.reason() == Some(Reason::WorkerUnknown) => {
                    if self.register().await?.is_none() {
                        return Ok(None);
                    }
                    pause.wait(self).await;
                }
                // The same request again: its answer may have been lost after a job was leased.
                Err(error) => {
                    self.disconnected(&error);
                    pause.wait(self).await;
                }
            }
        }
    }

    /// Says why there is no job, once for each new reason.
    fn idle(&self, told: &mut Option<Vec<String>>, obstacles: Vec<String>) {
        if told.as_ref() != Some(&obstacles) {
            self.session.tell(AgentEvent::Idle { obstacles: obstacles.clone() });
            *told = Some(obstacles);
        }
    }

    /// Delivers what is stored; an agent that ends has another time for it.
    async fn deliver_spooled(&self) {
        tokio::select! {
            biased;
            () = self.ending() => {}
            () = self.session.deliver_spooled() => {}
        }
    }

    pub(super) async fn ending(&self) {
        tokio::select! {
            () = self.session.stop.cancelled() => {}
            () = self.session.drain.cancelled() => {}
        }
    }

    fn disconnected(&self, error: &ClientError) {
        tracing::warn!(%error, "coordinator does not answer");
        self.session.disconnected(error);
    }

    /// Ends a job that makes no sense.
    async fn refuse(&self, bad: BadJob) {
        let lease = self.session.leases.hold(bad.token);
        let failure = Failure::new(FailKind::Error, format!("the job cannot be understood: {}", bad.why));
        let outcome = if bad.is_trial { trial_failed(failure, 0.0) } else { Outcome::Failed(failure) };
        self.session.deliver(&lease, &outcome, &fleetune_core::measurement::AttemptDetail::default()).await;
    }
}
