//! A question in the light of what was tried and what is known, and which candidate answers it best.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashSet;

use fleetune_core::{Params, SearchSpace};
use rand::rngs::ChaCha8Rng;

use super::candidates::Candidates;
use super::encode::{Candidate, Encoding};
use super::history::Row;
use super::knowledge::{Facts, Knowledge, is_dominated, is_proven};
use super::models::{Models, Query};
use crate::seam::Ask;
use crate::tried::{Key, Tried};

/// Climbs, the steps tried of each, the length of the first (a share of the range), and what becomes of it after one
/// that led upward and after one that did not.
const CLIMBS: usize = 3;
const STEPS: usize = 40;
const FIRST_STEP: f64 = 0.1;
const LONGER: f64 = 1.5;
const SHORTER: f64 = 0.9;

/// What a question is answered from.
pub(super) struct View<'a> {
    pub(super) ask: &'a Ask<'a>,
    pub(super) encoding: &'a Encoding,
    pub(super) tried: &'a Tried,
    pub(super) busy: HashSet<Key>,
    pub(super) knowledge: Option<Knowledge<'a>>,
    /// What an engine makes of the configurations that were tried or run, where that is known.
    pub(super) effective: HashSet<Key>,
    /// What ended, each at the point of what an engine makes of it: equal settings are one point.
    pub(super) rows: Cow<'a, [Row]>,
    /// Whether the names of settings say what needs memory.
    pub(super) named: bool,
}

/// What an engine makes of a configuration, where that is known.
pub(super) fn effective(ask: &Ask<'_>, params: &Params) -> Option<Params> {
    ask.estimate?.effective(params)
}

impl View<'_> {
    /// Whether a configuration was not tried and does not run, under its own name or another.
    pub(super) fn accepts(&self, params: &Params) -> bool {
        self.place(Candidate { params: params.clone(), point: Vec::new() }).is_some()
    }

    /// A candidate that is new at the point of what an engine makes of it.
    fn place(&self, mut candidate: Candidate) -> Option<Candidate> {
        if self.tried.contains(&candidate.params, &self.busy) {
            return None;
        }
        if let Some(effective) = effective(self.ask, &candidate.params) {
            if self.effective.contains(&self.tried.key(&effective)) {
                return None;
            }
            candidate.point = self.encoding.encode(&effective);
        }
        Some(candidate)
    }

    /// The point of what an engine makes of a configuration.
    pub(super) fn point(&self, params: &Params) -> Vec<f64> {
        self.encoding.encode(effective(self.ask, params).as_ref().unwrap_or(params))
    }

    /// The name of a configuration under which an engine does what it says, where the space has that.
    pub(super) fn plainly(&self, params: Params, space: &SearchSpace) -> Params {
        let kept = |effective: &Params| {
            self.ask.fixed.iter().all(|(name, value)| effective.get(name) == Some(value))
                && space.check(effective).is_ok()
        };
        effective(self.ask, &params).filter(|effective| *effective != params && kept(effective)).unwrap_or(params)
    }

    pub(super) fn facts(&self, params: &Params) -> Option<Facts> {
        self.knowledge.as_ref().map(|knowledge| knowledge.facts(params))
    }

    /// Whether memory was short for something that needs no more.
    fn is_hopeless(&self, params: &Params, facts: Option<&Facts>) -> bool {
        let known = self.knowledge.as_ref().zip(facts).is_some_and(|(knowledge, facts)| knowledge.is_hopeless(facts));
        known || (self.named && is_dominated(params, &self.rows))
    }

    /// Whether something that needs no less memory ran.
    fn is_safe(&self, params: &Params, facts: Option<&Facts>) -> bool {
        match self.knowledge.as_ref().zip(facts) {
            Some((knowledge, facts)) => knowledge.is_safe(facts),
            None => self.named && is_proven(params, &self.rows),
        }
    }

    /// A candidate and what it is worth; `None` for one that is not new.
    fn choice(&self, models: &Models, candidate: Candidate) -> Option<Choice> {
        let Candidate { params, point } = self.place(candidate)?;
        let facts = self.facts(&params);
        let hopeful = !self.is_hopeless(&params, facts.as_ref());
        let safe = self.is_safe(&params, facts.as_ref());
        let score = models.score(Query { point: &point, facts: facts.as_ref(), safe });
        Some(Choice { hopeful, score, params, point })
    }

    /// The new candidate with the highest score, the first on ties; hopeless ones only among their like.
    pub(super) fn best_of(&self, models: &Models, candidates: Vec<Candidate>) -> Option<Choice> {
        let choices = candidates.into_iter().filter_map(|candidate| self.choice(models, candidate));
        choices.reduce(|best, other| if other.beats(&best) { other } else { best })
    }

    /// The first new candidate for which there is hope, else the first: where hardly anything ran, a comparison would lead
    /// to what is least known, which lies in the corners.
    pub(super) fn first_of(&self, models: &Models, candidates: Vec<Candidate>) -> Option<Choice> {
        let mut choices = candidates.into_iter().filter_map(|candidate| self.choice(models, candidate));
        let first = choices.next()?;
        if first.hopeful { Some(first) } else { choices.find(|choice| choice.hopeful).or(Some(first)) }
    }

    /// The best, after a climb from the best few of them: next to good configurations small steps are worth something.
    pub(super) fn climbed(
        &self,
        models: &Models,
        source: &Candidates<'_>,
        candidates: Vec<Candidate>,
        rng: &mut ChaCha8Rng,
    ) -> Option<Choice> {
        let choices = candidates.into_iter().filter_map(|candidate| self.choice(models, candidate));
        let mut choices = choices.collect::<Vec<_>>();
        let order = |a: &Choice, b: &Choice| (b.hopeful, b.score).partial_cmp(&(a.hopeful, a.score));
        choices.sort_by(|a, b| order(a, b).unwrap_or(Ordering::Equal));
        choices.truncate(CLIMBS);
        for own in &mut choices {
            let mut scale = FIRST_STEP;
            for _ in 0..STEPS {
                let next = source.near(&own.point, scale, rng).and_then(|next| self.choice(models, next));
                if let Some(next) = next.filter(|next| next.beats(own)) {
                    *own = next;
                    scale *= LONGER;
                } else {
                    scale *= SHORTER;
                }
            }
        }
        choices.into_iter().reduce(|best, other| if other.beats(&best) { other } else { best })
    }
}

/// A candidate that was chosen.
pub(super) struct Choice {
    /// Whether nothing that needs no more memory failed for it.
    pub(super) hopeful: bool,
    pub(super) score: f64,
    pub(super) params: Params,
    pub(super) point: Vec<f64>,
}

impl Choice {
    fn beats(&self, other: &Self) -> bool {
        (self.hopeful, self.score) > (other.hopeful, other.score)
    }
}
