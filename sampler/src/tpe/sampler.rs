//! The sampler: state, candidates, choice.

use std::collections::BTreeMap;

use fleetune_core::{Direction, Params, SearchSpace};
use rand::rngs::ChaCha8Rng;

use super::acquisition::{Acquisition, Rows, misfit};
use super::column::Column;
use super::history::{Fate, History, losses};
use super::options::TpeOptions;
use super::split::{Split, better, split};
use crate::draw;
use crate::seam::{Ask, Event, Sampler, SpaceExhausted};
use crate::tried::Tried;

/// Draws for each candidate wanted, since some are forbidden or were tried.
const DRAWS_PER_CANDIDATE: usize = 8;
/// Untried configurations that a systematic search collects when draws find none.
const COLLECTED: usize = 64;
/// Above so many bad rows only the newest [`KEPT_ROWS`] count: the time for one suggestion grows with the rows.
const MANY_ROWS: usize = 100_000;
const KEPT_ROWS: usize = 50_000;
/// Trials that must have run before their densities say anything.
const LEAST_RAN: usize = 2;

#[derive(Debug)]
pub(crate) struct Tpe {
    space: SearchSpace,
    directions: Vec<Direction>,
    options: TpeOptions,
    columns: Vec<Column>,
    /// Column of each parameter that has more than one value.
    column_of: BTreeMap<String, usize>,
    history: History,
    tried: Tried,
}

impl Tpe {
    pub(crate) fn new(space: &SearchSpace, directions: &[Direction], options: TpeOptions) -> Self {
        let mut columns = Vec::new();
        let mut column_of = BTreeMap::new();
        for (name, parameter) in space.parameters() {
            if !parameter.distribution().is_single() {
                column_of.insert(name.clone(), columns.len());
                columns.push(Column::new(parameter.distribution(), options.ordered));
            }
        }
        let history = History::new(columns.len());
        let directions = directions.to_vec();
        Self { space: space.clone(), directions, options, columns, column_of, history, tried: Tried::new(space) }
    }

    /// One raw number per column; NaN where the parameter is off or is none of ours.
    fn encode(&self, params: &Params) -> Vec<f64> {
        let raw = |(name, column): (&String, &usize)| {
            params.get(name).map_or(f64::NAN, |value| self.columns[*column].encode(value))
        };
        self.column_of.iter().map(raw).collect()
    }

    /// Whether there is enough to learn from.
    fn is_started(&self) -> bool {
        let ran = self.history.fates.iter().filter(|fate| !matches!(fate, Fate::Failed)).count();
        let seen = if self.options.feasibility { self.history.fates.len() } else { ran };
        seen >= self.options.startup && ran >= LEAST_RAN
    }

    fn acquisition(&self, ask: &Ask<'_>) -> Acquisition {
        let several = self.directions.len() > 1;
        let losses = if several { &self.history.losses[..] } else { &[] };
        let Split { good, mut bad, failed } = split(&self.history.fates, losses, &self.options);
        if bad.len() > MANY_ROWS {
            bad.drain(..bad.len() - KEPT_ROWS);
        }
        let running = ask.running.iter().map(|trial| (trial.number.0, self.encode(&trial.params))).collect::<Vec<_>>();
        let rows = Rows { ended: &self.history.columns, numbers: &self.history.numbers, running: &running, several };
        Acquisition::new(&self.columns, &rows, &Split { good, bad, failed }, &self.options)
    }

    /// Draws one configuration from a kernel of the good density; `None` when it is not allowed.
    fn candidate(&self, ask: &Ask<'_>, acquisition: &Acquisition, rng: &mut ChaCha8Rng) -> Option<Params> {
        let good = acquisition.good();
        let kernel = good.draw_kernel(rng);
        let mut params = Params::new();
        let mut kept = 0;
        for name in self.space.order() {
            if !self.space.is_active(name, &params) {
                continue;
            }
            let value = match (ask.fixed.get(name), self.column_of.get(name)) {
                (Some(value), _) => {
                    kept += 1;
                    value.clone()
                }
                (None, Some(column)) => self.columns[*column].decode(good.draw(*column, kernel, rng)),
                (None, None) => self.space.parameters()[name].distribution().value_at(0),
            };
            params.insert(name.clone(), value);
        }
        (kept == ask.fixed.len() && self.space.forbidden_by(&params).is_none()).then_some(params)
    }

    fn candidates(&self, ask: &Ask<'_>, acquisition: &Acquisition, rng: &mut ChaCha8Rng) -> Vec<Params> {
        let busy = self.tried.keys_of(ask.running);
        let is_new = |params: &Params| !self.options.fresh || !self.tried.contains(params, &busy);
        let mut candidates = Vec::new();
        for _ in 0..DRAWS_PER_CANDIDATE * self.options.candidates {
            candidates.extend(self.candidate(ask, acquisition, rng).filter(&is_new));
            if candidates.len() == self.options.candidates {
                break;
            }
        }
        if candidates.is_empty() {
            candidates = draw::search(&self.space, ask.fixed, rng, true, COLLECTED, &mut |params| is_new(params)).0;
        }
        candidates
    }

    /// The candidate with the highest score, the first on ties.
    fn best_of(&self, ask: &Ask<'_>, acquisition: &Acquisition, mut candidates: Vec<Params>) -> Option<Params> {
        let points = candidates.iter().map(|params| self.encode(params)).collect::<Vec<_>>();
        let mut best = None;
        for (index, mut score) in acquisition.scores(&points).into_iter().enumerate() {
            let ratio = ask.estimate.and_then(|estimate| estimate.memory_ratio(&candidates[index]));
            score -= ratio.map_or(0.0, misfit);
            if best.is_none_or(|(_, highest)| score > highest) {
                best = Some((index, score));
            }
        }
        best.map(|(index, _)| candidates.swap_remove(index))
    }

    /// The best configuration so far that agrees with the question, when nothing new is left.
    fn repeat_best(&self, ask: &Ask<'_>, rng: &mut ChaCha8Rng) -> Result<Params, SpaceExhausted> {
        let mut rows = (0..self.history.fates.len()).filter(|row| self.history.fates[*row].is_ok()).collect::<Vec<_>>();
        rows.sort_by(|a, b| better(&self.history.fates[*a], &self.history.fates[*b]).then(a.cmp(b)));
        let allowed = |row: &usize| {
            let params = self.decode(*row);
            let agrees = ask.fixed.iter().all(|(name, value)| params.get(name) == Some(value));
            (agrees && self.space.check(&params).is_ok()).then_some(params)
        };
        match rows.iter().find_map(allowed) {
            Some(params) => Ok(params),
            None => draw::configuration(&self.space, ask.fixed, rng),
        }
    }

    fn decode(&self, row: usize) -> Params {
        let mut params = Params::new();
        for name in self.space.order() {
            if !self.space.is_active(name, &params) {
                continue;
            }
            let value = match self.column_of.get(name) {
                Some(column) => self.columns[*column].decode(self.history.columns[*column][row]),
                None => self.space.parameters()[name].distribution().value_at(0),
            };
            params.insert(name.clone(), value);
        }
        params
    }
}

impl Sampler for Tpe {
    fn observe(&mut self, event: &Event) {
        let Event::Ended(ended) = event else { return };
        self.tried.insert(&ended.params);
        if let Some(fate) = Fate::of(ended, &self.directions) {
            let raw = self.encode(&ended.params);
            self.history.insert(ended.number.0, fate, losses(ended, &self.directions), &raw);
        }
    }

    fn suggest(&self, ask: &Ask<'_>, rng: &mut ChaCha8Rng) -> Result<Params, SpaceExhausted> {
        // Everything is fixed: a repeat that was asked for.
        if self.space.check(ask.fixed).is_ok() {
            return Ok(ask.fixed.clone());
        }
        let suggestion = if self.is_started() {
            let acquisition = self.acquisition(ask);
            let candidates = self.candidates(ask, &acquisition, rng);
            self.best_of(ask, &acquisition, candidates)
        } else {
            draw::fresh(&self.space, ask, &self.tried, rng)?
        };
        suggestion.map_or_else(|| self.repeat_best(ask, rng), Ok)
    }
}
