//! A fresh database, and short words for what the cases do most.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fleetune_coordinator::storage::testing::PrivatePostgres;
use fleetune_coordinator::storage::{
    Claimed, JobRecord, Lease, LeaseRules, NewStudy, NewWaiting, Origin, Param, ParamSet, Registration, StartEntry,
    StartTrials, Started, Store, StudyRecord, StudyUpdate, TrialEnd, TrialRecord,
};
use fleetune_core::study::{Budget, Pin, PrunerConfig, SamplerConfig, StudyConfig};
use fleetune_core::{
    Direction, Distribution, FailKind, Inventory, LeaseToken, Params, Revision, Schedule, StudyId, StudyState,
    Timestamp, TrialNumber, TrialState, Turn, VisibleModel, WorkerId,
};
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};
use serde_json::{Value, json};

/// How long leases run in the cases.
pub const TTL: Duration = Duration::from_secs(30);

/// A fresh database with an open store.
pub struct Db {
    pub url: String,
    pub store: Store,
    _folder: Option<tempfile::TempDir>,
}

impl Db {
    pub async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("test.db").display());
        let store = Store::open(&url).await.unwrap();
        Self { url, store, _folder: Some(folder) }
    }

    pub async fn postgres() -> Self {
        let url = PrivatePostgres::start().database().await;
        let store = Store::open(&url).await.unwrap();
        Self { url, store, _folder: None }
    }

    /// For cases that open the store in their own way.
    pub fn on(store: Store) -> Self {
        Self { url: String::new(), store, _folder: None }
    }

    pub fn is_sqlite(&self) -> bool {
        self.url.starts_with("sqlite")
    }

    /// Another process on the same database.
    pub async fn second(&self) -> Store {
        Store::open(&self.url).await.unwrap()
    }

    /// An active study.
    pub async fn study(&self, name: &str) -> StudyRecord {
        self.store.create_study(new_study(name, StudyState::Active), at(0)).await.unwrap()
    }

    /// The study as it is now.
    pub async fn reread(&self, study: &StudyRecord) -> StudyRecord {
        self.store.study(study.id).await.unwrap()
    }

    /// Starts one trial at the study's next turn and number.
    pub async fn start(&self, study: &StudyRecord, lease: Option<&str>, seconds: i64) -> Started {
        let study = self.reread(study).await;
        let mut start = start_at(study.id, study.next_turn, &[study.next_number]);
        start.lease = lease.map(|name| (worker(name), TTL));
        self.store.start(start, at(seconds)).await.unwrap().remove(0)
    }

    /// Starts a leased trial; gives its number and token.
    pub async fn leased(&self, study: &StudyRecord, worker: &str, seconds: i64) -> (TrialNumber, LeaseToken) {
        let started = self.start(study, Some(worker), seconds).await;
        (started.trial.number, started.lease.unwrap().token)
    }

    pub async fn trial(&self, study: &StudyRecord, number: TrialNumber) -> TrialRecord {
        self.store.trial(study.id, number).await.unwrap()
    }

    pub async fn claim(&self, study: &StudyRecord, name: &str, seconds: i64) -> Claimed {
        self.claim_at(study, name, at(seconds)).await
    }

    pub async fn claim_at(&self, study: &StudyRecord, name: &str, now: Timestamp) -> Claimed {
        static REQUESTS: AtomicU64 = AtomicU64::new(0);
        let request = format!("claim-{}", REQUESTS.fetch_add(1, Ordering::Relaxed));
        self.store.claim(study.id, &worker(name), &request, rules(), now).await.unwrap()
    }

    pub async fn enqueue(&self, study: &StudyRecord, request: &str, count: i64) -> Vec<TrialRecord> {
        self.store.enqueue(study.id, request.to_owned(), (0..count).map(waiting).collect(), at(1)).await.unwrap()
    }

    pub async fn set_state(&self, study: &StudyRecord, state: StudyState, seconds: i64) -> StudyRecord {
        let update = StudyUpdate { state: Some((state, "by hand".to_owned())), ..StudyUpdate::default() };
        self.store.update_study(study.id, update, at(seconds)).await.unwrap()
    }
}

/// The job, its trial and its lease.
#[track_caller]
pub fn job(claimed: Claimed) -> (JobRecord, Option<TrialRecord>, Lease) {
    match claimed {
        Claimed::Job { job, trial, lease } => (*job, trial.map(|trial| *trial), lease),
        Claimed::NotBefore(_) | Claimed::Nothing => panic!("expected a job: {claimed:?}"),
    }
}

pub fn at(seconds: i64) -> Timestamp {
    Timestamp(1_700_000_000_000_000 + seconds * 1_000_000)
}

pub fn worker(name: &str) -> WorkerId {
    WorkerId(name.to_owned())
}

pub fn rules() -> LeaseRules {
    LeaseRules { ttl: TTL, not_before: at(0), max_attempts: 3 }
}

pub fn config() -> StudyConfig {
    StudyConfig {
        directions: vec![Direction::Maximize],
        space: None,
        sampler: SamplerConfig::Tpe,
        pruner: PrunerConfig::median(),
        budget: Budget { trials: Some(10), seconds: Some(0.1), target: None },
        planned_trials: None,
        seed: u64::MAX,
        benchmark: None,
        earlier: Vec::new(),
    }
}

pub fn new_study(name: &str, state: StudyState) -> NewStudy {
    NewStudy {
        name: name.to_owned(),
        request_id: format!("request of {name}"),
        state,
        config: config(),
        schedule: Schedule::default(),
        family: None,
    }
}

pub fn pin() -> Pin {
    Pin {
        model_hash: "m".to_owned(),
        executor: "llama-cpp".to_owned(),
        engine: "e".to_owned(),
        device_class: "d".to_owned(),
    }
}

pub fn distribution(json: &Value) -> Arc<Distribution> {
    Arc::new(serde_json::from_value(json.clone()).unwrap())
}

pub fn unit() -> Arc<Distribution> {
    distribution(
        &json!({"name": "FloatDistribution", "attributes": {"low": 0.0, "high": 1.0, "log": false, "step": null}}),
    )
}

pub fn params(internal: f64) -> ParamSet {
    BTreeMap::from([("x".to_owned(), Param { distribution: unit(), internal })])
}

pub fn waiting(index: i64) -> NewWaiting {
    NewWaiting { fixed: Params::from([("x".to_owned(), (index as f64).into())]), origin: Origin::Enqueued }
}

/// A held start whose request id is its place.
pub fn start_at(study: StudyId, turn: Turn, numbers: &[TrialNumber]) -> StartTrials {
    StartTrials {
        study,
        request_id: format!("start {study} {turn}"),
        turn,
        seen: Revision(1),
        sampler: "tpe 1".to_owned(),
        entries: numbers.iter().map(|number| fresh(*number)).collect(),
        lease: None,
    }
}

/// As [`start_at`], with queue entries.
pub fn pop_at(study: StudyId, turn: Turn, numbers: &[TrialNumber]) -> StartTrials {
    let mut start = start_at(study, turn, numbers);
    for entry in &mut start.entries {
        entry.queued = true;
    }
    start
}

pub fn fresh(number: TrialNumber) -> StartEntry {
    StartEntry { number, queued: false, params: params(0.5), origin: Origin::Sampled }
}

pub fn complete(value: f64) -> TrialEnd {
    TrialEnd { state: TrialState::Complete, values: vec![value], constraints: vec![], fail: None, seconds: 1.5 }
}

pub fn failed(kind: FailKind) -> TrialEnd {
    TrialEnd {
        state: TrialState::Fail,
        values: vec![],
        constraints: vec![],
        fail: Some((kind, "why".to_owned())),
        seconds: 0.5,
    }
}

pub fn registration(name: &str, boot: &str, held: &[LeaseToken]) -> Registration {
    Registration {
        id: worker(name),
        name: format!("the {name}"),
        labels: BTreeMap::from([("rack".to_owned(), "7".to_owned())]),
        inventory: Inventory { boot_id: boot.to_owned(), ram_mib: 1024, ..Inventory::default() },
        executors: BTreeMap::from([("llama-cpp".to_owned(), "b1234".to_owned())]),
        version: "0.1.0".to_owned(),
        held: held.to_vec(),
        models: vec![model("m.gguf")],
        token: None,
    }
}

pub fn model(name: &str) -> VisibleModel {
    VisibleModel { name: name.to_owned(), path: format!("/models/{name}"), hash: "00ff".to_owned(), bytes: 7 }
}

pub fn fail_kind(trial: &TrialRecord) -> Option<FailKind> {
    trial.fail.as_ref().map(|(kind, _)| *kind)
}

/// Plays `cases` drawn lists of steps.
pub fn explore<S: Strategy>(cases: u32, steps: S, play: impl AsyncFn(S::Value) -> Result<(), TestCaseError>) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config =
        ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 400, ..ProptestConfig::default() };
    TestRunner::new(config).run(&steps, |steps| runtime.block_on(play(steps))).unwrap();
}
