//! Optuna 5.0's own estimator, as it is: for those who want to compare or to go on as they were.
//!
//! It is the same function of the history, drawn with our random numbers. What it has no word for, forbidden
//! combinations, is drawn again.

use std::collections::BTreeMap;
use std::ops::Range;

use fleetune_core::study::{TpeGamma, TpeOptuna5Config, TpeWeights};
use fleetune_core::{Direction, Params, SearchSpace};
use rand::rngs::ChaCha8Rng;

use super::columns::Columns;
use super::history::{Fate, History, losses};
use super::options::{LeastBandwidth, ParzenOptions};
use super::order::{Weights, others, ranges};
use super::parzen::{Parzen, RunningRow};
use super::split::best_rows;
use crate::draw;
use crate::seam::{Ask, Event, Sampler, SpaceExhausted};

/// Configurations drawn before an allowed one is looked for at random.
const DRAWS: usize = 64;
/// Most good trials by Optuna's rules.
const GOOD_CAP: usize = 25;

#[derive(Debug)]
pub(crate) struct Optuna5 {
    space: SearchSpace,
    directions: Vec<Direction>,
    config: TpeOptuna5Config,
    columns: Columns,
    /// Complete and pruned trials.
    history: History,
}

/// The densities over some columns, and those columns.
struct Densities<'a> {
    of: Vec<usize>,
    good: Parzen<'a>,
    bad: Parzen<'a>,
}

impl Optuna5 {
    pub(crate) fn new(space: &SearchSpace, directions: &[Direction], config: TpeOptuna5Config) -> Self {
        let columns = Columns::new(space, false);
        let leaders = if directions.len() > 1 { 0 } else { GOOD_CAP };
        let history = History::new(&columns.list, parzen(config), leaders);
        Self { space: space.clone(), directions: directions.to_vec(), config, columns, history }
    }

    fn is_started(&self) -> bool {
        self.history.len() >= self.config.n_startup_trials as usize
    }

    /// The sets of columns that are drawn jointly.
    fn joint(&self) -> Vec<Vec<usize>> {
        let several = self.directions.len() > 1;
        if !self.config.multivariate.unwrap_or(self.config.group || !several) {
            return Vec::new();
        }
        let columns = 0..self.columns.list.len();
        let track = |column: usize| self.history.observations.track(column);
        if !self.config.group {
            let everywhere = columns.filter(|column| track(*column).absent == 0);
            return Vec::from_iter(Some(everywhere.collect::<Vec<_>>()).filter(|columns| !columns.is_empty()));
        }
        // Splitting sets by every trial in turn, as Optuna does, ends at columns that the same trials have.
        let mut groups = BTreeMap::<Vec<bool>, Vec<usize>>::new();
        for column in columns.filter(|column| track(*column).absent < self.history.len()) {
            // Those that all trials have need no look at each.
            let trials = if track(column).absent == 0 { &[][..] } else { &track(column).raw };
            groups.entry(trials.iter().map(|raw| !raw.is_nan()).collect()).or_default().push(column);
        }
        groups.into_values().collect()
    }

    /// Rows of the good trials, ascending; all others are bad.
    fn good(&self) -> Vec<usize> {
        let n = self.history.len();
        let several = self.directions.len() > 1;
        let good = match self.config.gamma {
            TpeGamma::Default if several => n.div_ceil(10),
            TpeGamma::Default => n.div_ceil(10).min(GOOD_CAP),
            TpeGamma::Hyperopt => ((0.25 * (n as f64).sqrt()).ceil() as usize).min(GOOD_CAP),
        };
        if several {
            return best_rows(&self.history.fates, &self.history.losses, (0..n).collect(), good).0;
        }
        self.history.best(good)
    }

    /// The densities over the columns `of`. A trial that lacks one of them is in neither.
    fn densities(&self, of: Vec<usize>, good: &[usize], running: &[RunningRow]) -> Densities<'_> {
        let observations = &self.history.observations;
        let several = self.directions.len() > 1;
        let estimator = |mut rows: Vec<Range<usize>>, running: &[RunningRow], is_good: bool| {
            let holed = of.iter().filter(|column| observations.track(**column).absent > 0).collect::<Vec<_>>();
            if !holed.is_empty() {
                let is_whole = |row: &usize| holed.iter().all(|c| !observations.track(**c).raw[*row].is_nan());
                rows = ranges(rows.into_iter().flatten().filter(is_whole));
            }
            let is_whole = |running: &&RunningRow| of.iter().all(|column| !running.1[*column].is_nan());
            let running = running.iter().filter(is_whole).cloned().collect::<Vec<_>>();
            let weights = match self.config.weights {
                TpeWeights::Default if !(is_good && several) => Weights::Recency,
                TpeWeights::Default | TpeWeights::Uniform => Weights::Uniform,
            };
            Parzen::new(observations, &of, &rows, &running, weights, parzen(self.config))
        };
        let running = if self.config.constant_liar { running } else { &[] };
        let bad = others(good, 0, observations.len());
        let (good, bad) = (estimator(ranges(good.iter().copied()), &[], true), estimator(bad, running, false));
        Densities { of, good, bad }
    }

    /// A raw number for each column of `densities`: the candidate with the largest l / g, the first on ties.
    fn best_of(&self, densities: &Densities<'_>, rng: &mut ChaCha8Rng) -> Vec<f64> {
        let cumulative = densities.good.cumulative();
        let point = |_| {
            let kernel = Parzen::draw_kernel(&cumulative, rng);
            let raw = |(place, column): (usize, &usize)| {
                self.columns.list[*column].snap(densities.good.draw(place, kernel, rng))
            };
            densities.of.iter().enumerate().map(raw).collect::<Vec<_>>()
        };
        let mut points = (0..self.config.n_ei_candidates.max(1)).map(point).collect::<Vec<_>>();
        let (good, bad) = (densities.good.log_density(&points), densities.bad.log_density(&points));
        let mut best = (0, f64::NEG_INFINITY);
        for (index, score) in good.iter().zip(&bad).map(|(good, bad)| good - bad).enumerate() {
            if score > best.1 {
                best = (index, score);
            }
        }
        points.swap_remove(best.0)
    }
}

/// The options of the estimators.
fn parzen(config: TpeOptuna5Config) -> ParzenOptions {
    let least = if config.consider_magic_clip { LeastBandwidth::MagicClip } else { LeastBandwidth::Tiny };
    ParzenOptions { least, endpoints: config.consider_endpoints, prior_weight: config.prior_weight }
}

impl Sampler for Optuna5 {
    fn observe(&mut self, event: &Event) {
        let Event::Ended(ended) = event else { return };
        match Fate::of(ended, &self.directions) {
            Some(fate @ (Fate::Complete { .. } | Fate::Pruned { .. })) => {
                let raw = self.columns.encode(&ended.params);
                self.history.insert(ended.number.0, fate, losses(ended, &self.directions), &raw);
            }
            Some(Fate::Failed) | None => {}
        }
    }

    fn suggest(&self, ask: &Ask<'_>, rng: &mut ChaCha8Rng) -> Result<Params, SpaceExhausted> {
        if self.space.check(ask.fixed).is_ok() {
            return Ok(ask.fixed.clone());
        }
        if !self.is_started() {
            return draw::configuration(&self.space, ask.fixed, rng);
        }
        let good = self.good();
        let others = ask.running.iter().filter(|trial| trial.number != ask.number);
        let running = others.map(|trial| (trial.number.0, self.columns.encode(&trial.params))).collect::<Vec<_>>();
        let joint = self.joint().into_iter().map(|of| self.densities(of, &good, &running)).collect::<Vec<_>>();
        let mut alone = BTreeMap::<usize, Densities<'_>>::new();
        for _ in 0..DRAWS {
            let mut drawn = BTreeMap::new();
            for densities in &joint {
                drawn.extend(densities.of.iter().copied().zip(self.best_of(densities, rng)));
            }
            let raw = |column| {
                drawn.remove(&column).unwrap_or_else(|| {
                    let new = || self.densities(vec![column], &good, &running);
                    self.best_of(alone.entry(column).or_insert_with(new), rng).remove(0)
                })
            };
            let params = self.columns.configuration(&self.space, ask.fixed, raw);
            if let Some(params) = params.filter(|params| self.space.forbidden_by(params).is_none()) {
                return Ok(params);
            }
        }
        draw::configuration(&self.space, ask.fixed, rng)
    }
}

#[cfg(test)]
mod tests;
