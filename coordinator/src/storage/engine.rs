//! What a database is to the store: transactions, a clock, and word of what others change.

use async_trait::async_trait;
use fleetune_core::{Revision, StudyId, Timestamp, TrialId, TrialNumber};
use tokio::sync::watch;

use super::draft::Draft;
use super::error::StoreError;
use super::look::Look;
use super::operations::Lane;
use super::queue::Failed;
use super::rows::Rows;

/// What was heard of others' changes, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Changes of any kind.
    pub changes: u64,
    /// Those among them that may bring work to those that wait for some.
    pub work: u64,
}

impl Heard {
    /// One more change.
    pub(super) fn one_more(&mut self, news: News) {
        self.changes = self.changes.wrapping_add(1);
        self.work = self.work.wrapping_add(u64::from(news == News::Work));
    }
}

/// Who may wait for what was written, from nobody to everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum News {
    /// A sign of life.
    Nobody,
    /// Those that watch trials.
    Watchers,
    /// Those that wait for work, too.
    Work,
}

/// What became of a draft.
pub(super) enum Written {
    /// It was written; the ids of new trials.
    All(Vec<(TrialNumber, TrialId)>),
    /// The study is at another revision, or gone.
    Behind,
    /// It names a distribution that this process has not seen stored.
    Unknown,
}

#[async_trait]
pub(super) trait Engine: Send + Sync + 'static {
    /// A snapshot.
    async fn read(&self) -> Result<Box<dyn Rows>, StoreError>;

    /// A transaction that may write.
    async fn write(&self) -> Result<Box<dyn Rows>, StoreError>;

    /// What of `study` has changed after revision `after`; `None` when there is no such study.
    async fn look(&self, study: StudyId, after: Revision) -> Result<Option<Look>, StoreError>;

    /// Writes a draft in one statement. Back ends with one lane for everything have none.
    async fn write_draft(&self, _: &Draft) -> Result<Written, Failed> {
        Ok(Written::Unknown)
    }

    /// The lane in which this back end runs what belongs into `lane`.
    fn lane(&self, lane: Lane) -> Lane;

    /// Tells other processes, soon, that there is something new.
    fn committed(&self, news: News);

    /// Changes when others changed something. Where nobody tells, its sender is gone.
    fn others(&self) -> watch::Receiver<Heard>;

    /// Whether it is told now what others change.
    fn hears(&self) -> bool;

    /// Closes its connections when they are given back.
    async fn close(&self);

    /// The database's clock.
    fn now(&self) -> Timestamp;
}
