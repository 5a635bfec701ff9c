//! A comparison: rounds of cells, each a fresh process with one counted repetition.

use fleetune_core::{FailKind, Workload};

use super::leases::Lease;
use super::measurement::{NoPlan, Silent};
use super::session::Session;
use super::trial::after;
use super::{AgentEvent, JobEnd, Unusable};
use crate::client::{Candidate, Cell, Job, Outcome, Round};
use crate::executor::{Ended, Failure, Stop};

/// Why a cell was not measured.
enum NoCell {
    Stopped(Stop),
    Unusable(Unusable),
}

impl Session {
    /// Measures round after round until the coordinator has enough. Returns how it ended, and the seconds measured.
    pub(super) async fn comparison(
        &self,
        lease: &Lease,
        job: &Job,
        candidates: &[Candidate],
        next: Option<Round>,
        mut cells_left: u32,
    ) -> Result<(JobEnd, f64), Unusable> {
        let mut seconds = 0.0;
        let mut next = next;
        while let Some(round) = next {
            if let Some(index) = round.order.iter().find(|index| **index >= candidates.len()) {
                let why = format!("round {} names candidate {index} of {}", round.round, candidates.len());
                let failure = Failure::new(FailKind::Error, why);
                let detail = self.blank_detail(&job.benchmark, &fleetune_core::Params::new());
                let delivery = self.deliver(lease, &Outcome::Failed(failure.clone()), &detail).await;
                return Ok((after(delivery, JobEnd::Failed(failure)), seconds));
            }
            let mut cells = Vec::with_capacity(round.order.len());
            for &index in &round.order {
                let trial = candidates[index].trial;
                self.tell(AgentEvent::CellStarted { round: round.round, trial, cells_left });
                match self.cell(lease, job, &candidates[index], index, round.round).await {
                    Ok((cell, cell_seconds)) => {
                        seconds += cell_seconds;
                        cells_left = cells_left.saturating_sub(1);
                        self.tell(AgentEvent::CellEnded { round: round.round, trial, result: cell.result.clone() });
                        cells.push(cell);
                    }
                    // The round does not count; whoever comes next starts it again.
                    Err(NoCell::Stopped(stop)) => return Ok((self.abandon(lease, stop).await, seconds)),
                    Err(NoCell::Unusable(unusable)) => return Err(unusable),
                }
            }
            match self.record(lease, &round, &cells).await {
                Ok((following, left)) => {
                    next = following;
                    cells_left = left;
                }
                Err(stop) => return Ok((self.abandon(lease, stop).await, seconds)),
            }
        }
        Ok((JobEnd::Compared, seconds))
    }

    async fn cell(
        &self,
        lease: &Lease,
        job: &Job,
        candidate: &Candidate,
        index: usize,
        round: u32,
    ) -> Result<(Cell, f64), NoCell> {
        let benchmark = &job.benchmark;
        let workload = Workload { repetitions: 1, ..benchmark.workload };
        let label = format!("{}-round{round}-{}", job.study, candidate.trial);
        let plan = match self.plan(job, &candidate.params, workload, label).await {
            Ok(plan) => plan,
            Err(NoPlan::Unusable(unusable)) => return Err(NoCell::Unusable(unusable)),
            Err(NoPlan::Failed(failure)) => {
                let detail = self.blank_detail(benchmark, &candidate.params);
                return Ok((Cell { candidate: index, result: Err(failure), detail }, 0.0));
            }
        };
        let measured = self.measure(lease, benchmark, &plan, &mut Silent).await.map_err(NoCell::Unusable)?;
        let result = match (measured.ended, measured.values.first()) {
            (Ended::Done, Some(value)) => Ok(*value),
            (Ended::Done, None) => Err(Failure::new(FailKind::Error, "the run measured nothing")),
            (Ended::Failed(failure), _) => Err(failure),
            (Ended::Stopped(stop), _) => return Err(NoCell::Stopped(stop)),
        };
        Ok((Cell { candidate: index, result, detail: measured.detail }, measured.seconds))
    }

    /// Stores a whole round, for as long as it takes.
    async fn record(&self, lease: &Lease, round: &Round, cells: &[Cell]) -> Result<(Option<Round>, u32), Stop> {
        loop {
            // Not cut short by a stop: the heartbeat may say that the job is over because this very round ended it.
            let answer = self.client.record_round(lease.token(), round.round, cells, self.patience()).await;
            match answer {
                Ok(next) => return Ok(next),
                Err(error) if error.is_transient() => {
                    self.disconnected(&error);
                    if let Some(stop) = lease.is_stopped() {
                        return Err(stop);
                    }
                }
                Err(error) => {
                    tracing::warn!(token = %lease.token(), round = round.round, %error, "round was refused");
                    // A refusal for another reason than the lease would come back in every attempt.
                    if !error.is_lost() {
                        let outcome = Outcome::Failed(Failure::new(FailKind::Error, error.to_string()));
                        self.deliver(lease, &outcome, &fleetune_core::measurement::AttemptDetail::default()).await;
                    }
                    return Err(Stop::Lost);
                }
            }
        }
    }
}
