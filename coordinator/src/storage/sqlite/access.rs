//! Tokens and the record of deeds.

use async_trait::async_trait;
use fleetune_core::Timestamp;
use sqlx::{query, query_as, query_scalar};

use super::{SqliteRows, database};
use crate::storage::error::StoreError;
use crate::storage::raw::{RawAudit, RawToken};
use crate::storage::record::{AuditRecord, Deed, NewToken, TokenHash, TokenRecord};
use crate::storage::rows::AccessRows;

macro_rules! select_token {
    ($rest:literal) => {
        concat!(
            "SELECT id, name, role, hash, created_at, created_by, expires_at, last_used_at, revoked_at FROM access_token ",
            $rest
        )
    };
}

macro_rules! select_audit {
    ($rest:literal) => {
        concat!("SELECT id, at, actor, role, peer, action, subject FROM audit ", $rest)
    };
}

#[async_trait]
impl AccessRows for SqliteRows {
    async fn token(&mut self, id: i64) -> Result<Option<TokenRecord>, StoreError> {
        let token = query_as::<_, RawToken>(select_token!("WHERE id = ?1")).bind(id);
        token.fetch_optional(&mut *self.tx).await.map_err(database)?.map(RawToken::record).transpose()
    }

    async fn token_by_hash(&mut self, hash: &TokenHash) -> Result<Option<TokenRecord>, StoreError> {
        let token = query_as::<_, RawToken>(select_token!("WHERE hash = ?1")).bind(hash.as_slice());
        token.fetch_optional(&mut *self.tx).await.map_err(database)?.map(RawToken::record).transpose()
    }

    async fn token_by_name(&mut self, name: &str) -> Result<Option<TokenRecord>, StoreError> {
        let token = query_as::<_, RawToken>(select_token!(
            "WHERE name = ?1 ORDER BY (revoked_at IS NULL) DESC, id DESC LIMIT 1"
        ));
        let token = token.bind(name).fetch_optional(&mut *self.tx).await.map_err(database)?;
        token.map(RawToken::record).transpose()
    }

    async fn tokens(&mut self, after: i64, limit: u32) -> Result<Vec<TokenRecord>, StoreError> {
        let tokens = query_as::<_, RawToken>(select_token!("WHERE id > ?1 ORDER BY id LIMIT ?2"));
        let tokens = tokens.bind(after).bind(i64::from(limit)).fetch_all(&mut *self.tx).await.map_err(database)?;
        tokens.into_iter().map(RawToken::record).collect()
    }

    async fn insert_token(&mut self, new: &NewToken, now: Timestamp) -> Result<i64, StoreError> {
        self.dirty = true;
        let insert = query_scalar(
            "INSERT INTO access_token (name, role, hash, created_at, created_by, expires_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) RETURNING id",
        );
        let insert = insert.bind(&new.name).bind(new.role.as_str()).bind(new.hash.as_slice()).bind(now.0);
        let insert = insert.bind(&new.created_by).bind(new.expires_at.map(|at| at.0));
        insert.fetch_one(&mut *self.tx).await.map_err(database)
    }

    async fn revoke_token(&mut self, id: i64, now: Timestamp) -> Result<(), StoreError> {
        self.dirty = true;
        let update = query("UPDATE access_token SET revoked_at = ?2 WHERE id = ?1").bind(id).bind(now.0);
        update.execute(&mut *self.tx).await.map(drop).map_err(database)
    }

    async fn note_use(&mut self, id: i64, at: Timestamp) -> Result<(), StoreError> {
        self.dirty = true;
        let update = query("UPDATE access_token SET last_used_at = max(coalesce(last_used_at, ?2), ?2) WHERE id = ?1");
        update.bind(id).bind(at.0).execute(&mut *self.tx).await.map(drop).map_err(database)
    }

    async fn insert_audit(&mut self, deed: &Deed, now: Timestamp) -> Result<(), StoreError> {
        self.dirty = true;
        let insert =
            query("INSERT INTO audit (at, actor, role, peer, action, subject) VALUES (?1, ?2, ?3, ?4, ?5, ?6)");
        let insert = insert.bind(now.0).bind(&deed.actor).bind(deed.role.map(fleetune_core::Role::as_str));
        let insert = insert.bind(&deed.peer).bind(&deed.action).bind(&deed.subject);
        insert.execute(&mut *self.tx).await.map(drop).map_err(database)
    }

    async fn audit(&mut self, before: i64, subject: Option<&str>, limit: u32) -> Result<Vec<AuditRecord>, StoreError> {
        let limit = i64::from(limit);
        let entries = match subject {
            None => query_as::<_, RawAudit>(select_audit!("WHERE id < ?1 ORDER BY id DESC LIMIT ?2"))
                .bind(before)
                .bind(limit),
            Some(subject) => query_as(select_audit!("WHERE subject = ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3"))
                .bind(subject)
                .bind(before)
                .bind(limit),
        };
        let entries = entries.fetch_all(&mut *self.tx).await.map_err(database)?;
        entries.into_iter().map(RawAudit::record).collect()
    }

    async fn trim_audit(&mut self, before: Timestamp, keep: u64) -> Result<u64, StoreError> {
        let delete =
            query("DELETE FROM audit WHERE at < ?1 OR id <= (SELECT id FROM audit ORDER BY id DESC LIMIT 1 OFFSET ?2)");
        let keep = i64::try_from(keep).unwrap_or(i64::MAX);
        let gone = delete.bind(before.0).bind(keep).execute(&mut *self.tx).await.map_err(database)?.rows_affected();
        self.dirty |= gone > 0;
        Ok(gone)
    }
}
