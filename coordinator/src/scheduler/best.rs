//! The answer of a study: ranking, comparison, winner.

use fleetune_core::TrialNumber;
use fleetune_sampler::confirmation::{Verdict, Winner};

use super::comparison::{self, Spec, corrupt};
use super::engine::Engine;
use super::error::EngineError;
use crate::storage::{JobKind, JobState, TrialRecord};

/// What the newest ended comparison said.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Trial number of the challenger, if one was left.
    pub challenger: Option<TrialNumber>,
    /// Trial number of the baseline, if there was one.
    pub baseline: Option<TrialNumber>,
    /// The verdict.
    pub verdict: Verdict,
    /// Rounds measured.
    pub rounds: u32,
}

/// The best of a study.
#[derive(Clone, Debug)]
pub struct Best {
    /// Complete, feasible trials, best first.
    pub trials: Vec<TrialRecord>,
    /// The baseline, if it completed.
    pub baseline: Option<TrialRecord>,
    /// What the comparison said, once one has ended.
    pub comparison: Option<Comparison>,
    /// What to use.
    pub winner: Option<TrialRecord>,
}

/// What is known by comparisons.
enum Compared {
    /// None has ended.
    Not,
    /// Those that ended have no verdict: they failed or were given up.
    WithoutVerdict,
    /// The newest verdict.
    With(Box<Comparison>),
}

impl Engine {
    /// The best `count` trials of a study and what to use.
    pub async fn best(&self, name: &str, count: u32) -> Result<Best, EngineError> {
        let record = self.store.study_by_name(name).await?;
        let (ranked, baseline) = {
            let desk = self.desk(record.id).await?;
            let mut live = desk.live().lock().await;
            live.catch_up().await?;
            let history = live.history();
            let ranked = comparison::ranking(&live);
            let baseline = comparison::baseline(history, &ranked);
            (ranked, baseline)
        };
        let mut trials = Vec::new();
        for &number in ranked.iter().take(count as usize) {
            trials.push(self.store.trial(record.id, number).await?);
        }
        let (comparison, winner) = match self.newest_comparison(&record).await? {
            Compared::Not => (None, ranked.first().copied()),
            // Nothing is proven: what runs today stays.
            Compared::WithoutVerdict => (None, baseline.or(ranked.first().copied())),
            Compared::With(comparison) => {
                let winner = match comparison.verdict.winner {
                    Winner::Challenger => comparison.challenger,
                    Winner::Baseline => comparison.baseline,
                    Winner::None => None,
                };
                (Some(*comparison), winner)
            }
        };
        let load = async |number: Option<TrialNumber>| -> Result<Option<TrialRecord>, EngineError> {
            Ok(match number {
                Some(number) => Some(self.store.trial(record.id, number).await?),
                None => None,
            })
        };
        Ok(Best { trials, baseline: load(baseline).await?, comparison, winner: load(winner).await? })
    }

    async fn newest_comparison(&self, record: &crate::storage::StudyRecord) -> Result<Compared, EngineError> {
        let mut jobs = self.store.jobs(record.id).await?;
        jobs.retain(|job| job.kind == JobKind::Comparison && job.state == JobState::Done);
        let any = !jobs.is_empty();
        let Some(job) = jobs.into_iter().filter(|job| !job.result.is_null()).max_by_key(|job| job.id) else {
            return Ok(if any { Compared::WithoutVerdict } else { Compared::Not });
        };
        let spec: Spec = serde_json::from_value(job.spec).map_err(|error| corrupt(job.id, &error))?;
        let verdict: Verdict = serde_json::from_value(job.result).map_err(|error| corrupt(job.id, &error))?;
        let rounds = self.store.rounds(job.id).await?.len();
        let trial = |index: usize| spec.candidates.get(index).map(|candidate| candidate.trial);
        Ok(Compared::With(Box::new(Comparison {
            challenger: verdict.challenger.and_then(trial),
            baseline: spec.candidates.iter().find(|candidate| candidate.baseline).map(|candidate| candidate.trial),
            verdict,
            rounds: u32::try_from(rounds).unwrap_or(u32::MAX),
        })))
    }
}
