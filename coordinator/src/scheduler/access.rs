//! Tokens and the record of deeds, as people ask for them.

use fleetune_core::{Role, Timestamp};

use super::engine::Engine;
use super::error::EngineError;
use crate::storage::{AuditRecord, NewToken, TokenHash, TokenRecord, audit};

/// Characters of a token's name, at most.
const MAX_NAME: usize = 100;

impl Engine {
    /// Creates a token of which only the hash is known here.
    pub async fn create_token(
        &self,
        name: &str,
        role: Role,
        hash: TokenHash,
        expires_at: Option<Timestamp>,
    ) -> Result<TokenRecord, EngineError> {
        if name.is_empty() || name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
            let why = format!("must have 1 to {MAX_NAME} characters, none of them a control character");
            return Err(EngineError::invalid("name of the token", why));
        }
        // Names and ids stand for a token in the same place.
        if name.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(EngineError::invalid("name of the token", "must not be a number: those are ids"));
        }
        let now = self.now();
        if expires_at.is_some_and(|end| end <= now) {
            return Err(EngineError::invalid("expires_at", "is over already"));
        }
        let new = NewToken { name: name.to_owned(), role, hash, created_by: audit::actor(), expires_at };
        Ok(self.store.create_token(new, now).await?)
    }

    /// Revokes a token by name or id.
    pub async fn revoke_token(&self, token: &str) -> Result<TokenRecord, EngineError> {
        Ok(self.store.revoke_token(token, self.now()).await?)
    }

    /// At most `limit` tokens after `after`, by id; revoked ones too.
    pub async fn tokens(&self, after: i64, limit: u32) -> Result<Vec<TokenRecord>, EngineError> {
        Ok(self.store.tokens(after, limit).await?)
    }

    /// Notes when tokens were used.
    pub async fn note_uses(&self, uses: Vec<(i64, Timestamp)>) -> Result<(), EngineError> {
        Ok(self.store.note_uses(uses).await?)
    }

    /// At most `limit` deeds before entry `before`, newest first.
    pub async fn deeds(&self, before: i64, subject: Option<&str>, limit: u32) -> Result<Vec<AuditRecord>, EngineError> {
        Ok(self.store.audit(before, subject, limit).await?)
    }

    /// Forgets deeds older than `age`, and all but the newest `keep`.
    pub async fn trim_audit(&self, age: std::time::Duration, keep: u64) -> Result<u64, EngineError> {
        let age = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
        let before = Timestamp(self.now().0.saturating_sub(age));
        Ok(self.store.trim_audit(before, keep).await?)
    }
}
