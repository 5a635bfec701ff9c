//! The part of the door that tokens and the record of deeds go through.

use fleetune_core::Timestamp;

use super::error::StoreError;
use super::operations::{CreateToken, NoteUses, RevokeToken, TrimAudit};
use super::record::{AuditRecord, NewToken, TokenRecord};
use super::store::{PAGE, Store};

impl Store {
    /// Creates a token. The identical call again gives the same one.
    ///
    /// # Errors
    /// [`StoreError::TokenNameTaken`] while another token in force has the name.
    pub async fn create_token(&self, new: NewToken, now: Timestamp) -> Result<TokenRecord, StoreError> {
        self.run(CreateToken { new, now }).await
    }

    /// Revokes a token by its name or its id. One that is revoked already stays as it is.
    pub async fn revoke_token(&self, token: &str, now: Timestamp) -> Result<TokenRecord, StoreError> {
        self.run(RevokeToken { token: token.to_owned(), now }).await
    }

    /// At most `limit` tokens with ids above `after`, by id; the revoked ones too.
    pub async fn tokens(&self, after: i64, limit: u32) -> Result<Vec<TokenRecord>, StoreError> {
        self.read().await?.tokens(after, limit.min(PAGE)).await
    }

    /// Notes when tokens were used.
    pub async fn note_uses(&self, uses: Vec<(i64, Timestamp)>) -> Result<(), StoreError> {
        self.run(NoteUses { uses }).await
    }

    /// At most `limit` entries with ids below `before`, newest first; of one subject where it is given.
    pub async fn audit(&self, before: i64, subject: Option<&str>, limit: u32) -> Result<Vec<AuditRecord>, StoreError> {
        self.read().await?.audit(before, subject, limit.min(PAGE)).await
    }

    /// Forgets entries older than `before`, and all but the newest `keep`; how many.
    pub async fn trim_audit(&self, before: Timestamp, keep: u64) -> Result<u64, StoreError> {
        self.run(TrimAudit { before, keep }).await
    }
}
