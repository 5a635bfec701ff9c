//! The sampler around the distribution.
//!
//! A trial keeps its configuration, but not the point that was drawn, which on a grid is another. The fold draws it again:
//! stream and distribution are known. Trials are gathered in the order in which they end; every population makes a
//! generation, whoever drew its points. What nobody drew (queue entries, clients) is taken in as far as it is in reach.

use std::collections::VecDeque;

use fleetune_core::{Direction, Params, SearchSpace, TrialNumber};
use rand::rngs::ChaCha8Rng;

use super::evolution::Evolution;
use super::margin::{Grid, correct};
use crate::axis::Axis;
use crate::draw;
use crate::numeric::normal_quantile;
use crate::rng::{trial_rng, unit};
use crate::seam::{Ask, Ended, Event, Sampler, SpaceExhausted};
use crate::tpe::{Fate, better};
use crate::tried::Tried;

/// First step size as a share of the range. Origin: Hansen 2016, appendix B.1, 0.3 of the range.
const SIGMA: f64 = 0.3;
/// Points drawn for one suggestion. Later ones are moved to the border if they fall outside.
const ATTEMPTS: usize = 16;
/// Older distributions whose points may still run.
const KEPT: usize = 4;

/// A distribution and how its draws become points.
#[derive(Clone, Debug)]
struct State {
    evolution: Evolution,
    stretch: Vec<f64>,
}

/// A point and what came of it.
#[derive(Clone, Debug)]
struct Told {
    number: TrialNumber,
    point: Vec<f64>,
    fate: Fate,
}

#[derive(Debug)]
pub(crate) struct CmaEs {
    space: SearchSpace,
    direction: Direction,
    seed: u64,
    axes: Vec<Axis>,
    grids: Vec<Option<Grid>>,
    tried: Tried,
    /// The newest first.
    states: VecDeque<State>,
    gathered: Vec<Told>,
    restarts: i64,
}

impl CmaEs {
    pub(crate) fn new(space: &SearchSpace, direction: Direction, seed: u64) -> Self {
        let axis = |name: &String| Axis::new(name, space.parameters()[name].distribution());
        let axes = space.order().iter().filter_map(axis).collect::<Vec<_>>();
        let mut sampler = Self {
            space: space.clone(),
            direction,
            seed,
            grids: axes.iter().map(|axis| axis.borders().map(|borders| Grid { borders })).collect(),
            tried: Tried::new(space),
            states: VecDeque::new(),
            gathered: Vec::new(),
            restarts: 0,
            axes,
        };
        if !sampler.axes.is_empty() {
            let population = Evolution::default_population(sampler.axes.len());
            sampler.enter(Evolution::new(vec![0.5; sampler.axes.len()], SIGMA, population), None);
        }
        sampler
    }

    /// Makes `evolution` the distribution, its mean where the margin wants it.
    fn enter(&mut self, mut evolution: Evolution, stretch: Option<Vec<f64>>) {
        let mut stretch = stretch.unwrap_or_else(|| vec![1.0; self.axes.len()]);
        let margin = 1.0 / (self.axes.len() * evolution.population()) as f64;
        correct(&mut evolution, &mut stretch, &self.grids, margin);
        self.states.push_front(State { evolution, stretch });
        self.states.truncate(1 + KEPT);
    }

    /// The next point of a stream and its configuration: `None` for one that leaves the space or is forbidden.
    fn draw(&self, state: &State, fixed: &Params, is_late: bool, rng: &mut ChaCha8Rng) -> (Vec<f64>, Option<Params>) {
        // The quantile of 0 is −∞.
        let normals = (0..self.axes.len()).map(|_| normal_quantile(unit(rng).max(f64::EPSILON / 4.0)));
        let mut point = state.evolution.point(&normals.collect::<Vec<_>>());
        for (x, grid) in point.iter_mut().zip(&self.grids) {
            if grid.is_none() && !(0.0..=1.0).contains(x) {
                if !is_late {
                    return (point, None);
                }
                *x = x.clamp(0.0, 1.0);
            }
        }
        let mut params = Params::new();
        for name in self.space.order() {
            if !self.space.is_active(name, &params) {
                continue;
            }
            let axis = self.axes.iter().position(|axis| axis.name == *name);
            let value = match (fixed.get(name), axis) {
                (Some(value), _) => value.clone(),
                (None, Some(axis)) => {
                    let mean = state.evolution.mean()[axis];
                    let x = mean + state.stretch[axis] * (point[axis] - mean);
                    self.axes[axis].decode(x)
                }
                (None, None) => draw::uniform(self.space.parameters()[name].distribution(), rng),
            };
            params.insert(name.clone(), value);
        }
        let is_allowed =
            fixed.keys().all(|name| params.contains_key(name)) && self.space.forbidden_by(&params).is_none();
        (point, is_allowed.then_some(params))
    }

    /// The point that was drawn for a trial; for others the point of its configuration, at the mean where a parameter
    /// is not there. What the newest distribution did not draw is brought within its reach.
    fn point(&self, ended: &Ended) -> Vec<f64> {
        let newest = &self.states[0].evolution;
        for (age, state) in self.states.iter().enumerate() {
            let mut rng = trial_rng(self.seed, ended.number, &[]);
            for attempt in 0..ATTEMPTS {
                let (point, params) = self.draw(state, &Params::new(), 2 * attempt >= ATTEMPTS, &mut rng);
                if params.as_ref() == Some(&ended.params) {
                    return if age == 0 { point } else { newest.within_reach(point) };
                }
            }
        }
        let coordinate = |(axis, mean): (&Axis, &f64)| {
            ended.params.get(&axis.name).and_then(|value| axis.encode(value)).unwrap_or(*mean)
        };
        newest.within_reach(self.axes.iter().zip(newest.mean()).map(coordinate).collect())
    }

    /// Turns a full population into a generation.
    fn advance(&mut self) {
        let State { mut evolution, stretch } = self.states[0].clone();
        if self.gathered.len() < evolution.population() {
            return;
        }
        let mut told = std::mem::take(&mut self.gathered);
        // Nothing to learn when nothing ran.
        if told.iter().all(|told| matches!(told.fate, Fate::Failed)) {
            return;
        }
        told.sort_by(|a, b| better(&a.fate, &b.fate).then(a.number.cmp(&b.number)));
        let value = |told: &Told| match told.fate {
            Fate::Complete { value, .. } | Fate::Pruned { value, .. } => value,
            Fate::Failed => f64::INFINITY,
        };
        let losses = (value(&told[0]), told.last().map_or(f64::INFINITY, value));
        let points = told.into_iter().map(|told| told.point).collect::<Vec<_>>();
        evolution.update(&points, losses);
        if !evolution.is_spent() {
            self.enter(evolution, Some(stretch));
            return;
        }
        let mut rng = trial_rng(self.seed, TrialNumber(self.restarts), &["restart"]);
        self.restarts += 1;
        let mean = self.axes.iter().map(|_| unit(&mut rng)).collect();
        self.enter(Evolution::new(mean, SIGMA, 2 * evolution.population()), None);
    }
}

impl Sampler for CmaEs {
    fn observe(&mut self, event: &Event) {
        let Event::Ended(ended) = event else { return };
        self.tried.insert(&ended.params);
        if self.axes.is_empty() {
            return;
        }
        if let Some(fate) = Fate::of(ended, &[self.direction]) {
            let point = self.point(ended);
            self.gathered.push(Told { number: ended.number, point, fate });
            self.advance();
        }
    }

    fn suggest(&self, ask: &Ask<'_>, rng: &mut ChaCha8Rng) -> Result<Params, SpaceExhausted> {
        if self.space.check(ask.fixed).is_ok() {
            return Ok(ask.fixed.clone());
        }
        let busy = self.tried.keys_of(ask.running);
        if let Some(state) = self.states.front() {
            for attempt in 0..ATTEMPTS {
                let (_, params) = self.draw(state, ask.fixed, 2 * attempt >= ATTEMPTS, rng);
                if let Some(params) = params.filter(|params| !self.tried.contains(params, &busy)) {
                    return Ok(params);
                }
            }
        }
        match draw::fresh(&self.space, ask, &self.tried, rng)? {
            Some(params) => Ok(params),
            None => draw::configuration(&self.space, ask.fixed, rng),
        }
    }
}
