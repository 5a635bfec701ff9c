//! What to measure next, and the verdict.

use fleetune_core::Direction;
use fleetune_core::measurement::median;
use serde::{Deserialize, Serialize};

use super::student::t_quantile;
use crate::rng::{fnv, shuffle, unit};

/// Candidates besides the baseline that take part.
const CHALLENGERS: usize = 4;
/// Rounds before each halving.
const ROUNDS_PER_HALVING: usize = 2;
/// Paired rounds behind an announced gain. A second challenger, after the first one failed, needs as many again.
const PAIRED_ROUNDS: usize = 8;
/// Never more paired rounds than this in all.
const MAX_PAIRED_ROUNDS: usize = 16;
/// Probability that the interval covers the gain.
const CONFIDENCE: f64 = 0.95;

/// One measurement of a round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cell {
    /// The candidate.
    pub candidate: usize,
    /// Its objective in a fresh process; `None` when it failed.
    pub value: Option<f64>,
}

/// A whole round, in the order asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Round {
    /// One per candidate of the round.
    pub cells: Vec<Cell>,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Measure these candidates in this order.
    Measure {
        /// Number of the round, from 0.
        round: u32,
        /// Candidates.
        order: Vec<usize>,
    },
    /// Nothing more to measure.
    Done(Verdict),
}

/// The result of a comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The candidate that halving chose, if one survived.
    pub challenger: Option<usize>,
    /// How much better the challenger is than the baseline; `None` without baseline.
    pub gain: Option<Gain>,
    /// Who is to be used.
    pub winner: Winner,
}

/// The gain of the challenger over the baseline.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gain {
    /// Above 1 is better, whatever the direction: 1.05 is 5 % more tokens a second, or 1/1.05 of the time.
    pub ratio: f64,
    /// Lower end of the 95 % interval.
    pub low: f64,
    /// Upper end of the 95 % interval.
    pub high: f64,
    /// Paired rounds behind it.
    pub rounds: u32,
}

/// Who is to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Winner {
    /// The challenger: its gain is certain, or there is no baseline.
    Challenger,
    /// The baseline.
    Baseline,
    /// Nothing survived.
    None,
}

/// A comparison. Candidates are numbered from 0, the best of the search first.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    seed: u64,
    candidates: usize,
    baseline: Option<usize>,
    direction: Direction,
}

/// Where the fold over the rounds stands.
struct State {
    /// Candidates that did not fail, with the logarithms of their values in rounds of halving.
    logs: Vec<Option<Vec<f64>>>,
    /// Challengers still in the halving, best first.
    alive: Vec<usize>,
    halving_rounds: usize,
    /// Paired rounds with anyone.
    paired_rounds: usize,
    /// Log-ratios of the present challenger, above 0 is better.
    ratios: Vec<f64>,
}

impl Plan {
    /// `seed`: of the study, mixed with the job's id. `baseline`: its number among the candidates, if it is one.
    pub fn new(seed: u64, candidates: usize, baseline: Option<usize>, direction: Direction) -> Self {
        let baseline = baseline.filter(|baseline| *baseline < candidates);
        Self { seed, candidates, baseline, direction }
    }

    /// What follows the finished `rounds`.
    pub fn next(&self, rounds: &[Round]) -> Next {
        let mut state = State::new(self);
        for round in rounds {
            state.fold(self, round);
        }
        match state.wanted(self) {
            Some(order) => {
                let order = self.ordered(order, rounds.len(), state.paired_rounds);
                Next::Measure { round: rounds.len() as u32, order }
            }
            None => Next::Done(state.verdict(self)),
        }
    }

    /// Measurements left after `rounds` if nothing fails.
    pub fn remaining_cells(&self, rounds: &[Round]) -> usize {
        let mut state = State::new(self);
        for round in rounds {
            state.fold(self, round);
        }
        let mut cells = 0;
        while let Some(wanted) = state.wanted(self) {
            cells += wanted.len();
            let cells = wanted.into_iter().map(|candidate| Cell { candidate, value: Some(1.0) }).collect();
            state.fold(self, &Round { cells });
        }
        cells
    }

    /// Halving: a random order each round. Pairs: alternating, the first one drawn.
    fn ordered(&self, mut order: Vec<usize>, round: usize, paired_rounds: usize) -> Vec<usize> {
        let stream = |kind: u8, round: usize| {
            let seed = fnv(self.seed.to_le_bytes().into_iter().chain([kind]).chain((round as u64).to_le_bytes()));
            crate::trial_rng(seed, fleetune_core::TrialNumber(0), &[])
        };
        if self.baseline.is_some_and(|baseline| order.contains(&baseline)) {
            let flip = unit(&mut stream(1, 0)) < 0.5;
            if flip ^ (paired_rounds % 2 == 1) {
                order.reverse();
            }
        } else {
            shuffle(&mut order, &mut stream(0, round));
        }
        order
    }
}

impl State {
    fn new(plan: &Plan) -> Self {
        let alive = (0..plan.candidates).filter(|candidate| Some(*candidate) != plan.baseline).take(CHALLENGERS);
        Self {
            logs: vec![Some(Vec::new()); plan.candidates],
            alive: alive.collect(),
            halving_rounds: 0,
            paired_rounds: 0,
            ratios: Vec::new(),
        }
    }

    fn survived(&self, candidate: usize) -> bool {
        self.logs[candidate].is_some()
    }

    /// The candidates of the next round, or `None` at the end.
    fn wanted(&self, plan: &Plan) -> Option<Vec<usize>> {
        match (&self.alive[..], plan.baseline.filter(|baseline| self.survived(*baseline))) {
            ([], _) | ([_], None) => None,
            ([challenger], Some(baseline)) => {
                let room = self.paired_rounds < MAX_PAIRED_ROUNDS;
                (room && self.ratios.len() < PAIRED_ROUNDS).then(|| vec![*challenger, baseline])
            }
            (several, _) => Some(several.to_vec()),
        }
    }

    fn fold(&mut self, plan: &Plan, round: &Round) {
        let Some(wanted) = self.wanted(plan) else { return };
        // A missing cell is a failed one, and so is a value without a logarithm.
        let log_of = |candidate: usize| {
            let cell = round.cells.iter().find(|cell| cell.candidate == candidate)?;
            let value = cell.value.filter(|value| value.is_finite() && *value > 0.0)?;
            Some(-plan.direction.minimized(libm::log(value)))
        };
        let logs = wanted.iter().map(|candidate| log_of(*candidate)).collect::<Vec<_>>();
        for (candidate, log) in wanted.iter().zip(&logs) {
            if log.is_none() {
                self.logs[*candidate] = None;
            }
        }
        if let (Some(baseline), [challenger]) = (plan.baseline, &self.alive[..]) {
            let challenger = *challenger;
            self.paired_rounds += 1;
            match logs[..] {
                [Some(better), Some(base)] => self.ratios.push(better - base),
                _ if !self.survived(challenger) => self.replace(plan, challenger, baseline),
                _ => {}
            }
            return;
        }
        for (candidate, log) in wanted.iter().zip(&logs) {
            if let (Some(all), Some(log)) = (&mut self.logs[*candidate], log) {
                all.push(*log);
            }
        }
        self.alive.retain(|candidate| self.logs[*candidate].is_some());
        self.halving_rounds += 1;
        if self.halving_rounds.is_multiple_of(ROUNDS_PER_HALVING) {
            self.alive = self.ranked(&self.alive);
            self.alive.truncate(self.alive.len().div_ceil(2));
        }
    }

    /// The runner-up takes the place of a challenger that failed, while there is room for as many rounds again.
    fn replace(&mut self, plan: &Plan, failed: usize, baseline: usize) {
        self.ratios.clear();
        self.alive.clear();
        if self.paired_rounds + PAIRED_ROUNDS > MAX_PAIRED_ROUNDS {
            return;
        }
        let others = (0..plan.candidates).filter(|candidate| *candidate != failed && *candidate != baseline);
        let measured = |candidate: &usize| self.logs[*candidate].as_ref().is_some_and(|logs| !logs.is_empty());
        let others = others.filter(measured).collect::<Vec<_>>();
        self.alive.extend(self.ranked(&others).first());
    }

    /// Best median first; the search's order on ties.
    fn ranked(&self, candidates: &[usize]) -> Vec<usize> {
        let value = |candidate: usize| self.logs[candidate].as_deref().and_then(median).unwrap_or(f64::NEG_INFINITY);
        let mut ranked = candidates.to_vec();
        ranked.sort_by(|a, b| value(*b).total_cmp(&value(*a)).then(a.cmp(b)));
        ranked
    }

    fn verdict(&self, plan: &Plan) -> Verdict {
        let challenger = self.alive.first().copied();
        let baseline = plan.baseline.filter(|baseline| self.survived(*baseline));
        let gain = self.gain().filter(|_| challenger.is_some() && baseline.is_some());
        let winner = match (challenger, baseline) {
            (None, None) => Winner::None,
            (Some(_), None) => Winner::Challenger,
            (Some(_), Some(_)) if gain.is_some_and(|gain| gain.low > 1.0) => Winner::Challenger,
            (Some(_) | None, Some(_)) => Winner::Baseline,
        };
        Verdict { challenger, gain, winner }
    }

    /// Student's interval of the mean log-ratio.
    fn gain(&self) -> Option<Gain> {
        let count = self.ratios.len();
        if count < PAIRED_ROUNDS {
            return None;
        }
        let n = count as f64;
        let mean = self.ratios.iter().sum::<f64>() / n;
        let variance = self.ratios.iter().map(|ratio| (ratio - mean) * (ratio - mean)).sum::<f64>() / (n - 1.0);
        let half = t_quantile(0.5 + CONFIDENCE / 2.0, n - 1.0) * (variance / n).sqrt();
        Some(Gain {
            ratio: libm::exp(mean),
            low: libm::exp(mean - half),
            high: libm::exp(mean + half),
            rounds: count as u32,
        })
    }
}
