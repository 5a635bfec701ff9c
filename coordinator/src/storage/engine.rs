//! What a database is to the store: transactions and a clock.

use async_trait::async_trait;
use fleetune_core::Timestamp;

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

    /// Closes its connections when they are given back.
    async fn close(&self);

    /// The database's clock.
    fn now(&self) -> Timestamp;
}
