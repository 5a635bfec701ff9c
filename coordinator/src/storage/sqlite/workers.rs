//! Workers.

use async_trait::async_trait;
use fleetune_core::{Timestamp, WorkerId};
use sqlx::{query, query_as, query_scalar};

use super::{SqliteRows, database};
use crate::storage::error::StoreError;
use crate::storage::raw::{RawWorker, to_json};
use crate::storage::record::WorkerRecord;
use crate::storage::rows::WorkerRows;

macro_rules! select_worker {
    ($rest:literal) => {
        concat!(
            "SELECT id, name, labels, inventory, executors, version, models, draining, registered_at, last_seen, \
             token_id FROM worker ",
            $rest
        )
    };
}

#[async_trait]
impl WorkerRows for SqliteRows {
    async fn worker(&mut self, id: &WorkerId) -> Result<Option<WorkerRecord>, StoreError> {
        let worker = query_as::<_, RawWorker>(select_worker!("WHERE id = ?1")).bind(&id.0);
        worker.fetch_optional(&mut *self.tx).await.map_err(database)?.map(RawWorker::record).transpose()
    }

    async fn workers(&mut self, after: &WorkerId, limit: u32) -> Result<Vec<WorkerRecord>, StoreError> {
        let workers = query_as::<_, RawWorker>(select_worker!("WHERE id > ?1 ORDER BY id LIMIT ?2"));
        let workers = workers.bind(&after.0).bind(i64::from(limit));
        let workers = workers.fetch_all(&mut *self.tx).await.map_err(database)?;
        workers.into_iter().map(RawWorker::record).collect()
    }

    async fn save_worker(&mut self, worker: &WorkerRecord) -> Result<(), StoreError> {
        self.dirty = true;
        let upsert = query(
            "INSERT INTO worker (id, name, labels, inventory, executors, version, models, draining, registered_at, \
             last_seen, token_id) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT (id) DO UPDATE SET name = excluded.name, \
             labels = excluded.labels, inventory = excluded.inventory, executors = excluded.executors, \
             version = excluded.version, models = excluded.models, draining = excluded.draining, last_seen = excluded.last_seen, \
             token_id = excluded.token_id",
        );
        let upsert = upsert.bind(&worker.id.0).bind(&worker.name).bind(to_json("labels", &worker.labels)?);
        let upsert = upsert.bind(to_json("inventory", &worker.inventory)?);
        let upsert = upsert.bind(to_json("executors", &worker.executors)?).bind(&worker.version);
        let upsert = upsert.bind(to_json("models", &worker.models)?);
        let upsert =
            upsert.bind(worker.draining).bind(worker.registered_at.0).bind(worker.last_seen.0).bind(worker.token);
        upsert.execute(&mut *self.tx).await.map(drop).map_err(database)
    }

    async fn seen(&mut self, id: &WorkerId, now: Timestamp) -> Result<Option<bool>, StoreError> {
        self.dirty = true;
        let update = query_scalar("UPDATE worker SET last_seen = max(last_seen, ?2) WHERE id = ?1 RETURNING draining");
        update.bind(&id.0).bind(now.0).fetch_optional(&mut *self.tx).await.map_err(database)
    }

    async fn set_draining(&mut self, id: &WorkerId, draining: bool) -> Result<(), StoreError> {
        self.dirty = true;
        let update = query("UPDATE worker SET draining = ?2 WHERE id = ?1").bind(&id.0).bind(draining);
        update.execute(&mut *self.tx).await.map(drop).map_err(database)
    }
}
