//! FleetService as the commands use it.

use fleetune_proto::link::Link;
use fleetune_proto::v1::fleet_service_client::FleetServiceClient;
use fleetune_proto::{convert, v1};

use super::read::{checked, incomplete, micros, region};
use super::{MAX_MESSAGE, failed};
use crate::error::CliResult;
use crate::view::{HeldJobView, RegionView, WorkerView};

/// Workers of one page.
const PAGE: u32 = 500;

/// FleetService as the commands use it.
pub struct Fleet {
    fleet: FleetServiceClient<Link>,
}

impl Fleet {
    /// Over `link`.
    pub fn new(link: Link) -> Self {
        Self { fleet: FleetServiceClient::new(link).max_decoding_message_size(MAX_MESSAGE) }
    }

    /// Every worker.
    pub async fn workers(&mut self) -> CliResult<Vec<WorkerView>> {
        let mut workers = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = v1::ListWorkersRequest { page_size: PAGE, page_token };
            let page = self.fleet.list_workers(request).await.map_err(failed("failed to list the workers"))?;
            let page = page.into_inner();
            for wire in page.workers {
                workers.push(worker(Some(wire))?);
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(workers);
            }
        }
    }

    /// A worker by name or id, with what it holds.
    pub async fn worker(&mut self, wanted: &str) -> CliResult<WorkerView> {
        let answer = self.fleet.get_worker(v1::GetWorkerRequest { worker: wanted.to_owned() }).await;
        worker(answer.map_err(failed(format!("failed to read worker `{wanted}`")))?.into_inner().worker)
    }

    /// Lets a worker take nothing new.
    pub async fn drain(&mut self, wanted: &str) -> CliResult<WorkerView> {
        let answer = self.fleet.drain_worker(v1::DrainWorkerRequest { worker: wanted.to_owned() }).await;
        worker(answer.map_err(failed(format!("failed to drain worker `{wanted}`")))?.into_inner().worker)
    }

    /// The unsafe regions of a device class and a model, of all where none is named.
    pub async fn regions(&mut self, class: Option<&str>, model: Option<&str>) -> CliResult<Vec<RegionView>> {
        let text = |given: Option<&str>| given.unwrap_or_default().to_owned();
        let request = v1::ListRegionsRequest { device_class: text(class), model_hash: text(model) };
        let answer = self.fleet.list_regions(request).await.map_err(failed("failed to list the unsafe regions"))?;
        answer.into_inner().regions.into_iter().map(|wire| region(Some(wire))).collect()
    }

    /// An unsafe region.
    pub async fn region(&mut self, id: i64) -> CliResult<RegionView> {
        let answer = self.fleet.get_region(v1::GetRegionRequest { id }).await;
        region(answer.map_err(failed(format!("failed to read unsafe region {id}")))?.into_inner().region)
    }

    /// Forgets an unsafe region.
    pub async fn delete_region(&mut self, id: i64) -> CliResult<RegionView> {
        let answer = self.fleet.delete_region(v1::DeleteRegionRequest { id }).await;
        region(answer.map_err(failed(format!("failed to delete unsafe region {id}")))?.into_inner().region)
    }

    /// Undoes a drain.
    pub async fn resume(&mut self, wanted: &str) -> CliResult<WorkerView> {
        let answer = self.fleet.resume_worker(v1::ResumeWorkerRequest { worker: wanted.to_owned() }).await;
        worker(answer.map_err(failed(format!("failed to resume worker `{wanted}`")))?.into_inner().worker)
    }
}

fn worker(wire: Option<v1::Worker>) -> CliResult<WorkerView> {
    let wire = wire.ok_or_else(incomplete)?;
    Ok(WorkerView {
        id: wire.id,
        name: wire.name,
        alive: wire.alive,
        draining: wire.draining,
        labels: wire.labels,
        device_class: wire.device_class,
        executors: wire.executors,
        models: wire.models.into_iter().map(|model| checked(convert::model(model))).collect::<CliResult<_>>()?,
        gauges: wire.gauges.map(|gauges| checked(convert::gauges(gauges))).transpose()?,
        jobs: wire
            .jobs
            .into_iter()
            .map(|job| HeldJobView {
                study: job.study,
                kind: job.kind,
                trial: job.trial,
                attempt: job.attempt,
                expires_at_us: micros(job.expires_at.as_ref()),
            })
            .collect(),
        inventory: serde_json::from_str(&wire.inventory_json).map_err(|error| incomplete().because(error))?,
        version: wire.version,
        registered_at_us: micros(wire.registered_at.as_ref()),
        last_seen_us: micros(wire.last_seen.as_ref()),
    })
}
