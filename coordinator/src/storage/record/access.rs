//! Tokens and the record of who changed what, as stored.

use fleetune_core::{Role, Timestamp};

/// SHA-256 of a token.
pub type TokenHash = [u8; 32];

/// A token as stored: all but the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRecord {
    /// Its id, from 1.
    pub id: i64,
    /// Its name, unique among the tokens in force.
    pub name: String,
    /// What its holder may do.
    pub role: Role,
    /// Of the token's text.
    pub hash: TokenHash,
    /// When it was created.
    pub created_at: Timestamp,
    /// Name of the token that created it; empty when it was created without one.
    pub created_by: String,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// When it was used last, to the minute.
    pub last_used_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

impl TokenRecord {
    /// Whether it opens anything at `now`.
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }
}

/// A token to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewToken {
    /// Its name.
    pub name: String,
    /// What its holder may do.
    pub role: Role,
    /// Of the token's text.
    pub hash: TokenHash,
    /// Name of the token that creates it.
    pub created_by: String,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
}

/// A change that a call made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// From 1, in order.
    pub id: i64,
    /// When.
    pub at: Timestamp,
    /// Who did what.
    pub deed: Deed,
}

/// Who did what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deed {
    /// Name of the token; empty when none was asked for.
    pub actor: String,
    /// Role of the token.
    pub role: Option<Role>,
    /// Address of the caller, or `local`.
    pub peer: String,
    /// The call, such as `DeleteStudy`, with its trial where it is about one: `CancelTrial 3`.
    pub action: String,
    /// What it changes, such as `study llama`.
    pub subject: String,
}
