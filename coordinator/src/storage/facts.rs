//! Facts: writes of clients that sample themselves, decided on memory and written in one statement, on the condition
//! that memory is current.
//!
//! Only what is common is written so. The rest takes the way of all operations, under the lock of the study's row.

use std::collections::BTreeMap;

use fleetune_core::{TrialId, TrialNumber};

use super::draft::{Draft, Drafting, Missing};
use super::engine::{Engine, News, Written};
use super::error::StoreError;
use super::foreign::load_whole;
use super::operations::known_as;
use super::queue::{Failed, Work};
use super::shelf::{Shelf, State};

/// How often a batch is decided again when others write at the same time, or memory lacked something.
const TRIES: u32 = 6;

/// Writes a batch of facts. Whether it was; if not, nothing has happened.
pub(super) async fn write(engine: &dyn Engine, shelf: &Shelf, batch: &mut [Box<dyn Work>]) -> Result<bool, Failed> {
    match try_write(engine, shelf, batch).await {
        // Whoever finds the study gone says it in the words of its operation.
        Err(Failed::Before(StoreError::StudyNotFound(_))) => {
            *shelf.state() = State::default();
            Ok(false)
        }
        result => result,
    }
}

async fn try_write(engine: &dyn Engine, shelf: &Shelf, batch: &mut [Box<dyn Work>]) -> Result<bool, Failed> {
    if !shelf.may_be_current() {
        shelf.look(engine).await.map_err(Failed::Before)?;
    }
    for _ in 0..TRIES {
        let Some((draft, missing)) = decide(shelf, batch) else {
            configure(engine, shelf).await.map_err(Failed::Before)?;
            continue;
        };
        if missing.is_hopeless {
            return Ok(false);
        }
        if !missing.is_empty() {
            if !load(engine, shelf, &missing).await.map_err(Failed::Before)? {
                return Ok(false);
            }
            continue;
        }
        if draft.is_empty() {
            // Repeats and refusals: whether they are so still has to be asked.
            shelf.look(engine).await.map_err(Failed::Before)?;
            if shelf.state().revision == draft.at {
                return Ok(true);
            }
            continue;
        }
        match engine.write_draft(&draft).await? {
            Written::All(ids) => {
                finish(shelf, draft, ids, batch);
                engine.committed(News::Watchers);
                return Ok(true);
            }
            Written::Behind => shelf.look(engine).await.map_err(Failed::Before)?,
            Written::Unknown => return Ok(false),
        }
    }
    Ok(false)
}

/// `None` when the configuration of the study is not known.
fn decide(shelf: &Shelf, batch: &mut [Box<dyn Work>]) -> Option<(Draft, Missing)> {
    let state = shelf.state();
    let mut drafting = Drafting::new(&state, state.head(shelf.study())?);
    for work in batch {
        work.draft(&mut drafting);
    }
    let Drafting { draft, missing, .. } = drafting;
    Some((draft, missing))
}

fn finish(shelf: &Shelf, draft: Draft, ids: Vec<(TrialNumber, TrialId)>, batch: &mut [Box<dyn Work>]) {
    let ids: BTreeMap<TrialNumber, TrialId> = ids.into_iter().collect();
    if !ids.is_empty() {
        for work in batch {
            work.numbered(&ids);
        }
    }
    shelf.state().written(draft, &ids);
}

async fn configure(engine: &dyn Engine, shelf: &Shelf) -> Result<(), StoreError> {
    let study = shelf.study();
    let record = engine.read().await?.study(study).await?;
    let record = record.ok_or_else(|| StoreError::StudyNotFound(study.to_string()))?;
    let is_newer = record.revision > shelf.state().revision;
    shelf.state().configured(record);
    if is_newer { shelf.look(engine).await } else { Ok(()) }
}

/// Reads what memory lacks. Whether memory has it now, as far as it is there.
async fn load(engine: &dyn Engine, shelf: &Shelf, missing: &Missing) -> Result<bool, StoreError> {
    let study = shelf.study();
    let mut rows = engine.read().await?;
    for name in &missing.parameters {
        let Some(known) = known_as(&mut *rows, study, name).await? else { return Ok(false) };
        shelf.state().parameters.insert(name.clone(), known);
    }
    let ids: Vec<i64> = missing.trials.iter().map(|id| id.0).collect();
    let mut is_behind = false;
    for whole in load_whole(&mut *rows, &ids).await? {
        let mut state = shelf.state();
        is_behind |= state.find(whole.record.id).is_none_or(|mark| mark.revision != whole.record.revision);
        state.keep(whole);
    }
    drop(rows);
    if is_behind {
        shelf.look(engine).await?;
    }
    Ok(true)
}
