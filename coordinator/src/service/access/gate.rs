//! What every call passes first: who calls, whether that role may, and for how long.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tonic::transport::server::TcpConnectInfo;
use tonic::{Code, Status};

use super::rules::{Rule, Who, rule};
use super::tokens::{Caller, Tokens};
use crate::service::status;
use crate::storage::{Deed, audit};

/// How a program over the storage itself is called in the record of deeds.
const LOCAL: &str = "local";

/// The gate before the services. Cloning shares it.
#[derive(Clone)]
pub struct Gate {
    tokens: Option<Tokens>,
}

impl Gate {
    /// Asks for `tokens`, where there are any.
    pub fn guarded(tokens: Tokens) -> Self {
        Self { tokens: Some(tokens) }
    }

    /// Asks for nothing: whoever has the storage may do everything.
    pub fn open() -> Self {
        Self { tokens: None }
    }

    fn admit(&self, headers: &HeaderMap, rule: Rule, path: &str) -> Result<Option<Caller>, Status> {
        let Some(tokens) = self.tokens.as_ref().filter(|_| rule.who != Who::Open) else { return Ok(None) };
        let authorization = headers.get(AUTHORIZATION).map(HeaderValue::to_str).transpose();
        let authorization =
            authorization.map_err(|_| status::unauthenticated("the `authorization` of the call is no text"))?;
        let caller = tokens.caller(authorization)?;
        match caller {
            Some(caller) if !rule.who.admits(caller.role) => Err(status::forbidden(&caller, rule, path)),
            caller => Ok(caller),
        }
    }
}

/// Lets a call pass, or answers it.
pub async fn pass(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let rule = rule(path);
    let is_grpc = is_grpc(request.headers());
    let caller = match gate.admit(request.headers(), rule, path) {
        Ok(caller) => caller,
        Err(refused) => {
            tracing::warn!(path, peer = peer(&request), reason = refused.message(), "a call was refused");
            return answer(&refused, is_grpc);
        }
    };
    let deed = rule.deed.map(|action| deed(action, caller.as_ref(), peer(&request)));
    let served = async move {
        match deed {
            Some(deed) => audit::as_deed(deed, next.run(request)).await,
            None => next.run(request).await,
        }
    };
    match tokio::time::timeout(rule.limit, served).await {
        Ok(response) => response,
        Err(_) => answer(&late(rule.limit), is_grpc),
    }
}

fn late(limit: Duration) -> Status {
    Status::deadline_exceeded(format!("the call took longer than the {} s that it may take", limit.as_secs()))
}

fn deed(action: &str, caller: Option<&Caller>, peer: String) -> Deed {
    Deed {
        actor: caller.map(|caller| caller.name.clone()).unwrap_or_default(),
        role: caller.map(|caller| caller.role),
        peer,
        action: action.to_owned(),
        subject: String::new(),
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content_type.starts_with("application/grpc")
}

/// Where the call comes from, without the port, which says nothing.
fn peer(request: &Request) -> String {
    let info = request.extensions().get::<TcpConnectInfo>();
    let address = info.and_then(TcpConnectInfo::remote_addr);
    address.map_or_else(|| LOCAL.to_owned(), |address: SocketAddr| address.ip().to_canonical().to_string())
}

/// A status for gRPC clients, a page for others.
fn answer(refused: &Status, is_grpc: bool) -> Response {
    if is_grpc {
        return refused.clone().into_http::<Body>();
    }
    let code = match refused.code() {
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut response = (code, format!("{}\n", refused.message())).into_response();
    if code == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}
