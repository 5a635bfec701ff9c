//! Optuna 5.0's own estimator, as it is: for those who want to compare or to go on as they were.
//!
//! It is the same function of the history, drawn with our random numbers. What it has no word for, forbidden
//! combinations, is drawn again.

use std::collections::BTreeMap;

use fleetune_core::study::{TpeGamma, TpeOptuna5Config, TpeWeights};
use fleetune_core::{Direction, Params, SearchSpace, Value};
use rand::rngs::ChaCha8Rng;

use super::column::Column;
use super::history::{Fate, History, losses};
use super::options::{LeastBandwidth, ParzenOptions};
use super::parzen::{Parzen, recency_weights};
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
    columns: Vec<Column>,
    /// Column of each parameter that has more than one value.
    column_of: BTreeMap<String, usize>,
    /// Complete and pruned trials.
    history: History,
}

/// The densities over some columns, and those columns.
struct Densities {
    of: Vec<usize>,
    good: Parzen,
    bad: Parzen,
}

impl Optuna5 {
    pub(crate) fn new(space: &SearchSpace, directions: &[Direction], config: TpeOptuna5Config) -> Self {
        let mut columns = Vec::new();
        let mut column_of = BTreeMap::new();
        for (name, parameter) in space.parameters() {
            if !parameter.distribution().is_single() {
                column_of.insert(name.clone(), columns.len());
                columns.push(Column::new(parameter.distribution(), false));
            }
        }
        let history = History::new(columns.len());
        Self { space: space.clone(), directions: directions.to_vec(), config, columns, column_of, history }
    }

    fn is_started(&self) -> bool {
        self.history.fates.len() >= self.config.n_startup_trials as usize
    }

    fn encode(&self, params: &Params) -> Vec<f64> {
        let raw = |(name, column): (&String, &usize)| {
            params.get(name).map_or(f64::NAN, |value| self.columns[*column].encode(value))
        };
        self.column_of.iter().map(raw).collect()
    }

    /// The sets of columns that are drawn jointly.
    fn joint(&self) -> Vec<Vec<usize>> {
        let several = self.directions.len() > 1;
        if !self.config.multivariate.unwrap_or(self.config.group || !several) {
            return Vec::new();
        }
        let has = |column: usize| self.history.columns[column].iter().map(|raw| !raw.is_nan());
        if !self.config.group {
            let everywhere = (0..self.columns.len()).filter(|column| has(*column).all(|has| has));
            return Vec::from_iter(Some(everywhere.collect::<Vec<_>>()).filter(|columns| !columns.is_empty()));
        }
        // Splitting sets by every trial in turn, as Optuna does, ends at columns that the same trials have.
        let mut groups = BTreeMap::<Vec<bool>, Vec<usize>>::new();
        for column in 0..self.columns.len() {
            let trials = has(column).collect::<Vec<_>>();
            if trials.contains(&true) {
                groups.entry(trials).or_default().push(column);
            }
        }
        groups.into_values().collect()
    }

    /// Rows of the good and of the bad trials, ascending.
    fn split(&self) -> (Vec<usize>, Vec<usize>) {
        let n = self.history.fates.len();
        let several = self.directions.len() > 1;
        let good = match self.config.gamma {
            TpeGamma::Default if several => n.div_ceil(10),
            TpeGamma::Default => n.div_ceil(10).min(GOOD_CAP),
            TpeGamma::Hyperopt => ((0.25 * (n as f64).sqrt()).ceil() as usize).min(GOOD_CAP),
        };
        let losses = if several { &self.history.losses[..] } else { &[] };
        best_rows(&self.history.fates, losses, (0..n).collect(), good)
    }

    /// The densities over the columns `of`. A trial that lacks one of them is in neither.
    fn densities(&self, of: Vec<usize>, split: &(Vec<usize>, Vec<usize>), running: &[(i64, Vec<f64>)]) -> Densities {
        let columns = of.iter().map(|column| self.columns[*column].clone()).collect::<Vec<_>>();
        let several = self.directions.len() > 1;
        let estimator = |rows: &[usize], running: &[(i64, Vec<f64>)], is_good: bool| {
            let ended = rows.iter().map(|row| {
                let raw = of.iter().map(|column| self.history.columns[*column][*row]).collect::<Vec<_>>();
                (self.history.numbers[*row], raw)
            });
            let running = running.iter().map(|(number, raw)| (*number, of.iter().map(|column| raw[*column]).collect()));
            let mut trials = ended.chain(running).collect::<Vec<_>>();
            trials.retain(|(_, raw)| raw.iter().all(|raw| !raw.is_nan()));
            trials.sort_by_key(|(number, _)| *number);
            let observed = |place: usize| trials.iter().map(|(_, raw)| raw[place]).collect::<Vec<_>>();
            let observations = (0..of.len()).map(observed).collect::<Vec<_>>();
            let weights = match self.config.weights {
                TpeWeights::Default if !(is_good && several) => recency_weights(trials.len()),
                TpeWeights::Default | TpeWeights::Uniform => vec![1.0; trials.len()],
            };
            Parzen::new(&columns, &observations, &weights, self.parzen())
        };
        let running = if self.config.constant_liar { running } else { &[] };
        Densities { good: estimator(&split.0, &[], true), bad: estimator(&split.1, running, false), of }
    }

    fn parzen(&self) -> ParzenOptions {
        let least = if self.config.consider_magic_clip { LeastBandwidth::MagicClip } else { LeastBandwidth::Tiny };
        ParzenOptions { least, endpoints: self.config.consider_endpoints, prior_weight: self.config.prior_weight }
    }

    /// A value for each column of `densities`: the candidate with the largest l / g, the first on ties.
    fn best_of(&self, densities: &Densities, rng: &mut ChaCha8Rng) -> Vec<Value> {
        let candidate = |_| {
            let kernel = densities.good.draw_kernel(rng);
            let value = |(place, column): (usize, &usize)| {
                self.columns[*column].decode(densities.good.draw(place, kernel, rng))
            };
            densities.of.iter().enumerate().map(value).collect::<Vec<_>>()
        };
        let mut candidates = (0..self.config.n_ei_candidates.max(1)).map(candidate).collect::<Vec<_>>();
        let encode = |values: &Vec<Value>| {
            values.iter().zip(&densities.of).map(|(value, column)| self.columns[*column].encode(value)).collect()
        };
        let points = candidates.iter().map(encode).collect::<Vec<Vec<f64>>>();
        let (good, bad) = (densities.good.log_density(&points), densities.bad.log_density(&points));
        let mut best = (0, f64::NEG_INFINITY);
        for (index, score) in good.iter().zip(&bad).map(|(good, bad)| good - bad).enumerate() {
            if score > best.1 {
                best = (index, score);
            }
        }
        candidates.swap_remove(best.0)
    }
}

impl Sampler for Optuna5 {
    fn observe(&mut self, event: &Event) {
        let Event::Ended(ended) = event else { return };
        match Fate::of(ended, &self.directions) {
            Some(fate @ (Fate::Complete { .. } | Fate::Pruned { .. })) => {
                let raw = self.encode(&ended.params);
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
        let split = self.split();
        let others = ask.running.iter().filter(|trial| trial.number != ask.number);
        let running = others.map(|trial| (trial.number.0, self.encode(&trial.params))).collect::<Vec<_>>();
        let joint = self.joint().into_iter().map(|of| self.densities(of, &split, &running)).collect::<Vec<_>>();
        let mut alone = BTreeMap::<usize, Densities>::new();
        for _ in 0..DRAWS {
            let mut drawn = BTreeMap::new();
            for densities in &joint {
                drawn.extend(densities.of.iter().copied().zip(self.best_of(densities, rng)));
            }
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
                    (None, None) => self.space.parameters()[name].distribution().value_at(0),
                    (None, Some(column)) => drawn.remove(column).unwrap_or_else(|| {
                        let new = || self.densities(vec![*column], &split, &running);
                        self.best_of(alone.entry(*column).or_insert_with(new), rng).remove(0)
                    }),
                };
                params.insert(name.clone(), value);
            }
            if kept == ask.fixed.len() && self.space.forbidden_by(&params).is_none() {
                return Ok(params);
            }
        }
        draw::configuration(&self.space, ask.fixed, rng)
    }
}

#[cfg(test)]
mod tests;
