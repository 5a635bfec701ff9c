//! The sampler: trials are gathered in the order in which they end; every population of them competes with its parents
//! for a place among the next ones.

use fleetune_core::{Direction, Params, SearchSpace, TrialNumber, Value};
use rand::rngs::ChaCha8Rng;

use super::breed::{crossover, mutation};
use super::niche::survivors;
use crate::analysis::{crowding, ranks};
use crate::axis::Axis;
use crate::draw;
use crate::rng::{below, unit};
use crate::seam::{Ask, Ended, Event, Outcome, Sampler, SpaceExhausted};
use crate::tried::Tried;

/// Parents, and trials of a generation. Origin: Optuna's default.
const POPULATION: usize = 50;
/// With more objectives than these, reference points choose the parents.
const CROWDED_OBJECTIVES: usize = 3;
/// Share of the children that have two parents. Origin: Deb et al. 2002, section V.
const CROSSOVER: f64 = 0.9;
/// Children bred for one suggestion, until one is new and allowed.
const ATTEMPTS: usize = 24;

#[derive(Clone, Debug)]
struct Individual {
    number: TrialNumber,
    params: Params,
    /// Smaller is better; empty when it failed.
    losses: Vec<f64>,
    /// Sum of positive constraint values; infinite when it failed.
    violation: f64,
    rank: usize,
    crowding: f64,
}

impl Individual {
    /// What an ended trial is; `None` when nothing is learned from it.
    fn of(ended: &Ended, directions: &[Direction]) -> Option<Self> {
        let (losses, violation) = match &ended.outcome {
            Outcome::Complete { values, constraints } if values.len() == directions.len() => {
                let losses = directions.iter().zip(values).map(|(direction, value)| direction.minimized(*value));
                // NaN is no feasibility.
                let violation = constraints.iter().map(|c| if c.is_nan() { f64::INFINITY } else { c.max(0.0) });
                (losses.collect(), violation.sum())
            }
            Outcome::Failed { kind } if kind.is_evidence() => (Vec::new(), f64::INFINITY),
            Outcome::Complete { .. } | Outcome::Pruned { .. } | Outcome::Failed { .. } => return None,
        };
        let (number, params) = (ended.number, ended.params.clone());
        Some(Self { number, params, losses, violation, rank: 0, crowding: 0.0 })
    }

    /// Whether it is chosen before `other`.
    fn beats(&self, other: &Self) -> bool {
        (self.rank, other.crowding) < (other.rank, self.crowding)
    }
}

#[derive(Debug)]
pub(crate) struct NsgaIi {
    space: SearchSpace,
    directions: Vec<Direction>,
    axes: Vec<Axis>,
    /// Parameters with more than one value.
    varied: usize,
    tried: Tried,
    parents: Vec<Individual>,
    gathered: Vec<Individual>,
}

impl NsgaIi {
    pub(crate) fn new(space: &SearchSpace, directions: &[Direction]) -> Self {
        let axes = space.parameters().iter();
        Self {
            space: space.clone(),
            directions: directions.to_vec(),
            axes: axes.filter_map(|(name, parameter)| Axis::new(name, parameter.distribution())).collect(),
            varied: space.parameters().values().filter(|parameter| !parameter.distribution().is_single()).count(),
            tried: Tried::new(space),
            parents: Vec::new(),
            gathered: Vec::new(),
        }
    }

    /// Chooses the next parents among parents and a full generation.
    fn advance(&mut self) {
        if self.gathered.len() < POPULATION {
            return;
        }
        let mut all = std::mem::take(&mut self.parents);
        all.append(&mut self.gathered);
        all.sort_by_key(|individual| individual.number);
        rank(&mut all);
        all.sort_by(|a, b| a.rank.cmp(&b.rank).then(b.crowding.total_cmp(&a.crowding)).then(a.number.cmp(&b.number)));
        if self.directions.len() > CROWDED_OBJECTIVES {
            thin_out(&mut all);
        }
        all.truncate(POPULATION);
        self.parents = all;
    }

    /// The winner of two random parents.
    fn tournament(&self, rng: &mut ChaCha8Rng) -> &Individual {
        let [one, two] = [(); 2].map(|()| &self.parents[below(rng, self.parents.len() as u64) as usize]);
        if two.beats(one) { two } else { one }
    }

    /// A child of two parents around `fixed`; `None` for one that is forbidden.
    fn child(&self, fixed: &Params, rng: &mut ChaCha8Rng) -> Option<Params> {
        let one = self.tournament(rng);
        let two = if unit(rng) < CROSSOVER { self.tournament(rng) } else { one };
        let mut params = Params::new();
        for name in self.space.order() {
            if !self.space.is_active(name, &params) {
                continue;
            }
            let value = match fixed.get(name) {
                Some(value) => value.clone(),
                None => self.inherit(name, one.params.get(name), two.params.get(name), rng),
            };
            params.insert(name.clone(), value);
        }
        let is_allowed =
            fixed.keys().all(|name| params.contains_key(name)) && self.space.forbidden_by(&params).is_none();
        is_allowed.then_some(params)
    }

    /// One value of a child: from both parents, or from the one that has it, sometimes mutated.
    fn inherit(&self, name: &str, one: Option<&Value>, two: Option<&Value>, rng: &mut ChaCha8Rng) -> Value {
        let distribution = self.space.parameters()[name].distribution();
        let is_mutant = unit(rng) * self.varied as f64 <= 1.0;
        if let Some(axis) = self.axes.iter().find(|axis| axis.name == *name) {
            let at = |value: Option<&Value>| value.and_then(|value| axis.encode(value));
            let x = match (at(one), at(two)) {
                // Half of the numbers are handed down as they are.
                (Some(one), Some(two)) if unit(rng) < 0.5 => crossover(one, two, rng),
                (Some(one), Some(two)) => {
                    if unit(rng) < 0.5 {
                        one
                    } else {
                        two
                    }
                }
                (Some(only), None) | (None, Some(only)) => only,
                (None, None) => unit(rng),
            };
            return axis.decode(if is_mutant { mutation(x, rng) } else { x });
        }
        let taken = if unit(rng) < 0.5 { one.or(two) } else { two.or(one) };
        match taken.filter(|value| !is_mutant && distribution.contains(value)) {
            Some(value) => value.clone(),
            None => draw::uniform(distribution, rng),
        }
    }
}

/// Gives each individual its front and how alone it is there. Feasible ones come first, then infeasible ones by
/// violation, then failed ones.
fn rank(all: &mut [Individual]) {
    let is_feasible = |individual: &Individual| individual.violation <= 0.0;
    let feasible = (0..all.len()).filter(|&index| is_feasible(&all[index])).collect::<Vec<_>>();
    let points = feasible.iter().map(|&index| all[index].losses.clone()).collect::<Vec<_>>();
    let fronts = ranks(&points);
    let last = fronts.iter().max().map_or(0, |last| last + 1);
    for front in 0..last {
        let members = (0..points.len()).filter(|&place| fronts[place] == front).collect::<Vec<_>>();
        let distances = crowding(&members.iter().map(|&place| points[place].clone()).collect::<Vec<_>>());
        for (place, distance) in members.into_iter().zip(distances) {
            all[feasible[place]].rank = front;
            all[feasible[place]].crowding = distance;
        }
    }
    let violations = (0..all.len()).filter(|&index| !is_feasible(&all[index])).collect::<Vec<_>>();
    let points = violations.iter().map(|&index| vec![all[index].violation]).collect::<Vec<_>>();
    for (index, front) in violations.into_iter().zip(ranks(&points)) {
        all[index].rank = last + front;
        all[index].crowding = 0.0;
    }
}

/// Brings those of the last front with room to the fore that reference points choose. `all` is ordered by rank.
fn thin_out(all: &mut [Individual]) {
    let Some(last) = all.get(POPULATION).map(|first_out| first_out.rank) else { return };
    let front = (0..all.len()).filter(|&index| all[index].rank == last).collect::<Vec<_>>();
    // Of infeasible ones the violation decides.
    if front.iter().any(|&index| all[index].violation > 0.0) {
        return;
    }
    let points = all.iter().map(|individual| individual.losses.clone()).collect::<Vec<_>>();
    let sure = (0..front[0]).collect::<Vec<_>>();
    let chosen = survivors(&points, &sure, &front, POPULATION - sure.len());
    let is_out = |index: &usize| chosen.binary_search(index).is_err();
    let order = chosen.iter().copied().chain(front.iter().copied().filter(is_out));
    let reordered = order.map(|index| all[index].clone()).collect::<Vec<_>>();
    all[front[0]..front[0] + front.len()].clone_from_slice(&reordered);
}

impl Sampler for NsgaIi {
    fn observe(&mut self, event: &Event) {
        let Event::Ended(ended) = event else { return };
        self.tried.insert(&ended.params);
        if let Some(individual) = Individual::of(ended, &self.directions) {
            self.gathered.push(individual);
            self.advance();
        }
    }

    fn suggest(&self, ask: &Ask<'_>, rng: &mut ChaCha8Rng) -> Result<Params, SpaceExhausted> {
        if self.space.check(ask.fixed).is_ok() {
            return Ok(ask.fixed.clone());
        }
        if !self.parents.is_empty() {
            let busy = self.tried.keys_of(ask.running);
            let is_new = |params: &Params| !self.tried.contains(params, &busy);
            if let Some(params) = (0..ATTEMPTS).filter_map(|_| self.child(ask.fixed, rng)).find(is_new) {
                return Ok(params);
            }
        }
        match draw::fresh(&self.space, ask, &self.tried, rng)? {
            Some(params) => Ok(params),
            None => draw::configuration(&self.space, ask.fixed, rng),
        }
    }
}
