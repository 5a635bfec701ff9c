//! Comparisons: which configurations are measured against each other, and what their rounds say.
//!
//! The statistics are the sampler crate's; here are the candidates, the stored rounds and the next one.

use std::collections::BTreeSet;

use fleetune_core::study::Pin;
use fleetune_core::{Direction, FailKind, JobId, LeaseToken, Params, StudyState, TrialNumber};
use fleetune_sampler::confirmation::{self, Next, Plan, Verdict};
use serde::{Deserialize, Serialize};

use super::engine::Engine;
use super::error::EngineError;
use super::history::History;
use super::live::LiveStudy;
use crate::storage::{JobRecord, Origin};

/// Challengers that enter the choosing rounds.
const CHALLENGERS: usize = 4;

/// One configuration of a comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The trial it comes from.
    pub trial: TrialNumber,
    /// Its parameters.
    pub params: Params,
    /// Whether it is what the others must beat.
    pub baseline: bool,
}

/// What a comparison job is about, as stored with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// In the order that rounds refer to.
    pub candidates: Vec<Candidate>,
    /// Larger or smaller is better.
    pub direction: Direction,
    /// Draws the order within rounds.
    pub seed: u64,
    /// What its values hold for.
    pub pin: Option<Pin>,
}

/// One configuration measured once in a fresh process, as stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Index into the candidates.
    pub candidate: usize,
    /// The objective; none when the process failed.
    pub value: Option<f64>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<(FailKind, String)>,
    /// What was observed.
    #[serde(default)]
    pub detail: serde_json::Value,
}

/// A round to measure.
#[derive(Clone, Debug, PartialEq)]
pub struct NextRound {
    /// Its number, from 0.
    pub round: u32,
    /// Candidates in the order to measure them, each in a fresh process.
    pub order: Vec<usize>,
    /// Fresh processes still to come, at most, these included.
    pub cells_left: u32,
}

/// Complete, feasible trials, best first: as the sampler sees them through the noise, else by value, of equals the
/// earlier first.
pub fn ranking(live: &LiveStudy) -> Vec<TrialNumber> {
    let direction = live.record().config.directions[0];
    let mut feasible: Vec<(TrialNumber, f64)> = live.history().feasible().collect();
    feasible.sort_by(|a, b| direction.minimized(a.1).total_cmp(&direction.minimized(b.1)).then(a.0.cmp(&b.0)));
    let by_value = feasible.into_iter().map(|(number, _)| number);
    let mut ranked = live.expected();
    if ranked.is_empty() {
        return by_value.collect();
    }
    // What the sampler does not look at comes behind.
    let mut left: BTreeSet<TrialNumber> = by_value.clone().collect();
    ranked.retain(|number| left.remove(number));
    ranked.extend(by_value.filter(|number| left.contains(number)));
    ranked
}

/// What the others must beat: of the `ranked` trials the machine's default, else the engine's own proposal.
pub fn baseline(history: &History, ranked: &[TrialNumber]) -> Option<TrialNumber> {
    let of_origin = |wanted| ranked.iter().copied().find(|&number| history.origin(number) == Some(wanted));
    of_origin(Origin::Default).or_else(|| of_origin(Origin::EngineFit))
}

/// The comparison that ends the search of `live`, or none: nothing to compare, or not wanted.
pub fn spec(live: &LiveStudy) -> Option<Spec> {
    let (record, history) = (live.record(), live.history());
    let benchmark = record.config.benchmark.as_ref().filter(|benchmark| benchmark.confirm)?;
    let direction = benchmark.objective.direction();
    let mut ranked = ranking(live);
    // What clients tried outside of the space cannot be measured again.
    ranked.retain(|&number| history.fits(number));
    let baseline = baseline(history, &ranked);
    let candidate = |number: TrialNumber| {
        let params = history.params(number)?;
        Some(Candidate { trial: number, params, baseline: Some(number) == baseline })
    };
    let mut candidates: Vec<Candidate> = baseline.and_then(candidate).into_iter().collect();
    for challenger in ranked.iter().filter_map(|&number| candidate(number)) {
        let is_new = candidates.iter().all(|known| known.params != challenger.params);
        if is_new && candidates.iter().filter(|known| !known.baseline).count() < CHALLENGERS {
            candidates.push(challenger);
        }
    }
    // A single configuration has nothing to be compared with.
    (candidates.len() > 1).then(|| Spec { candidates, direction, seed: record.config.seed, pin: record.pin.clone() })
}

impl Spec {
    fn plan(&self, job: JobId) -> Plan {
        let baseline = self.candidates.iter().position(|candidate| candidate.baseline);
        Plan::new(self.seed ^ (job.0 as u64).rotate_left(32), self.candidates.len(), baseline, self.direction)
    }

    /// The next round after `rounds`, or the verdict.
    pub fn next(&self, job: JobId, rounds: &[Vec<Cell>]) -> Result<NextRound, Box<Verdict>> {
        let rounds: Vec<confirmation::Round> = rounds
            .iter()
            .map(|cells| confirmation::Round {
                cells: cells
                    .iter()
                    .map(|cell| confirmation::Cell { candidate: cell.candidate, value: cell.value })
                    .collect(),
            })
            .collect();
        let plan = self.plan(job);
        match plan.next(&rounds) {
            Next::Measure { round, order } => {
                let cells_left = u32::try_from(plan.remaining_cells(&rounds)).unwrap_or(u32::MAX);
                Ok(NextRound { round, order, cells_left })
            }
            Next::Done(verdict) => Err(Box::new(verdict)),
        }
    }
}

impl Engine {
    /// The candidates and the next round of a comparison as stored. Where its rounds decide already, it is ended.
    pub(super) async fn continue_comparison(
        &self,
        job: &JobRecord,
        token: LeaseToken,
    ) -> Result<(Spec, Option<NextRound>), EngineError> {
        let spec: Spec = serde_json::from_value(job.spec.clone()).map_err(|error| corrupt(job.id, &error))?;
        let rounds = self.rounds(job.id).await?;
        match spec.next(job.id, &rounds) {
            Ok(next) => Ok((spec, Some(next))),
            Err(verdict) => {
                let result = serde_json::to_value(&*verdict).map_err(|error| corrupt(job.id, &error))?;
                self.end_comparison(job, token, result).await?;
                Ok((spec, None))
            }
        }
    }

    /// Ends a comparison with its verdict, `null` when it has none. The study is finished then, or goes on searching
    /// where its budget has grown meanwhile.
    pub(super) async fn end_comparison(
        &self,
        job: &JobRecord,
        token: LeaseToken,
        result: serde_json::Value,
    ) -> Result<(), EngineError> {
        let next = {
            let desk = self.desk(job.study).await?;
            let mut live = desk.live().lock().await;
            live.catch_up().await?;
            let goes_on = live.would_go_on(live.record().config.budget);
            if goes_on { StudyState::Active } else { StudyState::Finished }
        };
        self.store.finish_comparison(token, result, serde_json::Value::Null, next, self.now()).await?;
        self.changed();
        // The budget may have grown since it was looked at.
        self.rebudget(job.study, None, None).await
    }

    async fn rounds(&self, job: JobId) -> Result<Vec<Vec<Cell>>, EngineError> {
        let rounds = self.store.rounds(job).await?.into_iter();
        rounds.map(|round| serde_json::from_value(round).map_err(|error| corrupt(job, &error))).collect()
    }

    /// Stores a whole round and gives the next one; none when the comparison has ended.
    pub async fn record_round(
        &self,
        token: LeaseToken,
        round: u32,
        cells: Vec<Cell>,
    ) -> Result<Option<NextRound>, EngineError> {
        let job = self.store.job(token.job).await?;
        let spec: Spec = serde_json::from_value(job.spec.clone()).map_err(|error| corrupt(job.id, &error))?;
        let rounds = self.rounds(job.id).await?;
        // What is stored already may be sent again; storage compares it.
        if round as usize >= rounds.len() {
            check_round(round, &cells, spec.next(job.id, &rounds).ok())?;
        }
        let cells = serde_json::to_value(&cells).map_err(|error| corrupt(job.id, &error))?;
        self.store.record_round(token, round, cells, self.now()).await?;
        self.changed();
        Ok(self.continue_comparison(&job, token).await?.1)
    }
}

/// Whether `cells` are what `next` asks for: each of its candidates once, in any order.
fn check_round(round: u32, cells: &[Cell], next: Option<NextRound>) -> Result<(), EngineError> {
    let Some(next) = next.filter(|next| next.round == round) else {
        return Err(EngineError::invalid("round", format!("{round} is not the next one")));
    };
    let sorted = |mut candidates: Vec<usize>| {
        candidates.sort_unstable();
        candidates
    };
    if sorted(cells.iter().map(|cell| cell.candidate).collect()) != sorted(next.order.clone()) {
        return Err(EngineError::invalid(
            "cells",
            format!("must be one for each candidate of round {round}, which are {:?}", next.order),
        ));
    }
    if cells.iter().any(|cell| cell.value.is_some_and(|value| !value.is_finite() || value <= 0.0)) {
        return Err(EngineError::invalid("cells.value", "must be a positive finite number"));
    }
    Ok(())
}

pub(super) fn corrupt(job: JobId, error: &serde_json::Error) -> EngineError {
    EngineError::Store(crate::storage::StoreError::Corrupt { what: format!("job {job}"), why: error.to_string() })
}
