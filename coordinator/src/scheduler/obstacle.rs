//! Why nobody works on a study: which worker gets what, and what a person could do about it.

use std::sync::Arc;
use std::time::Duration;

use fleetune_core::study::{Benchmark, Pin};
use fleetune_core::{StudyState, TrialState, WorkerId};

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::engine::Engine;
use super::error::EngineError;
use crate::storage::{Family, StudyRecord, TrialFilter, WorkerRecord};

/// Trials of clients that are looked at, and named, for one study.
const MAX_UNTOLD: u32 = 100;

/// Workers looked at in one read.
const PAGE: u32 = 1_000;

/// What was last read of the workers, and when.
#[derive(Clone, Default)]
pub(super) struct Staff(Arc<Mutex<Option<Known>>>);

type Known = (Instant, Arc<Vec<WorkerRecord>>);

/// Sentences about one study.
const MAX_NAMED: usize = 10;

/// What there is to say where no worker was ever seen.
const NOBODY: &str = "no worker has registered; `fleetune worker run --server URL --models DIR` starts one";

/// Which workers a study goes without, a sentence each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Staffing {
    /// Why nobody works on it; empty when somebody may.
    pub obstacles: Vec<String>,
    /// Why others that are at work get nothing of it, but for those that its selector leaves out.
    pub left_out: Vec<String>,
    /// Workers that are at work.
    pub connected: u32,
    /// Those of them that its selector admits.
    pub selected: u32,
}

impl Engine {
    /// Which trials of clients keep a study from its end, whose search is over but for running trials; none while
    /// anything is leased.
    pub(super) async fn untold(&self, record: &StudyRecord) -> Result<Vec<String>, EngineError> {
        let filter = TrialFilter { states: vec![TrialState::Running], limit: MAX_UNTOLD, ..TrialFilter::default() };
        let running = self.store.trials(record.id, &filter).await?;
        if running.iter().any(|trial| !trial.is_held()) {
            return Ok(Vec::new());
        }
        let name = &record.name;
        Ok(running
            .iter()
            .map(|trial| {
                let number = trial.number;
                format!(
                    "trial {number} is held by a client and has not been told; `fleetune trial show {name} {number}` \
                     shows it"
                )
            })
            .collect())
    }

    /// Every worker, as it was `age` ago or later.
    async fn staff(&self, age: Duration) -> Result<Arc<Vec<WorkerRecord>>, EngineError> {
        // One reads, the others wait for what it finds.
        let mut known = self.staff.0.lock().await;
        if let Some((_, staff)) = known.as_ref().filter(|(read, _)| read.elapsed() < age) {
            return Ok(Arc::clone(staff));
        }
        let read = Instant::now();
        let mut staff: Vec<WorkerRecord> = Vec::new();
        loop {
            let after = staff.last().map_or_else(|| WorkerId(String::new()), |worker| worker.id.clone());
            let page = self.store.workers(&after, PAGE).await?;
            if page.is_empty() {
                break;
            }
            staff.extend(page);
        }
        let staff = Arc::new(staff);
        *known = Some((read, Arc::clone(&staff)));
        Ok(staff)
    }

    /// Who works on `study` and who does not, as of `age` ago or later; says nothing when no worker is needed.
    pub(super) async fn staffing(&self, study: &StudyRecord, age: Duration) -> Result<Staffing, EngineError> {
        let needs_workers = matches!(study.state, StudyState::Preparing | StudyState::Active | StudyState::Confirming);
        let Some(benchmark) = study.config.benchmark.as_ref().filter(|_| needs_workers) else {
            return Ok(Staffing::default());
        };
        let patience = self.options.lease_ttl + self.options.heartbeat_every;
        let mut misfits = Vec::new();
        let mut silent = Vec::new();
        let mut fits = false;
        let (mut connected, mut selected) = (0, 0);
        for worker in self.staff(age).await?.iter() {
            let is_silent = self.now().since(worker.last_seen) > patience;
            connected += u32::from(!is_silent);
            if study.is_for_others(worker) {
                continue;
            }
            if study.schedule.selector.is_some() && !self.selectors.admit(&study.schedule, &worker.facts()) {
                continue;
            }
            selected += u32::from(!is_silent);
            let obstacle = obstacle(study, benchmark, worker);
            if is_silent {
                silent.push((worker.last_seen, worker.name.clone(), obstacle.is_none()));
            } else if let Some(obstacle) = obstacle {
                misfits.push(obstacle);
            } else {
                fits = true;
            }
        }
        if fits {
            return Ok(Staffing { left_out: some_of(misfits), obstacles: Vec::new(), connected, selected });
        }
        // Where somebody is there, silence of those that could do nothing either is no news.
        silent.retain(|&(_, _, fits)| fits || misfits.is_empty());
        silent.sort_unstable_by(|one, other| other.cmp(one));
        misfits.extend(silent.into_iter().map(|(last_seen, name, _)| {
            format!("worker `{name}` has been silent since {last_seen}; `fleetune worker run` on its machine starts it")
        }));
        let class = study.family.as_ref().and_then(Family::class).map(str::to_owned);
        if let Some(wanted) = study.schedule.selector.clone().or(class).filter(|_| selected == 0 && connected > 0) {
            misfits.insert(0, format!("of {connected} connected workers none is what it asks for: `{wanted}`"));
        }
        if misfits.is_empty() {
            misfits.push(NOBODY.to_owned());
        }
        Ok(Staffing { obstacles: some_of(misfits), left_out: Vec::new(), connected, selected })
    }
}

/// The first sentences, and how many more there are.
fn some_of(mut sentences: Vec<String>) -> Vec<String> {
    if sentences.len() > MAX_NAMED {
        let more = sentences.len() - MAX_NAMED;
        sentences.truncate(MAX_NAMED);
        sentences.push(format!("{more} more workers cannot either"));
    }
    sentences
}

/// What to say of a worker that the selector of `study` does not admit.
pub(super) fn not_selected(study: &StudyRecord, worker: &WorkerRecord) -> String {
    let selector = study.schedule.selector.as_deref().unwrap_or_default();
    format!("study `{}` asks for `{selector}`, which worker `{}` is not", study.name, worker.name)
}

/// What to say of a worker that lacks what tells workers of the parent `study` apart.
pub(super) fn without_class(study: &StudyRecord, worker: &WorkerRecord) -> String {
    let per = study.family.as_ref().map(|family| family.per().name()).unwrap_or_default();
    let label = per.trim_start_matches("label:");
    format!(
        "study `{}` is searched for each value of the label `{label}`, which worker `{}` lacks; `--label {label}=VALUE` \
         gives it one",
        study.name, worker.name
    )
}

/// Why `worker` gets no job of `study`, whose selector admits it.
pub(super) fn obstacle(study: &StudyRecord, benchmark: &Benchmark, worker: &WorkerRecord) -> Option<String> {
    let misfit = executor(study, benchmark, worker).or_else(|| match &study.pin {
        Some(pin) => device(study, pin, worker).or_else(|| pinned_model(study, benchmark, pin, worker)),
        None => named_model(study, benchmark, worker),
    });
    misfit.or_else(|| {
        let name = &worker.name;
        worker
            .draining
            .then(|| format!("worker `{name}` is draining; `fleetune worker resume {name}` lets it take jobs again"))
    })
}

fn executor(study: &StudyRecord, benchmark: &Benchmark, worker: &WorkerRecord) -> Option<String> {
    let (study, name, wanted) = (&study.name, &worker.name, &benchmark.executor);
    (!worker.executors.contains_key(wanted))
        .then(|| format!("study `{study}` needs the executor `{wanted}`, which worker `{name}` does not have"))
}

fn device(study: &StudyRecord, pin: &Pin, worker: &WorkerRecord) -> Option<String> {
    let (study, name) = (&study.name, &worker.name);
    let engine = worker.executors.get(&pin.executor).map_or("", String::as_str);
    if pin.engine != engine {
        return Some(format!(
            "study `{study}` is pinned to the engine `{}`, but worker `{name}` has `{engine}`",
            pin.engine
        ));
    }
    let class = worker.device_class();
    (pin.device_class != class).then(|| {
        format!(
            "study `{study}` is pinned to the device class `{}`, but worker `{name}` is `{class}`",
            pin.device_class
        )
    })
}

/// A description needs a file of the name that the study gives.
fn named_model(study: &StudyRecord, benchmark: &Benchmark, worker: &WorkerRecord) -> Option<String> {
    let (study, model, name) = (&study.name, &benchmark.model, &worker.name);
    (!worker.models.iter().any(|visible| visible.is_called(model))).then(|| {
        format!(
            "study `{study}` needs the model `{model}`, which worker `{name}` does not see; put it into one of its \
             `--models` folders"
        )
    })
}

/// Everything after it needs the very file that was described, whatever it is called.
fn pinned_model(study: &StudyRecord, benchmark: &Benchmark, pin: &Pin, worker: &WorkerRecord) -> Option<String> {
    let (study, model, name, hash) = (&study.name, &benchmark.model, &worker.name, &pin.model_hash);
    if worker.models.iter().any(|visible| visible.hash == *hash) {
        return None;
    }
    let what = format!("study `{study}` needs the model `{model}` with the hash {}", short(hash));
    let other = worker.models.iter().find(|visible| visible.is_called(model));
    Some(match other {
        None => format!("{what}, which worker `{name}` does not see; put it into one of its `--models` folders"),
        Some(other) => format!(
            "{what}, but what worker `{name}` has of that name is another file, with the hash {}; put the one that \
             was measured into one of its `--models` folders",
            short(&other.hash)
        ),
    })
}

/// Enough of a hash to tell files apart.
fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}
