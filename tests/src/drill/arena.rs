//! One storage and everybody who uses it, as processes that can be killed.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use fleetune_coordinator::storage::testing::PrivatePostgres;
use fleetune_proto::v1::StudyState;
use fleetune_proto::v1::study_service_client::StudyServiceClient;
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::runtime::Runtime;
use tonic::transport::Endpoint;

use super::check::{self, Findings};
use super::client::{Client, Shared};
use super::close;
use super::ledger::Ledger;
use super::plan::{CLIENTS, Fault, LEASE, WORKERS, coordinators};
use super::postings::{self, Postings};
use super::proxy::Proxy;
use super::skew::{SKEW_S, library, skewed};
use super::{Drill, Storage};
use crate::{Done, Place, Running, Served, until};

/// The study that workers measure.
pub const STUDY: &str = "s";

/// How long everything may take to come to an end once nothing is done to it any more: leases that ended are handed out
/// a lease's time after the last start, up to three times.
const SETTLED: Duration = Duration::from_mins(6);

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Processes killed.
    pub kills: u32,
    /// Restarts of Postgres.
    pub restarts: u32,
    /// Cuts of the network.
    pub cuts: u32,
}

/// Coordinators, workers and clients over one storage.
pub struct Arena {
    place: Place,
    kind: Storage,
    seed: u64,
    url: String,
    since: SystemTime,
    ledger: Ledger,
    postings: Postings,
    wrong: Vec<String>,
    // After everything that connects to it.
    postgres: Option<PrivatePostgres>,
}

impl Arena {
    /// An empty storage of its own.
    pub fn new(drill: &Drill, kind: Storage) -> Self {
        let place = Place::new(&drill.program.display().to_string(), &drill.runner.display().to_string());
        let postgres = (kind == Storage::Postgres).then(PrivatePostgres::durable);
        let url = postgres.as_ref().map_or_else(|| place.sqlite("a.db"), PrivatePostgres::empty_database);
        Self {
            place,
            kind,
            seed: drill.seed,
            url,
            since: SystemTime::now(),
            ledger: Ledger::default(),
            postings: Postings::default(),
            wrong: Vec::new(),
            postgres,
        }
    }

    /// Lets everybody work for so many seconds, carries out `plan` meanwhile, and waits until every trial has ended.
    pub fn run(&mut self, plan: &[(Duration, Fault)], seconds: f64, say: &dyn Fn(&str)) -> Tally {
        let runtime = Runtime::new().expect("the system has threads");
        // Connections belong to it from their beginning.
        let _entered = runtime.enter();
        let long = Duration::from_secs_f64(seconds) > LEASE * 3;
        let shared = Arc::new(Shared { seed: self.seed, long, ..Shared::default() });
        let mut stage = Stage::set(self, &runtime);
        let urls = |client: usize| -> Vec<String> { stage.client_ways[client].iter().map(Proxy::url).collect() };
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| runtime.spawn(Client::new(number, Arc::clone(&shared), &urls(number)).work()))
            .collect();

        let begun = Instant::now();
        // Who is away beyond the end is brought back then.
        for (at, fault) in plan.iter().filter(|(at, _)| at.as_secs_f64() < seconds) {
            std::thread::sleep(at.saturating_sub(begun.elapsed()));
            say(&format!("{:6.1} s  {:?}: {fault:?}", begun.elapsed().as_secs_f64(), self.kind));
            stage.carry_out(*fault);
        }
        std::thread::sleep(Duration::from_secs_f64(seconds).saturating_sub(begun.elapsed()));
        stage.mend();
        say(&format!("{:6.1} s  {:?}: everything is up again", begun.elapsed().as_secs_f64(), self.kind));
        shared.over.store(true, Ordering::Relaxed);
        for client in clients {
            runtime.block_on(client).expect("a client does not panic");
        }
        let mut service = stage.service();
        let settled = runtime.block_on(async {
            close::end_all(&mut service, &shared).await?;
            close::stop_model_study(&mut service).await
        });
        settled.expect("a coordinator that is left alone answers");
        let deadline = Instant::now() + SETTLED;
        let finished = i32::from(StudyState::Finished);
        while runtime.block_on(close::model_study_state(&mut service)).expect("it answers") != finished {
            if Instant::now() > deadline {
                stage
                    .wrong
                    .push(format!("the study of the workers is not at its end {SETTLED:?} after the last fault"));
                break;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        let (tally, wrong, logs) = stage.end();
        self.ledger = shared.ledger().clone();
        self.postings = postings::read(&logs);
        self.wrong.extend(wrong);
        let full = shared.full.load(Ordering::Relaxed);
        say(&format!(
            "{:6.1} s  {:?}: every trial has ended; {} results of workers acknowledged, {} came too late and are kept, \
             {full} answers said that the disk is full",
            begun.elapsed().as_secs_f64(),
            self.kind,
            self.postings.acked.len(),
            self.postings.late
        ));
        tally
    }

    /// Writes that were acknowledged, to clients and to workers.
    pub fn acked(&self) -> usize {
        self.ledger.acked() + self.postings.acked.len()
    }

    /// What clients were told.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Where everything is stored.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Reads everything.
    pub fn check(&self) -> Findings {
        let mut findings = Findings { wrong: self.wrong.clone(), ..Findings::default() };
        let db = self.place.run(&["db", "check", "--storage", &self.url]);
        if db.code != Some(0) {
            findings.wrong.push(format!("`db check` says: {}{}", db.stdout.trim(), db.stderr.trim()));
        }
        let served = self.place.serve(&self.url);
        let runtime = Runtime::new().expect("the system has threads");
        let read = runtime.block_on(async {
            let endpoint = Endpoint::from_shared(served.url()).expect("it has an address");
            let service = StudyServiceClient::new(endpoint.connect_lazy());
            check::check(service, &self.ledger, Some((STUDY, &self.postings)), self.since).await
        });
        match read {
            Ok(read) => findings.add(read),
            Err(status) => findings.wrong.push(format!("what is stored cannot be read: {status}")),
        }
        findings
    }

    /// Leaves the folder of the arena where it is, for whoever wants to know what happened: what everybody said, the
    /// database, or from Postgres what can be said of the workers' study.
    pub fn keep(self) -> PathBuf {
        if self.kind == Storage::Postgres {
            let export = self.place.run(&["study", "export", STUDY, "--storage", &self.url]);
            self.place.write("export.json", &export.stdout);
        }
        self.place.keep()
    }
}

/// Everybody at work.
struct Stage<'a> {
    place: &'a Place,
    url: &'a str,
    postgres: Option<&'a PrivatePostgres>,
    skew: PathBuf,
    coordinators: Vec<Option<Served>>,
    workers: Vec<Option<Running>>,
    worker_ways: Vec<Proxy>,
    client_ways: Vec<Vec<Proxy>>,
    /// Whether the coordinator on SQLite has no room.
    full: bool,
    /// What workers logged that are gone.
    logs: Vec<String>,
    tally: Tally,
    wrong: Vec<String>,
}

impl<'a> Stage<'a> {
    fn set(arena: &'a Arena, runtime: &Runtime) -> Self {
        let place = &arena.place;
        // Long enough to be killed at it.
        place.script(&json!({"repetition_ms": 100}));
        let mut stage = Self {
            place,
            url: &arena.url,
            postgres: arena.postgres.as_ref(),
            skew: library(&place.path("tmp")),
            coordinators: Vec::new(),
            workers: Vec::new(),
            worker_ways: Vec::new(),
            client_ways: Vec::new(),
            full: false,
            logs: Vec::new(),
            tally: Tally::default(),
            wrong: Vec::new(),
        };
        for which in 0..coordinators(arena.kind) {
            let served = stage.serve(which, &arena.url);
            stage.coordinators.push(Some(served));
        }
        let handle = runtime.handle();
        let addresses: Vec<_> = stage.coordinators.iter().flatten().map(|served| served.address.clone()).collect();
        stage.worker_ways =
            (0..WORKERS).map(|worker| Proxy::start(handle, &addresses[worker % addresses.len()])).collect();
        let ways = || addresses.iter().map(|address| Proxy::start(handle, address)).collect();
        stage.client_ways = (0..CLIENTS).map(|_| ways()).collect();
        let budget = ["--trials", "1000000", "--reps", "3", "--pruner", "none", "--no-confirm", "--sampler", "tpe"];
        place.create_study(&format!("http://{}", addresses[0]), &budget);
        for which in 0..WORKERS {
            let worker = stage.work(which);
            stage.workers.push(Some(worker));
        }
        place.until_study_is(&format!("http://{}", addresses[0]), "active");
        stage
    }

    /// Starts a coordinator. The second one on Postgres lives an hour before everybody else; on SQLite its clock is the
    /// database's.
    fn serve(&self, which: usize, url: &str) -> Served {
        let mut command = self.place.command();
        command.args(["serve", "--listen", "127.0.0.1:0", "--storage", url]);
        if which > 0 {
            skewed(&mut command, &self.skew, -SKEW_S);
        }
        self.place.serve_command(command)
    }

    /// Starts a worker with an identity, a store of results and devices of its own. The first one lives an hour ahead.
    fn work(&self, which: usize) -> Running {
        let mut command = self.place.command();
        let name = format!("worker-{which}");
        command.args(["worker", "run", "--server", &self.worker_ways[which].url(), "--name", &name]);
        command.arg("--models").arg(self.place.path("")).arg("--runner").arg(self.place.runner());
        command.env("XDG_DATA_HOME", self.place.path(&name)).env("FLEETUNE_LOCK_DIR", self.place.path(&name));
        command.env("FLEETUNE_LOG", "fleetune_worker=info").env("FLEETUNE_LOG_FORMAT", "json");
        if which == 0 {
            skewed(&mut command, &self.skew, SKEW_S);
        }
        self.place.start_command(command)
    }

    fn carry_out(&mut self, fault: Fault) {
        match fault {
            Fault::KillCoordinator(which) => self.kill_coordinator(which),
            Fault::StartCoordinator(which) => self.start_coordinator(which, self.url),
            Fault::KillWorker(which) => {
                if let Some(worker) = self.workers[which].take() {
                    self.tally.kills += 1;
                    self.gone(worker.kill());
                }
            }
            Fault::StartWorker(which) => {
                if self.workers[which].is_none() {
                    self.workers[which] = Some(self.work(which));
                }
            }
            Fault::RestartPostgres => {
                if let Some(postgres) = self.postgres {
                    postgres.restart();
                    self.tally.restarts += 1;
                }
            }
            Fault::FillDisk => {
                self.kill_coordinator(0);
                // SQLite takes a limit below the size for the size.
                self.start_coordinator(0, &format!("{}?max_page_count=1", self.url));
            }
            Fault::FreeDisk => {
                self.kill_coordinator(0);
                self.start_coordinator(0, self.url);
            }
            Fault::CutWorker(which, cut, time, reset) => {
                self.worker_ways[which].cut(cut, time, reset);
                self.tally.cuts += 1;
            }
            Fault::CutClient(which, cut, time, reset) => {
                for way in &self.client_ways[which] {
                    way.cut(cut, time, reset);
                }
                self.tally.cuts += 1;
            }
        }
    }

    fn kill_coordinator(&mut self, which: usize) {
        if let Some(served) = self.coordinators[which].take() {
            self.tally.kills += 1;
            self.gone(served.kill());
        }
    }

    fn start_coordinator(&mut self, which: usize, url: &str) {
        if self.coordinators[which].is_some() {
            return;
        }
        let served = self.serve(which, url);
        for (worker, way) in self.worker_ways.iter().enumerate() {
            if worker % self.coordinators.len() == which {
                way.lead_to(&served.address);
            }
        }
        for ways in &self.client_ways {
            ways[which].lead_to(&served.address);
        }
        self.coordinators[which] = Some(served);
        self.full = url != self.url;
    }

    /// Brings everybody back who is away, and heals the network.
    fn mend(&mut self) {
        if self.full {
            self.carry_out(Fault::FreeDisk);
        }
        for which in 0..self.coordinators.len() {
            self.start_coordinator(which, self.url);
        }
        for way in self.worker_ways.iter().chain(self.client_ways.iter().flatten()) {
            way.heal();
        }
        for which in 0..WORKERS {
            self.carry_out(Fault::StartWorker(which));
        }
    }

    /// A way to the first coordinator that nobody cuts.
    fn service(&self) -> StudyServiceClient<tonic::transport::Channel> {
        let served = self.coordinators[0].as_ref().expect("everybody is back");
        StudyServiceClient::new(Endpoint::from_shared(served.url()).expect("it has an address").connect_lazy())
    }

    /// Asks everybody to leave; what was done, what was wrong, and the logs of the workers.
    fn end(mut self) -> (Tally, Vec<String>, Vec<String>) {
        for worker in std::mem::take(&mut self.workers).into_iter().flatten() {
            worker.signal(Signal::SIGTERM);
            let done = worker.wait();
            if done.code != Some(0) {
                self.wrong.push(format!("`{}` ended with {:?}:\n{}", done.command, done.code, done.stderr));
            }
            self.gone(done);
        }
        for served in std::mem::take(&mut self.coordinators).into_iter().flatten() {
            served.running.signal(Signal::SIGTERM);
            let done = served.running.wait();
            if done.code != Some(0) {
                self.wrong.push(format!("`{}` ended with {:?}:\n{}", done.command, done.code, done.stderr));
            }
            self.gone(done);
        }
        until("the runners of killed workers are gone", || self.place.children().is_empty().then_some(()));
        (self.tally, self.wrong, self.logs)
    }

    fn gone(&mut self, done: Done) {
        // A signal has no code.
        if let Some(code) = done.code.filter(|code| *code != 0) {
            self.wrong.push(format!("`{}` ended by itself with {code}:\n{}", done.command, done.stderr));
        }
        if let Some(panic) = done.stderr.lines().find(|line| line.contains("panicked at")) {
            self.wrong.push(format!("`{}` {panic}", done.command));
        }
        self.logs.push(done.stderr);
    }
}
