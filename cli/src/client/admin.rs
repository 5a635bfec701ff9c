//! `AdminService` as the commands use it.

use fleetune_core::Role;
use fleetune_proto::link::Link;
use fleetune_proto::v1::admin_service_client::AdminServiceClient;
use fleetune_proto::{convert, v1};
use sha2::{Digest as _, Sha256};

use super::failed;
use super::read::{checked, incomplete, micros};
use crate::error::CliResult;
use crate::view::{AuditView, TokenView};

/// Rows of one page.
const PAGE: u32 = 500;

/// `AdminService` as the commands use it.
pub struct Admin {
    admin: AdminServiceClient<Link>,
}

impl Admin {
    /// Over `link`.
    pub fn new(link: Link) -> Self {
        Self { admin: AdminServiceClient::new(link) }
    }

    /// Makes `text` a token. Only its hash is sent.
    pub async fn create(
        &mut self,
        name: &str,
        role: Role,
        text: &str,
        expires_at: Option<std::time::SystemTime>,
    ) -> CliResult<TokenView> {
        let request = v1::CreateTokenRequest {
            name: name.to_owned(),
            role: convert::role_to_wire(role).into(),
            expires_at: expires_at.map(Into::into),
            sha256: Sha256::digest(text.as_bytes()).to_vec(),
        };
        let answer = self.admin.create_token(request).await;
        token(answer.map_err(failed(format!("failed to create token `{name}`")))?.into_inner().token)
    }

    /// Every token.
    pub async fn tokens(&mut self) -> CliResult<Vec<TokenView>> {
        let mut tokens = Vec::new();
        let mut page_token = String::new();
        loop {
            let page = self.admin.list_tokens(v1::ListTokensRequest { page_size: PAGE, page_token }).await;
            let page = page.map_err(failed("failed to list the tokens"))?.into_inner();
            for wire in page.tokens {
                tokens.push(token(Some(wire))?);
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(tokens);
            }
        }
    }

    /// Makes a token worthless.
    pub async fn revoke(&mut self, wanted: &str) -> CliResult<TokenView> {
        let answer = self.admin.revoke_token(v1::RevokeTokenRequest { token: wanted.to_owned() }).await;
        token(answer.map_err(failed(format!("failed to revoke token `{wanted}`")))?.into_inner().token)
    }

    /// The newest `limit` deeds; of one study where it is named.
    pub async fn deeds(&mut self, study: Option<&str>, limit: u32) -> CliResult<Vec<AuditView>> {
        let subject = study.map(|study| format!("study {study}")).unwrap_or_default();
        let mut deeds = Vec::new();
        let mut page_token = String::new();
        loop {
            let page_size = (limit - deeds.len() as u32).min(PAGE);
            let request = v1::ListAuditRequest { page_size, page_token, subject: subject.clone() };
            let page = self.admin.list_audit(request).await.map_err(failed("failed to read who changed what"))?;
            let page = page.into_inner();
            for wire in page.entries {
                let role = wire.role.map(convert::role).transpose();
                deeds.push(AuditView {
                    at_us: micros(wire.at.as_ref()),
                    actor: wire.actor,
                    role: checked(role)?,
                    peer: wire.peer,
                    action: wire.action,
                    subject: wire.subject,
                });
            }
            page_token = page.next_page_token;
            if page_token.is_empty() || deeds.len() as u32 >= limit {
                return Ok(deeds);
            }
        }
    }
}

fn token(wire: Option<v1::Token>) -> CliResult<TokenView> {
    let wire = wire.ok_or_else(incomplete)?;
    Ok(TokenView {
        id: wire.id,
        role: checked(convert::role(wire.role))?,
        name: wire.name,
        created_at_us: micros(wire.created_at.as_ref()),
        created_by: wire.created_by,
        expires_at_us: micros(wire.expires_at.as_ref()),
        last_used_at_us: micros(wire.last_used_at.as_ref()),
        revoked_at_us: micros(wire.revoked_at.as_ref()),
    })
}
