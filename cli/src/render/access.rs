//! Tokens, and who changed what.

use fleetune_core::Timestamp;

use super::table::table;
use crate::view::{AuditView, TokenView};

/// A line per token.
pub fn tokens(tokens: &[TokenView], now: Timestamp) -> String {
    if tokens.is_empty() {
        return "no tokens: the coordinator asks nobody for one; `fleetune token create NAME --role admin` begins"
            .to_owned();
    }
    let rows = tokens
        .iter()
        .map(|token| {
            vec![
                token.id.to_string(),
                token.name.clone(),
                token.role.to_string(),
                state(token, now),
                instant(token.created_at_us),
                instant(token.last_used_at_us),
            ]
        })
        .collect();
    table(&["ID", "NAME", "ROLE", "STATE", "CREATED", "LAST USED"], &["ID"], rows)
}

fn state(token: &TokenView, now: Timestamp) -> String {
    match (token.revoked_at_us, token.expires_at_us) {
        (Some(_), _) => "revoked".to_owned(),
        (None, Some(end)) if end <= now.0 => "expired".to_owned(),
        (None, Some(end)) => format!("until {}", Timestamp(end)),
        (None, None) => "in force".to_owned(),
    }
}

fn instant(micros: Option<i64>) -> String {
    micros.map_or_else(|| "never".to_owned(), |micros| Timestamp(micros).to_string())
}

/// A line per deed.
pub fn deeds(deeds: &[AuditView]) -> String {
    if deeds.is_empty() {
        return "nothing was changed yet".to_owned();
    }
    let rows = deeds
        .iter()
        .map(|deed| {
            let who = if deed.actor.is_empty() { "-" } else { &deed.actor };
            vec![instant(deed.at_us), who.to_owned(), deed.peer.clone(), deed.action.clone(), deed.subject.clone()]
        })
        .collect();
    table(&["WHEN", "TOKEN", "FROM", "CALL", "WHAT"], &[], rows)
}
