//! A client that writes down what it was told, asks again until it is, and now and then twice.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use fleetune_proto::reason::{REASON_KEY, Reason};
use fleetune_proto::v1::distribution::Kind as Distributed;
use fleetune_proto::v1::study_service_client::StudyServiceClient;
use fleetune_proto::v1::value::Kind;
use fleetune_proto::v1::{
    AskRequest, AskResponse, CreateStudyRequest, Direction, Distribution, EnqueueRequest, FailKind, Failure,
    FixedParams, FloatDistribution, IntDistribution, ListTrialsRequest, Parameter, ReportRequest, Sampler, SearchSpace,
    StudyConfig, TellRequest, TrialState, Value,
};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt as _, SeedableRng as _};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

use super::bits;
use super::ledger::{Book, Ledger};

/// A call that is not answered within this, after so many tries, never will be.
const HANG: Duration = Duration::from_mins(3);
/// One try.
const TRY: Duration = Duration::from_secs(15);
/// Trials of a study, about; then clients go on with the next one.
const STUDY_TRIALS: usize = 300;
/// Trials that a client has under way, at most.
const OPEN: usize = 6;
/// A lease that outlives every fault of a short drill.
const LONG_LEASE_S: f64 = 120.0;
/// One that ends while its trial is abandoned.
const SHORT_LEASE_S: f64 = 2.0;

/// What the clients of an arena share.
#[derive(Debug, Default)]
pub struct Shared {
    /// What they were told.
    pub ledger: Mutex<Ledger>,
    /// Set when they are to come to an end.
    pub over: AtomicBool,
    /// Answers that said that there is no room.
    pub full: AtomicUsize,
    /// Trials asked for, all studies together.
    pub asked: AtomicUsize,
    /// The seed of the drill.
    pub seed: u64,
    /// Whether there is time for leases that end.
    pub long: bool,
}

impl Shared {
    /// The ledger.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("nobody panics with it")
    }
}

/// A trial under way.
#[derive(Clone, Debug)]
struct Open {
    study: String,
    number: i64,
    attempt: u32,
    /// Empty when it is held.
    token: String,
    steps: u32,
}

/// One client, with a way to every coordinator.
pub struct Client {
    name: String,
    shared: Arc<Shared>,
    services: Vec<StudyServiceClient<Channel>>,
    /// Decides what is done; drawn from the same way whatever is answered late.
    choices: ChaCha8Rng,
    /// Decides how: which coordinator is asked, when a caller loses patience.
    luck: ChaCha8Rng,
    open: Vec<Open>,
    requests: u64,
    known: String,
}

impl Client {
    /// The client `number`, whose coordinators answer at `urls`.
    pub fn new(number: usize, shared: Arc<Shared>, urls: &[String]) -> Self {
        let stream = |which: u64| {
            let mut rng = ChaCha8Rng::seed_from_u64(shared.seed);
            rng.set_stream(1_000 + 10 * number as u64 + which);
            rng
        };
        let (choices, luck) = (stream(0), stream(1));
        let services = urls.iter().map(|url| {
            let endpoint = Endpoint::from_shared(url.clone()).expect("a proxy has an address");
            StudyServiceClient::new(endpoint.connect_lazy())
        });
        Self {
            name: format!("client-{number}"),
            services: services.collect(),
            shared,
            choices,
            luck,
            open: Vec::new(),
            requests: 0,
            known: String::new(),
        }
    }

    /// Works until the drill is over, and ends what it has under way.
    pub async fn work(mut self) {
        while !self.shared.over.load(Ordering::Relaxed) {
            self.step().await;
            tokio::time::sleep(Duration::from_millis(self.luck.random_range(5..60))).await;
        }
        while !self.open.is_empty() {
            self.tell(0).await;
        }
    }

    async fn step(&mut self) {
        let study = self.study().await;
        let which = self.choices.random_range(0..usize::MAX) % self.open.len().max(1);
        match self.choices.random_range(0..100) {
            _ if self.open.len() >= OPEN => self.tell(which).await,
            0..12 => self.enqueue(&study).await,
            12..32 if !self.open.is_empty() => self.report(which).await,
            32..62 if !self.open.is_empty() => self.tell(which).await,
            62..64 if !self.open.is_empty() && self.shared.long => self.abandon(which),
            64..67 => self.look().await,
            _ => self.ask(&study).await,
        }
    }

    /// The study of the moment, which is there.
    async fn study(&mut self) -> String {
        let epoch = self.shared.asked.load(Ordering::Relaxed) / STUDY_TRIALS;
        let name = format!("ledger-{epoch}");
        if self.known != name {
            // Everybody creates it, by the same request.
            let request = CreateStudyRequest {
                request_id: name.clone(),
                name: name.clone(),
                config: Some(config(epoch as u64)),
                ..CreateStudyRequest::default()
            };
            let answer = self.call(request, |mut service, request| async move { service.create_study(request).await });
            let created = answer.await.map(|answer| answer.study.unwrap_or_default().name);
            match created {
                Ok(created) if created == name => self.shared.ledger().book(&name).created = true,
                other => self.wrong(&format!("study `{name}` was created as {other:?}")),
            }
            self.known.clone_from(&name);
        }
        name
    }

    async fn enqueue(&mut self, study: &str) {
        let trials: Vec<_> = (0..self.choices.random_range(1..=3))
            .map(|_| {
                let x = Value { kind: Some(Kind::Float(self.choices.random_range(0.0..1.0))) };
                FixedParams { params: BTreeMap::from([("x".to_owned(), x)]) }
            })
            .collect();
        let fixed: Vec<_> = trials.iter().map(|trial| bits::params(&trial.params)).collect();
        let request = EnqueueRequest { request_id: self.request_id(), study: study.to_owned(), trials, force: false };
        let call = |mut service: StudyServiceClient<Channel>, request| async move { service.enqueue(request).await };
        let mut first = None;
        for _ in 0..self.times() {
            let answer = match self.call(request.clone(), call).await {
                Ok(answer) => answer,
                Err(status) => return self.wrong(&format!("enqueue in `{study}` was refused: {status}")),
            };
            let numbers: Vec<_> = answer.trials.iter().map(|trial| trial.number).collect();
            if numbers.len() != fixed.len() || first.get_or_insert_with(|| numbers.clone()) != &numbers {
                self.wrong(&format!("`{}` enqueued {first:?}, and then {numbers:?}", request.request_id));
            }
            let mut clash = Vec::new();
            let mut ledger = self.shared.ledger();
            for (number, fixed) in numbers.into_iter().zip(&fixed) {
                let entry = (request.request_id.clone(), fixed.clone());
                let was = ledger.book(study).queued.insert(number, entry.clone());
                clash.extend(was.filter(|was| *was != entry).map(|was| (number, was)));
            }
            drop(ledger);
            for (number, was) in clash {
                self.wrong(&format!("{study} {number} was enqueued by `{}` and by `{}`", was.0, request.request_id));
            }
        }
    }

    async fn ask(&mut self, study: &str) {
        let count = self.choices.random_range(1..=3);
        let (leased, short) = (self.choices.random_bool(0.4), self.choices.random_bool(0.1));
        let seconds = if short && self.shared.long { SHORT_LEASE_S } else { LONG_LEASE_S };
        let lease = leased.then(|| fleetune_proto::convert::duration_to_wire(seconds));
        let holder = if leased { self.name.clone() } else { String::new() };
        let request = AskRequest { request_id: self.request_id(), study: study.to_owned(), count, lease, holder };
        let call = |mut service: StudyServiceClient<Channel>, request| async move { service.ask(request).await };
        let mut first: Option<Vec<i64>> = None;
        for _ in 0..self.times() {
            let answer = match self.call(request.clone(), call).await {
                Ok(answer) => answer,
                // Its leases ended before anybody heard of them, or since.
                Err(status) if leased && reason(&status) == Some(Reason::TrialLeaseLost) => {
                    if first.is_none() {
                        self.shared.ledger().book(study).unheard += count as usize;
                    }
                    return;
                }
                Err(status) => return self.wrong(&format!("ask in `{study}` was refused: {status}")),
            };
            let numbers: Vec<_> = answer.trials.iter().map(|trial| trial.number).collect();
            let fits = match &first {
                None => (1..=count as usize).contains(&numbers.len()),
                Some(first) if leased => numbers.iter().all(|number| first.contains(number)),
                Some(first) => *first == numbers,
            };
            if !fits {
                self.wrong(&format!("`{}` was given {first:?}, and then {numbers:?}", request.request_id));
            }
            if first.is_none() {
                self.shared.asked.fetch_add(numbers.len(), Ordering::Relaxed);
                if leased {
                    // Of a batch whose answer came late some leases may have ended already.
                    self.shared.ledger().book(study).unheard += count as usize - numbers.len();
                }
            }
            self.note_given(study, &request.request_id, &answer, first.is_none());
            first.get_or_insert(numbers);
        }
    }

    fn note_given(&mut self, study: &str, request_id: &str, answer: &AskResponse, fresh: bool) {
        let mut ledger = self.shared.ledger();
        for (index, trial) in answer.trials.iter().enumerate() {
            let params = bits::params(&trial.params);
            let given = ledger.book(study).given.entry((trial.number, trial.attempt)).or_default();
            let was = given.insert(request_id.to_owned(), params.clone());
            if was.is_some_and(|was| was != params) {
                ledger.wrong.push(format!("{study} {} has other parameters when asked again", trial.number));
            }
            if fresh {
                let token = answer.leases.get(index).map(|lease| lease.token.clone()).unwrap_or_default();
                let (number, attempt) = (trial.number, trial.attempt);
                self.open.push(Open { study: study.to_owned(), number, attempt, token, steps: 0 });
            }
        }
    }

    async fn report(&mut self, which: usize) {
        let value = self.value();
        let Open { study, number, attempt, token, steps } = self.open[which].clone();
        let request = ReportRequest { study: study.clone(), number, step: steps, value, lease_token: token.clone() };
        let call = |mut service: StudyServiceClient<Channel>, request| async move { service.report(request).await };
        let mut first = None;
        for _ in 0..self.times() {
            match self.call(request.clone(), call).await {
                Ok(answer) if first.is_none_or(|first| first == answer.verdict) => {
                    first = Some(answer.verdict);
                    self.shared.ledger().book(&study).steps.insert((number, attempt, steps), value.to_bits());
                }
                Ok(answer) => {
                    return self.wrong(&format!("{study} {number}: verdict {first:?}, and then {}", answer.verdict));
                }
                Err(status) => return self.refused(which, &status),
            }
        }
        self.open[which].steps += 1;
    }

    async fn tell(&mut self, which: usize) {
        let Open { study, number, token, .. } = self.open[which].clone();
        let value = self.value();
        let fails = self.choices.random_bool(0.1);
        let (state, values) = if fails { (TrialState::Fail, vec![]) } else { (TrialState::Complete, vec![value]) };
        let failure = fails.then(|| Failure { kind: FailKind::Oom.into(), message: "drilled".to_owned() });
        let state = i32::from(state);
        let request = TellRequest {
            study: study.clone(),
            number,
            state,
            values: values.clone(),
            failure,
            lease_token: token.clone(),
            ..TellRequest::default()
        };
        let call = |mut service: StudyServiceClient<Channel>, request| async move { service.tell(request).await };
        for _ in 0..self.times() {
            match self.call(request.clone(), call).await {
                Ok(_) => {
                    self.shared.ledger().book(&study).ends.insert(number, (state, bits::floats(&values)));
                }
                Err(status) => return self.refused(which, &status),
            }
        }
        self.open.swap_remove(which);
        if self.luck.random_bool(0.03) {
            let other =
                TellRequest { state: TrialState::Complete.into(), values: vec![-7.0], failure: None, ..request };
            if self.call(other, call).await.is_ok() {
                self.wrong(&format!("{study} {number} was ended a second time, and otherwise"));
            }
        }
    }

    /// Somebody else has the trial. That cannot be with one that is held.
    fn refused(&mut self, which: usize, status: &Status) {
        let open = self.open.swap_remove(which);
        let lost = matches!(reason(status), Some(Reason::TrialLeaseLost | Reason::TrialEnded | Reason::TrialState));
        if open.token.is_empty() || !lost {
            self.wrong(&format!("{} {} was refused: {status}", open.study, open.number));
        }
    }

    /// As a client does that is killed.
    fn abandon(&mut self, which: usize) {
        self.open.swap_remove(which);
    }

    /// Sees trials that have ended; they must stay so.
    async fn look(&mut self) {
        let study = if self.luck.random_bool(0.5) { self.known.clone() } else { super::arena::STUDY.to_owned() };
        let service = self.service();
        let request = ListTrialsRequest { study: study.clone(), ..ListTrialsRequest::default() };
        let Ok(Ok(trials)) = tokio::time::timeout(TRY, super::close::list(service, request)).await else { return };
        let ended = trials.iter().filter_map(|trial| Some((trial.number, bits::end(trial)?)));
        let mut ledger = self.shared.ledger();
        let mut wrong = Vec::new();
        let Book { seen, .. } = ledger.book(&study);
        for (number, end) in ended {
            if seen.insert(number, end.clone()).is_some_and(|was| was != end) {
                wrong.push(format!("{study} {number} was seen to end in two ways"));
            }
        }
        ledger.wrong.extend(wrong);
    }

    /// Once, or twice: every call may be repeated.
    fn times(&mut self) -> u32 {
        1 + u32::from(self.choices.random_bool(0.15))
    }

    fn request_id(&mut self) -> String {
        self.requests += 1;
        format!("{}-{}", self.name, self.requests)
    }

    /// Any finite number: most bits of it matter to nobody but the checker.
    fn value(&mut self) -> f64 {
        let value: f64 = self.choices.random_range(-1.0..1.0);
        value * 10_f64.powi(self.choices.random_range(-9..9))
    }

    fn wrong(&self, what: &str) {
        self.shared.ledger().wrong.push(what.to_owned());
    }

    /// Any coordinator will do.
    fn service(&mut self) -> StudyServiceClient<Channel> {
        let which = self.luck.random_range(0..self.services.len());
        self.services[which].clone()
    }

    /// Calls until there is an answer or a refusal, of whichever coordinator.
    async fn call<Q: Clone, A, F>(
        &mut self,
        request: Q,
        call: impl Fn(StudyServiceClient<Channel>, Q) -> F,
    ) -> Result<A, Status>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let begun = Instant::now();
        loop {
            let service = self.service();
            // Some callers are gone before there is an answer.
            let impatient = self.luck.random_bool(0.05);
            let limit = if impatient { Duration::from_micros(self.luck.random_range(100..20_000)) } else { TRY };
            match tokio::time::timeout(limit, call(service, request.clone())).await {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) if !may_be_repeated(&status) => return Err(status),
                Ok(Err(status)) if begun.elapsed() > HANG => return Err(status),
                Err(_) if begun.elapsed() > HANG => return Err(Status::deadline_exceeded("there is no answer")),
                failed @ (Ok(Err(_)) | Err(_)) => {
                    let full = matches!(&failed, Ok(Err(status)) if reason(status) == Some(Reason::StorageFull));
                    self.shared.full.fetch_add(usize::from(full), Ordering::Relaxed);
                    let pause = Duration::from_millis(self.luck.random_range(20..200));
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }
}

/// Why the coordinator refused; none when it was not heard.
fn reason(status: &Status) -> Option<Reason> {
    status.metadata().get(REASON_KEY).and_then(|reason| Reason::from_text(reason.to_str().ok()?))
}

/// Whether the same call may succeed later.
fn may_be_repeated(status: &Status) -> bool {
    match reason(status) {
        Some(Reason::Storage) => status.code() == Code::Unavailable,
        Some(reason) => {
            matches!(reason, Reason::Contended | Reason::Stopping | Reason::StorageFull | Reason::Overloaded)
        }
        // Not the coordinator's words, but the connection's end.
        None => true,
    }
}

/// Two parameters; what is searched does not matter, how it is kept does.
fn config(epoch: u64) -> StudyConfig {
    let parameter = |name: &str, kind| Parameter {
        name: name.to_owned(),
        distribution: Some(Distribution { kind: Some(kind) }),
        ..Parameter::default()
    };
    let x = Distributed::Float(FloatDistribution { low: 0.0, high: 1.0, step: None, log: false });
    let n = Distributed::Int(IntDistribution { low: 1, high: 4096, step: 1, log: true });
    let parameters = vec![parameter("x", x), parameter("n", n)];
    let sampler = if epoch.is_multiple_of(2) { "tpe" } else { "random" };
    StudyConfig {
        directions: vec![Direction::Minimize.into()],
        space: Some(SearchSpace { parameters, ..SearchSpace::default() }),
        sampler: Some(Sampler { name: sampler.to_owned(), ..Sampler::default() }),
        seed: epoch,
        ..StudyConfig::default()
    }
}
