//! A coordinator for tests: hands out the jobs it was given, one by one, and writes down what it hears.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fleetune_core::LeaseToken;
use fleetune_proto::v1;
use fleetune_proto::v1::study_service_server::{StudyService, StudyServiceServer};
use fleetune_proto::v1::worker_service_server::{WorkerService, WorkerServiceServer};
use tokio::sync::Notify;
use tokio_stream::StreamExt;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server, Uri};
use tonic::{Request, Response, Status};

/// Nothing in these tests takes long; one that hangs fails instead.
pub const DEADLINE: Duration = Duration::from_mins(1);

/// What was said to the coordinator.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    Register(v1::RegisterRequest),
    Report { step: u32, value: f64 },
    Finish(Box<v1::FinishRequest>),
    Release(String),
    Round(Box<v1::RecordRoundRequest>),
}

/// How the coordinator behaves, and what it heard.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "a fault each")]
pub struct State {
    pub jobs: VecDeque<v1::Job>,
    pub heard: Vec<Heard>,
    /// Jobs that were handed out, by request.
    pub given: Vec<(String, v1::Job)>,
    /// Acquires that came.
    pub acquires: u32,
    /// Acquires lease, and their answers never come.
    pub lose_answers: bool,
    /// Report from this step on is answered by STOP.
    pub stop_at: Option<u32>,
    /// What heartbeats say of every token.
    pub verdict: Option<v1::LeaseState>,
    pub drain: bool,
    /// An Acquire without a job is answered at once.
    pub idle: bool,
    /// Answers to `RecordRound`, in order.
    pub rounds: VecDeque<v1::Round>,
    /// As many Acquires fail with `WORKER_UNKNOWN`.
    pub forget: u32,
    /// Finish cannot be reached.
    pub finish_away: bool,
    /// What heartbeats told.
    pub gauges: Vec<v1::Gauges>,
}

/// Shared by the services and the test.
#[derive(Clone, Default)]
pub struct Coordinator {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

impl Coordinator {
    pub fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state.lock().unwrap());
        self.changed.notify_waiters();
        result
    }

    fn hear(&self, heard: Heard) {
        self.with(|state| state.heard.push(heard));
    }

    /// Waits until something was heard that `pick` likes.
    pub async fn until<T>(&self, mut pick: impl FnMut(&Heard) -> Option<T>) -> T {
        let search = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if let Some(found) = self.with_quietly(|state| state.heard.iter().find_map(&mut pick)) {
                    return found;
                }
                changed.await;
            }
        };
        tokio::time::timeout(DEADLINE, search).await.expect("the coordinator hears of it in time")
    }

    fn with_quietly<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.lock().unwrap())
    }

    /// Waits for an Acquire.
    pub async fn acquiring(&self) {
        self.until_state(|state| (state.acquires > 0).then_some(())).await;
    }

    /// Waits until `pick` finds something.
    pub async fn until_state<T>(&self, pick: impl Fn(&State) -> Option<T>) -> T {
        let found = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if let Some(found) = self.with_quietly(&pick) {
                    return found;
                }
                changed.await;
            }
        };
        tokio::time::timeout(DEADLINE, found).await.expect("it happens in time")
    }

    pub async fn finish(&self) -> v1::FinishRequest {
        self.until(|heard| match heard {
            Heard::Finish(finish) => Some((**finish).clone()),
            _ => None,
        })
        .await
    }

    pub fn reports(&self) -> Vec<(u32, f64)> {
        self.with_quietly(|state| {
            let report = |heard: &Heard| match heard {
                Heard::Report { step, value } => Some((*step, *value)),
                _ => None,
            };
            state.heard.iter().filter_map(report).collect()
        })
    }

    /// Registrations, in their order.
    pub fn registrations(&self) -> Vec<v1::RegisterRequest> {
        let registration = |heard: &Heard| match heard {
            Heard::Register(registration) => Some(registration.clone()),
            _ => None,
        };
        self.with_quietly(|state| state.heard.iter().filter_map(registration).collect())
    }

    /// A channel to this coordinator, without a port.
    pub async fn channel(&self) -> Channel {
        let (client, server) = tokio::io::duplex(1 << 20);
        let connection = tokio_stream::once(Ok::<_, std::io::Error>(server)).chain(tokio_stream::pending());
        let serve = Server::builder()
            .add_service(WorkerServiceServer::new(self.clone()))
            .add_service(StudyServiceServer::new(self.clone()))
            .serve_with_incoming(connection);
        tokio::spawn(serve);
        let client = Mutex::new(Some(client));
        Endpoint::from_static("http://test")
            .connect_with_connector(tower::service_fn(move |_: Uri| {
                let client = client.lock().unwrap().take();
                async move {
                    client
                        .map(hyper_util::rt::TokioIo::new)
                        .ok_or_else(|| std::io::Error::other("the connection is gone"))
                }
            }))
            .await
            .expect("the coordinator is there")
    }
}

/// A coordinator at an address of this machine, which can go away and come back.
pub struct Listening {
    pub coordinator: Coordinator,
    address: SocketAddr,
    server: Option<tokio::runtime::Runtime>,
}

impl Listening {
    pub async fn new(coordinator: Coordinator) -> Self {
        let address = "127.0.0.1:0".parse().unwrap();
        let mut listening = Self { coordinator, address, server: None };
        listening.come_back().await;
        listening
    }

    /// Connected at the first call, and again whenever that is possible.
    pub fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address)).unwrap().connect_lazy()
    }

    /// Ends at once, in the middle of whatever it does; its connections are gone.
    pub fn go_away(&mut self) {
        if let Some(server) = self.server.take() {
            server.shutdown_background();
        }
    }

    pub async fn come_back(&mut self) {
        let bind = async {
            loop {
                // The one before may not have let go of it yet.
                match std::net::TcpListener::bind(self.address) {
                    Ok(listener) => return listener,
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        };
        let listener = tokio::time::timeout(DEADLINE, bind).await.expect("the address gets free in time");
        listener.set_nonblocking(true).unwrap();
        self.address = listener.local_addr().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let coordinator = self.coordinator.clone();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            Server::builder()
                .add_service(WorkerServiceServer::new(coordinator.clone()))
                .add_service(StudyServiceServer::new(coordinator))
                .serve_with_incoming(TcpIncoming::from(listener))
                .await
        });
        self.server = Some(runtime);
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        // A runtime that is just dropped would wait for its tasks.
        self.go_away();
    }
}

fn refusal(reason: &str) -> Status {
    let mut status = Status::failed_precondition(reason.to_lowercase());
    status.metadata_mut().insert("fleetune-reason", reason.parse().unwrap());
    status
}

#[tonic::async_trait]
impl WorkerService for Coordinator {
    async fn register(&self, request: Request<v1::RegisterRequest>) -> Result<Response<v1::RegisterResponse>, Status> {
        self.hear(Heard::Register(request.into_inner()));
        Ok(Response::new(v1::RegisterResponse { lease_ttl_s: 5.0, heartbeat_every_s: 0.05 }))
    }

    async fn acquire(&self, request: Request<v1::AcquireRequest>) -> Result<Response<v1::AcquireResponse>, Status> {
        let request = request.into_inner();
        let answer = |jobs| Ok(Response::new(v1::AcquireResponse { jobs, obstacles: Vec::new() }));
        self.with(|state| state.acquires += 1);
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let mut lost = false;
            {
                let mut state = self.state.lock().unwrap();
                if state.forget > 0 {
                    state.forget -= 1;
                    return Err(refusal("WORKER_UNKNOWN"));
                }
                if let Some((_, job)) = state.given.iter().find(|(id, _)| *id == request.request_id) {
                    return answer(vec![job.clone()]);
                }
                if let Some(job) = state.jobs.pop_front() {
                    state.given.push((request.request_id.clone(), job.clone()));
                    if !state.lose_answers {
                        return answer(vec![job]);
                    }
                    lost = true;
                }
            }
            if lost {
                self.changed.notify_waiters();
                return std::future::pending().await;
            }
            if request.wait_s == 0.0 || self.with_quietly(|state| state.idle) {
                return answer(Vec::new());
            }
            changed.await;
        }
    }

    async fn heartbeat(
        &self,
        request: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatResponse>, Status> {
        let (state, drain) = self.with_quietly(|state| (state.verdict.unwrap_or(v1::LeaseState::Renewed), state.drain));
        let verdict = |token| v1::LeaseVerdict { token, state: state.into() };
        let request = request.into_inner();
        if let Some(gauges) = request.gauges {
            self.with(|state| state.gauges.push(gauges));
        }
        let leases = request.tokens.into_iter().map(verdict).collect();
        Ok(Response::new(v1::HeartbeatResponse { leases, drain }))
    }

    async fn record_round(
        &self,
        request: Request<v1::RecordRoundRequest>,
    ) -> Result<Response<v1::RecordRoundResponse>, Status> {
        self.hear(Heard::Round(Box::new(request.into_inner())));
        let next = self.with(|state| state.rounds.pop_front());
        Ok(Response::new(v1::RecordRoundResponse { next, cells_left: 2 }))
    }

    async fn finish(&self, request: Request<v1::FinishRequest>) -> Result<Response<v1::FinishResponse>, Status> {
        if self.with_quietly(|state| state.finish_away) {
            return Err(Status::unavailable("away"));
        }
        self.hear(Heard::Finish(Box::new(request.into_inner())));
        Ok(Response::new(v1::FinishResponse {}))
    }

    async fn release(&self, request: Request<v1::ReleaseRequest>) -> Result<Response<v1::ReleaseResponse>, Status> {
        self.hear(Heard::Release(request.into_inner().lease_token));
        Ok(Response::new(v1::ReleaseResponse {}))
    }

    async fn drain(&self, _request: Request<v1::DrainRequest>) -> Result<Response<v1::DrainResponse>, Status> {
        Ok(Response::new(v1::DrainResponse {}))
    }
}

/// Methods that no worker calls.
macro_rules! unused {
    ($($method:ident: $request:ident -> $response:ty,)+) => {
        $(
            fn $method<'life0, 'async_trait>(
                &'life0 self,
                _request: Request<v1::$request>,
            ) -> std::pin::Pin<
                Box<dyn Future<Output = Result<Response<$response>, Status>> + Send + 'async_trait>,
            >
            where
                'life0: 'async_trait,
                Self: 'async_trait,
            {
                Box::pin(async { Err(Status::unimplemented("not in this test")) })
            }
        )+
    };
}

#[tonic::async_trait]
impl StudyService for Coordinator {
    type ListTrialsStream = tokio_stream::Pending<Result<v1::Trial, Status>>;
    type WatchStream = tokio_stream::Pending<Result<v1::WatchEvent, Status>>;

    async fn report(&self, request: Request<v1::ReportRequest>) -> Result<Response<v1::ReportResponse>, Status> {
        let request = request.into_inner();
        request.lease_token.parse::<LeaseToken>().map_err(|error| Status::invalid_argument(error.to_string()))?;
        let stop = self.with_quietly(|state| state.stop_at.is_some_and(|at| request.step >= at));
        self.hear(Heard::Report { step: request.step, value: request.value });
        let verdict = if stop { v1::Verdict::Stop } else { v1::Verdict::Continue };
        Ok(Response::new(v1::ReportResponse { verdict: verdict.into() }))
    }

    unused! {
        create_study: CreateStudyRequest -> v1::CreateStudyResponse,
        get_study: GetStudyRequest -> v1::GetStudyResponse,
        list_studies: ListStudiesRequest -> v1::ListStudiesResponse,
        update_study: UpdateStudyRequest -> v1::UpdateStudyResponse,
        pause_study: PauseStudyRequest -> v1::PauseStudyResponse,
        resume_study: ResumeStudyRequest -> v1::ResumeStudyResponse,
        cancel_study: CancelStudyRequest -> v1::CancelStudyResponse,
        archive_study: ArchiveStudyRequest -> v1::ArchiveStudyResponse,
        unarchive_study: UnarchiveStudyRequest -> v1::UnarchiveStudyResponse,
        delete_study: DeleteStudyRequest -> v1::DeleteStudyResponse,
        ask: AskRequest -> v1::AskResponse,
        tell: TellRequest -> v1::TellResponse,
        suggest: SuggestRequest -> v1::SuggestResponse,
        should_prune: ShouldPruneRequest -> v1::ShouldPruneResponse,
        enqueue: EnqueueRequest -> v1::EnqueueResponse,
        cancel_trial: CancelTrialRequest -> v1::CancelTrialResponse,
        get_trial: GetTrialRequest -> v1::GetTrialResponse,
        list_trials: ListTrialsRequest -> Self::ListTrialsStream,
        best: BestRequest -> v1::BestResponse,
        importances: ImportancesRequest -> v1::ImportancesResponse,
        pareto_front: ParetoFrontRequest -> v1::ParetoFrontResponse,
        sensitivity: SensitivityRequest -> v1::SensitivityResponse,
        watch: WatchRequest -> Self::WatchStream,
        verify_study: VerifyStudyRequest -> v1::VerifyStudyResponse,
    }
}
