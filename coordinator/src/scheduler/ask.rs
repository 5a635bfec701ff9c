//! Asks: trials for clients that measure themselves, held or leased.

use std::time::Duration;

use fleetune_core::WorkerId;
use tokio_util::sync::CancellationToken;

use super::engine::{Engine, check_batch, check_request_id};
use super::error::EngineError;
use crate::storage::{Claimed, LeaseRules, Started, StoreError, StudyRecord};

/// Shortest and longest lease of a client.
const LEASE: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(30 * 24);

/// Longest name of a holder, bytes.
const MAX_HOLDER: usize = 100;

/// A lease that a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientLease {
    holder: WorkerId,
    ttl: Duration,
}

impl ClientLease {
    /// A lease that runs for `ttl` without a report. `holder` says who asks, such as the name of a host; it may be
    /// empty.
    pub fn new(ttl: Duration, holder: &str) -> Result<Self, EngineError> {
        if !LEASE.contains(&ttl) {
            return Err(EngineError::invalid("lease", "must be between 1 s and 30 days"));
        }
        if holder.len() > MAX_HOLDER || holder.chars().any(char::is_control) {
            let why = format!("must have at most {MAX_HOLDER} bytes, none of them of a control character");
            return Err(EngineError::invalid("holder", why));
        }
        let holder = WorkerId::client(if holder.is_empty() { "client" } else { holder });
        Ok(Self { holder, ttl })
    }
}

impl Engine {
    /// Starts up to `count` trials; the caller holds them, or leases them where it asks for that.
    ///
    /// In a study without benchmark a lease takes trials whose lease has ended before anything fresh. While such a
    /// trial waits out the delay after a gap in service, so does the call, until `stop` is cancelled.
    pub async fn ask(
        &self,
        name: &str,
        request_id: &str,
        count: u32,
        lease: Option<ClientLease>,
        stop: &CancellationToken,
    ) -> Result<Vec<Started>, EngineError> {
        check_request_id(request_id)?;
        check_batch(count as usize)?;
        let mut given = Vec::new();
        let desk = match &lease {
            None => self.desk_of(name).await?,
            Some(lease) => {
                let study = self.store.study_by_name(name).await?;
                given = self.asked_before(&study, request_id).await?;
                if !given.is_empty() {
                    return still_leased(name, given);
                }
                if study.config.benchmark.is_none() {
                    given = self.take_over(&study, request_id, count, lease, stop).await?;
                }
                self.desk(study.id).await?
            }
        };
        let missing = count - given.len() as u32;
        if missing == 0 {
            return Ok(given);
        }
        let lease = lease.map(|lease| (lease.holder, lease.ttl));
        let mut started = desk.start(missing, request_id, lease.clone()).await;
        if matches!(started, Err(EngineError::Store(StoreError::StudyNotFound(_)))) {
            // Another study may have its name by now.
            self.forget(desk.id()).await;
            started = self.desk_of(name).await?.start(missing, request_id, lease).await;
        }
        self.noted();
        match started {
            Ok(started) => given.extend(started),
            Err(error) => {
                // The ask that finds the budget used up may be the one that ends the study.
                self.conclude(desk.id()).await?;
                if given.is_empty() {
                    return Err(error);
                }
            }
        }
        Ok(given)
    }

    /// What this very request was given: what it took over, then what it started. A repeat gets no more than that,
    /// since its first answer may have arrived.
    async fn asked_before(&self, study: &StudyRecord, request_id: &str) -> Result<Vec<Started>, EngineError> {
        let mut given = Vec::new();
        for index in 0.. {
            match self.store.claimed_by(&claim_id(study, request_id, index)).await? {
                Some(claimed) => given.push(claimed),
                None => break,
            }
        }
        given.extend(self.store.started_by(study.id, request_id).await?);
        Ok(given)
    }

    /// Claims up to `count` trials whose lease has ended, the oldest first.
    async fn take_over(
        &self,
        study: &StudyRecord,
        request_id: &str,
        count: u32,
        lease: &ClientLease,
        stop: &CancellationToken,
    ) -> Result<Vec<Started>, EngineError> {
        let begun = tokio::time::Instant::now();
        let mut taken = Vec::new();
        while taken.len() < count as usize {
            self.answered();
            let claim = claim_id(study, request_id, taken.len());
            let rules = LeaseRules { ttl: lease.ttl, ..self.rules() };
            match self.store.claim(study.id, &lease.holder, &claim, rules, self.now()).await? {
                Claimed::Job { trial: Some(trial), lease, .. } => {
                    taken.push(Started { trial: *trial, lease: Some(lease) });
                    self.noted();
                }
                // A search goes on in order: nothing fresh while an ended lease waits out its delay.
                Claimed::NotBefore(at) if begun.elapsed() <= self.options.lease_ttl => {
                    // Its holder may tell it meanwhile.
                    let pause = at.since(self.now()).min(self.options.poll_every);
                    tokio::select! {
                        () = stop.cancelled() => return Err(EngineError::Stopping),
                        () = tokio::time::sleep(pause) => {}
                    }
                }
                Claimed::Job { .. } | Claimed::NotBefore(_) | Claimed::Nothing => break,
            }
        }
        Ok(taken)
    }
}

/// The request of the claim at `index`. Claims are unique in the whole database, asks in their study.
fn claim_id(study: &StudyRecord, request_id: &str, index: usize) -> String {
    format!("ask/{}/{request_id}/{index}", study.id)
}

/// What of it is leased still. Trials that ended, or are another's by now, are not the caller's business any more.
fn still_leased(name: &str, given: Vec<Started>) -> Result<Vec<Started>, EngineError> {
    if given.iter().any(|started| started.trial.is_held()) {
        return Err(EngineError::invalid("request_id", "was used for an ask without a lease"));
    }
    let leased: Vec<_> = given.into_iter().filter(|started| started.lease.is_some()).collect();
    if leased.is_empty() {
        return Err(EngineError::Spent(name.to_owned()));
    }
    Ok(leased)
}
