//! Tokens, and the end of old entries in the record of deeds.

use async_trait::async_trait;
use fleetune_core::Timestamp;

use super::common::plain;
use super::{Lane, Operation};
use crate::storage::engine::News;
use crate::storage::error::StoreError;
use crate::storage::record::{NewToken, TokenRecord};
use crate::storage::rows::Rows;

pub(in crate::storage) struct CreateToken {
    pub new: NewToken,
    pub now: Timestamp,
}

#[async_trait]
impl Operation for CreateToken {
    type Output = TokenRecord;

    const IS_DEED: bool = true;
    const NEWS: News = News::Nobody;

    fn lane(&self) -> Lane {
        Lane::Global
    }

    async fn apply(&self, rows: &mut dyn Rows) -> Result<TokenRecord, StoreError> {
        let new = NewToken { name: plain(&self.new.name), ..self.new.clone() };
        if let Some(token) = rows.token_by_hash(&new.hash).await? {
            let same = token.name == new.name && token.role == new.role && token.expires_at == new.expires_at;
            return if same { Ok(token) } else { Err(StoreError::TokenNameTaken(token.name)) };
        }
        if rows.token_by_name(&new.name).await?.is_some_and(|token| token.revoked_at.is_none()) {
            return Err(StoreError::TokenNameTaken(new.name));
        }
        let id = rows.insert_token(&new, self.now).await?;
        need_token(rows, id).await
    }
}

pub(in crate::storage) struct RevokeToken {
    /// A name, or an id in digits.
    pub token: String,
    pub now: Timestamp,
}

#[async_trait]
impl Operation for RevokeToken {
    type Output = TokenRecord;

    const IS_DEED: bool = true;
    const NEWS: News = News::Nobody;

    fn lane(&self) -> Lane {
        Lane::Global
    }

    async fn apply(&self, rows: &mut dyn Rows) -> Result<TokenRecord, StoreError> {
        let token = match rows.token_by_name(&self.token).await? {
            Some(token) => token,
            None => need_token_called(rows, &self.token).await?,
        };
        if token.revoked_at.is_some() {
            return Ok(token);
        }
        rows.revoke_token(token.id, self.now).await?;
        Ok(TokenRecord { revoked_at: Some(self.now), ..token })
    }
}

async fn need_token_called(rows: &mut dyn Rows, token: &str) -> Result<TokenRecord, StoreError> {
    match token.parse() {
        Ok(id) => need_token(rows, id).await,
        Err(_) => Err(StoreError::TokenNotFound(token.to_owned())),
    }
}

async fn need_token(rows: &mut dyn Rows, id: i64) -> Result<TokenRecord, StoreError> {
    rows.token(id).await?.ok_or_else(|| StoreError::TokenNotFound(id.to_string()))
}

/// Tokens that were used, and when.
pub(in crate::storage) struct NoteUses {
    pub uses: Vec<(i64, Timestamp)>,
}

#[async_trait]
impl Operation for NoteUses {
    type Output = ();

    const NEWS: News = News::Nobody;

    fn lane(&self) -> Lane {
        Lane::Global
    }

    async fn apply(&self, rows: &mut dyn Rows) -> Result<(), StoreError> {
        for (id, at) in &self.uses {
            rows.note_use(*id, *at).await?;
        }
        Ok(())
    }
}

/// Forgets entries of the record that are older than `before`, and all but the newest `keep`.
pub(in crate::storage) struct TrimAudit {
    pub before: Timestamp,
    pub keep: u64,
}

#[async_trait]
impl Operation for TrimAudit {
    type Output = u64;

    const NEWS: News = News::Nobody;

    fn lane(&self) -> Lane {
        Lane::Global
    }

    async fn apply(&self, rows: &mut dyn Rows) -> Result<u64, StoreError> {
        rows.trim_audit(self.before, self.keep).await
    }
}
