//! What every call passes first: who calls, whether that role may, and for how long.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tonic::{Code, Status};

use super::limits::{Counted, Limits};
use super::rules::{Rule, Who, rule};
use super::tokens::{Caller, Tokens};
use crate::metrics::Metrics;
use crate::service::{Peer, status};
use crate::storage::{Deed, audit};

/// How a program over the storage itself is called in the record of deeds.
const LOCAL: &str = "local";

/// Between two lines of the log on refused calls.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// The gate before the services. Cloning shares it.
#[derive(Clone)]
pub struct Gate {
    guard: Option<Arc<Guard>>,
}

/// What a gate to the outside has.
struct Guard {
    tokens: Tokens,
    limits: Limits,
    metrics: Metrics,
    refusals: Mutex<Refusals>,
}

/// What the log was told of refused calls.
#[derive(Default)]
struct Refusals {
    told_at: Option<Instant>,
    left_out: u64,
}

impl Gate {
    /// Asks for `tokens`, where there are any, holds callers to `limits`, and counts them.
    pub fn guarded(tokens: Tokens, limits: Limits, metrics: Metrics) -> Self {
        Self { guard: Some(Arc::new(Guard { tokens, limits, metrics, refusals: Mutex::default() })) }
    }

    /// Asks for nothing: whoever has the storage may do everything.
    pub fn open() -> Self {
        Self { guard: None }
    }
}

impl Guard {
    fn admit(&self, headers: &HeaderMap, rule: Rule, path: &str) -> Result<Option<Caller>, Status> {
        if rule.who == Who::Open {
            return Ok(None);
        }
        let authorization = headers.get(AUTHORIZATION).map(HeaderValue::to_str).transpose();
        let authorization =
            authorization.map_err(|_| status::unauthenticated("the `authorization` of the call is no text"))?;
        match self.tokens.caller(authorization)? {
            Some(caller) if !rule.who.admits(caller.role) => Err(status::forbidden(&caller, rule, path)),
            caller => Ok(caller),
        }
    }

    /// Serves a call of `caller` if there is room for it.
    async fn serve(&self, call: Admitted, next: Next) -> Response {
        let Admitted { request, rule, caller, is_grpc } = call;
        let counted = match (&caller, address(&request)) {
            (Some(caller), _) => Some(Counted::Token(caller.token)),
            (None, address) => address.map(Counted::Peer),
        };
        let begun = Instant::now();
        let _under_way = self.metrics.begin();
        let room = if rule.who == Who::Open {
            Ok(None)
        } else {
            let counted = counted.map_or(Ok(()), |counted| self.limits.count(&counted));
            counted.and_then(|()| rule.works().then(|| self.limits.place()).transpose())
        };
        let response = match room {
            Ok(_place) => serve(Admitted { request, rule, caller, is_grpc }, next).await,
            Err(refused) => answer(&refused, is_grpc),
        };
        self.answered(rule, &response, begun);
        response
    }

    /// Logs that a call was refused, but not every time: callers without a token must not fill the disk.
    fn tell(&self, path: &str, request: &Request, refused: &Status) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        if refusals.told_at.is_some_and(|at| at.elapsed() < TELL_EVERY) {
            refusals.left_out += 1;
            return;
        }
        let left_out = std::mem::take(&mut refusals.left_out);
        refusals.told_at = Some(Instant::now());
        tracing::warn!(path, peer = peer(request), reason = refused.message(), left_out, "a call was refused");
    }

    fn answered(&self, rule: Rule, response: &Response, begun: Instant) {
        if let Some((service, method)) = rule.call {
            // A status that comes with the last part is the end of a stream, or of a call that went well.
            let status = response.headers().get(Status::GRPC_STATUS);
            let code = status.map_or(Code::Ok, |status| Code::from_bytes(status.as_bytes()));
            self.metrics.answered(service, method, code, begun.elapsed());
        }
    }
}

/// A call that may be made.
struct Admitted {
    request: Request,
    rule: Rule,
    caller: Option<Caller>,
    is_grpc: bool,
}

/// Lets a call pass, or answers it.
pub async fn pass(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let rule = rule(path);
    let is_grpc = is_grpc(request.headers());
    let Some(guard) = gate.guard else {
        return serve(Admitted { request, rule, caller: None, is_grpc }, next).await;
    };
    match guard.admit(request.headers(), rule, path) {
        Ok(caller) => guard.serve(Admitted { request, rule, caller, is_grpc }, next).await,
        Err(refused) => {
            guard.tell(path, &request, &refused);
            let response = answer(&refused, is_grpc);
            guard.answered(rule, &response, Instant::now());
            response
        }
    }
}

async fn serve(call: Admitted, next: Next) -> Response {
    let Admitted { mut request, rule, caller, is_grpc } = call;
    if let Some(caller) = &caller {
        // The services ask for it.
        request.extensions_mut().insert(caller.clone());
    }
    let deed = rule.call.filter(|_| rule.is_deed).map(|(_, method)| deed(method, caller.as_ref(), peer(&request)));
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
fn address(request: &Request) -> Option<IpAddr> {
    let peer = request.extensions().get::<Peer>();
    peer.and_then(|peer| peer.address).map(|address| address.ip().to_canonical())
}

fn peer(request: &Request) -> String {
    address(request).map_or_else(|| LOCAL.to_owned(), |address| address.to_string())
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
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut response = (code, format!("{}\n", refused.message())).into_response();
    if code == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}
