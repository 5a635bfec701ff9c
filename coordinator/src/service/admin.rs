//! `AdminService`.

use fleetune_proto::v1::admin_service_server::AdminService;
use fleetune_proto::{convert, v1};
use tonic::{Request, Response, Status};

use super::access::Tokens;
use super::status;
use crate::scheduler::{Engine, EngineError};
use crate::storage::{AuditRecord, TokenRecord, audit};

/// `AdminService` over an engine.
pub struct AdminApi {
    engine: Engine,
    tokens: Tokens,
}

impl AdminApi {
    /// Over `engine`; what it changes holds in `tokens` at once.
    pub fn new(engine: Engine, tokens: Tokens) -> Self {
        Self { engine, tokens }
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl AdminService for AdminApi {
    async fn create_token(&self, request: Request<v1::CreateTokenRequest>) -> Answer<v1::CreateTokenResponse> {
        let request = request.into_inner();
        audit::about("token", &request.name);
        let invalid = |error: convert::Invalid| status::invalid(&error);
        let role = convert::role(request.role).map_err(invalid)?;
        let hash = request.sha256.try_into();
        let hash = hash.map_err(|_| invalid(convert::Invalid::new("sha256", "a SHA-256 has 32 bytes")))?;
        let expires_at = request.expires_at.as_ref().map(convert::timestamp);
        let token = self.engine.create_token(&request.name, role, hash, expires_at).await.map_err(refused)?;
        self.tokens.refresh().await.map_err(refused)?;
        Ok(Response::new(v1::CreateTokenResponse { token: Some(view(&token)) }))
    }

    async fn list_tokens(&self, request: Request<v1::ListTokensRequest>) -> Answer<v1::ListTokensResponse> {
        let request = request.into_inner();
        let after = place(&request.page_token, 0)?;
        let size = page_size(request.page_size);
        let tokens = self.engine.tokens(after, size).await.map_err(refused)?;
        let next = tokens.last().filter(|_| tokens.len() >= size as usize);
        let next_page_token = next.map(|last| last.id.to_string()).unwrap_or_default();
        Ok(Response::new(v1::ListTokensResponse { tokens: tokens.iter().map(view).collect(), next_page_token }))
    }

    async fn revoke_token(&self, request: Request<v1::RevokeTokenRequest>) -> Answer<v1::RevokeTokenResponse> {
        let wanted = request.into_inner().token;
        audit::about("token", &wanted);
        let token = self.engine.revoke_token(&wanted).await.map_err(refused)?;
        self.tokens.refresh().await.map_err(refused)?;
        Ok(Response::new(v1::RevokeTokenResponse { token: Some(view(&token)) }))
    }

    async fn list_audit(&self, request: Request<v1::ListAuditRequest>) -> Answer<v1::ListAuditResponse> {
        let request = request.into_inner();
        let before = place(&request.page_token, i64::MAX)?;
        let size = page_size(request.page_size);
        let subject = Some(request.subject.as_str()).filter(|subject| !subject.is_empty());
        let deeds = self.engine.deeds(before, subject, size).await.map_err(refused)?;
        let next = deeds.last().filter(|_| deeds.len() >= size as usize);
        let next_page_token = next.map(|last| last.id.to_string()).unwrap_or_default();
        Ok(Response::new(v1::ListAuditResponse { entries: deeds.iter().map(entry).collect(), next_page_token }))
    }
}

fn page_size(wanted: u32) -> u32 {
    if wanted == 0 { 100 } else { wanted.min(1000) }
}

fn place(token: &str, first: i64) -> Result<i64, Status> {
    if token.is_empty() {
        return Ok(first);
    }
    let unknown = || convert::Invalid::new("page_token", "is none that this service gave out");
    token.parse().map_err(|_| status::invalid(&unknown()))
}

fn view(token: &TokenRecord) -> v1::Token {
    v1::Token {
        id: token.id,
        name: token.name.clone(),
        role: convert::role_to_wire(token.role).into(),
        created_at: Some(convert::timestamp_to_wire(token.created_at)),
        created_by: token.created_by.clone(),
        expires_at: token.expires_at.map(convert::timestamp_to_wire),
        last_used_at: token.last_used_at.map(convert::timestamp_to_wire),
        revoked_at: token.revoked_at.map(convert::timestamp_to_wire),
    }
}

fn entry(record: &AuditRecord) -> v1::AuditEntry {
    let deed = &record.deed;
    v1::AuditEntry {
        id: record.id,
        at: Some(convert::timestamp_to_wire(record.at)),
        actor: deed.actor.clone(),
        role: deed.role.map(|role| convert::role_to_wire(role).into()),
        peer: deed.peer.clone(),
        action: deed.action.clone(),
        subject: deed.subject.clone(),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "fits map_err")]
fn refused(error: EngineError) -> Status {
    status::engine(&error)
}
