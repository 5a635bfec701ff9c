//! A study in memory: its history, its sampler's state, and what could be started next.
//!
//! Callers hold the study's lock. Its trials enter `Running` through its desk alone; between coordinators the revision
//! decides.

mod guests;

use std::collections::BTreeMap;
use std::sync::Arc;

use fleetune_core::study::{Budget, PrunerConfig, StudyConfig};
use fleetune_core::{
    Distribution, Params, Revision, SearchSpace, StudyId, StudyState, Timestamp, TrialNumber, TrialState, Turn,
};
use fleetune_sampler::pruner::{Candidate, Pruner};
use fleetune_sampler::{Ask, Estimate, Running, Sampler};
use tokio::task::JoinHandle;

use super::desk::Wanted;
use super::error::EngineError;
use super::estimate::StudyEstimate;
use super::guest::{Distributions, Guest};
use super::history::{History, StepKind};
use super::outcome::{self, Tell};
use super::regions::Limits;
use crate::storage::{
    Advanced, Origin, Param, ParamSet, StartEntry, StartTrials, Store, StoreError, StudyExclusion, StudyRecord,
    TrialEnd, TrialFilter, TrialRecord,
};

/// Trials read from storage at a time.
const PAGE: u32 = 5_000;

/// Events that a sampler takes in before others of this process get their turn.
const EVENTS_AT_ONCE: usize = 256;

/// Lost races against others before a caller is told.
pub(super) const MAX_CONFLICTS: u32 = 64;

/// A study as its coordinator knows it.
pub struct LiveStudy {
    store: Store,
    record: StudyRecord,
    history: History,
    sampler: Option<Box<dyn Sampler>>,
    pruner: Box<dyn Pruner>,
    /// What is known of configurations before they are run.
    estimate: Option<StudyEstimate>,
    /// The distributions of its space, shared by the trials that are started.
    distributions: BTreeMap<String, Arc<Distribution>>,
    /// Running trials without a lease, as they are stored.
    held: BTreeMap<TrialNumber, TrialRecord>,
    /// Events up to here are folded.
    seen: Revision,
    /// Samplers over spaces that clients brought, the newest last.
    guests: Vec<(Distributions, Guest)>,
    /// What is not sampled, as of `seen`.
    exclusions: Vec<StudyExclusion>,
    /// The same for this search.
    limits: Limits,
    /// Whether everything up to `seen` is folded: a caller may go away in between.
    is_whole: bool,
}

/// What could be started next.
pub(super) enum Plan {
    /// For the first requests, at least one, what each starts.
    Starts(Vec<StartTrials>),
    /// The first queue entry, which the sampler cannot complete, and why where it must not be run.
    Hopeless(TrialNumber, Option<String>),
}

/// What the budget says.
#[derive(Clone, Debug, PartialEq)]
pub enum Room {
    /// So many trials may still be started; none: no limit.
    Trials(Option<u32>),
    /// The search is over, and why.
    Over(String),
}

impl LiveStudy {
    /// Loads a study and folds everything that happened.
    pub async fn load(store: Store, id: StudyId) -> Result<Self, EngineError> {
        let record = store.study(id).await?;
        let mut live = Self {
            history: empty_history(&record.config),
            sampler: None,
            pruner: new_pruner(&record.config),
            estimate: None,
            distributions: BTreeMap::new(),
            held: BTreeMap::new(),
            seen: Revision(0),
            guests: Vec::new(),
            exclusions: Vec::new(),
            limits: Limits::default(),
            is_whole: false,
            record: record.clone(),
            store,
        };
        live.fold_all(record).await?;
        Ok(live)
    }

    /// Folds everything that happened in the study `record`, page by page.
    async fn fold_all(&mut self, record: StudyRecord) -> Result<(), EngineError> {
        self.is_whole = false;
        self.history = empty_history(&record.config);
        self.held.clear();
        self.guests.clear();
        self.seen = Revision(0);
        let trials = usize::try_from(record.next_number.0).unwrap_or_default();
        self.history.reserve(trials);
        let mut cursor = Revision(0);
        let mut happened = Vec::with_capacity(trials.saturating_mul(2));
        let mut coming = Some(self.read_ahead(record.id, cursor));
        while let Some(page) = coming.take() {
            let page = page.await.map_err(|_| EngineError::Stopping)??;
            cursor = page.last().map_or(cursor, |trial| trial.revision);
            // The next one is read while this one is folded.
            coming = (page.len() as u32 >= PAGE).then(|| self.read_ahead(record.id, cursor));
            self.note_held(&page);
            happened.extend(self.history.take_in(page.iter().collect(), Revision(0)));
            tokio::task::yield_now().await;
        }
        // A trial that changed between two pages is there twice.
        happened.sort_unstable();
        happened.dedup();
        let seen = cursor.max(record.revision);
        // What came to be excluded while the pages were read is known to a later record.
        let record = if cursor > record.revision { self.store.study(record.id).await? } else { record };
        let exclusions = record.exclusions_at(seen);
        let limits = Limits::of(&record.config, &exclusions);
        let mut sampler = new_sampler(&record, &limits)?;
        if let Some(sampler) = &mut sampler {
            for (index, happened) in happened.iter().enumerate() {
                if let Some(event) = self.history.event(happened) {
                    sampler.observe(&event);
                }
                if index % EVENTS_AT_ONCE == 0 {
                    tokio::task::yield_now().await;
                }
            }
        }
        self.sampler = sampler;
        self.pruner = new_pruner(&record.config);
        self.estimate = StudyEstimate::of(&record);
        self.distributions = distributions(&record);
        self.seen = seen;
        (self.exclusions, self.limits) = (exclusions, limits);
        self.record = record;
        self.is_whole = true;
        Ok(())
    }

    /// A page of the trials that changed after `cursor`.
    fn read_ahead(&self, study: StudyId, cursor: Revision) -> JoinHandle<Result<Vec<TrialRecord>, StoreError>> {
        let store = self.store.clone();
        tokio::spawn(async move { store.trials_since(study, cursor, PAGE).await })
    }

    /// Folds what changed since the last time, by whomever.
    pub async fn catch_up(&mut self) -> Result<(), EngineError> {
        let record = self.store.study(self.record.id).await?;
        let is_same =
            record.config_revision == self.record.config_revision && record.config.space == self.record.config.space;
        if !self.is_whole || !is_same {
            // Another space or sampler: the fold starts anew under the new configuration.
            return self.fold_all(record).await;
        }
        if record.revision == self.seen {
            self.record = record;
            return Ok(());
        }
        // Everything is read before anything is folded: a caller that goes away in between leaves no half.
        let mut changed = Vec::new();
        let mut cursor = self.seen;
        loop {
            let page = self.store.trials_since(record.id, cursor, PAGE).await?;
            let full = page.len() as u32 >= PAGE;
            cursor = page.last().map_or(cursor, |trial| trial.revision);
            changed.extend(page);
            if !full {
                break;
            }
        }
        let known = self.seen;
        let seen = cursor.max(record.revision).max(known);
        let record = if cursor > record.revision { self.store.study(record.id).await? } else { record };
        if record.exclusions_at(seen) != self.exclusions {
            return self.fold_all(record).await;
        }
        self.seen = seen;
        self.record = record;
        self.absorb(changed.iter().collect(), known);
        Ok(())
    }

    /// Folds what this process wrote, which began where memory was.
    pub fn fold(&mut self, advanced: &Advanced) {
        let started = advanced.started.iter().flatten().map(|started| &started.trial);
        let changed: Vec<&TrialRecord> = advanced.ended.iter().chain(started.clone()).collect();
        for trial in started {
            self.record.next_turn.0 += 1;
            self.record.next_number = self.record.next_number.max(TrialNumber(trial.number.0 + 1));
        }
        let known = self.seen;
        self.seen = advanced.revision;
        self.record.revision = advanced.revision;
        self.absorb(changed, known);
    }

    fn absorb(&mut self, changed: Vec<&TrialRecord>, known: Revision) {
        self.note_held(changed.iter().copied());
        for (_, event) in self.history.absorb(changed, known) {
            if let Some(sampler) = &mut self.sampler {
                sampler.observe(&event);
            }
        }
    }

    /// Keeps the held ones among trials that changed, in order of revision: of one that is there twice the newest
    /// counts.
    fn note_held<'a>(&mut self, changed: impl IntoIterator<Item = &'a TrialRecord>) {
        for trial in changed {
            if trial.is_held() {
                self.held.insert(trial.number, trial.clone());
            } else {
                self.held.remove(&trial.number);
            }
        }
    }

    /// Events up to here are folded.
    pub fn seen(&self) -> Revision {
        self.seen
    }

    /// The held trial as it is stored and its end as `tell` says; `None` where memory alone cannot tell.
    pub fn end_of(&self, number: TrialNumber, tell: &Tell, now: Timestamp) -> Option<(TrialRecord, TrialEnd)> {
        let trial = self.held.get(&number)?;
        let end = outcome::told(&self.record.config, trial, tell.clone(), now).ok()?;
        Some((trial.clone(), end))
    }

    /// Whether nothing runs any more in an active study whose search is over.
    pub fn may_be_over(&self) -> bool {
        let idle = self.record.state == StudyState::Active && !self.history.any_running();
        idle && matches!(self.room(), Room::Over(_))
    }

    /// The study as of the last catch-up.
    pub fn record(&self) -> &StudyRecord {
        &self.record
    }

    /// Its trials as of the last catch-up.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// The trials that may be the answer as the sampler sees them, best first; empty where their values say it.
    pub fn expected(&self) -> Vec<TrialNumber> {
        self.sampler.as_ref().map(|sampler| sampler.ranking(self.advice())).unwrap_or_default()
    }

    /// Whether the search may go on, by budget and target.
    pub fn room(&self) -> Room {
        self.room_within(self.record.config.budget)
    }

    /// Whether the search is over but for the trials that run.
    pub fn awaits_running(&self) -> bool {
        let over = matches!(self.room(), Room::Over(_));
        over && self.record.state == StudyState::Active && self.history.any_running()
    }

    /// Whether a search that is over would go on within `budget`: there is room, and something is left to try. Costs
    /// a suggestion.
    pub fn would_go_on(&self, budget: Budget) -> bool {
        let fresh = || self.suggest(self.record.next_number, false, &self.history.running());
        let exhausted = || self.history.waiting().next().is_none() && matches!(fresh(), Ok(Err(_)));
        matches!(self.room_within(budget), Room::Trials(_)) && !exhausted()
    }

    fn room_within(&self, budget: Budget) -> Room {
        if let (Some(target), Some(&direction)) = (budget.target, self.record.config.directions.first())
            && let Some((low, high)) = self.history.feasible_range()
            && [low, high].into_iter().any(|value| !direction.better(target, value))
        {
            return Room::Over("target reached".to_owned());
        }
        if budget.seconds.is_some_and(|seconds| self.history.spent_s() >= seconds) {
            return Room::Over("time budget used up".to_owned());
        }
        let Some(trials) = budget.trials else {
            return Room::Trials(None);
        };
        let (started, skipped) = self.history.started_and_skipped();
        // Skipped trials are free, up to as many again as were asked for.
        let used = started.saturating_add(skipped.saturating_sub(trials));
        match trials.saturating_sub(used) {
            0 => Room::Over("trial budget used up".to_owned()),
            left => Room::Trials(Some(left)),
        }
    }

    /// What the first of `wanted` would start, at least one trial for the first one, or an error that says why not.
    pub async fn plan(&mut self, wanted: &[Wanted<'_>]) -> Result<Plan, EngineError> {
        self.check_active()?;
        let total = wanted.iter().map(|wanted| wanted.count).fold(0, u32::saturating_add);
        let count = match self.room() {
            Room::Over(why) => return Err(EngineError::Finished { name: self.record.name.clone(), why }),
            Room::Trials(None) => total,
            Room::Trials(Some(left)) => total.min(left),
        };
        let entries = match self.propose(count).await? {
            Proposal::Entries(entries) => entries,
            Proposal::Hopeless(number) => return Ok(Plan::Hopeless(number, self.unsafe_entry(number))),
        };
        let mut entries = entries.into_iter().peekable();
        let mut turn = self.record.next_turn;
        let mut starts = Vec::with_capacity(wanted.len());
        for wanted in wanted {
            if entries.peek().is_none() {
                break;
            }
            let entries: Vec<_> = entries.by_ref().take(wanted.count as usize).collect();
            let next = Turn(turn.0 + entries.len() as i64);
            starts.push(StartTrials {
                study: self.record.id,
                request_id: wanted.request_id.to_owned(),
                turn,
                seen: self.seen,
                sampler: fleetune_sampler::VERSION.to_owned(),
                entries,
                lease: wanted.lease.cloned(),
            });
            turn = next;
        }
        Ok(Plan::Starts(starts))
    }

    fn check_active(&self) -> Result<(), EngineError> {
        let name = || self.record.name.clone();
        match self.record.state {
            StudyState::Active if self.record.is_parent() => Err(StoreError::IsParent(name()).into()),
            StudyState::Active => Ok(()),
            StudyState::Preparing => Err(EngineError::Preparing(name())),
            StudyState::Finished | StudyState::Confirming => {
                Err(EngineError::Finished { name: name(), why: self.record.reason.clone() })
            }
            state @ (StudyState::Paused | StudyState::Cancelled | StudyState::Failed | StudyState::Archived) => {
                Err(EngineError::NotActive { name: name(), state })
            }
        }
    }

    /// The next `count` configurations. A first fresh one that cannot be found is an error; later ones end the batch.
    async fn propose(&mut self, count: u32) -> Result<Proposal, EngineError> {
        let queued: Vec<TrialNumber> = self.history.waiting().take(count as usize).collect();
        let fresh = (self.record.next_number.0..).map(|number| (TrialNumber(number), false));
        let numbers = queued.into_iter().map(|number| (number, true)).chain(fresh).take(count as usize);
        let mut running = self.history.running();
        let mut entries = Vec::with_capacity(count as usize);
        for (offset, (number, is_queued)) in numbers.enumerate() {
            let params = match self.suggest(number, is_queued, &running)? {
                Ok(params) => params,
                Err(_) if !entries.is_empty() => break,
                Err(_) if is_queued => return Ok(Proposal::Hopeless(number)),
                Err(why) => return Err(EngineError::SpaceExhausted { name: self.record.name.clone(), why }),
            };
            let turn = Turn(self.record.next_turn.0 + offset as i64);
            let packed = self.pack(&params)?;
            entries.push(StartEntry { number, queued: is_queued, params: packed, origin: Origin::Sampled });
            running.push(Running { turn, number, params });
            // Others of this process have work too.
            tokio::task::yield_now().await;
        }
        Ok(Proposal::Entries(entries))
    }

    /// The parameters that the sampler gives `number`, or why it has none.
    fn suggest(
        &self,
        number: TrialNumber,
        is_queued: bool,
        running: &[Running],
    ) -> Result<Result<Params, String>, EngineError> {
        let sampler = self.sampler.as_ref().ok_or_else(|| EngineError::NoSpace(self.record.name.clone()))?;
        let none = Params::new();
        let fixed = self.history.fixed(number).filter(|_| is_queued).unwrap_or(&none);
        if let Some(why) = self.limits.forbid(fixed) {
            return Ok(Err(why.to_owned()));
        }
        let ask = Ask { number, fixed, running, estimate: self.advice() };
        Ok(suggest(sampler.as_ref(), self.record.config.seed, &ask))
    }

    /// Why queue entry `number` must not be run.
    fn unsafe_entry(&self, number: TrialNumber) -> Option<String> {
        self.limits.forbid(self.history.fixed(number)?).map(str::to_owned)
    }

    /// The estimate as samplers take it.
    fn advice(&self) -> Option<&dyn Estimate> {
        self.estimate.as_ref().map(|estimate| estimate as &dyn Estimate)
    }

    fn pack(&self, params: &Params) -> Result<ParamSet, EngineError> {
        let what = |name: &str| format!("parameter `{name}`");
        params
            .iter()
            .map(|(name, value)| {
                let distribution = self
                    .distributions
                    .get(name)
                    .ok_or_else(|| EngineError::invalid(what(name), "is not in the search space"))?;
                let internal =
                    distribution.to_internal(value).map_err(|error| EngineError::invalid(what(name), error))?;
                Ok((name.clone(), Param { distribution: Arc::clone(distribution), internal }))
            })
            .collect()
    }

    /// Whether trial `number` should stop after `value` at `step`. The baseline never stops.
    pub fn should_stop(&self, number: TrialNumber, steps: &[(u32, f64)], step: u32, value: f64) -> bool {
        let config = &self.record.config;
        let never = config.directions.len() != 1 || config.pruner == PrunerConfig::None;
        if never || self.history.origin(number) == Some(Origin::Default) {
            return false;
        }
        let mut steps = steps.to_vec();
        if !steps.iter().any(|&(known, _)| known == step) {
            steps.push((step, value));
            steps.sort_by_key(|&(step, _)| step);
        }
        self.stops(self.pruner.as_ref(), number, &steps)
    }

    fn stops(&self, pruner: &dyn Pruner, number: TrialNumber, steps: &[(u32, f64)]) -> bool {
        let series = self.history.step_kind().series(steps);
        let own = Candidate {
            number,
            state: TrialState::Running,
            ended: None,
            value: None,
            feasible: true,
            steps,
            series: &series,
        };
        pruner.should_stop(&self.history.field(&self.record.name), &own)
    }

    /// Recomputes the parameters of every trial that this version's sampler completed. Returns
    /// (number, stored, recomputed) of those that differ, how many were checked and how many were not its work.
    pub async fn verify(&mut self) -> Result<Verification, EngineError> {
        self.catch_up().await?;
        let mut verification = Verification::default();
        let trials = all_trials(&self.store, self.record.id).await?;
        let mut replay = empty_history(&self.record.config);
        let events = replay.absorb(trials.iter().collect(), Revision(0));
        let mut exclusions = self.record.exclusions_at(Revision(0));
        let mut limits = Limits::of(&self.record.config, &exclusions);
        let Some(mut sampler) = new_sampler(&self.record, &limits)? else {
            return Ok(verification);
        };
        let mut observed = 0;
        for (number, turn) in replay.turns() {
            let Some(trial) = trials.get(usize::try_from(number.0).unwrap_or(usize::MAX)) else { continue };
            let Some(seen) = trial.seen.filter(|_| trial.sampler == fleetune_sampler::VERSION) else {
                verification.skipped += 1;
                continue;
            };
            let then = self.record.exclusions_at(seen);
            if then != exclusions {
                // From here on the search went through another space.
                exclusions = then;
                limits = Limits::of(&self.record.config, &exclusions);
                let Some(fresh) = new_sampler(&self.record, &limits)? else { break };
                (sampler, observed) = (fresh, 0);
            }
            while let Some((_, event)) = events.get(observed).filter(|(revision, _)| *revision <= seen) {
                sampler.observe(event);
                observed += 1;
            }
            let running = replay.running_at(turn, seen);
            let ask = Ask { number, fixed: &trial.fixed, running: &running, estimate: self.advice() };
            let stored = replay.params(number).unwrap_or_default();
            let recomputed = suggest(sampler.as_ref(), self.record.config.seed, &ask).unwrap_or_default();
            verification.checked += 1;
            if stored != recomputed {
                verification.mismatches.push((number, stored, recomputed));
            }
        }
        Ok(verification)
    }
}

enum Proposal {
    /// At least one configuration.
    Entries(Vec<StartEntry>),
    /// The first queue entry, which the sampler cannot complete.
    Hopeless(TrialNumber),
}

fn distributions(record: &StudyRecord) -> BTreeMap<String, Arc<Distribution>> {
    let parameters = record.config.space.iter().flat_map(SearchSpace::parameters);
    parameters.map(|(name, parameter)| (name.clone(), Arc::new(parameter.distribution().clone()))).collect()
}

async fn all_trials(store: &Store, study: StudyId) -> Result<Vec<TrialRecord>, EngineError> {
    let mut trials = Vec::new();
    loop {
        let from = TrialNumber(trials.len() as i64);
        let page = store.trials(study, &TrialFilter { from, limit: PAGE, ..TrialFilter::default() }).await?;
        if page.is_empty() {
            return Ok(trials);
        }
        trials.extend(page);
    }
}

/// What [`LiveStudy::verify`] found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verification {
    /// Trials recomputed.
    pub checked: u64,
    /// Trials that another version, a client or nobody sampled.
    pub skipped: u64,
    /// Number, stored and recomputed parameters of those that differ.
    pub mismatches: Vec<(TrialNumber, Params, Params)>,
}

fn suggest(sampler: &dyn Sampler, seed: u64, ask: &Ask<'_>) -> Result<Params, String> {
    let mut rng = fleetune_sampler::trial_rng(seed, ask.number, &[]);
    sampler.suggest(ask, &mut rng).map_err(|exhausted| exhausted.to_string())
}

fn empty_history(config: &StudyConfig) -> History {
    let history = match &config.benchmark {
        Some(benchmark) => History::new(StepKind::Repetitions, benchmark.workload.repetitions),
        None => History::new(StepKind::Curve, 1),
    };
    history.of(config.space.clone(), config.directions.len())
}

fn new_sampler(record: &StudyRecord, limits: &Limits) -> Result<Option<Box<dyn Sampler>>, EngineError> {
    if record.config.space.is_none() {
        return Ok(None);
    }
    fleetune_sampler::build_for(&limits.narrow(&record.config), &record.name)
        .map(Some)
        .map_err(|error| EngineError::Sampler { name: record.name.clone(), why: error.to_string() })
}

fn new_pruner(config: &StudyConfig) -> Box<dyn Pruner> {
    let direction = config.directions.first().copied().unwrap_or(fleetune_core::Direction::Minimize);
    fleetune_sampler::build_pruner(&config.pruner, direction)
}
