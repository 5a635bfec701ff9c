//! What a batch of facts writes, decided on memory alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fleetune_core::{Attempt, Distribution, Revision, TrialId};

use super::error::StoreError;
use super::foreign::{Attribute, WholeTrial};
use super::record::{AttributeKind, TrialRecord};
use super::rows::StudyHead;
use super::shelf::State;

/// What is to be written to a study that is at revision `at`.
pub(super) struct Draft {
    /// The revision that everything was decided on.
    pub at: Revision,
    /// The counters afterwards.
    pub head: StudyHead,
    /// Trials that change, as they are afterwards.
    pub trials: BTreeMap<TrialId, WholeTrial>,
    /// Trials that start and have nothing else yet, without their ids.
    pub added: Vec<TrialRecord>,
    /// Attributes of `trials`.
    pub attributes: BTreeMap<(TrialId, AttributeKind, String), String>,
    /// Steps of `trials`.
    pub steps: BTreeMap<(TrialId, u32), (Attempt, f64)>,
}

impl Draft {
    fn new(head: StudyHead) -> Self {
        Self {
            at: head.revision,
            head,
            trials: BTreeMap::new(),
            added: Vec::new(),
            attributes: BTreeMap::new(),
            steps: BTreeMap::new(),
        }
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.trials.is_empty() && self.added.is_empty()
    }
}

/// What memory lacks for a decision.
#[derive(Default)]
pub(super) struct Missing {
    pub trials: BTreeSet<TrialId>,
    pub parameters: BTreeSet<String>,
    /// Whether this is nothing for memory at all.
    pub is_hopeless: bool,
}

impl Missing {
    pub fn is_empty(&self) -> bool {
        self.trials.is_empty() && self.parameters.is_empty() && !self.is_hopeless
    }
}

/// A draft that is made.
pub(super) struct Drafting<'a> {
    state: &'a State,
    pub draft: Draft,
    pub missing: Missing,
}

impl<'a> Drafting<'a> {
    pub fn new(state: &'a State, head: StudyHead) -> Self {
        Self { state, draft: Draft::new(head), missing: Missing::default() }
    }

    /// The trial as it is so far. `None`: memory lacks it.
    pub fn trial(&mut self, id: TrialId) -> Option<Result<WholeTrial, StoreError>> {
        if let Some(drafted) = self.draft.trials.get(&id) {
            return Some(Ok(drafted.clone()));
        }
        let Some(mark) = self.state.find(id) else { return Some(Err(StoreError::NoTrialOfId(id))) };
        if let Some(whole) = self.state.whole(id) {
            return Some(Ok(WholeTrial::clone(whole)));
        }
        if mark.ended || self.state.large.contains(&id) {
            self.missing.is_hopeless = true;
        }
        self.missing.trials.insert(id);
        None
    }

    /// As what the study knows a parameter that it has. `None`: memory does not know.
    pub fn parameter(&mut self, name: &str) -> Option<Arc<Distribution>> {
        let known = self.state.parameters.get(name).cloned();
        if known.is_none() {
            self.missing.parameters.insert(name.to_owned());
        }
        known
    }

    /// Whether the study can be over by what it has used up.
    pub fn has_budget(&mut self) -> Option<bool> {
        let has_budget = self.state.has_budget();
        self.missing.is_hopeless |= has_budget.is_none();
        has_budget
    }

    /// Changes a trial.
    pub fn put(&mut self, whole: WholeTrial) {
        self.draft.trials.insert(whole.record.id, whole);
    }

    /// Sets a step of a trial, which is put afterwards.
    pub fn put_step(&mut self, whole: &mut WholeTrial, step: u32, value: f64) {
        let steps = &mut whole.record.steps;
        match steps.binary_search_by_key(&step, |known| known.0) {
            Ok(index) => steps[index].1 = value,
            Err(index) => steps.insert(index, (step, value)),
        }
        self.draft.steps.insert((whole.record.id, step), (whole.record.attempt, value));
    }

    /// Sets an attribute of a trial, which is put afterwards.
    pub fn put_attribute(&mut self, whole: &mut WholeTrial, (kind, key, value): &Attribute) {
        match whole.attributes.iter_mut().find(|known| known.0 == *kind && known.1 == *key) {
            Some(known) => known.2.clone_from(value),
            None => whole.attributes.push((*kind, key.clone(), value.clone())),
        }
        self.draft.attributes.insert((whole.record.id, *kind, key.clone()), value.clone());
    }

    /// Adds a trial that starts.
    pub fn add(&mut self, record: TrialRecord) {
        self.draft.added.push(record);
    }
}
