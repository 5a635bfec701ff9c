//! Unsafe regions and quarantine: what a search goes around, and what no worker is given.

use std::borrow::Cow;
use std::collections::BTreeMap;

use fleetune_core::region::{self, UnsafeRegion, configuration};
use fleetune_core::space::{Bound, Exclusion};
use fleetune_core::study::{Benchmark, StudyConfig};
use fleetune_core::{FailKind, Params, SearchSpace, StudyId, TrialState};

use super::engine::Engine;
use super::error::EngineError;
use super::work::{Assignment, Work};
use crate::storage::{Cause, StudyExclusion, StudyRecord, TrialEnd, WorkerRecord, external};

/// Regions that go with a description, whose model is not known yet.
const MAX_SENT: usize = 256;

/// Studies looked at for one that a region matters to.
const PAGE: u32 = 1_000;

/// What a search goes around.
#[derive(Debug, Default)]
pub(super) struct Limits {
    corners: Vec<Exclusion>,
    /// Why nothing may be run at all.
    closed: Option<String>,
}

impl Limits {
    /// What `exclusions` mean for a study.
    pub fn of(config: &StudyConfig, exclusions: &[StudyExclusion]) -> Self {
        let mut limits = Self::default();
        let Some(space) = config.space.as_ref() else { return limits };
        for corner in exclusions.iter().filter_map(|exclusion| corner(config, space, exclusion)) {
            if corner.bounds.is_empty() {
                limits.closed = Some(corner.why);
            } else {
                limits.corners.push(corner);
            }
        }
        limits
    }

    /// The configuration of a study as its sampler takes it.
    pub fn narrow<'a>(&self, config: &'a StudyConfig) -> Cow<'a, StudyConfig> {
        if self.corners.is_empty() {
            return Cow::Borrowed(config);
        }
        let space = config.space.as_ref().map(|space| space.excluding(self.corners.iter().cloned()));
        Cow::Owned(StudyConfig { space, ..config.clone() })
    }

    /// Why nothing may be run that fixes these parameters.
    pub fn forbid(&self, fixed: &Params) -> Option<&str> {
        let corner = || self.corners.iter().find(|corner| corner.contains(fixed)).map(|corner| corner.why.as_str());
        self.closed.as_deref().or_else(corner)
    }
}

/// What an exclusion means for a search; none when it does not concern it, without bound when it leaves nothing of it.
fn corner(config: &StudyConfig, space: &SearchSpace, exclusion: &StudyExclusion) -> Option<Exclusion> {
    match exclusion.cause {
        Cause::Region(_) => {
            let benchmark = config.benchmark.as_ref()?;
            let is_searched = |name: &str| space.parameters().contains_key(name);
            region::exclusion(&exclusion.settings, &exclusion.why, benchmark, is_searched)
        }
        Cause::Trial(_) => {
            let exactly = |(name, value): (&String, &fleetune_core::Value)| (name.clone(), Bound::Is(value.clone()));
            let bounds: BTreeMap<_, _> = exclusion.settings.iter().map(exactly).collect();
            (!bounds.is_empty()).then(|| Exclusion { bounds, why: exclusion.why.clone() })
        }
    }
}

impl Engine {
    /// A job of the study that may be run on machines like the worker's, and what must not. Trials that must not end as
    /// `unsafe_region`.
    pub(super) async fn safe_work(
        &self,
        study: &StudyRecord,
        benchmark: &Benchmark,
        worker: &WorkerRecord,
        request_id: &str,
    ) -> Result<Option<Assignment>, EngineError> {
        let regions = self.regions_for(study, benchmark, worker).await?;
        let known = || study.exclusions.iter().filter(|exclusion| exclusion.removed.is_none());
        let mut copied: Vec<i64> = known().filter_map(|exclusion| region_id(exclusion.cause)).collect();
        copied.sort_unstable();
        if study.pin.is_some() && !copied.iter().copied().eq(regions.iter().map(|region| region.id)) {
            self.store.copy_regions(study.id).await?;
        }
        for skipped in 0.. {
            let request =
                if skipped == 0 { Cow::Borrowed(request_id) } else { Cow::Owned(format!("{request_id}+{skipped}")) };
            let Some(assignment) = self.acquire_from(study, benchmark.clone(), worker, &request).await? else { break };
            match unsafe_why(study, &assignment, &regions) {
                None => return Ok(Some(Assignment { regions, ..assignment })),
                Some(why) => self.skip(study.id, &assignment, why).await?,
            }
        }
        Ok(None)
    }

    /// The same assignment with what must not be run.
    pub(super) async fn with_regions(
        &self,
        assignment: Assignment,
        worker: &WorkerRecord,
    ) -> Result<Assignment, EngineError> {
        let study = self.store.study_by_name(&assignment.study).await?;
        let regions = self.regions_for(&study, &assignment.benchmark, worker).await?;
        Ok(Assignment { regions, ..assignment })
    }

    /// What holds for the study on machines like the worker's; before its model is known, of every model.
    async fn regions_for(
        &self,
        study: &StudyRecord,
        benchmark: &Benchmark,
        worker: &WorkerRecord,
    ) -> Result<Vec<UnsafeRegion>, EngineError> {
        if benchmark.ignore_regions {
            return Ok(Vec::new());
        }
        if let Some(pin) = &study.pin {
            return Ok(self.store.regions_of(pin).await?);
        }
        let class = worker.labels.get("class").cloned().unwrap_or_else(|| worker.inventory.device_class());
        let mut regions = self.regions(Some(&class), None).await?;
        regions.truncate(MAX_SENT);
        Ok(regions)
    }

    /// Ends a trial that must not be run.
    async fn skip(&self, study: StudyId, assignment: &Assignment, why: String) -> Result<(), EngineError> {
        let Work::Trial(trial) = &assignment.work else { return Ok(()) };
        let end = TrialEnd {
            state: TrialState::Fail,
            values: Vec::new(),
            constraints: Vec::new(),
            fail: Some((FailKind::UnsafeRegion, why)),
            seconds: 0.0,
        };
        let (token, detail) = (assignment.lease.token, serde_json::Value::Null);
        self.store.finish(study, trial.number, Some(token), end, detail, self.now()).await?;
        self.noted();
        Ok(())
    }

    /// The unsafe regions of a device class and a model, of all where none is named; by class, model and id.
    pub async fn regions(
        &self,
        device_class: Option<&str>,
        model_hash: Option<&str>,
    ) -> Result<Vec<UnsafeRegion>, EngineError> {
        let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for incident in self.store.incidents(device_class).await? {
            let group = (incident.device_class.clone(), incident.model_hash.clone());
            groups.entry(group).or_default().push(incident);
        }
        let wanted = |model: &str| model_hash.is_none_or(|prefix| model.starts_with(prefix));
        let groups = groups.iter().filter(|((_, model), _)| wanted(model));
        Ok(groups.flat_map(|(_, incidents)| region::learn(incidents)).collect())
    }

    /// Forgets an unsafe region; studies of machines and a model like its own may sample it again.
    pub async fn delete_region(&self, id: i64) -> Result<UnsafeRegion, EngineError> {
        let region = self.store.delete_region(id).await?;
        let mut after = StudyId(0);
        loop {
            let page = self.store.open_studies(after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.id;
            let concerned = page.iter().filter(|study| {
                let pin = study.pin.as_ref();
                pin.is_some_and(|pin| pin.device_class == region.device_class && pin.model_hash == region.model_hash)
            });
            for study in concerned {
                self.store.copy_regions(study.id).await?;
            }
        }
        self.changed();
        Ok(region)
    }
}

/// Refuses a queue entry that must not be run; `force` consents to what is in quarantine.
pub(super) fn check_safe(study: &StudyRecord, fixed: &Params, force: bool) -> Result<(), EngineError> {
    let Some(space) = &study.config.space else { return Ok(()) };
    for exclusion in study.exclusions.iter().filter(|exclusion| exclusion.removed.is_none()) {
        let corner = corner(&study.config, space, exclusion);
        if !corner.is_some_and(|corner| corner.bounds.is_empty() || corner.contains(fixed)) {
            continue;
        }
        let hint = match exclusion.cause {
            Cause::Trial(_) if force => continue,
            Cause::Trial(number) => {
                let name = &study.name;
                format!("`fleetune trial show {name} {number}` says what happened; `--force` runs it again")
            }
            Cause::Region(id) => {
                format!("`fleetune region show {id}` says what happened; `fleetune region delete {id}` forgets it")
            }
        };
        return Err(EngineError::Invalid {
            what: "configuration".to_owned(),
            why: format!("must not be run: {}", exclusion.why),
            hint: Some(hint),
        });
    }
    Ok(())
}

fn region_id(cause: Cause) -> Option<i64> {
    match cause {
        Cause::Region(id) => Some(id),
        Cause::Trial(_) => None,
    }
}

/// Why the trial of an assignment must not be run.
fn unsafe_why(study: &StudyRecord, assignment: &Assignment, regions: &[UnsafeRegion]) -> Option<String> {
    let Work::Trial(trial) = &assignment.work else { return None };
    let params = external(&trial.params);
    let configuration = configuration(&assignment.benchmark, &params);
    let region = || regions.iter().find(|region| region.contains(&configuration)).map(UnsafeRegion::why);
    let quarantine = study.exclusions.iter().find(|exclusion| {
        let is_open = exclusion.removed.is_none() && matches!(exclusion.cause, Cause::Trial(_));
        is_open && exclusion.settings == params
    });
    let why = quarantine.map(|exclusion| exclusion.why.clone()).or_else(region)?;
    Some(format!("not started: {why}"))
}
