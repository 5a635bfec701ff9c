//! How workers are shared among studies: by priority, then in turn.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use fleetune_core::schedule::{MAX_PRIORITY, Schedule};
use fleetune_core::selector::{Facts, Selector};
use fleetune_core::study::StudyConfig;

use super::board::Offer;
use super::error::EngineError;

/// Selectors kept compiled.
const MAX_SELECTORS: usize = 1_000;

/// Selectors by their text, compiled once; none for a text that means nothing to this program.
#[derive(Clone, Default)]
pub(super) struct Selectors(Arc<Mutex<HashMap<String, Option<Selector>>>>);

impl Selectors {
    /// Whether a worker with these facts may serve a study of this schedule.
    pub fn admit(&self, schedule: &Schedule, facts: &Facts) -> bool {
        schedule.selector.as_deref().is_none_or(|text| self.get(text).is_some_and(|selector| selector.admits(facts)))
    }

    fn get(&self, text: &str) -> Option<Selector> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(selector) = known.get(text) {
            return selector.clone();
        }
        if known.len() >= MAX_SELECTORS {
            known.clear();
        }
        known.entry(text.to_owned()).or_insert_with(|| Selector::compile(text).ok()).clone()
    }
}

/// Refuses a schedule that means nothing.
pub(super) fn check(schedule: &Schedule, config: &StudyConfig) -> Result<(), EngineError> {
    if config.benchmark.is_none() && *schedule != Schedule::default() {
        return Err(EngineError::Invalid {
            what: "schedule".to_owned(),
            why: "the study has no model, so no worker serves it, and there is nothing to share".to_owned(),
            hint: Some("leave out priority, limit and selector".to_owned()),
        });
    }
    if !(-MAX_PRIORITY..=MAX_PRIORITY).contains(&schedule.priority) {
        let why = format!("{} is outside -{MAX_PRIORITY} to {MAX_PRIORITY}", schedule.priority);
        return Err(EngineError::invalid("schedule.priority", why));
    }
    if schedule.max_parallel == Some(0) {
        return Err(EngineError::invalid("schedule.max_parallel", "must be at least 1"));
    }
    if let Some(text) = &schedule.selector {
        Selector::compile(text).map_err(|error| EngineError::Invalid {
            what: "schedule.selector".to_owned(),
            why: error.to_string(),
            hint: Some("an example: `inventory.gpus.exists(gpu, gpu.vram_mib >= 12 * 1024)`".to_owned()),
        })?;
    }
    Ok(())
}

/// Takes the offer out of `left` that is to be served next: the highest priority, then whichever has waited longest, then
/// the oldest. Whoever looks after this sees it as served.
pub(super) fn take_next<'a>(left: &mut Vec<&'a Offer>) -> Option<&'a Offer> {
    let key = |offer: &Offer| (Reverse(offer.study.schedule.priority), offer.served(), offer.study.id);
    let (index, _) = left.iter().enumerate().min_by_key(|(_, offer)| key(offer))?;
    let offer = left.swap_remove(index);
    offer.serve();
    Some(offer)
}
