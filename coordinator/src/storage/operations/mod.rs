//! The rules, each mutation a type of its own.
//!
//! An operation reads first, decides, and writes last: when it refuses, it has written nothing. It may be applied again
//! after a transaction that failed, and reads no clock and draws no random number: both are its fields.

mod access;
mod advance;
mod archive;
mod attribute;
mod child;
mod claim;
mod common;
mod comparison;
mod foreign;
mod import;
mod lease;
mod prepare;
mod reap;
mod regions;
mod silence;
mod start;
mod study;
mod trial;
mod worker;

use std::collections::BTreeMap;

use async_trait::async_trait;
use fleetune_core::{StudyId, TrialId, TrialNumber};

use super::draft::Drafting;
use super::engine::News;
use super::error::StoreError;
use super::rows::Rows;

pub(super) use access::{CreateToken, NoteUses, RevokeToken, TrimAudit};
pub(super) use advance::AdvanceStudy;
pub(super) use archive::{Archive, Shed, Unarchive};
pub(super) use attribute::SetAttribute;
pub(super) use child::CreateChild;
pub(super) use claim::{Claim, claimed_by};
pub(super) use comparison::{CreateComparison, FinishComparison, RecordRound};
pub(super) use foreign::{AddTrial, SetOwnAttribute, SetParameter, SetState, SetStep, known_as};
pub(super) use import::{AddTrials, NameStudy};
pub(super) use lease::{Release, RenewLeases};
pub(super) use prepare::{FailPreparation, Prepare};
pub(super) use reap::Reap;
pub(super) use regions::{CopyRegions, DeleteRegion, MAX_LISTED};
pub(super) use silence::{FailSilent, ShowLife};
pub(super) use start::{Enqueue, Start, started_by};
pub(super) use study::{CreateStudy, DeleteStudy, UpdateStudy};
pub(super) use trial::{CancelTrial, FailWaiting, Finish, Report};
pub(super) use worker::{Drain, Register};

/// What must not happen at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::storage) enum Lane {
    /// What takes revisions of this study.
    Study(StudyId),
    /// Everything else: creation, workers, what touches several studies.
    Global,
}

/// A mutation.
#[async_trait]
pub(in crate::storage) trait Operation: Send + Sync + 'static {
    /// What its caller gets.
    type Output: Send + 'static;

    /// Who may wait for what it writes.
    const NEWS: News = News::Work;

    /// Whether it is what a person or a program wanted with its call, to be recorded as a deed.
    const IS_DEED: bool = false;

    /// Where it waits.
    fn lane(&self) -> Lane;

    /// Applies it within a transaction.
    async fn apply(&self, rows: &mut dyn Rows) -> Result<Self::Output, StoreError>;

    /// Whether [`Self::draft`] may decide it.
    fn is_fact(&self) -> bool {
        false
    }

    /// Decides it as [`Self::apply`] would, on what memory has. `None`: that lacks something.
    fn draft(&self, _: &mut Drafting<'_>) -> Option<Result<Self::Output, StoreError>> {
        None
    }

    /// Fills in the ids of new trials.
    fn numbered(_: &mut Self::Output, _: &BTreeMap<TrialNumber, TrialId>) {}
}
