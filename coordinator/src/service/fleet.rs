//! FleetService.

use fleetune_core::{StudyId, StudyState, WorkerId};
use fleetune_proto::v1::fleet_service_server::FleetService;
use fleetune_proto::{convert, v1};
use tonic::{Request, Response, Status};

use super::{status, view};
use crate::scheduler::{Engine, EngineError};
use crate::storage::{StoreError, WorkerRecord, audit};

/// Workers and studies looked at for a status or a name.
const MAX_LISTED: u32 = 10_000;

/// Digits of an id that may stand for it.
const MIN_PREFIX: usize = 6;

/// Workers named in one refusal.
const MAX_NAMED: usize = 10;

/// FleetService over an engine.
pub struct FleetApi {
    engine: Engine,
}

impl FleetApi {
    /// Over `engine`.
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }

    /// Whether the worker was heard from within the last lease time.
    fn is_alive(&self, worker: &WorkerRecord) -> bool {
        self.engine.now().since(worker.last_seen) <= self.engine.options().lease_ttl
    }

    fn view(&self, worker: &WorkerRecord) -> v1::Worker {
        let gauges = self.engine.gauges(&worker.id).as_ref().map(convert::gauges_to_wire);
        v1::Worker { gauges, ..view::worker(worker, self.is_alive(worker)) }
    }

    /// The worker with this id, this name, or an id that begins so.
    async fn find(&self, wanted: &str) -> Result<WorkerRecord, Status> {
        let all = self.engine.workers(&WorkerId(String::new()), MAX_LISTED).await.map_err(refused)?;
        if let Some(worker) = all.iter().find(|worker| worker.id.0 == wanted) {
            return Ok(worker.clone());
        }
        let mut found: Vec<_> = all.iter().filter(|worker| worker.name == wanted).collect();
        let mut what = "this name";
        if found.is_empty() && wanted.len() >= MIN_PREFIX {
            found = all.iter().filter(|worker| worker.id.0.starts_with(wanted)).collect();
            what = "an id that begins so";
        }
        match found[..] {
            [] => Err(refused(StoreError::WorkerNotFound(wanted.to_owned()).into())),
            [worker] => Ok(worker.clone()),
            [first, ..] => {
                let ids: Vec<_> = found.iter().take(MAX_NAMED).map(|worker| format!("`{}`", worker.id)).collect();
                let more = if found.len() > MAX_NAMED { ", …" } else { "" };
                let why = format!("{} workers have {what}: {}{more}", found.len(), ids.join(", "));
                Err(refused(EngineError::Invalid {
                    what: format!("worker `{wanted}`"),
                    why,
                    hint: Some(format!("give an id instead, such as `{}`", first.id)),
                }))
            }
        }
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl FleetService for FleetApi {
    async fn list_workers(&self, request: Request<v1::ListWorkersRequest>) -> Answer<v1::ListWorkersResponse> {
        let request = request.into_inner();
        let size = if request.page_size == 0 { 100 } else { request.page_size.min(1000) };
        let workers = self.engine.workers(&WorkerId(request.page_token), size).await.map_err(refused)?;
        let full = workers.len() as u32 >= size;
        let next_page_token = match workers.last() {
            Some(last) if full => last.id.0.clone(),
            _ => String::new(),
        };
        Ok(Response::new(v1::ListWorkersResponse {
            workers: workers.iter().map(|worker| self.view(worker)).collect(),
            next_page_token,
        }))
    }

    async fn get_worker(&self, request: Request<v1::GetWorkerRequest>) -> Answer<v1::GetWorkerResponse> {
        let worker = self.find(&request.into_inner().worker).await?;
        let held = self.engine.held_by(&worker.id).await.map_err(refused)?;
        let worker = v1::Worker { jobs: held.iter().map(view::held_job).collect(), ..self.view(&worker) };
        Ok(Response::new(v1::GetWorkerResponse { worker: Some(worker) }))
    }

    async fn drain_worker(&self, request: Request<v1::DrainWorkerRequest>) -> Answer<v1::DrainWorkerResponse> {
        let worker = self.find(&request.into_inner().worker).await?;
        audit::about("worker", &worker.name);
        let worker = self.engine.set_draining(&worker.id, true).await.map_err(refused)?;
        Ok(Response::new(v1::DrainWorkerResponse { worker: Some(self.view(&worker)) }))
    }

    async fn resume_worker(&self, request: Request<v1::ResumeWorkerRequest>) -> Answer<v1::ResumeWorkerResponse> {
        let worker = self.find(&request.into_inner().worker).await?;
        audit::about("worker", &worker.name);
        let worker = self.engine.set_draining(&worker.id, false).await.map_err(refused)?;
        Ok(Response::new(v1::ResumeWorkerResponse { worker: Some(self.view(&worker)) }))
    }

    async fn list_regions(&self, request: Request<v1::ListRegionsRequest>) -> Answer<v1::ListRegionsResponse> {
        let request = request.into_inner();
        let given = |text: &'_ str| (!text.is_empty()).then(|| text.to_owned());
        let (class, model) = (given(&request.device_class), given(&request.model_hash));
        let regions = self.engine.regions(class.as_deref(), model.as_deref()).await.map_err(refused)?;
        Ok(Response::new(v1::ListRegionsResponse { regions: regions.iter().map(convert::region_to_wire).collect() }))
    }

    async fn get_region(&self, request: Request<v1::GetRegionRequest>) -> Answer<v1::GetRegionResponse> {
        let id = request.into_inner().id;
        let regions = self.engine.regions(None, None).await.map_err(refused)?;
        let region = regions.iter().find(|region| region.id == id);
        let region = region.ok_or_else(|| refused(StoreError::RegionNotFound(id).into()))?;
        Ok(Response::new(v1::GetRegionResponse { region: Some(convert::region_to_wire(region)) }))
    }

    async fn delete_region(&self, request: Request<v1::DeleteRegionRequest>) -> Answer<v1::DeleteRegionResponse> {
        let id = request.into_inner().id;
        audit::about("region", &id.to_string());
        let region = self.engine.delete_region(id).await.map_err(refused)?;
        Ok(Response::new(v1::DeleteRegionResponse { region: Some(convert::region_to_wire(&region)) }))
    }

    async fn fleet_status(&self, _: Request<v1::FleetStatusRequest>) -> Answer<v1::FleetStatusResponse> {
        let workers = self.engine.workers(&WorkerId(String::new()), MAX_LISTED).await.map_err(refused)?;
        let studies = self.engine.studies(StudyId(0), MAX_LISTED, false).await.map_err(refused)?;
        Ok(Response::new(v1::FleetStatusResponse {
            workers: workers.len() as u64,
            alive: workers.iter().filter(|worker| self.is_alive(worker)).count() as u64,
            studies_active: studies.iter().filter(|study| study.record.state == StudyState::Active).count() as u64,
            trials_running: studies.iter().map(|study| study.counts.running).sum(),
        }))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "fits map_err")]
fn refused(error: EngineError) -> Status {
    status::engine(&error)
}
