//! What a database is to the store: transactions, a clock, and word of what others change.

use async_trait::async_trait;
use fleetune_core::Timestamp;
use tokio::sync::watch;

use super::error::StoreError;
use super::operations::Lane;
use super::rows::Rows;

#[async_trait]
pub(super) trait Engine: Send + Sync + 'static {
    /// A snapshot.
    async fn read(&self) -> Result<Box<dyn Rows>, StoreError>;

    /// A transaction that may write.
    async fn write(&self) -> Result<Box<dyn Rows>, StoreError>;

    /// The lane in which this back end runs what belongs into `lane`.
    fn lane(&self, lane: Lane) -> Lane;

    /// Tells other processes, soon, that there is something new.
    fn committed(&self);

    /// Changes when others changed something. Where nobody tells, its sender is gone.
    fn others(&self) -> watch::Receiver<u64>;

    /// Whether it is told now what others change.
    fn hears(&self) -> bool;

    /// Closes its connections when they are given back.
    async fn close(&self);

    /// The database's clock.
    fn now(&self) -> Timestamp;
}
