//! What went down: incidents, the regions that they show, configurations in quarantine.

use async_trait::async_trait;
use fleetune_core::region::{self, Incident, UnsafeRegion};
use fleetune_core::study::{Benchmark, Pin};
use fleetune_core::{Attempt, FailKind, Params, Revision, StudyId, Timestamp, TrialNumber, TrialState, WorkerId};
use fleetune_model::ModelMetadata;

use super::common::{need_head, need_study, plain};
use super::{Lane, Operation};
use crate::storage::error::StoreError;
use crate::storage::record::{AttemptState, Cause, NewIncident, StudyExclusion, StudyRecord, TrialRecord, external};
use crate::storage::rows::{AttemptRow, Rows, StudyHead};

/// Incidents of one device class and model that are kept.
const MAX_INCIDENTS: u32 = 256;
/// Incidents that are listed.
pub(in crate::storage) const MAX_LISTED: u32 = 10_000;
/// What a study excludes or has excluded, at most. Beyond that regions are respected where trials are handed out.
const MAX_EXCLUSIONS: usize = 1_000;
/// Newest trials that are looked at for one that shows a configuration to be harmless.
const LOOKED_AT: u32 = 2_000;

/// The executions of a trial that count as lost when it is given up, the open one among them.
pub(super) fn lost(attempts: &[AttemptRow]) -> Vec<(Attempt, WorkerId)> {
    let is_lost = |attempt: &&AttemptRow| match attempt.state {
        AttemptState::Open | AttemptState::Lost => true,
        AttemptState::Finished | AttemptState::Released => false,
    };
    attempts.iter().filter(is_lost).map(|attempt| (attempt.attempt, attempt.worker.clone())).collect()
}

/// Notes that `trial` has just ended because something went down under it, in the executions `attempts`.
///
/// A configuration that took workers with it goes into quarantine. Where the study is pinned, machines like these learn.
pub(super) async fn went_down(
    rows: &mut dyn Rows,
    head: &StudyHead,
    trial: &TrialRecord,
    attempts: &[(Attempt, WorkerId)],
    now: Timestamp,
) -> Result<(), StoreError> {
    let Some((kind, message)) = &trial.fail else { return Ok(()) };
    let study = need_study(rows, head.id).await?;
    let mut exclusions = study.exclusions.clone();
    let params = external(&trial.params);
    if matches!(kind, FailKind::WorkerLost | FailKind::HostCrash) && exclusions.len() < MAX_EXCLUSIONS {
        exclusions.push(StudyExclusion {
            cause: Cause::Trial(trial.number.0),
            settings: params.clone(),
            why: format!("it is in quarantine: trial {} ended as {kind}", trial.number),
            added: head.revision,
            removed: None,
        });
    }
    if let (Some(pin), Some(benchmark)) = (&study.pin, &study.config.benchmark) {
        let incident = Incident {
            id: 0,
            device_class: pin.device_class.clone(),
            model_hash: pin.model_hash.clone(),
            kind: *kind,
            worker: WorkerId(String::new()),
            study: study.name.clone(),
            trial: trial.number,
            attempt: Attempt(0),
            at: now,
            settings: region::point(region::configuration(benchmark, &params), layers(&study)),
            message: plain(message),
            refuted: false,
        };
        let known = note(rows, head, benchmark, incident, attempts).await?;
        if !benchmark.ignore_regions {
            bring_up(head.revision, &mut exclusions, &region::learn(&known));
        }
    }
    if exclusions != study.exclusions {
        rows.save_exclusions(head.id, &exclusions).await?;
    }
    Ok(())
}

/// Stores an incident for each of `attempts`, and which incidents what was measured refutes; all of the class and model.
async fn note(
    rows: &mut dyn Rows,
    head: &StudyHead,
    benchmark: &Benchmark,
    incident: Incident,
    attempts: &[(Attempt, WorkerId)],
) -> Result<Vec<Incident>, StoreError> {
    let (class, model) = (incident.device_class.clone(), incident.model_hash.clone());
    let measured = measured(rows, head, benchmark).await?;
    let is_refuted =
        |incident: &Incident| measured.iter().any(|settings| region::is_beyond(settings, &incident.settings));
    let mut known = rows.incidents(&class, &model).await?;
    for incident in known.iter_mut().filter(|incident| !incident.refuted) {
        if is_refuted(incident) {
            rows.refute_incident(incident.id).await?;
            incident.refuted = true;
        }
    }
    for (attempt, worker) in attempts {
        let mut incident = Incident { attempt: *attempt, worker: worker.clone(), ..incident.clone() };
        incident.refuted = is_refuted(&incident);
        incident.id = rows.insert_incident(&NewIncident { incident: incident.clone(), study: head.id }).await?;
        known.push(incident);
    }
    rows.trim_incidents(&class, &model, MAX_INCIDENTS).await?;
    Ok(known)
}

/// The configurations of the study that were measured and did no harm, of its newest trials.
async fn measured(rows: &mut dyn Rows, head: &StudyHead, benchmark: &Benchmark) -> Result<Vec<Params>, StoreError> {
    let from = TrialNumber((head.next_number.0 - i64::from(LOOKED_AT)).max(0));
    let trials = rows.trials_from(head.id, from, LOOKED_AT).await?;
    let harmless = trials.iter().filter(|trial| matches!(trial.state, TrialState::Complete | TrialState::Pruned));
    Ok(harmless.map(|trial| region::configuration(benchmark, &external(&trial.params))).collect())
}

/// Layers that there are to offload, as the description says; 0 when unknown.
fn layers(study: &StudyRecord) -> u32 {
    let model = study.description.as_ref().and_then(|description| description.get("model"));
    let model = model.and_then(|model| serde_json::from_value::<ModelMetadata>(model.clone()).ok());
    model.map_or(0, |model| model.layers_to_offload())
}

/// Makes the regions among `exclusions` those that there are, from revision `at` on; whether anything changed.
fn bring_up(at: Revision, exclusions: &mut Vec<StudyExclusion>, regions: &[UnsafeRegion]) -> bool {
    let mut changed = false;
    for exclusion in exclusions.iter_mut().filter(|exclusion| exclusion.removed.is_none()) {
        if let Cause::Region(id) = exclusion.cause
            && !regions.iter().any(|region| region.id == id)
        {
            exclusion.removed = Some(at);
            changed = true;
        }
    }
    for region in regions {
        let cause = Cause::Region(region.id);
        let is_known = exclusions.iter().any(|exclusion| exclusion.cause == cause && exclusion.removed.is_none());
        if !is_known && exclusions.len() < MAX_EXCLUSIONS {
            let (settings, why) = (region.settings.clone(), region.why());
            exclusions.push(StudyExclusion { cause, settings, why, added: at, removed: None });
            changed = true;
        }
    }
    changed
}

/// The regions for which `pin` matters, as they stand.
async fn regions_of(rows: &mut dyn Rows, pin: &Pin) -> Result<Vec<UnsafeRegion>, StoreError> {
    Ok(region::learn(&rows.incidents(&pin.device_class, &pin.model_hash).await?))
}

/// Copies the regions that hold for the study into it, as of revision `at`; whether anything changed.
pub(super) async fn copy_regions(
    rows: &mut dyn Rows,
    at: Revision,
    study: &mut StudyRecord,
) -> Result<bool, StoreError> {
    let heeds = study.config.benchmark.as_ref().is_some_and(|benchmark| !benchmark.ignore_regions);
    let Some(pin) = study.pin.clone().filter(|_| heeds) else { return Ok(false) };
    let regions = regions_of(rows, &pin).await?;
    let changed = bring_up(at, &mut study.exclusions, &regions);
    if changed {
        rows.save_exclusions(study.id, &study.exclusions).await?;
    }
    Ok(changed)
}

/// An execution that was taken for lost has come to its end after all: it took nothing down.
pub(super) async fn survived(
    rows: &mut dyn Rows,
    head: &mut StudyHead,
    trial: &TrialRecord,
    attempt: Attempt,
) -> Result<(), StoreError> {
    let is_lost = trial.fail.as_ref().is_some_and(|(kind, _)| *kind == FailKind::WorkerLost);
    if !is_lost {
        return Ok(());
    }
    rows.forget_incident(head.id, trial.number, attempt).await?;
    let mut study = need_study(rows, head.id).await?;
    let at = head.revision.next();
    let lifted = lift(at, &mut study.exclusions, |exclusion| exclusion.cause == Cause::Trial(trial.number.0));
    if lifted {
        rows.save_exclusions(study.id, &study.exclusions).await?;
    }
    if copy_regions(rows, at, &mut study).await? || lifted {
        head.bump();
        rows.save_head(head).await?;
    }
    Ok(())
}

/// Ends the quarantines that `which` names, from revision `at` on; whether there was any.
pub(super) fn lift(at: Revision, exclusions: &mut [StudyExclusion], which: impl Fn(&StudyExclusion) -> bool) -> bool {
    let mut lifted = false;
    for exclusion in exclusions.iter_mut() {
        let quarantine = matches!(exclusion.cause, Cause::Trial(_)) && exclusion.removed.is_none();
        if quarantine && which(exclusion) {
            exclusion.removed = Some(at);
            lifted = true;
        }
    }
    lifted
}

/// Copies the regions that hold for a study into it.
pub(in crate::storage) struct CopyRegions {
    pub study: StudyId,
}

#[async_trait]
impl Operation for CopyRegions {
    type Output = StudyRecord;

    fn lane(&self) -> Lane {
        Lane::Study(self.study)
    }

    async fn apply(&self, rows: &mut dyn Rows) -> Result<StudyRecord, StoreError> {
        let mut head = need_head(rows, self.study).await?;
        let mut study = need_study(rows, self.study).await?;
        if copy_regions(rows, head.revision.next(), &mut study).await? {
            study.revision = head.bump();
            rows.save_head(&head).await?;
        }
        Ok(study)
    }
}

/// Forgets a region with all that happened in it.
pub(in crate::storage) struct DeleteRegion {
    pub id: i64,
}

#[async_trait]
impl Operation for DeleteRegion {
    type Output = UnsafeRegion;

    const IS_DEED: bool = true;

    fn lane(&self) -> Lane {
        Lane::Global
    }

    async fn apply(&self, rows: &mut dyn Rows) -> Result<UnsafeRegion, StoreError> {
        let unknown = || StoreError::RegionNotFound(self.id);
        let all = rows.all_incidents(None, MAX_LISTED).await?;
        let corner = all.iter().find(|incident| incident.id == self.id).ok_or_else(unknown)?;
        let same = |incident: &&Incident| {
            incident.device_class == corner.device_class && incident.model_hash == corner.model_hash
        };
        let incidents: Vec<Incident> = all.iter().filter(same).cloned().collect();
        let region = region::learn(&incidents).into_iter().find(|region| region.id == self.id).ok_or_else(unknown)?;
        for incident in &region.evidence {
            rows.delete_incident(incident.id).await?;
        }
        Ok(region)
    }
}
