//! Unsafe regions and what shows them.

use fleetune_core::StudyId;
use fleetune_core::region::{Incident, UnsafeRegion, learn};
use fleetune_core::study::Pin;

use super::error::StoreError;
use super::operations::{CopyRegions, DeleteRegion, MAX_LISTED};
use super::record::StudyRecord;
use super::store::Store;

impl Store {
    /// The regions that hold for machines and a model like those of `pin`.
    pub async fn regions_of(&self, pin: &Pin) -> Result<Vec<UnsafeRegion>, StoreError> {
        Ok(learn(&self.read().await?.incidents(&pin.device_class, &pin.model_hash).await?))
    }

    /// The incidents of a device class whatever the model, or of all; oldest first.
    pub async fn incidents(&self, device_class: Option<&str>) -> Result<Vec<Incident>, StoreError> {
        self.read().await?.all_incidents(device_class, MAX_LISTED).await
    }

    /// Makes what the study excludes agree with the regions that hold for it, unless it ignores them.
    pub async fn copy_regions(&self, study: StudyId) -> Result<StudyRecord, StoreError> {
        self.run(CopyRegions { study }).await
    }

    /// Forgets a region with all that happened in it. Studies heed it until [`Self::copy_regions`].
    ///
    /// # Errors
    /// [`StoreError::RegionNotFound`].
    pub async fn delete_region(&self, id: i64) -> Result<UnsafeRegion, StoreError> {
        self.run(DeleteRegion { id }).await
    }
}
