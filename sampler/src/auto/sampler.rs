//! The sampler: what it remembers, and how it answers.

use std::cmp::Ordering;
use std::collections::HashSet;

use fleetune_core::measurement::median;
use fleetune_core::study::StudyConfig;
use fleetune_core::{Direction, Params, SearchSpace};
use rand::rngs::ChaCha8Rng;

use super::candidates::Candidates;
use super::encode::{Candidate, Encoding};
use super::fits::Fits;
use super::history::{Row, insert};
use super::knowledge::{Facts, Knowledge, is_dominated};
use super::models::{Models, Query};
use super::start::Start;
use crate::draw;
use crate::grid::Grid;
use crate::rng::{below, unit};
use crate::seam::{Ask, Event, Sampler, SpaceExhausted};
use crate::tpe::{Tpe, TpeOptions};
use crate::tried::{Key, Tried};

/// Beyond so many rows or axes the tree-structured Parzen estimator takes over: the time for an answer grows with the
/// cube of the rows, and distances in many dimensions say little.
const MOST_ROWS: usize = 500;
const MOST_AXES: usize = 40;
/// Untried configurations that a systematic search collects when draws find none.
const COLLECTED: usize = 64;
/// Stagnation: so many trials gained less than this share of (median − best).
const STALE_TRIALS: usize = 4;
const STALE_GAIN: f64 = 0.03;
/// How often a stagnating search looks around an incumbent, and how often that is the best one of the top.
const LOOK_AROUND: f64 = 0.5;
const AROUND_BEST: f64 = 0.7;
/// What such a look may cost: a logarithm of expected improvement. More, and the models are sure that it is in vain.
const CORNER_COST: f64 = 4.0;
const TOP: usize = 3;

#[derive(Debug)]
pub(crate) struct Auto {
    space: SearchSpace,
    direction: Direction,
    encoding: Encoding,
    start: Start,
    /// Whether parameters are settings of an engine.
    named: bool,
    rows: Vec<Row>,
    tried: Tried,
    fits: Fits,
    /// Takes over when there are many trials or parameters, or nothing new is left.
    tpe: Tpe,
    /// Where the budget suffices to try everything.
    grid: Option<Grid>,
}

impl Auto {
    /// The sampler of a study on `space` for one objective.
    pub(crate) fn new(space: &SearchSpace, direction: Direction, config: &StudyConfig) -> Self {
        let (planned, seed) = (config.planned_trials, config.seed);
        let encoding = Encoding::new(space);
        let axes = encoding.axes().len();
        let whole = planned.zip(space.cardinality()).is_some_and(|(trials, count)| count <= u64::from(trials));
        Self {
            space: space.clone(),
            direction,
            start: Start::new(axes, planned, seed),
            encoding,
            named: config.benchmark.is_some(),
            rows: Vec::new(),
            tried: Tried::new(space),
            fits: Fits::new(seed),
            tpe: Tpe::new(space, &[direction], TpeOptions::default()),
            grid: whole.then(|| Grid::new(space, seed).ok()).flatten(),
        }
    }

    fn view<'a>(&'a self, ask: &'a Ask<'a>) -> View<'a> {
        let effective = |params: &Params| Some(self.tried.key(&ask.estimate?.effective(params)?));
        let running = ask.running.iter().map(|trial| &trial.params);
        View {
            ask,
            tried: &self.tried,
            busy: self.tried.keys_of(ask.running),
            knowledge: ask.estimate.map(|estimate| Knowledge::new(estimate, self.direction, &self.rows)),
            effective: self.rows.iter().map(|row| &row.params).chain(running).filter_map(effective).collect(),
            rows: &self.rows,
            named: self.named,
        }
    }

    fn is_beyond(&self) -> bool {
        self.rows.len() > MOST_ROWS || self.encoding.axes().len() > MOST_AXES
    }

    /// A configuration of the start; `None` when nothing is left to try.
    fn starting(&self, view: &View<'_>, rng: &mut ChaCha8Rng) -> Result<Option<Params>, SpaceExhausted> {
        let (ask, encoding) = (view.ask, &self.encoding);
        let accept = &|candidate: &Candidate| view.accepts(&candidate.params);
        let running = ask.running.iter().map(|trial| encoding.encode(&trial.params));
        let seen = self.rows.iter().map(|row| row.point.clone()).chain(running).collect::<Vec<_>>();
        let knowledge = view.knowledge.as_ref();
        let found = knowledge
            .and_then(|knowledge| Start::plausible(ask, encoding, accept, knowledge, &seen, rng))
            .or_else(|| self.start.point(ask, encoding, accept, knowledge));
        match found {
            Some(candidate) => Ok(Some(candidate.params)),
            None => draw::fresh(&self.space, ask, &self.tried, rng),
        }
    }

    /// The answer of the models; `None` when nothing is left to try.
    fn modelled(&self, view: &View<'_>, rng: &mut ChaCha8Rng) -> Option<Params> {
        let ask = view.ask;
        let mut models = Models::new(&self.rows, &self.encoding.dimensions(), &self.fits, view.knowledge.as_ref());
        let ranked = self.ranked(&models, view);
        for trial in ask.running {
            let facts = view.facts(&trial.params);
            let point = self.encoding.encode(&trial.params);
            models.fantasize(Query { point: &point, facts: facts.as_ref(), safe: false });
        }
        let points = ranked.iter().map(|row| row.point.as_slice()).collect::<Vec<_>>();
        let source = Candidates { encoding: &self.encoding, fixed: ask.fixed, ranked: &points };
        let mut corner = None;
        if self.is_stale() && unit(rng) < LOOK_AROUND {
            let top = points.len().min(TOP) as u64;
            let around = if unit(rng) < AROUND_BEST { 0 } else { below(rng, top.max(1)) };
            let corners = points.get(around as usize).map(|base| source.corners(base, rng)).unwrap_or_default();
            corner = best_of(&models, view, corners);
        }
        let best = best_of(&models, view, source.draw(rng)).or_else(|| {
            let accept = &mut |params: &Params| view.accepts(params);
            let (found, _) = draw::search(&self.space, ask.fixed, rng, true, COLLECTED, accept);
            best_of(&models, view, found.into_iter().map(|params| self.encoding.candidate(params)).collect())
        });
        let worth = |corner: &Choice| {
            best.as_ref().is_none_or(|best| corner.hopeful >= best.hopeful && corner.score > best.score - CORNER_COST)
        };
        corner.filter(worth).or(best).map(|choice| choice.params)
    }

    /// Feasible rows, the best by the models first; where they say nothing, by value.
    fn ranked(&self, models: &Models, view: &View<'_>) -> Vec<&Row> {
        let merit = |(index, row): (usize, &Row)| {
            let facts = view.knowledge.as_ref().map(|knowledge| &knowledge.rows()[index]);
            let mean = models.mean(Query { point: &row.point, facts, safe: false });
            mean.or_else(|| row.measured().map(|measured| measured.value)).unwrap_or(f64::INFINITY)
        };
        let feasible = self.rows.iter().enumerate().filter(|(_, row)| row.is_feasible());
        let mut merits = feasible.map(|(index, row)| (merit((index, row)), row)).collect::<Vec<_>>();
        merits.sort_by(|a, b| a.0.partial_cmp(&b.0).unwrap_or(Ordering::Equal).then(a.1.number.cmp(&b.1.number)));
        merits.into_iter().map(|(_, row)| row).collect()
    }

    /// Whether the last trials gained next to nothing.
    fn is_stale(&self) -> bool {
        let values = self.rows.iter().map(Row::candidate_value).collect::<Vec<_>>();
        let Some(before) = values.len().checked_sub(STALE_TRIALS).filter(|before| *before >= self.start.trials) else {
            return false;
        };
        let best = |values: &[Option<f64>]| values.iter().flatten().copied().reduce(f64::min);
        let known = values.iter().flatten().copied().collect::<Vec<_>>();
        match (best(&values[..before]), best(&values), median(&known)) {
            (Some(before), Some(now), Some(median)) => before - now < STALE_GAIN * (median - now),
            (_, _, _) => false,
        }
    }
}

/// A question in the light of what was tried and what is known.
struct View<'a> {
    ask: &'a Ask<'a>,
    tried: &'a Tried,
    busy: HashSet<Key>,
    knowledge: Option<Knowledge<'a>>,
    /// What an engine makes of the configurations that were tried or run, where that is known.
    effective: HashSet<Key>,
    rows: &'a [Row],
    /// Whether the names of settings say what needs memory.
    named: bool,
}

impl View<'_> {
    /// Whether a configuration was not tried and does not run, under its own name or another.
    fn accepts(&self, params: &Params) -> bool {
        if self.tried.contains(params, &self.busy) {
            return false;
        }
        let effective = || self.ask.estimate.and_then(|estimate| estimate.effective(params));
        self.effective.is_empty() || effective().is_none_or(|params| !self.effective.contains(&self.tried.key(&params)))
    }

    fn facts(&self, params: &Params) -> Option<Facts> {
        self.knowledge.as_ref().map(|knowledge| knowledge.facts(params))
    }

    /// Whether memory was short for something that needs no more.
    fn is_hopeless(&self, params: &Params, facts: Option<&Facts>) -> bool {
        let known = self.knowledge.as_ref().zip(facts).is_some_and(|(knowledge, facts)| knowledge.is_hopeless(facts));
        known || (self.named && is_dominated(params, self.rows))
    }
}

/// A candidate that was chosen.
struct Choice {
    /// Whether nothing that needs no more memory failed for it.
    hopeful: bool,
    score: f64,
    params: Params,
}

/// The new candidate with the highest score, the first on ties; hopeless ones only among their like.
fn best_of(models: &Models, view: &View<'_>, candidates: Vec<Candidate>) -> Option<Choice> {
    let mut best = None::<Choice>;
    for Candidate { params, point } in candidates {
        if !view.accepts(&params) {
            continue;
        }
        let facts = view.facts(&params);
        let hopeful = !view.is_hopeless(&params, facts.as_ref());
        if !hopeful && best.as_ref().is_some_and(|best| best.hopeful) {
            continue;
        }
        let known = view.knowledge.as_ref().zip(facts.as_ref());
        let safe = known.is_some_and(|(knowledge, facts)| knowledge.is_safe(facts));
        let score = models.score(Query { point: &point, facts: facts.as_ref(), safe });
        if best.as_ref().is_none_or(|best| (hopeful, score) > (best.hopeful, best.score)) {
            best = Some(Choice { hopeful, score, params });
        }
    }
    best
}

impl Sampler for Auto {
    fn observe(&mut self, event: &Event) {
        self.tpe.observe(event);
        if let Some(grid) = &mut self.grid {
            grid.observe(event);
        }
        let Event::Ended(ended) = event else { return };
        self.tried.insert(&ended.params);
        // Beyond, rows are not read any more.
        if !self.is_beyond()
            && let Some(row) = Row::of(ended, self.direction, &self.encoding)
        {
            insert(&mut self.rows, row);
        }
    }

    fn suggest(&self, ask: &Ask<'_>, rng: &mut ChaCha8Rng) -> Result<Params, SpaceExhausted> {
        // Everything is fixed: a repeat that was asked for.
        if self.space.check(ask.fixed).is_ok() {
            return Ok(ask.fixed.clone());
        }
        if let Some(Ok(params)) = self.grid.as_ref().map(|grid| grid.suggest(ask, rng)) {
            return Ok(params);
        }
        if self.is_beyond() {
            return self.tpe.suggest(ask, rng);
        }
        let view = self.view(ask);
        let suggestion = if self.rows.len() + ask.running.len() < self.start.trials {
            self.starting(&view, rng)?
        } else {
            self.modelled(&view, rng)
        };
        // Nothing new is left: it repeats the best, or says why there is nothing at all.
        suggestion.map_or_else(|| self.tpe.suggest(ask, rng), Ok)
    }
}
