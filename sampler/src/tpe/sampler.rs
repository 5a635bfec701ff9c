//! The sampler: state, candidates, choice.

use fleetune_core::{Direction, Params, SearchSpace};
use rand::rngs::ChaCha8Rng;

use super::acquisition::{Acquisition, Rows, misfit};
use super::columns::Columns;
use super::history::{Fate, History, losses};
use super::options::TpeOptions;
use super::parzen::Parzen;
use super::split::{best_rows, better};
use crate::draw;
use crate::seam::{Ask, Event, Sampler, SpaceExhausted};
use crate::tried::{Key, Tried};

/// Draws for each candidate wanted, since some are forbidden or were tried.
const DRAWS_PER_CANDIDATE: usize = 8;
/// Untried configurations that a systematic search collects when draws find none.
const COLLECTED: usize = 64;
/// Above so many bad rows, or failed ones, only the newest [`KEPT_ROWS`] count: the time for one suggestion grows with
/// the rows.
const MANY_ROWS: usize = 100_000;
const KEPT_ROWS: usize = 50_000;
/// Trials that must have run before their densities say anything.
const LEAST_RAN: usize = 2;

#[derive(Debug)]
pub(crate) struct Tpe {
    space: SearchSpace,
    directions: Vec<Direction>,
    options: TpeOptions,
    columns: Columns,
    /// Trials that count as ran, see [`TpeOptions::feasibility`].
    ran: History,
    /// Failed ones, and infeasible ones, where these have densities of their own.
    failed: History,
    /// Trials that did not fail, infeasible ones included.
    not_failed: usize,
    tried: Tried,
}

/// A configuration drawn from the good density: raw numbers by column and, where it was needed, the parameters.
struct Candidate {
    raw: Vec<f64>,
    params: Option<Params>,
}

impl Tpe {
    pub(crate) fn new(space: &SearchSpace, directions: &[Direction], options: TpeOptions) -> Self {
        let columns = Columns::new(space, options.ordered);
        let leaders = if directions.len() > 1 { 0 } else { options.good_cap };
        Self {
            ran: History::new(&columns.list, options.parzen, leaders),
            failed: History::new(&columns.list, options.parzen, 0),
            not_failed: 0,
            space: space.clone(),
            directions: directions.to_vec(),
            options,
            columns,
            tried: Tried::new(space),
        }
    }

    /// Whether there is enough to learn from.
    fn is_started(&self) -> bool {
        let failed = if self.options.feasibility { self.failed.len() } else { 0 };
        self.ran.len() + failed >= self.options.startup && self.not_failed >= LEAST_RAN
    }

    /// Rows of the good trials, ascending. As [`super::split`] has it.
    fn good(&self) -> Vec<usize> {
        let share = (self.options.good_share * self.ran.len() as f64).ceil() as usize;
        if self.directions.len() > 1 {
            return best_rows(&self.ran.fates, &self.ran.losses, (0..self.ran.len()).collect(), share).0;
        }
        self.ran.best(share.min(self.options.good_cap))
    }

    fn acquisition(&self, ask: &Ask<'_>) -> Acquisition<'_> {
        let running = ask.running.iter().map(|trial| (trial.number.0, self.columns.encode(&trial.params)));
        let running = running.collect::<Vec<_>>();
        let good = self.good();
        let n_failed = self.failed.len();
        let rows = Rows {
            ran: &self.ran.observations,
            good: &good,
            first_bad: first_bad(&good, self.ran.len()),
            failed: &self.failed.observations,
            first_failed: if n_failed > MANY_ROWS { n_failed - KEPT_ROWS } else { 0 },
            running: &running,
            several: self.directions.len() > 1,
        };
        Acquisition::new(&self.columns, &rows, &self.options)
    }

    /// Draws one configuration from a kernel of the good density; `None` when it is not allowed.
    fn draw(&self, ask: &Ask<'_>, good: &Parzen<'_>, cumulative: &[f64], rng: &mut ChaCha8Rng) -> Option<Candidate> {
        let kernel = Parzen::draw_kernel(cumulative, rng);
        let mut drawn = |column: usize| self.columns.list[column].snap(good.draw(column, kernel, rng));
        if self.columns.is_plain {
            // Without conditions and clauses the numbers are all there is to know.
            let mut raw = vec![0.0; self.columns.list.len()];
            for (name, column) in &self.columns.order {
                raw[*column] = match ask.fixed.get(name) {
                    Some(value) => self.columns.list[*column].encode(value),
                    None => drawn(*column),
                };
            }
            return Some(Candidate { raw, params: None });
        }
        let params = self.columns.configuration(&self.space, ask.fixed, drawn)?;
        self.space.forbidden_by(&params).is_none().then(|| self.candidate(params))
    }

    fn candidate(&self, params: Params) -> Candidate {
        Candidate { raw: self.columns.encode(&params), params: Some(params) }
    }

    fn params(&self, ask: &Ask<'_>, candidate: &Candidate) -> Params {
        let made = || self.columns.configuration(&self.space, ask.fixed, |column| candidate.raw[column]);
        candidate.params.clone().or_else(made).expect("what is fixed was kept when the candidate was drawn")
    }

    fn candidates(&self, ask: &Ask<'_>, good: &Parzen<'_>, rng: &mut ChaCha8Rng) -> Vec<Candidate> {
        let busy = self.tried.keys_of(ask.running);
        let mut key = None::<Key>;
        let cumulative = good.cumulative();
        let mut candidates = Vec::new();
        for _ in 0..DRAWS_PER_CANDIDATE * self.options.candidates {
            let Some(candidate) = self.draw(ask, good, &cumulative, rng) else { continue };
            let is_new = !self.options.fresh || {
                if let Some(params) = &candidate.params {
                    !self.tried.contains(params, &busy)
                } else {
                    // Those of other candidates differ from that of the first one in the columns alone.
                    let key = key.get_or_insert_with(|| self.tried.key(&self.params(ask, &candidate)));
                    self.columns.fill(key, &candidate.raw);
                    !self.tried.contains_key(key, &busy)
                }
            };
            candidates.extend(is_new.then_some(candidate));
            if candidates.len() == self.options.candidates {
                break;
            }
        }
        if candidates.is_empty() {
            let is_new = |params: &Params| !self.options.fresh || !self.tried.contains(params, &busy);
            let found = draw::search(&self.space, ask.fixed, rng, true, COLLECTED, &mut |params| is_new(params)).0;
            candidates.extend(found.into_iter().map(|params| self.candidate(params)));
        }
        candidates
    }

    /// The candidate with the highest score, the first on ties.
    fn best_of(&self, ask: &Ask<'_>, acquisition: &Acquisition<'_>, mut candidates: Vec<Candidate>) -> Option<Params> {
        let points = candidates.iter_mut().map(|candidate| std::mem::take(&mut candidate.raw)).collect::<Vec<_>>();
        let scores = acquisition.scores(&points);
        let mut best = None;
        for (index, (mut score, raw)) in scores.into_iter().zip(points).enumerate() {
            candidates[index].raw = raw;
            if let Some(estimate) = ask.estimate {
                score -= estimate.memory_ratio(&self.params(ask, &candidates[index])).map_or(0.0, misfit);
            }
            if best.is_none_or(|(_, highest)| score > highest) {
                best = Some((index, score));
            }
        }
        best.map(|(index, _)| self.params(ask, &candidates[index]))
    }

    /// The best configuration so far that agrees with the question, when nothing new is left.
    fn repeat_best(&self, ask: &Ask<'_>, rng: &mut ChaCha8Rng) -> Result<Params, SpaceExhausted> {
        let fates = &self.ran.fates;
        let mut rows = (0..fates.len()).filter(|row| fates[*row].is_ok()).collect::<Vec<_>>();
        rows.sort_by(|a, b| better(&fates[*a], &fates[*b]).then(a.cmp(b)));
        let allowed = |row: &usize| {
            let raw = |column| self.ran.observations.track(column).raw[*row];
            let params = self.columns.configuration(&self.space, &Params::new(), raw)?;
            let agrees = ask.fixed.iter().all(|(name, value)| params.get(name) == Some(value));
            (agrees && self.space.check(&params).is_ok()).then_some(params)
        };
        match rows.iter().find_map(allowed) {
            Some(params) => Ok(params),
            None => draw::configuration(&self.space, ask.fixed, rng),
        }
    }
}

/// The first row of `rows` that may be bad.
fn first_bad(good: &[usize], rows: usize) -> usize {
    if rows - good.len() <= MANY_ROWS {
        return 0;
    }
    // The newest so many that are not good.
    let mut first = rows - KEPT_ROWS;
    loop {
        let earlier = rows - KEPT_ROWS - (good.len() - good.partition_point(|row| *row < first));
        if earlier == first {
            return first;
        }
        first = earlier;
    }
}

impl Sampler for Tpe {
    fn observe(&mut self, event: &Event) {
        let Event::Ended(ended) = event else { return };
        self.tried.insert(&ended.params);
        if let Some(fate) = Fate::of(ended, &self.directions) {
            let raw = self.columns.encode(&ended.params);
            let losses = losses(ended, &self.directions);
            let is_failed = matches!(fate, Fate::Failed);
            let group = if self.options.feasibility && !fate.is_ok() { &mut self.failed } else { &mut self.ran };
            let is_ignored = is_failed && !self.options.feasibility;
            if !is_ignored && group.insert(ended.number.0, fate, losses, &raw) && !is_failed {
                self.not_failed += 1;
            }
        }
    }

    fn suggest(&self, ask: &Ask<'_>, rng: &mut ChaCha8Rng) -> Result<Params, SpaceExhausted> {
        // Everything is fixed: a repeat that was asked for.
        if self.space.check(ask.fixed).is_ok() {
            return Ok(ask.fixed.clone());
        }
        let suggestion = if self.is_started() {
            let acquisition = self.acquisition(ask);
            let candidates = self.candidates(ask, acquisition.good(), rng);
            self.best_of(ask, &acquisition, candidates)
        } else {
            draw::fresh(&self.space, ask, &self.tried, rng)?
        };
        suggestion.map_or_else(|| self.repeat_best(ask, rng), Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_a_hundred_thousand_the_newest_fifty_thousand_count() {
        let good = [5, 59_999, 100_000, 110_004];
        assert_eq!(first_bad(&good, 100_004), 0);
        let first = first_bad(&good, 110_005);
        assert_eq!(first, 60_003);
        assert_eq!((first..110_005).filter(|row| !good.contains(row)).count(), KEPT_ROWS);
    }
}
