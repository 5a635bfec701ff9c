//! What workers do: register, lease jobs, renew, deliver.

use std::cell::LazyCell;
use std::sync::Arc;
use std::time::Duration;

use fleetune_core::gauges::Gauges;
use fleetune_core::measurement::AttemptDetail;
use fleetune_core::region::UnsafeRegion;
use fleetune_core::study::{Benchmark, Pin};
use fleetune_core::{FailKind, LeaseToken, StudyId, StudyState, TrialNumber, TrialState, WorkerId};

use tokio_util::sync::CancellationToken;

use super::board::Offer;
use super::comparison::{NextRound, Spec, corrupt};
use super::engine::{Engine, check_request_id};
use super::error::EngineError;
use super::family::Adoption;
use super::obstacle::{not_selected, obstacle};
use super::outcome;
use super::prepare::{self, Described};
use super::share::take_next;
use crate::storage::{
    Claimed, Heartbeat, HeldJob, JobKind, JobRecord, Lease, Registration, Started, StoreError, StudyRecord,
    TrialRecord, WorkerRecord,
};

/// Jobs leased in one call.
const MAX_JOBS: u32 = 64;

/// Longest a worker may wait for a job in one call.
const MAX_WAIT: Duration = Duration::from_mins(1);

/// A leased job with everything needed to do it.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// The lease.
    pub lease: Lease,
    /// Name of the study.
    pub study: String,
    /// What to run.
    pub benchmark: Benchmark,
    /// What the study's values hold for; none for a describe job.
    pub pin: Option<Pin>,
    /// What to do.
    pub work: Work,
    /// Where machines like the worker's went down: not to be run.
    pub regions: Vec<UnsafeRegion>,
}

/// What to do.
#[derive(Clone, Debug)]
pub enum Work {
    /// Tell what the model and the machine are.
    Describe,
    /// Run this trial.
    Trial(Box<TrialRecord>),
    /// Measure rounds, beginning with this one.
    Comparison {
        /// The configurations.
        spec: Spec,
        /// The next round.
        next: NextRound,
    },
}

/// The answer to an Acquire.
#[derive(Clone, Debug, Default)]
pub struct Acquired {
    /// Leased jobs; none when the wait was over.
    pub assignments: Vec<Assignment>,
    /// Why there is none, where the worker's operator could do something about it.
    pub obstacles: Vec<String>,
}

impl Engine {
    /// Registers a worker, or its return.
    pub async fn register(&self, registration: Registration) -> Result<WorkerRecord, EngineError> {
        let well_formed = registration.id.0.len() == 32 && registration.id.0.bytes().all(|b| b.is_ascii_hexdigit());
        if !well_formed {
            return Err(EngineError::invalid("worker_id", "must be 32 hexadecimal digits"));
        }
        let worker = self.store.register(registration, self.now()).await?;
        self.changed();
        Ok(worker)
    }

    /// Leases up to `max_jobs` jobs to `worker`, waiting up to `wait` for the first, and no longer once `stop` is
    /// cancelled.
    pub async fn acquire(
        &self,
        worker: &WorkerId,
        request_id: &str,
        max_jobs: u32,
        wait: Duration,
        only: Option<&str>,
        stop: &CancellationToken,
    ) -> Result<Acquired, EngineError> {
        check_request_id(request_id)?;
        let worker = self.store.worker(worker).await?;
        let max_jobs = max_jobs.clamp(1, MAX_JOBS);
        let begun = tokio::time::Instant::now();
        let deadline = begun + wait.min(MAX_WAIT);
        // A first look sees what anybody has done before it.
        let mut since = begun;
        let mut work = self.work_comes();
        work.mark_unchanged();
        let mut acquired = Acquired { assignments: Vec::new(), obstacles: Vec::new() };
        let spent = self.acquired_before(&worker, request_id, max_jobs, begun, &mut acquired.assignments).await?;
        loop {
            acquired.obstacles.clear();
            while !spent && acquired.assignments.len() < max_jobs as usize {
                let request_id = job_request(request_id, acquired.assignments.len());
                match self.acquire_one(&worker, &request_id, only, since, &mut acquired.obstacles).await? {
                    Some(assignment) => acquired.assignments.push(assignment),
                    None => break,
                }
            }
            let over = stop.is_cancelled() || tokio::time::Instant::now() >= deadline;
            if spent || over || !acquired.assignments.is_empty() {
                return Ok(acquired);
            }
            let poll = tokio::time::Instant::now() + self.poll_every();
            tokio::select! {
                _ = work.changed() => {}
                () = stop.cancelled() => return Ok(acquired),
                () = tokio::time::sleep_until(poll.min(deadline)) => {}
            }
            work.mark_unchanged();
            // Whoever else looks at this time shares one.
            since = tokio::time::Instant::now() - self.poll_every() / 2;
        }
    }

    /// Adds what this very request leased before and still holds: a retry gets what its first try got. Says whether
    /// that had any that is not its caller's any more; then it gets nothing else, and another needs another request.
    async fn acquired_before(
        &self,
        worker: &WorkerRecord,
        request_id: &str,
        max_jobs: u32,
        since: tokio::time::Instant,
        assignments: &mut Vec<Assignment>,
    ) -> Result<bool, EngineError> {
        let offers = self.offers(since).await?;
        let ids: Vec<StudyId> = offers.iter().map(|offer| offer.study.id).collect();
        let mut spent = false;
        for index in 0..max_jobs as usize {
            let request_id = job_request(request_id, index);
            let Some(id) = self.store.leased_by(&request_id, &ids).await? else { break };
            match self.acquire_again(id, worker, &request_id).await? {
                Some(assignment) => assignments.push(self.with_regions(assignment, worker).await?),
                None => spent = true,
            }
        }
        Ok(spent)
    }

    async fn acquire_one(
        &self,
        worker: &WorkerRecord,
        request_id: &str,
        only: Option<&str>,
        since: tokio::time::Instant,
        obstacles: &mut Vec<String>,
    ) -> Result<Option<Assignment>, EngineError> {
        if worker.draining {
            return Ok(None);
        }
        let offers = match only {
            Some(name) => Arc::new(self.offers_of(name).await?),
            None => self.offers(since).await?,
        };
        let mut left = self.candidates(&offers, worker, obstacles);
        while let Some(offer) = take_next(&mut left) {
            let mut study = &offer.study;
            let Some(benchmark) = &study.config.benchmark else { continue };
            let child;
            if study.is_parent() {
                match self.adopt(offer, worker).await? {
                    Adoption::Made(made) => child = made,
                    Adoption::Nothing => continue,
                    Adoption::Refused(why) => {
                        obstacles.push(why);
                        continue;
                    }
                }
                study = &child;
            }
            let _try = offer.tries.acquire().await;
            if offer.is_empty() {
                continue;
            }
            if self.store.worker(&worker.id).await?.draining {
                return Ok(None);
            }
            self.answered();
            if let Some(assignment) = self.safe_work(study, benchmark, worker, request_id).await? {
                self.noted();
                return Ok(Some(assignment));
            }
            // A parent has children for workers of other classes still.
            if !offer.study.is_parent() {
                offer.found_empty();
            }
        }
        Ok(None)
    }

    /// The offers that may have work for `worker`; of the others, what its operator could do about it.
    fn candidates<'a>(
        &self,
        offers: &'a [Offer],
        worker: &WorkerRecord,
        obstacles: &mut Vec<String>,
    ) -> Vec<&'a Offer> {
        let mut candidates = Vec::new();
        let facts = LazyCell::new(|| worker.facts());
        for offer in offers.iter().filter(|offer| !offer.study.state.is_ended() && !offer.is_held_back()) {
            let study = &offer.study;
            // Of what is for others there is nothing to say.
            if study.is_for_others(worker) {
                continue;
            }
            let Some(benchmark) = &study.config.benchmark else { continue };
            let is_selected = study.schedule.selector.is_none() || self.selectors.admit(&study.schedule, &facts);
            let obstacle =
                if is_selected { obstacle(study, benchmark, worker) } else { Some(not_selected(study, worker)) };
            match obstacle {
                Some(obstacle) if obstacles.contains(&obstacle) => {}
                Some(obstacle) => obstacles.push(obstacle),
                None if offer.is_empty() => {}
                None => candidates.push(offer),
            }
        }
        candidates
    }

    /// The job that `request_id` leased in study `id`, while the lease holds.
    async fn acquire_again(
        &self,
        id: StudyId,
        worker: &WorkerRecord,
        request_id: &str,
    ) -> Result<Option<Assignment>, EngineError> {
        let study = self.store.study(id).await?;
        let Some(benchmark) = study.config.benchmark.clone() else {
            return Ok(None);
        };
        if let Some(started) = self.store.started_by(id, request_id).await?.into_iter().next() {
            return Ok(started_work(&study, benchmark, started));
        }
        match self.store.claim(id, &worker.id, request_id, self.rules(), self.now()).await? {
            Claimed::Job { job, trial, lease } => {
                let work = self.work(&job, trial, lease.token).await?;
                Ok(work.map(|work| Assignment {
                    lease,
                    study: study.name,
                    benchmark,
                    pin: study.pin,
                    work,
                    regions: Vec::new(),
                }))
            }
            Claimed::NotBefore(_) | Claimed::Nothing => Ok(None),
        }
    }

    /// A job of the study, whatever is known of its configuration.
    pub(super) async fn acquire_from(
        &self,
        study: &StudyRecord,
        benchmark: Benchmark,
        worker: &WorkerRecord,
        request_id: &str,
    ) -> Result<Option<Assignment>, EngineError> {
        match self.store.claim(study.id, &worker.id, request_id, self.rules(), self.now()).await? {
            Claimed::Job { job, trial, lease } => {
                let work = self.work(&job, trial, lease.token).await?;
                return Ok(work.map(|work| Assignment {
                    lease,
                    study: study.name.clone(),
                    benchmark,
                    pin: study.pin.clone(),
                    work,
                    regions: Vec::new(),
                }));
            }
            // A resumed search goes on in order: nothing fresh while an ended lease waits out its delay.
            Claimed::NotBefore(_) => return Ok(None),
            Claimed::Nothing => {}
        }
        if study.state != StudyState::Active {
            return Ok(None);
        }
        let lease = Some((worker.id.clone(), self.options.lease_ttl));
        let started = self.desk(study.id).await?.start(1, request_id, lease).await;
        match started {
            Ok(started) => Ok(started.into_iter().next().and_then(|started| started_work(study, benchmark, started))),
            Err(EngineError::Finished { .. }) => {
                self.conclude(study.id).await?;
                Ok(None)
            }
            Err(EngineError::SpaceExhausted { why, .. }) => {
                self.conclude_exhausted(study.id, &why).await?;
                Ok(None)
            }
            // Changed under way: the next look sees its new state.
            Err(
                EngineError::NotActive { .. }
                | EngineError::Preparing(_)
                | EngineError::Contended(_)
                | EngineError::Store(
                    StoreError::WrongStudyState { .. } | StoreError::StudyNotFound(_) | StoreError::AtCapacity { .. },
                ),
            ) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What the job asks for; none when it needed nothing but its stored rounds to end.
    async fn work(
        &self,
        job: &JobRecord,
        trial: Option<Box<TrialRecord>>,
        token: LeaseToken,
    ) -> Result<Option<Work>, EngineError> {
        match (job.kind, trial) {
            (JobKind::Describe, _) => Ok(Some(Work::Describe)),
            (JobKind::Trial, Some(trial)) => Ok(Some(Work::Trial(trial))),
            (JobKind::Trial, None) => Err(EngineError::Store(StoreError::JobNotFound(job.id))),
            (JobKind::Comparison, _) => {
                let (spec, next) = self.continue_comparison(job, token).await?;
                Ok(next.map(|next| Work::Comparison { spec, next }))
            }
        }
    }

    /// Renews leases; which are lost or ended, and whether to drain.
    pub async fn heartbeat(
        &self,
        worker: &WorkerId,
        tokens: &[LeaseToken],
        gauges: Option<Gauges>,
    ) -> Result<Heartbeat, EngineError> {
        let beat = self.store.heartbeat(worker, tokens, self.options.lease_ttl, self.now()).await?;
        self.answered();
        if let Some(gauges) = gauges {
            self.told.note(worker, gauges, self.now(), self.options.lease_ttl);
        }
        Ok(beat)
    }

    /// What a worker's machine does, as it told this process within the last lease time.
    pub fn gauges(&self, worker: &WorkerId) -> Option<Gauges> {
        self.told.of(worker, self.now(), self.options.lease_ttl)
    }

    /// Ends `Preparing` by what a worker found.
    pub async fn finish_describe(&self, token: LeaseToken, described: Described) -> Result<(), EngineError> {
        let job = self.store.job(token.job).await?;
        let study = self.store.study(job.study).await?;
        let detail = serde_json::Value::Null;
        match prepare::prepared(&study, described) {
            Ok(prepared) => self.store.prepare(token, prepared, detail, self.now()).await?,
            Err(error) => self.store.fail_preparation(token, error.to_string(), detail, self.now()).await?,
        };
        self.changed();
        Ok(())
    }

    /// Ends a describe or comparison job that cannot be done.
    pub async fn finish_failed(&self, token: LeaseToken, message: String) -> Result<(), EngineError> {
        let job = self.store.job(token.job).await?;
        let detail = serde_json::Value::Null;
        match job.kind {
            JobKind::Describe => {
                self.store.fail_preparation(token, message, detail, self.now()).await?;
            }
            JobKind::Comparison => {
                // Without a comparison nothing is announced: the ranking stands as it is.
                self.end_comparison(&job, token, detail).await?;
            }
            JobKind::Trial => {
                let fail = Some((FailKind::Error, message));
                let detail = AttemptDetail::default();
                return self.finish_trial(token, TrialState::Fail, fail, &detail, 0.0).await;
            }
        }
        self.changed();
        Ok(())
    }

    /// Ends a trial that a worker measured.
    pub async fn finish_trial(
        &self,
        token: LeaseToken,
        state: TrialState,
        fail: Option<(FailKind, String)>,
        detail: &AttemptDetail,
        seconds: f64,
    ) -> Result<(), EngineError> {
        let job = self.store.job(token.job).await?;
        let study = self.store.study(job.study).await?;
        let number = job.trial.unwrap_or(TrialNumber(-1));
        let trial = self.store.trial(study.id, number).await?;
        let benchmark = study.config.benchmark.as_ref().ok_or(StoreError::JobNotFound(job.id))?;
        let seconds = if seconds.is_finite() { seconds.max(0.0) } else { 0.0 };
        let end = outcome::measured(&study.config, benchmark, &trial, state, fail, detail, seconds)?;
        let detail = serde_json::to_value(detail).map_err(|error| corrupt(job.id, &error))?;
        self.store.finish(study.id, number, Some(token), end, detail, self.now()).await?;
        if study.schedule.max_parallel.is_some() {
            // Another worker may have its place.
            self.changed();
        } else {
            self.noted();
        }
        self.conclude(study.id).await
    }

    /// Gives a job back unfinished.
    pub async fn release(&self, token: LeaseToken) -> Result<(), EngineError> {
        self.store.release(token, self.now()).await?;
        self.changed();
        Ok(())
    }

    /// The worker takes no new job from now on, or takes jobs again.
    pub async fn set_draining(&self, worker: &WorkerId, draining: bool) -> Result<WorkerRecord, EngineError> {
        let worker = self.store.drain_worker(worker, draining).await?;
        self.changed();
        Ok(worker)
    }

    /// What the worker holds leases of.
    pub async fn held_by(&self, worker: &WorkerId) -> Result<Vec<HeldJob>, EngineError> {
        Ok(self.store.held_by(worker).await?)
    }

    /// Workers by id.
    pub async fn workers(&self, after: &WorkerId, limit: u32) -> Result<Vec<WorkerRecord>, EngineError> {
        Ok(self.store.workers(after, limit).await?)
    }
}

/// The request of one of the jobs of a call.
fn job_request(request_id: &str, index: usize) -> String {
    format!("{request_id}/{index}")
}

/// A started trial as an assignment, while its first lease holds.
fn started_work(study: &StudyRecord, benchmark: Benchmark, started: Started) -> Option<Assignment> {
    let lease = started.lease?;
    let work = Work::Trial(Box::new(started.trial));
    let regions = Vec::new();
    Some(Assignment { lease, study: study.name.clone(), benchmark, pin: study.pin.clone(), work, regions })
}
