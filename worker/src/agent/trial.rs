//! A trial: one configuration, reported repetition by repetition.

use async_trait::async_trait;
use fleetune_core::workload::running_median;
use fleetune_core::{FailKind, Params, TrialNumber, TrialState};

use super::leases::Lease;
use super::measurement::{NoPlan, Reporter};
use super::session::{Delivery, Session};
use super::{JobEnd, Unusable};
use crate::client::{Job, Outcome, Verdict};
use crate::executor::{Ended, Failure, Stop};
use crate::measure::Step;

impl Session {
    /// Carries out a trial and ends it. Returns how, and the seconds measured.
    pub(super) async fn trial(
        &self,
        lease: &Lease,
        job: &Job,
        number: TrialNumber,
        params: &Params,
    ) -> Result<(JobEnd, f64), Unusable> {
        let benchmark = &job.benchmark;
        let label = format!("{}-{number}", job.study);
        let plan = match self.plan(job, params, benchmark.workload, label).await {
            Ok(plan) => plan,
            Err(NoPlan::Unusable(unusable)) => return Err(unusable),
            Err(NoPlan::Failed(failure)) => {
                let detail = self.blank_detail(benchmark, params);
                let outcome = trial_failed(failure.clone(), 0.0);
                let delivery = self.deliver(lease, &outcome, &detail).await;
                return Ok((after(delivery, JobEnd::Failed(failure)), 0.0));
            }
        };
        let mut reports = Reports { session: self, lease, study: &job.study, number };
        let measured = self.measure(lease, benchmark, &plan, &mut reports).await?;
        let seconds = measured.seconds;
        let value = running_median(&measured.values).last().copied();
        let (outcome, end) = match (measured.ended, value) {
            (Ended::Done, Some(value)) => {
                (Outcome::Trial { state: TrialState::Complete, failure: None, seconds }, JobEnd::Complete { value })
            }
            (Ended::Stopped(Stop::Pruned), Some(value)) => {
                (Outcome::Trial { state: TrialState::Pruned, failure: None, seconds }, JobEnd::Pruned { value })
            }
            (Ended::Stopped(stop), _) => return Ok((self.abandon(lease, stop).await, seconds)),
            (Ended::Failed(failure), _) => (trial_failed(failure.clone(), seconds), JobEnd::Failed(failure)),
            (Ended::Done, None) => {
                let failure = Failure::new(FailKind::Error, "the run measured nothing");
                (trial_failed(failure.clone(), seconds), JobEnd::Failed(failure))
            }
        };
        let delivery = self.deliver(lease, &outcome, &measured.detail).await;
        Ok((after(delivery, end), seconds))
    }
}

/// What the agent says of a job after trying to end it.
pub(super) fn after(delivery: Delivery, end: JobEnd) -> JobEnd {
    match delivery {
        Delivery::Done | Delivery::Spooled => end,
        Delivery::Lost => JobEnd::Lost,
    }
}

pub(super) fn trial_failed(failure: Failure, seconds: f64) -> Outcome {
    Outcome::Trial { state: TrialState::Fail, failure: Some(failure), seconds }
}

struct Reports<'a> {
    session: &'a Session,
    lease: &'a Lease,
    study: &'a str,
    number: TrialNumber,
}

#[async_trait]
impl Reporter for Reports<'_> {
    async fn report(&mut self, step: Step) -> Verdict {
        if self.session.is_away() {
            return Verdict::Continue;
        }
        let token = self.lease.token();
        let patience = self.session.patience();
        let answer =
            self.session.client.report(token, self.study, self.number, step.number, step.value, patience).await;
        match answer {
            Ok(verdict) => verdict,
            Err(error) => {
                tracing::warn!(study = self.study, trial = %self.number, step = step.number, %error, "report failed");
                if error.is_lost() {
                    self.lease.stop(Stop::Lost);
                }
                if error.is_transient() && !error.is_storage_full() {
                    self.session.set_away(true);
                }
                // The samples of all repetitions go along with the end: nothing is lost but a chance to prune.
                Verdict::Continue
            }
        }
    }
}
