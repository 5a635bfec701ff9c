//! Tokens, and who changed what.

use fleetune_core::Role;
use serde::Serialize;

/// A token: all but the token.
#[derive(Clone, Debug, Serialize)]
pub struct TokenView {
    /// Its id.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// What its holder may do.
    pub role: Role,
    /// Microseconds since 1970-01-01T00:00:00Z.
    pub created_at_us: Option<i64>,
    /// Name of the token that created it; empty when it was created without one.
    pub created_by: String,
    /// Microseconds since 1970-01-01T00:00:00Z; null: never.
    pub expires_at_us: Option<i64>,
    /// Microseconds since 1970-01-01T00:00:00Z, to the minute; null: never.
    pub last_used_at_us: Option<i64>,
    /// Microseconds since 1970-01-01T00:00:00Z; null while it is in force.
    pub revoked_at_us: Option<i64>,
}

/// A token that was created, with the one chance to learn it.
#[derive(Clone, Debug, Serialize)]
pub struct NewTokenView {
    /// What it is.
    #[serde(flatten)]
    pub token: TokenView,
    /// The token itself; null when it was written to a file.
    pub secret: Option<String>,
}

/// A change that a call made.
#[derive(Clone, Debug, Serialize)]
pub struct AuditView {
    /// Microseconds since 1970-01-01T00:00:00Z.
    pub at_us: Option<i64>,
    /// Name of the token; empty when none was asked for.
    pub actor: String,
    /// Role of the token.
    pub role: Option<Role>,
    /// Address of the caller; `local` for a program over the storage itself.
    pub peer: String,
    /// The call.
    pub action: String,
    /// What it changed.
    pub subject: String,
}
