//! What storage does for clients that sample themselves, those of Optuna's protocol: they name trials by id, bring
//! distributions of their own, and write one fact at a time.

use std::sync::Arc;

use async_trait::async_trait;
use fleetune_core::{Attempt, Distribution, Params, Revision, StudyId, Timestamp, TrialId, TrialNumber, TrialState};

use super::error::StoreError;
use super::operations::{
    AddTrial, AddTrials, FailSilent, NameStudy, SetOwnAttribute, SetParameter, SetState, SetStep, ShowLife,
};
use super::record::{AttributeKind, Param, ParamSet, TrialRecord};
use super::rows::{Rows, TrialRow};
use super::shelf::Shelf;
use super::store::Store;

/// Key of the system attribute that tells Optuna's clients why a trial was failed for them: a text in JSON.
pub const FAIL_REASON: &str = "fleetune:fail_reason";

/// Trials read at a time.
const PAGE: usize = 1_000;

/// An attribute: its kind, key and value.
pub type Attribute = (AttributeKind, String, String);

/// A trial with its attributes.
#[derive(Clone, Debug, PartialEq)]
pub struct WholeTrial {
    /// The trial with its steps.
    pub record: TrialRecord,
    /// Its attributes.
    pub attributes: Vec<Attribute>,
}

/// A trial as far as it tells whether a copy of it is still good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrialMark {
    /// Its id.
    pub id: TrialId,
    /// Revision of its newest change.
    pub revision: Revision,
    /// Whether it has ended.
    pub ended: bool,
}

/// A running trial that a client holds which samples itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldTrial {
    /// Its id.
    pub id: TrialId,
    /// Its study.
    pub study: StudyId,
    /// Revision of its newest change.
    pub revision: Revision,
}

/// A trial that a client brings whole.
#[derive(Clone, Debug, PartialEq)]
pub struct NewTrial {
    /// Where it stands.
    pub state: TrialState,
    /// As in [`TrialRecord::values`], but of any number.
    pub values: Vec<f64>,
    /// As in [`TrialRecord::constraints`].
    pub constraints: Vec<f64>,
    /// When it was started, if the client says so.
    pub started_at: Option<Timestamp>,
    /// When it ended, if the client says so.
    pub ended_at: Option<Timestamp>,
    /// What a queue entry fixes.
    pub fixed: Params,
    /// Its parameters.
    pub params: ParamSet,
    /// Its steps.
    pub steps: Vec<(u32, f64)>,
    /// Its attributes.
    pub attributes: Vec<Attribute>,
}

impl NewTrial {
    /// A trial that starts now.
    pub fn running(now: Timestamp) -> Self {
        Self {
            state: TrialState::Running,
            values: Vec::new(),
            constraints: Vec::new(),
            started_at: Some(now),
            ended_at: None,
            fixed: Params::new(),
            params: ParamSet::new(),
            steps: Vec::new(),
            attributes: Vec::new(),
        }
    }
}

/// What the write of an attribute means for the trial itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Meaning {
    /// Nothing.
    None,
    /// What a queue entry fixes.
    Fixed(Params),
    /// Constraint values; those of all such attributes count together.
    Constraints,
}

type Result<T> = std::result::Result<T, StoreError>;

#[async_trait]
pub(super) trait ForeignRows {
    async fn place_of(&mut self, id: TrialId) -> Result<Option<(StudyId, TrialNumber)>>;
    async fn trial_by_id(&mut self, id: TrialId) -> Result<Option<TrialRow>>;
    /// Those there are, by id.
    async fn trials_by_id(&mut self, ids: &[i64]) -> Result<Vec<TrialRecord>>;
    /// Running trials above `above` without a lease that no request of ours started, by id.
    async fn held_trials(&mut self, above: TrialId, limit: u32) -> Result<Vec<HeldTrial>>;
    /// By id of the trial.
    async fn attributes_of(&mut self, ids: &[i64]) -> Result<Vec<(TrialId, Attribute)>>;
    /// Of all studies, by study.
    async fn study_attributes_of_all(&mut self) -> Result<Vec<(StudyId, Attribute)>>;
    /// The distribution with which clients named the parameter first.
    async fn parameter(&mut self, study: StudyId, name: &str) -> Result<Option<Arc<Distribution>>>;
    async fn insert_parameter(&mut self, study: StudyId, name: &str, first: &Arc<Distribution>) -> Result<()>;
    /// Writes everything that may change but for the lease, parameters and start included.
    async fn save_whole(&mut self, trial: &TrialRow) -> Result<()>;
    /// Writes a step over the one there is.
    async fn put_step(&mut self, trial: TrialId, attempt: Attempt, step: u32, value: f64) -> Result<()>;
}

impl Store {
    /// The study and number of a trial.
    pub async fn place_of(&self, id: TrialId) -> Result<(StudyId, TrialNumber)> {
        let place = self.read().await?.place_of(id).await?;
        place.ok_or(StoreError::NoTrialOfId(id))
    }

    /// The trials of `study` with ids above `above`, and those of `named` that are the study's, by id. Costs as much as
    /// there are, once those of the study are known.
    pub async fn marks(&self, study: StudyId, above: TrialId, named: &[i64]) -> Result<Vec<TrialMark>> {
        Ok(self.looked_at(study).await?.state().marks(above, named))
    }

    /// The trial of `study` with this id.
    pub async fn mark(&self, study: StudyId, id: TrialId) -> Result<TrialMark> {
        let looked_at = self.looked_at(study).await;
        // A client knows the trial, not the study.
        let missing = |error| match error {
            StoreError::StudyNotFound(_) => StoreError::NoTrialOfId(id),
            error => error,
        };
        looked_at.map_err(missing)?.state().find(id).ok_or(StoreError::NoTrialOfId(id))
    }

    async fn looked_at(&self, study: StudyId) -> Result<Arc<Shelf>> {
        let shelves = self.queue.shelves();
        let shelf = shelves.of(study);
        match shelf.look(self.engine()).await {
            Ok(()) => Ok(shelf),
            Err(error) => {
                if matches!(error, StoreError::StudyNotFound(_)) {
                    shelves.forget(study);
                }
                Err(error)
            }
        }
    }

    /// Those of the trials of `study` that memory has whole, as they are now.
    pub fn remembered(&self, study: StudyId, ids: &[TrialId]) -> Vec<Arc<WholeTrial>> {
        let Some(shelf) = self.queue.shelves().known(study) else { return Vec::new() };
        let state = shelf.state();
        ids.iter().filter_map(|&id| state.whole(id)).cloned().collect()
    }

    /// The trials with these ids, as far as there are any, by id.
    pub async fn whole_trials(&self, ids: &[i64]) -> Result<Vec<WholeTrial>> {
        let mut whole = Vec::with_capacity(ids.len());
        for ids in ids.chunks(PAGE) {
            let mut rows = self.read().await?;
            whole.append(&mut load_whole(&mut *rows, ids).await?);
        }
        Ok(whole)
    }

    /// Running trials above `above` that clients hold which sample themselves, of all studies, by id; at most `limit`.
    /// Costs as much as there are. None of those that were leased or asked for.
    pub async fn held_trials(&self, above: TrialId, limit: u32) -> Result<Vec<HeldTrial>> {
        self.read().await?.held_trials(above, limit).await
    }

    /// Shows other processes that the client of these trials of a study is there: each that is still held takes a
    /// revision.
    pub async fn show_life(&self, study: StudyId, trials: Vec<TrialId>) -> Result<()> {
        self.run(ShowLife { study, trials }).await
    }

    /// Fails a held trial unless anything was written to it since `held.revision`, and says `why` in its failure and in
    /// the system attribute [`FAIL_REASON`]. Its number and whether the search may be over with it, if it did.
    pub async fn fail_silent(
        &self,
        held: HeldTrial,
        why: String,
        now: Timestamp,
    ) -> Result<Option<(TrialNumber, bool)>> {
        self.run(FailSilent { held, why, now }).await
    }

    /// The attributes of all studies, by study.
    pub async fn study_attributes_of_all(&self) -> Result<Vec<(StudyId, Attribute)>> {
        self.read().await?.study_attributes_of_all().await
    }

    /// Adds a trial that a client samples itself. Not refused for the state of the study.
    ///
    /// # Errors
    /// [`StoreError::Incompatible`] when the study knows one of its parameters as something else.
    pub async fn add_trial(&self, study: StudyId, new: NewTrial, now: Timestamp) -> Result<TrialRecord> {
        self.run(AddTrial { study, new, now }).await
    }

    /// Adds trials of which the first has the number `first`, all of them or none; gives the study's next number. Those
    /// that are there already are left as they are.
    ///
    /// # Errors
    /// [`StoreError::TrialNotFound`] when the study lacks trials before `first`, and those of [`Self::add_trial`].
    pub async fn add_trials(
        &self,
        study: StudyId,
        first: TrialNumber,
        new: Vec<NewTrial>,
        now: Timestamp,
    ) -> Result<TrialNumber> {
        self.run(AddTrials { study, first, new, now }).await
    }

    /// Gives a study another name.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`].
    pub async fn name_study(&self, study: StudyId, name: String) -> Result<()> {
        self.run(NameStudy { study, name }).await
    }

    /// Sets a parameter of a waiting or held trial.
    ///
    /// # Errors
    /// [`StoreError::Incompatible`] when the study knows it as something else.
    pub async fn set_parameter(&self, study: StudyId, id: TrialId, name: String, param: Param) -> Result<()> {
        self.run(SetParameter { study, id, name, param }).await
    }

    /// Puts a waiting or held trial into a state, and replaces its values unless there are none. Whether it did:
    /// `Running` succeeds for a waiting trial alone, so that of many callers one gets it. And whether the search may be
    /// over with it.
    pub async fn set_state(
        &self,
        study: StudyId,
        id: TrialId,
        state: TrialState,
        values: Vec<f64>,
        now: Timestamp,
    ) -> Result<(bool, bool)> {
        self.run(SetState { study, id, state, values, now }).await
    }

    /// Sets a step of a waiting or held trial, over the one there is.
    pub async fn set_step(&self, study: StudyId, id: TrialId, step: u32, value: f64) -> Result<()> {
        self.run(SetStep { study, id, step, value }).await
    }

    /// Sets an attribute of a trial that has not ended, and what it means.
    pub async fn set_own_attribute(
        &self,
        study: StudyId,
        id: TrialId,
        attribute: Attribute,
        meaning: Meaning,
    ) -> Result<()> {
        self.run(SetOwnAttribute { study, id, attribute, meaning }).await
    }
}

/// The trials with these ids, as far as there are any, by id.
pub(super) async fn load_whole(rows: &mut dyn Rows, ids: &[i64]) -> Result<Vec<WholeTrial>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut whole = Vec::with_capacity(ids.len());
    let mut trials = rows.trials_by_id(ids).await?;
    rows.add_steps(&mut trials).await?;
    let mut attributes = rows.attributes_of(ids).await?.into_iter().peekable();
    for record in trials {
        while attributes.next_if(|(id, _)| *id < record.id).is_some() {}
        let own = std::iter::from_fn(|| attributes.next_if(|(id, _)| *id == record.id)).map(|(_, own)| own);
        let attributes = own.collect();
        whole.push(WholeTrial { record, attributes });
    }
    Ok(whole)
}

/// What the attributes of a trial say of constraints, in Optuna's two forms: a list under `constraints`, then a number
/// each under `constraints:<name>`, by name. What is neither says nothing.
pub fn constraint_values<'a>(system: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<f64> {
    let mut listed = Vec::new();
    let mut named = std::collections::BTreeMap::new();
    for (key, text) in system {
        if key == "constraints" {
            let inner = text.trim().strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or_default();
            let numbers = inner.split(',').map(number).collect::<Option<Vec<f64>>>();
            listed = numbers.unwrap_or_default();
        } else if let Some((name, value)) = key.strip_prefix("constraints:").zip(number(text)) {
            named.insert(name, value);
        }
    }
    listed.extend(named.into_values());
    listed
}

/// A number as Python writes it in JSON.
fn number(text: &str) -> Option<f64> {
    match text.trim() {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        text => serde_json::from_str(text).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints_are_read_in_both_forms() {
        let read = |pairs: &[(&'static str, &'static str)]| constraint_values(pairs.iter().copied());
        assert_eq!(read(&[("constraints", "[-1.5, 2]")]), [-1.5, 2.0]);
        assert_eq!(read(&[("constraints:b", "1e-3"), ("constraints:a", "-Infinity")]), [f64::NEG_INFINITY, 1e-3]);
        assert_eq!(read(&[("constraints", "[]"), ("other", "1")]), [0.0; 0]);
        assert_eq!(read(&[("constraints", "\"x\""), ("constraints:a", "[1]")]), [0.0; 0]);
        assert_eq!(read(&[("constraints", "[1, null]")]), [0.0; 0]);
    }
}
