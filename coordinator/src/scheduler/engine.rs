//! The engine: studies in memory, and what people and programs do with them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use fleetune_core::schedule::Per;
use fleetune_core::study::{Budget, StudyConfig};
use fleetune_core::{Schedule, StudyId, StudyState, Timestamp};
use tokio::sync::{Mutex, watch};

use super::binding::Bindings;
use super::board::Board;
use super::desk::Desk;
use super::error::EngineError;
use super::foreign::OptunaTimes;
use super::gauges::Told;
use super::live::{MAX_CONFLICTS, Verification};
use super::obstacle::{Staff, Staffing};
use super::share::Selectors;
use super::silence::Holders;
use crate::storage::{
    Family, Heard, LeaseRules, NewStudy, Store, StoreError, StudyRecord, StudyUpdate, Tally, TrialCounts, TrialRecord,
};

/// Most trials of one Ask or Enqueue.
pub const MAX_BATCH: usize = 1_000;

/// Studies kept in memory; the longest unused ones are dropped, and loaded again when asked for.
const MAX_LIVE: usize = 256;

/// How often changes by others are looked for while the database tells of them: a word may be lost, leases end by time
/// alone, and a process that ends right after its change says nothing.
const POLL_WHILE_TOLD: Duration = Duration::from_secs(2);

/// How old what lists and watchers say about workers may be.
pub(super) const STAFF_AGE: Duration = Duration::from_secs(1);

/// Times and limits of an engine.
#[derive(Clone, Copy, Debug)]
pub struct EngineOptions {
    /// How long a lease runs without renewal.
    pub lease_ttl: Duration,
    /// How often workers renew.
    pub heartbeat_every: Duration,
    /// Attempts after which a trial ends as `worker_lost`.
    pub max_attempts: u32,
    /// How often changes by other processes are looked for, unless the database tells of them.
    pub poll_every: Duration,
    /// How times are written for clients of Optuna's protocol.
    pub optuna_times: OptunaTimes,
    /// How long a trial that a client of Optuna's protocol holds may be silent once that has gone; none: for ever.
    pub optuna_silence: Option<Duration>,
    /// How long after its end a study is archived; none: never.
    pub archive_after: Option<Duration>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            lease_ttl: Duration::from_secs(30),
            heartbeat_every: Duration::from_secs(5),
            max_attempts: 3,
            poll_every: Duration::from_millis(500),
            optuna_times: OptunaTimes::Local,
            optuna_silence: None,
            archive_after: None,
        }
    }
}

/// The scheduler's state. Holds nothing that another process could not rebuild from storage.
#[derive(Clone)]
pub struct Engine {
    pub(super) store: Store,
    pub(super) options: EngineOptions,
    desks: Arc<Mutex<Desks>>,
    /// Wakes watchers of this process after a change.
    changes: Arc<watch::Sender<u64>>,
    /// Wakes those that wait for work, after changes that may bring some.
    work: Arc<watch::Sender<u64>>,
    pub(super) board: Board,
    pub(super) staff: Staff,
    pub(super) selectors: Selectors,
    pub(super) bindings: Bindings,
    service: Arc<Service>,
    pub(super) holders: Arc<Holders>,
    pub(super) told: Arc<Told>,
}

/// The studies in memory, and the names under which they were found. A name whose study is gone is found again.
#[derive(Default)]
struct Desks {
    open: HashMap<StudyId, Arc<Desk>>,
    names: HashMap<String, StudyId>,
}

/// Since when this process has served without a gap. While it could not, nobody could renew a lease.
#[derive(Debug)]
struct Service {
    since: AtomicI64,
    /// When the database answered last.
    last: AtomicI64,
}

impl Service {
    fn new(now: Timestamp) -> Self {
        Self { since: AtomicI64::new(now.0), last: AtomicI64::new(now.0) }
    }

    /// The database has answered. After more than `ttl` without an answer (it was away, this machine slept) service
    /// begins anew.
    fn answered(&self, now: Timestamp, ttl: Duration) {
        let last = Timestamp(self.last.fetch_max(now.0, Ordering::SeqCst));
        if now > last.plus(ttl) {
            self.since.fetch_max(now.0, Ordering::SeqCst);
        }
    }

    /// From when on leases that ended by time are claimable: one TTL after the newest gap.
    fn claimable_from(&self, now: Timestamp, ttl: Duration) -> Timestamp {
        let last = Timestamp(self.last.load(Ordering::SeqCst));
        let since = if now > last.plus(ttl) { now } else { Timestamp(self.since.load(Ordering::SeqCst)) };
        since.plus(ttl)
    }
}

/// A study with what people ask first.
#[derive(Clone, Debug)]
pub struct StudySummary {
    /// As stored.
    pub record: StudyRecord,
    /// Its trials.
    pub counts: TrialCounts,
    /// Seconds stored in trials.
    pub spent_s: f64,
    /// Why no worker gets a trial of it, and what keeps it from its end, a sentence each.
    pub obstacles: Vec<String>,
    /// Why workers that are at work get none of its trials while others do, a sentence each.
    pub left_out: Vec<String>,
    /// Workers that are at work; 0 where none is needed.
    pub connected: u32,
    /// Those of them that its selector admits.
    pub selected: u32,
    /// Name of the study that it is a child of; empty in lists, and where there is none.
    pub parent: String,
}

impl StudySummary {
    fn of(record: StudyRecord, tally: Tally, staffing: Staffing) -> Self {
        let Tally { counts, spent_s } = tally;
        let Staffing { obstacles, left_out, connected, selected } = staffing;
        Self { record, counts, spent_s, obstacles, left_out, connected, selected, parent: String::new() }
    }
}

impl Engine {
    /// Begins to serve `store`. Must be called within a tokio runtime.
    pub fn new(store: Store, options: EngineOptions) -> Self {
        let service = Arc::new(Service::new(store.now()));
        let changes = Arc::new(watch::Sender::new(0));
        let work = Arc::new(watch::Sender::new(0));
        tokio::spawn(follow(store.changes(), Arc::downgrade(&changes), Arc::downgrade(&work)));
        Self {
            store,
            options,
            desks: Arc::default(),
            changes,
            work,
            board: Board::default(),
            staff: Staff::default(),
            selectors: Selectors::default(),
            bindings: Bindings::default(),
            service,
            holders: Arc::default(),
            told: Arc::default(),
        }
    }

    /// Where its studies are kept, a password left out.
    pub fn storage(&self) -> &str {
        self.store.describe_url()
    }

    /// Whether the database answers a small read.
    pub async fn check_storage(&self) -> Result<(), EngineError> {
        Ok(self.store.check().await?)
    }

    /// Waits for writes that are queued, then lets go of the database. Later calls fail.
    pub async fn close(&self) {
        self.store.close().await;
    }

    /// The time and limits it works with.
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// The database's clock.
    pub fn now(&self) -> Timestamp {
        self.store.now()
    }

    /// A receiver that changes whenever this process changed something, or another one whose changes it is told of.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// How long to wait at most before a look for what others have changed.
    pub fn poll_every(&self) -> Duration {
        let poll_every = self.options.poll_every;
        if self.store.hears_of_changes() { poll_every.max(POLL_WHILE_TOLD) } else { poll_every }
    }

    /// A receiver that changes whenever there may be more work than before, as far as this process is told.
    pub(super) fn work_comes(&self) -> watch::Receiver<u64> {
        self.work.subscribe()
    }

    /// Something has changed that nobody who waits for work waits for.
    pub(super) fn noted(&self) {
        self.changes.send_modify(bump);
    }

    /// Something has changed that may bring work.
    pub(super) fn changed(&self) {
        self.noted();
        self.work.send_modify(bump);
    }

    /// Notes that the database has answered. Heartbeats, looks for work and the reaper do, which together come more
    /// often than once per TTL.
    pub(super) fn answered(&self) {
        self.service.answered(self.now(), self.options.lease_ttl);
    }

    pub(super) fn rules(&self) -> LeaseRules {
        LeaseRules {
            ttl: self.options.lease_ttl,
            not_before: self.service.claimable_from(self.now(), self.options.lease_ttl),
            max_attempts: self.options.max_attempts,
        }
    }

    /// The study in memory; loaded when it is not there.
    pub(super) async fn desk(&self, id: StudyId) -> Result<Arc<Desk>, EngineError> {
        if let Some(desk) = self.desks.lock().await.open.get(&id).filter(|desk| !desk.is_closed()) {
            return Ok(Arc::clone(desk));
        }
        let opened = Arc::new(Desk::open(self.store.clone(), id).await?);
        let (name, state) = {
            let live = opened.live().lock().await;
            (live.record().name.clone(), live.record().state)
        };
        if state == StudyState::Archived {
            // Whoever looks back has it to himself, and it is gone afterwards.
            return Ok(opened);
        }
        let mut desks = self.desks.lock().await;
        if desks.open.len() >= MAX_LIVE {
            // Nobody else holds these; whoever wants one loads it again.
            desks.open.retain(|_, desk| Arc::strong_count(desk) > 1);
            let Desks { open, names } = &mut *desks;
            names.retain(|_, id| open.contains_key(id));
        }
        desks.names.insert(name, id);
        // Two callers may have loaded at once; the first one's stays, since it may have moved on.
        if let Some(desk) = desks.open.get(&id).filter(|desk| !desk.is_closed()) {
            return Ok(Arc::clone(desk));
        }
        desks.open.insert(id, Arc::clone(&opened));
        Ok(opened)
    }

    /// The study called `name` in memory, without a look into storage where it is there. It may have been deleted:
    /// then what is done at its desk fails as [`StoreError::StudyNotFound`], and [`Self::forget`] makes the next call
    /// look.
    pub(super) async fn desk_of(&self, name: &str) -> Result<Arc<Desk>, EngineError> {
        let known = {
            let desks = self.desks.lock().await;
            desks.names.get(name).and_then(|id| desks.open.get(id)).filter(|desk| !desk.is_closed()).cloned()
        };
        match known {
            Some(desk) => Ok(desk),
            None => self.desk(self.store.study_by_name(name).await?.id).await,
        }
    }

    /// Drops the study from memory.
    pub(super) async fn forget(&self, id: StudyId) {
        let mut desks = self.desks.lock().await;
        desks.open.remove(&id);
        desks.names.retain(|_, known| *known != id);
    }

    /// Creates a study.
    pub async fn create_study(
        &self,
        name: &str,
        request_id: &str,
        mut config: StudyConfig,
        schedule: Schedule,
        per: Option<Per>,
    ) -> Result<StudyRecord, EngineError> {
        check_name(name)?;
        super::share::check(&schedule, &config)?;
        super::family::check(name, per.as_ref(), &config)?;
        config.planned_trials = config.budget.trials;
        check_request_id(request_id)?;
        super::prepare::check_config(&config)?;
        self.learn_from_earlier(&mut config).await?;
        let is_prepared = config.benchmark.is_none() || per.is_some();
        let state = if is_prepared { StudyState::Active } else { StudyState::Preparing };
        let new = NewStudy {
            name: name.to_owned(),
            request_id: request_id.to_owned(),
            state,
            config,
            schedule,
            family: per.map(Family::Parent),
        };
        let record = self.store.create_study(new, self.now()).await?;
        self.changed();
        Ok(record)
    }

    /// A study by name, with its numbers.
    pub async fn study(&self, name: &str) -> Result<StudySummary, EngineError> {
        let record = self.store.study_by_name(name).await?;
        let mut summary = self.summary(record, Duration::ZERO).await?;
        if let Some(parent) = summary.record.parent() {
            summary.parent = self.store.study(parent).await?.name;
        }
        Ok(summary)
    }

    /// At most `limit` studies after `after`, by id, with archived ones where `archived` says so. Those that have ended
    /// are not loaded for it.
    pub async fn studies(&self, after: StudyId, limit: u32, archived: bool) -> Result<Vec<StudySummary>, EngineError> {
        let mut summaries = Vec::new();
        let records = if archived {
            self.store.studies(after, limit).await?
        } else {
            self.store.studies_at_hand(after, limit).await?
        };
        for record in records {
            summaries.push(if record.state.is_ended() {
                let tally = self.family_tally(&record).await?;
                StudySummary::of(record, tally, Staffing::default())
            } else {
                self.summary(record, STAFF_AGE).await?
            });
        }
        Ok(summaries)
    }

    /// `age`: of what is said about workers, at most.
    pub(super) async fn summary(&self, record: StudyRecord, age: Duration) -> Result<StudySummary, EngineError> {
        if record.state == StudyState::Archived {
            let tally = self.family_tally(&record).await?;
            return Ok(StudySummary::of(record, tally, Staffing::default()));
        }
        if record.is_parent() {
            let tally = self.family_tally(&record).await?;
            let staffing = self.staffing(&record, age).await?;
            return Ok(StudySummary::of(record, tally, staffing));
        }
        let desk = self.desk(record.id).await?;
        let (record, counts, spent_s, awaits) = {
            let mut live = desk.live().lock().await;
            live.catch_up().await?;
            let history = live.history();
            (live.record().clone(), history.counts(), history.spent_s(), live.awaits_running())
        };
        let mut staffing = self.staffing(&record, age).await?;
        // Where clients measure everything, waiting for them is no obstacle.
        if awaits && record.config.benchmark.is_some() {
            staffing.obstacles.extend(self.untold(&record).await?);
        }
        Ok(StudySummary::of(record, Tally { counts, spent_s }, staffing))
    }

    /// Replaces what is given of budget and schedule. A budget that leaves room wakes a finished study, be it the one that
    /// it has already; a study that is confirming goes on searching when its comparison has ended.
    pub async fn update(
        &self,
        name: &str,
        budget: Option<Budget>,
        schedule: Option<Schedule>,
    ) -> Result<StudySummary, EngineError> {
        let study = self.store.study_by_name(name).await?;
        if let Some(schedule) = &schedule {
            super::share::check(schedule, &study.config)?;
        }
        for child in self.store.children(study.id).await? {
            self.rebudget(child.id, budget, schedule.clone()).await?;
        }
        self.rebudget(study.id, budget, schedule).await?;
        self.study(name).await
    }

    /// Wakes a finished study that has room, under a new budget where one is given, with its new schedule: all in one
    /// change.
    pub(super) async fn rebudget(
        &self,
        id: StudyId,
        budget: Option<Budget>,
        schedule: Option<Schedule>,
    ) -> Result<(), EngineError> {
        for _ in 0..MAX_CONFLICTS {
            let desk = self.desk(id).await?;
            let update = {
                let mut live = desk.live().lock().await;
                live.catch_up().await?;
                let record = live.record();
                // A schedule alone is no reason to go on.
                let may_wake = record.state == StudyState::Finished && (budget.is_some() || schedule.is_none());
                let wakes = may_wake && live.would_go_on(budget.unwrap_or(record.config.budget));
                StudyUpdate {
                    expected: Some(record.state),
                    state: wakes.then(|| (StudyState::Active, String::new())),
                    budget,
                    schedule: schedule.clone(),
                }
            };
            if update.state.is_none() && update.budget.is_none() && update.schedule.is_none() {
                return Ok(());
            }
            match self.store.update_study(id, update, self.now()).await {
                Ok(_) => {
                    self.changed();
                    return Ok(());
                }
                // It changed under way: whether there is room is decided again.
                Err(StoreError::WrongStudyState { state, .. }) if state != StudyState::Archived => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(EngineError::Contended(self.store.study(id).await?.name))
    }

    /// Trials that changed after a revision, and the study.
    pub async fn changes_since(
        &self,
        name: &str,
        after: fleetune_core::Revision,
    ) -> Result<(StudySummary, Vec<TrialRecord>), EngineError> {
        let record = self.store.study_by_name(name).await?;
        let summary = self.summary(record, STAFF_AGE).await?;
        let trials = self.store.trials_since(summary.record.id, after, 1_000).await?;
        Ok((summary, trials))
    }

    /// Recomputes every sampled trial's parameters.
    pub async fn verify(&self, name: &str) -> Result<Verification, EngineError> {
        let record = self.store.study_by_name(name).await?;
        let desk = self.desk(record.id).await?;
        desk.live().lock().await.verify().await
    }
}

/// Wakes whoever waits in this process when others changed something.
async fn follow(mut others: watch::Receiver<Heard>, changes: Weak<watch::Sender<u64>>, work: Weak<watch::Sender<u64>>) {
    let mut known = others.borrow_and_update().work;
    while others.changed().await.is_ok() {
        let (Some(changes), Some(work)) = (changes.upgrade(), work.upgrade()) else { return };
        let heard = others.borrow_and_update().work;
        if known != heard {
            work.send_modify(bump);
        }
        known = heard;
        changes.send_modify(bump);
    }
}

fn bump(count: &mut u64) {
    *count = count.wrapping_add(1);
}

fn check_name(name: &str) -> Result<(), EngineError> {
    let bad = name.is_empty() || name.chars().count() > 200 || name.chars().any(|c| c.is_control() || c == '/');
    if bad {
        return Err(EngineError::invalid(
            "study name",
            "must have 1 to 200 characters, none of them a control character or `/`",
        ));
    }
    Ok(())
}

pub(super) fn check_request_id(request_id: &str) -> Result<(), EngineError> {
    if request_id.is_empty() || request_id.len() > 200 {
        return Err(EngineError::invalid("request_id", "must have 1 to 200 bytes: it makes a retry safe"));
    }
    Ok(())
}

pub(super) fn check_batch(count: usize) -> Result<(), EngineError> {
    if count == 0 || count > MAX_BATCH {
        return Err(EngineError::invalid("count", format!("{count} is outside 1 to {MAX_BATCH}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(30);

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1_000_000)
    }

    #[test]
    fn leases_wait_one_ttl_after_the_start_and_after_every_gap() {
        let service = Service::new(at(0));
        for seconds in [5, 20, 50] {
            service.answered(at(seconds), TTL);
            assert_eq!(service.claimable_from(at(seconds), TTL), at(30), "{seconds}");
        }
        // Nothing heard for longer than a TTL: whoever asks now must wait, before and after the first answer.
        assert_eq!(service.claimable_from(at(81), TTL), at(111));
        service.answered(at(85), TTL);
        assert_eq!(service.claimable_from(at(85), TTL), at(115));
        service.answered(at(100), TTL);
        assert_eq!(service.claimable_from(at(120), TTL), at(115));
    }
}
