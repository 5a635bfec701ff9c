//! The sampler: what it remembers, and how it answers.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

use fleetune_core::measurement::median;
use fleetune_core::study::StudyConfig;
use fleetune_core::{Direction, Params, SearchSpace, TrialNumber};
use rand::rngs::ChaCha8Rng;

use super::candidates::Candidates;
use super::encode::{Candidate, Encoding};
use super::fits::Fits;
use super::history::{Row, insert};
use super::knowledge::Knowledge;
use super::models::{Models, Query};
use super::several::scalarized;
use super::start::Start;
use super::view::{Choice, View, effective};
use super::warm::Warm;
use crate::draw;
use crate::grid::Grid;
use crate::rng::{below, unit};
use crate::seam::{Ask, Estimate, Event, Sampler, SpaceExhausted};
use crate::tpe::{Tpe, TpeOptions};
use crate::tried::Tried;

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
/// Trials of the start, besides those that earlier studies choose.
const COLD: usize = 4;

#[derive(Debug)]
pub(crate) struct Auto {
    space: SearchSpace,
    directions: Vec<Direction>,
    encoding: Encoding,
    start: Start,
    /// Whether parameters are settings of an engine.
    named: bool,
    rows: Vec<Row>,
    tried: Tried,
    /// Milliseconds that trials may take together, where that is limited, and those that they took.
    time: Option<u64>,
    spent: u64,
    fits: Fits,
    /// What earlier studies say.
    warm: Option<Arc<Warm>>,
    /// Takes over when there are many trials or parameters, or nothing new is left.
    tpe: Tpe,
    /// Where the budget suffices to try everything.
    grid: Option<Grid>,
}

impl Auto {
    /// The sampler of a study on `space`.
    pub(crate) fn new(space: &SearchSpace, config: &StudyConfig) -> Self {
        let (planned, seed) = (config.planned_trials, config.seed);
        let encoding = Encoding::new(space);
        let axes = encoding.axes().len();
        let fits = Fits::new(seed);
        let single = config.directions.len() == 1;
        let warm = single.then(|| Warm::new(&config.earlier, &encoding, &space.defaults(), planned, &fits)).flatten();
        let mut start = Start::new(axes, planned, seed);
        if let Some(warm) = &warm {
            start.trials = start.trials.min(warm.starts() + COLD);
        }
        let whole = planned.zip(space.cardinality()).is_some_and(|(trials, count)| count <= u64::from(trials));
        Self {
            space: space.clone(),
            directions: config.directions.clone(),
            start,
            encoding,
            named: config.benchmark.is_some(),
            rows: Vec::new(),
            tried: Tried::new(space),
            time: config.budget.seconds.map(milliseconds),
            spent: 0,
            fits,
            warm: warm.map(Arc::new),
            tpe: Tpe::new(space, &config.directions, TpeOptions::default()),
            grid: whole.then(|| Grid::new(space, seed).ok()).flatten(),
        }
    }

    fn view<'a>(&'a self, ask: &'a Ask<'a>) -> View<'a> {
        let known = ask.running.iter().map(|trial| &trial.params).chain(self.rows.iter().map(|row| &row.params));
        let known = known.filter_map(|params| effective(ask, params)).map(|params| self.tried.key(&params)).collect();
        let mut rows = Cow::Borrowed(self.rows.as_slice());
        if ask.estimate.is_some() {
            for row in rows.to_mut() {
                if let Some(effective) = effective(ask, &row.params) {
                    row.point = self.encoding.encode(&effective);
                }
            }
        }
        View {
            ask,
            encoding: &self.encoding,
            tried: &self.tried,
            busy: self.tried.keys_of(ask.running),
            knowledge: ask.estimate.map(|estimate| Knowledge::new(estimate, self.directions[0], &rows)),
            effective: known,
            rows,
            named: self.named,
        }
    }

    fn models(&self, rows: &[Row], view: &View<'_>) -> Models {
        // What a search may take was spent, by and by.
        let left = self.time.map_or(0.0, |time| 1.0 - self.spent as f64 / time.max(1) as f64);
        Models::new(rows, &self.encoding.dimensions(), &self.fits, view.knowledge.as_ref(), self.warm.as_ref(), left)
    }

    fn is_beyond(&self) -> bool {
        self.rows.len() > MOST_ROWS || self.encoding.axes().len() > MOST_AXES
    }

    /// A configuration of the start; `None` when nothing is left to try.
    fn starting(&self, view: &View<'_>, rng: &mut ChaCha8Rng) -> Result<Option<Params>, SpaceExhausted> {
        let (ask, encoding) = (view.ask, &self.encoding);
        let accept = &|candidate: &Candidate| view.accepts(&candidate.params);
        let running = ask.running.iter().map(|trial| view.point(&trial.params));
        let seen = view.rows.iter().map(|row| row.point.clone()).chain(running).collect::<Vec<_>>();
        let knowledge = view.knowledge.as_ref();
        let fits = |candidate: &Candidate| {
            accept(candidate) && knowledge.is_none_or(|known| known.facts(&candidate.params).fits())
        };
        let warm = self.warm.as_ref().and_then(|warm| warm.start(ask, encoding, &fits));
        let found = warm
            .or_else(|| knowledge.and_then(|knowledge| Start::plausible(ask, encoding, accept, knowledge, &seen, rng)))
            .or_else(|| self.start.point(ask, encoding, accept, knowledge));
        match found {
            Some(candidate) => Ok(Some(candidate.params)),
            None => draw::fresh(&self.space, ask, &self.tried, rng),
        }
    }

    /// The answer of the models; `None` when nothing is left to try.
    fn modelled(&self, view: &View<'_>, rng: &mut ChaCha8Rng) -> Option<Params> {
        let ask = view.ask;
        let weighed = (self.directions.len() > 1).then(|| scalarized(&view.rows, rng));
        let rows = weighed.as_deref().unwrap_or(&view.rows);
        let mut models = self.models(rows, view);
        let ranked = ranked(rows, &models, view);
        for trial in ask.running {
            let facts = view.facts(&trial.params);
            let point = view.point(&trial.params);
            models.fantasize(Query { point: &point, facts: facts.as_ref(), safe: false });
        }
        let points = ranked.iter().map(|row| row.point.as_slice()).collect::<Vec<_>>();
        let source = Candidates { encoding: &self.encoding, fixed: ask.fixed, ranked: &points };
        let mut corner = None;
        if self.is_stale() && unit(rng) < LOOK_AROUND {
            let top = points.len().min(TOP) as u64;
            let around = if unit(rng) < AROUND_BEST { 0 } else { below(rng, top.max(1)) };
            let corners = points.get(around as usize).map(|base| source.corners(base, rng)).unwrap_or_default();
            corner = view.best_of(&models, corners);
        }
        let best = if models.know_nothing() {
            view.first_of(&models, source.few(rng))
        } else {
            let drawn = source.draw(rng);
            view.climbed(&models, &source, drawn, rng)
        };
        let best = best.or_else(|| {
            let accept = &mut |params: &Params| view.accepts(params);
            let (found, _) = draw::search(&self.space, ask.fixed, rng, true, COLLECTED, accept);
            view.best_of(&models, found.into_iter().map(|params| self.encoding.candidate(params)).collect())
        });
        let worth = |corner: &Choice| {
            best.as_ref().is_none_or(|best| corner.hopeful >= best.hopeful && corner.score > best.score - CORNER_COST)
        };
        corner.filter(worth).or(best).map(|choice| choice.params)
    }

    /// Whether the last trials gained next to nothing.
    fn is_stale(&self) -> bool {
        if self.directions.len() > 1 {
            return false;
        }
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

/// Feasible rows, the best by the models first; where they say nothing, by value.
fn ranked<'a>(rows: &'a [Row], models: &Models, view: &View<'_>) -> Vec<&'a Row> {
    let merit = |(index, row): (usize, &Row)| {
        let facts = view.knowledge.as_ref().map(|knowledge| &knowledge.rows()[index]);
        let mean = models.mean(Query { point: &row.point, facts, safe: false });
        mean.or_else(|| row.measured().map(|measured| measured.value)).unwrap_or(f64::INFINITY)
    };
    let feasible = rows.iter().enumerate().filter(|(_, row)| row.is_feasible());
    let mut merits = feasible.map(|(index, row)| (merit((index, row)), row)).collect::<Vec<_>>();
    merits.sort_by(|a, b| a.0.partial_cmp(&b.0).unwrap_or(Ordering::Equal).then(a.1.number.cmp(&b.1.number)));
    merits.into_iter().map(|(_, row)| row).collect()
}

fn milliseconds(seconds: f64) -> u64 {
    (seconds.max(0.0) * 1e3) as u64
}

impl Sampler for Auto {
    fn observe(&mut self, event: &Event) {
        self.tpe.observe(event);
        if let Some(grid) = &mut self.grid {
            grid.observe(event);
        }
        let Event::Ended(ended) = event else { return };
        self.tried.insert(&ended.params);
        self.spent = self.spent.saturating_add(milliseconds(ended.seconds));
        // Beyond, rows are not read any more.
        if !self.is_beyond()
            && let Some(row) = Row::of(ended, &self.directions, &self.encoding)
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
        match suggestion {
            Some(params) => Ok(view.plainly(params, &self.space)),
            None => self.tpe.suggest(ask, rng),
        }
    }

    fn ranking(&self, estimate: Option<&dyn Estimate>) -> Vec<TrialNumber> {
        // Values that clients tell may be exact; measured ones are not.
        if !self.named || self.directions.len() != 1 || self.is_beyond() {
            return Vec::new();
        }
        let (number, fixed) = (TrialNumber(0), Params::new());
        let ask = Ask { number, fixed: &fixed, running: &[], estimate };
        let view = self.view(&ask);
        let models = self.models(&view.rows, &view);
        let best = ranked(&view.rows, &models, &view).into_iter().filter(|row| row.candidate_value().is_some());
        best.map(|row| TrialNumber(row.number)).collect()
    }
}
