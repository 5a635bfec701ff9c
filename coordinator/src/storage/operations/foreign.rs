//! Writes of clients that sample themselves, one fact at a time.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use fleetune_core::{Attempt, Distribution, FailKind, Revision, StudyId, Timestamp, TrialId, TrialNumber, TrialState};

use super::common::{need_open_head, need_study, refuse_archived, wrong_trial_state};
use super::{Lane, Operation};
use crate::storage::draft::Drafting;
use crate::storage::engine::News;
use crate::storage::error::StoreError;
use crate::storage::foreign::{Attribute, Meaning, NewTrial, WholeTrial, constraint_values};
use crate::storage::record::{AttributeKind, Origin, Param, TrialRecord};
use crate::storage::rows::{Rows, StudyHead, TrialRow};

/// Most steps of one trial.
const STEPS: u32 = 100_000;

/// What is kept of a failure that a client tells without a reason.
const SAID_SO: &str = "its client said that it failed";

/// A trial of `study` that has not ended, with the head of the study, for a write that would `what` it.
async fn open_trial(
    rows: &mut dyn Rows,
    study: StudyId,
    id: TrialId,
    what: &str,
) -> Result<(StudyHead, TrialRow), StoreError> {
    // The row of the study is locked first: revisions are in order.
    let head = rows.head_for_update(study).await?.ok_or(StoreError::NoTrialOfId(id))?;
    let trial = rows.trial_by_id(id).await?.filter(|trial| trial.record.study == study);
    let trial = trial.ok_or(StoreError::NoTrialOfId(id))?;
    refuse_ended(&trial.record, what)?;
    Ok((head, trial))
}

fn refuse_ended(trial: &TrialRecord, what: &str) -> Result<(), StoreError> {
    if trial.state.is_ended() { Err(wrong_trial_state(trial, what)) } else { Ok(()) }
}

fn refuse_leased(trial: &TrialRecord) -> Result<(), StoreError> {
    match trial.job {
        Some(_) if trial.state == TrialState::Running => Err(StoreError::TrialLeased { number: trial.number }),
        Some(_) | None => Ok(()),
    }
}

/// As what the study knows parameter `name`; `None` when it is new.
pub(in crate::storage) async fn known_as(
    rows: &mut dyn Rows,
    study: StudyId,
    name: &str,
) -> Result<Option<Arc<Distribution>>, StoreError> {
    let known = rows.parameter(study, name).await?;
    if known.is_some() {
        return Ok(known);
    }
    let space = need_study(rows, study).await?.config.space;
    let parameter = space.as_ref().and_then(|space| space.parameters().get(name));
    Ok(parameter.map(|parameter| Arc::new(parameter.distribution().clone())))
}

fn check_compatible(name: &str, known: &Distribution, param: &Param) -> Result<(), StoreError> {
    if known.is_compatible(&param.distribution) {
        return Ok(());
    }
    let (known, given) = (known.to_string(), param.distribution.to_string());
    Err(StoreError::Incompatible { name: name.to_owned(), known, given })
}

/// What a study knows its parameters as, of those that were asked for within one operation.
pub(super) type Known = HashMap<String, Arc<Distribution>>;

/// Enters `Running` at the study's next turn. Its parameters count when it ends: no sampler has seen anything for it.
fn start(head: &mut StudyHead, trial: &mut TrialRecord) {
    trial.state = TrialState::Running;
    trial.turn = Some(head.next_turn);
    head.next_turn.0 += 1;
    trial.revision = head.bump();
    trial.started_revision = Some(trial.revision);
}

/// Enters an end, after its start.
pub(super) fn end(head: &mut StudyHead, trial: &mut TrialRecord, state: TrialState, ended_at: Option<Timestamp>) {
    if trial.turn.is_none() {
        start(head, trial);
    }
    trial.state = state;
    trial.revision = head.bump();
    trial.ended_revision = Some(trial.revision);
    trial.ended_at = ended_at;
    trial.fail = (state == TrialState::Fail).then(|| (FailKind::Error, SAID_SO.to_owned()));
    let span = trial.started_at.zip(ended_at).map(|(from, to)| to.since(from).as_secs_f64());
    trial.seconds = span.unwrap_or_default();
}

pub(in crate::storage) struct AddTrial {
    pub study: StudyId,
    pub new: NewTrial,
    pub now: Timestamp,
}

#[async_trait]
impl Operation for AddTrial {
    type Output = TrialRecord;

    const NEWS: News = News::Watchers;

    fn lane(&self) -> Lane {
        Lane::Study(self.study)
    }

    async fn apply(&self, rows: &mut dyn Rows) -> Result<TrialRecord, StoreError> {
        let mut head = need_open_head(rows, self.study).await?;
        let trial = add(rows, &mut head, &self.new, &mut Known::default(), self.now).await?;
        rows.save_head(&head).await?;
        Ok(trial)
    }

    fn is_fact(&self) -> bool {
        is_plain(&self.new, self.now)
    }

    fn draft(&self, drafting: &mut Drafting<'_>) -> Option<Result<TrialRecord, StoreError>> {
        let head = &drafting.draft.head;
        if let Err(error) = refuse_archived(head).and_then(|()| refuse_parent(head)) {
            return Some(Err(error));
        }
        let trial = fresh(&mut drafting.draft.head, &self.new, self.now);
        drafting.add(trial.clone());
        Some(Ok(trial))
    }

    fn numbered(trial: &mut TrialRecord, ids: &BTreeMap<TrialNumber, TrialId>) {
        if let Some(id) = ids.get(&trial.number) {
            trial.id = *id;
        }
    }
}

/// A study that has others for its trials takes none.
fn refuse_parent(head: &StudyHead) -> Result<(), StoreError> {
    if head.is_parent { Err(StoreError::IsParent(head.name.clone())) } else { Ok(()) }
}

/// Whether a trial starts now, and there is nothing else to it.
fn is_plain(new: &NewTrial, now: Timestamp) -> bool {
    *new == NewTrial { started_at: new.started_at, ..NewTrial::running(now) }
}

/// The trial with the study's next number, in its first state: an end comes after its start.
fn fresh(head: &mut StudyHead, new: &NewTrial, now: Timestamp) -> TrialRecord {
    let number = head.next_number;
    head.next_number = TrialNumber(number.0 + 1);
    let mut trial = TrialRecord {
        id: TrialId(0),
        study: head.id,
        number,
        state: TrialState::Waiting,
        origin: if new.state == TrialState::Waiting { Origin::Enqueued } else { Origin::Client },
        fixed: new.fixed.clone(),
        params: new.params.clone(),
        values: new.values.clone(),
        constraints: new.constraints.clone(),
        fail: None,
        job: None,
        attempt: Attempt(0),
        turn: None,
        seen: None,
        sampler: String::new(),
        revision: Revision(0),
        started_revision: None,
        ended_revision: None,
        created_at: now,
        started_at: new.started_at,
        ended_at: new.ended_at,
        seconds: 0.0,
        steps: new.steps.clone(),
    };
    match new.state {
        TrialState::Waiting => drop(head.bump()),
        TrialState::Running | TrialState::Complete | TrialState::Pruned | TrialState::Fail => start(head, &mut trial),
    }
    trial.revision = head.revision;
    trial
}

/// Adds a trial to the study of `head`, which is not saved. Refuses before it writes.
pub(super) async fn add(
    rows: &mut dyn Rows,
    head: &mut StudyHead,
    new: &NewTrial,
    known: &mut Known,
    now: Timestamp,
) -> Result<TrialRecord, StoreError> {
    refuse_parent(head)?;
    let study = head.id;
    let mut unknown = Vec::new();
    for (name, param) in &new.params {
        if let Some(known) = known.get(name) {
            check_compatible(name, known, param)?;
        } else if let Some(stored) = known_as(rows, study, name).await? {
            check_compatible(name, &stored, param)?;
            known.insert(name.clone(), stored);
        } else {
            unknown.push((name, param));
        }
    }
    let step_count = u32::try_from(new.steps.len()).unwrap_or(u32::MAX);
    if step_count > STEPS {
        return Err(too_many_steps());
    }

    let mut trial = fresh(head, new, now);
    trial.id = rows.insert_trial(&trial, None, None).await?;
    if new.state.is_ended() {
        end(head, &mut trial, new.state, new.ended_at);
    }
    if !is_plain(new, now) {
        rows.save_whole(&TrialRow { record: trial.clone(), step_count }).await?;
    }
    for (name, param) in unknown {
        rows.insert_parameter(study, name, &param.distribution).await?;
        known.insert(name.clone(), Arc::clone(&param.distribution));
    }
    for &(step, value) in &new.steps {
        rows.put_step(trial.id, trial.attempt, step, value).await?;
    }
    for (kind, key, value) in &new.attributes {
        rows.set_trial_attribute(trial.id, *kind, key, value).await?;
    }
    Ok(trial)
}

fn too_many_steps() -> StoreError {
    StoreError::TooLarge { what: "the number of intermediate values".to_owned(), limit: STEPS.into() }
}

pub(in crate::storage) struct SetParameter {
    pub study: StudyId,
    pub id: TrialId,
    pub name: String,
    pub param: Param,
}

#[async_trait]
impl Operation for SetParameter {
    type Output = ();

    const NEWS: News = News::Watchers;

    fn lane(&self) -> Lane {
        Lane::Study(self.study)
    }

    async fn apply(&self, rows: &mut dyn Rows) -> Result<(), StoreError> {
        let (mut head, mut trial) = open_trial(rows, self.study, self.id, GET_PARAMETER).await?;
        let known = known_as(rows, self.study, &self.name).await?;
        if !self.decide(&mut head, &mut trial.record, known.as_deref())? {
            return Ok(());
        }
        if known.is_none() {
            rows.insert_parameter(self.study, &self.name, &self.param.distribution).await?;
        }
        rows.save_whole(&trial).await?;
        rows.save_head(&head).await
    }

    fn is_fact(&self) -> bool {
        true
    }

    fn draft(&self, drafting: &mut Drafting<'_>) -> Option<Result<(), StoreError>> {
        // One that is new to the study is none for memory.
        let known = drafting.parameter(&self.name);
        let mut trial = match drafting.trial(self.id)? {
            Ok(trial) => trial,
            Err(error) => return Some(Err(error)),
        };
        let decided = self.decide(&mut drafting.draft.head, &mut trial.record, Some(&*known?));
        Some(decided.map(|changes| {
            if changes {
                drafting.put(trial);
            }
        }))
    }
}

/// What is refused to a trial that has ended.
const GET_PARAMETER: &str = "get a parameter";

impl SetParameter {
    /// Whether it changes the trial. `known`: as what the study knows the parameter.
    fn decide(
        &self,
        head: &mut StudyHead,
        record: &mut TrialRecord,
        known: Option<&Distribution>,
    ) -> Result<bool, StoreError> {
        refuse_ended(record, GET_PARAMETER)?;
        refuse_leased(record)?;
        if let Some(known) = known {
            check_compatible(&self.name, known, &self.param)?;
        }
        let same = |known: &Param| {
            known.internal.to_bits() == self.param.internal.to_bits()
                && known.distribution.to_json() == self.param.distribution.to_json()
        };
        if record.params.get(&self.name).is_some_and(same) {
            return Ok(false);
        }
        record.params.insert(self.name.clone(), self.param.clone());
        // What a sampler of ours suggested is no longer what the trial has.
        record.seen = None;
        record.sampler.clear();
        record.revision = head.bump();
        Ok(true)
    }
}

pub(in crate::storage) struct SetState {
    pub study: StudyId,
    pub id: TrialId,
    pub state: TrialState,
    pub values: Vec<f64>,
    pub now: Timestamp,
}

#[async_trait]
impl Operation for SetState {
    /// Whether it did, and whether the search may be over with it.
    type Output = (bool, bool);

    const NEWS: News = News::Watchers;

    fn lane(&self) -> Lane {
        Lane::Study(self.study)
    }

    async fn apply(&self, rows: &mut dyn Rows) -> Result<(bool, bool), StoreError> {
        let (mut head, mut trial) = open_trial(rows, self.study, self.id, &self.what()).await?;
        if !self.decide(&mut head, &mut trial.record)? {
            return Ok((false, false));
        }
        rows.save_whole(&trial).await?;
        rows.save_head(&head).await?;
        let may_be_over = self.state.is_ended() && {
            let config = need_study(rows, self.study).await?.config;
            config.budget != fleetune_core::study::Budget::default()
        };
        Ok((true, may_be_over))
    }

    fn is_fact(&self) -> bool {
        true
    }

    fn draft(&self, drafting: &mut Drafting<'_>) -> Option<Result<(bool, bool), StoreError>> {
        let may_be_over = self.state.is_ended() && drafting.has_budget()?;
        let mut trial = match drafting.trial(self.id)? {
            Ok(trial) => trial,
            Err(error) => return Some(Err(error)),
        };
        let decided = self.decide(&mut drafting.draft.head, &mut trial.record);
        Some(decided.map(|did| {
            if did {
                drafting.put(trial);
            }
            (did, did && may_be_over)
        }))
    }
}

impl SetState {
    fn what(&self) -> String {
        format!("become {}", self.state)
    }

    /// Whether it changes the trial.
    fn decide(&self, head: &mut StudyHead, record: &mut TrialRecord) -> Result<bool, StoreError> {
        refuse_ended(record, &self.what())?;
        if self.state == TrialState::Running && record.state == TrialState::Running {
            return Ok(false);
        }
        refuse_leased(record)?;
        match self.state {
            TrialState::Running => {
                start(head, record);
                record.started_at = Some(self.now);
            }
            TrialState::Waiting => {
                record.state = TrialState::Waiting;
                record.turn = None;
                record.started_revision = None;
                record.seen = None;
                record.sampler.clear();
                record.revision = head.bump();
            }
            TrialState::Complete | TrialState::Pruned | TrialState::Fail => {
                end(head, record, self.state, Some(self.now));
            }
        }
        if !self.values.is_empty() {
            record.values.clone_from(&self.values);
        }
        Ok(true)
    }
}

pub(in crate::storage) struct SetStep {
    pub study: StudyId,
    pub id: TrialId,
    pub step: u32,
    pub value: f64,
}

#[async_trait]
impl Operation for SetStep {
    type Output = ();

    const NEWS: News = News::Watchers;

    fn lane(&self) -> Lane {
        Lane::Study(self.study)
    }

    async fn apply(&self, rows: &mut dyn Rows) -> Result<(), StoreError> {
        let (mut head, mut trial) = open_trial(rows, self.study, self.id, GET_STEP).await?;
        refuse_leased(&trial.record)?;
        let (id, attempt) = (trial.record.id, trial.record.attempt);
        if rows.step(id, attempt, self.step).await?.is_none() {
            if trial.step_count >= STEPS {
                return Err(too_many_steps());
            }
            trial.step_count += 1;
        }
        rows.put_step(id, attempt, self.step, self.value).await?;
        trial.record.revision = head.bump();
        rows.save_trial(&trial).await?;
        rows.save_head(&head).await
    }

    fn is_fact(&self) -> bool {
        true
    }

    fn draft(&self, drafting: &mut Drafting<'_>) -> Option<Result<(), StoreError>> {
        let mut trial = match drafting.trial(self.id)? {
            Ok(trial) => trial,
            Err(error) => return Some(Err(error)),
        };
        if let Err(error) = refuse_ended(&trial.record, GET_STEP).and_then(|()| refuse_leased(&trial.record)) {
            return Some(Err(error));
        }
        // As many steps as are too many are not in memory.
        drafting.put_step(&mut trial, self.step, self.value);
        trial.record.revision = drafting.draft.head.bump();
        drafting.put(trial);
        Some(Ok(()))
    }
}

const GET_STEP: &str = "get an intermediate value";

pub(in crate::storage) struct SetOwnAttribute {
    pub study: StudyId,
    pub id: TrialId,
    pub attribute: Attribute,
    pub meaning: Meaning,
}

#[async_trait]
impl Operation for SetOwnAttribute {
    type Output = ();

    const NEWS: News = News::Watchers;

    fn lane(&self) -> Lane {
        Lane::Study(self.study)
    }

    async fn apply(&self, rows: &mut dyn Rows) -> Result<(), StoreError> {
        let (kind, key, value) = &self.attribute;
        let (mut head, mut trial) = open_trial(rows, self.study, self.id, GET_ATTRIBUTE).await?;
        let system = match self.meaning {
            Meaning::Constraints => rows.trial_attributes(trial.record.id, AttributeKind::System).await?,
            Meaning::None | Meaning::Fixed(_) => BTreeMap::new(),
        };
        self.decide(&mut head, &mut trial.record, system.iter().map(|(key, text)| (&**key, &**text)))?;
        rows.set_trial_attribute(trial.record.id, *kind, key, value).await?;
        match self.meaning {
            Meaning::None => rows.save_trial(&trial).await?,
            Meaning::Fixed(_) | Meaning::Constraints => rows.save_whole(&trial).await?,
        }
        rows.save_head(&head).await
    }

    fn is_fact(&self) -> bool {
        true
    }

    fn draft(&self, drafting: &mut Drafting<'_>) -> Option<Result<(), StoreError>> {
        let mut trial = match drafting.trial(self.id)? {
            Ok(trial) => trial,
            Err(error) => return Some(Err(error)),
        };
        let WholeTrial { record, attributes } = &mut trial;
        let system = attributes.iter().filter(|(kind, ..)| *kind == AttributeKind::System);
        let system = system.map(|(_, key, text)| (key.as_str(), text.as_str()));
        if let Err(error) = self.decide(&mut drafting.draft.head, record, system) {
            return Some(Err(error));
        }
        drafting.put_attribute(&mut trial, &self.attribute);
        drafting.put(trial);
        Some(Ok(()))
    }
}

const GET_ATTRIBUTE: &str = "get an attribute";

impl SetOwnAttribute {
    /// What it makes of the trial; `system`: its attributes of that kind so far.
    fn decide<'a>(
        &'a self,
        head: &mut StudyHead,
        record: &mut TrialRecord,
        system: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<(), StoreError> {
        refuse_ended(record, GET_ATTRIBUTE)?;
        match &self.meaning {
            Meaning::Fixed(fixed) if record.state == TrialState::Waiting => record.fixed.clone_from(fixed),
            Meaning::None | Meaning::Fixed(_) => {}
            Meaning::Constraints => {
                // They are part of the outcome, which is the worker's to tell.
                refuse_leased(record)?;
                let (_, key, value) = &self.attribute;
                let others = system.filter(|(known, _)| known != key);
                record.constraints = constraint_values(others.chain([(key.as_str(), value.as_str())]));
            }
        }
        record.revision = head.bump();
        Ok(())
    }
}
