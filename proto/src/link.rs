//! The way to a coordinator, with the token that calls need there, and with patience for one that is busy.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use tokio::time::Instant;
use tonic::Status;

use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::header::AUTHORIZATION;
use tonic::codegen::http::{HeaderValue, Request, Response};
use tonic::transport::{Channel, Error};

use crate::retry::{Backoff, retry_after};

/// What a call proves its right with. Never shown: `Debug` says `Sensitive`.
#[derive(Clone, Debug)]
pub struct Credentials(HeaderValue);

impl Credentials {
    /// Of a token's text, or none when it holds what no header can.
    pub fn bearer(token: &str) -> Option<Self> {
        let mut value = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
        value.set_sensitive(true);
        Some(Self(value))
    }
}

/// A channel whose calls carry credentials, where there are any.
#[derive(Clone, Debug)]
pub struct Link {
    channel: Channel,
    credentials: Option<Credentials>,
    patience: Duration,
}

impl Link {
    /// Over `channel`, with `credentials`.
    pub fn new(channel: Channel, credentials: Option<Credentials>) -> Self {
        Self { channel, credentials, patience: Duration::ZERO }
    }

    /// Makes a call again for up to `patience` when the coordinator asks for that ([`retry_after`]). The messages of a
    /// call are kept in memory meanwhile; what cannot be repeated must not go this way.
    #[must_use]
    pub fn patient(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }
}

impl From<Channel> for Link {
    fn from(channel: Channel) -> Self {
        Self::new(channel, None)
    }
}

impl Service<Request<Body>> for Link {
    type Response = Response<Body>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Service::<Request<Body>>::poll_ready(&mut self.channel, cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(Credentials(value)) = &self.credentials {
            request.headers_mut().insert(AUTHORIZATION, value.clone());
        }
        // The channel that said that it is ready makes the call.
        let next = self.channel.clone();
        let channel = std::mem::replace(&mut self.channel, next);
        if self.patience.is_zero() {
            let mut channel = channel;
            return Box::pin(channel.call(request));
        }
        Box::pin(repeated(channel, request, self.patience))
    }
}

async fn repeated(mut channel: Channel, request: Request<Body>, patience: Duration) -> Result<Response<Body>, Error> {
    let (head, body) = request.into_parts();
    let body = match body.collect().await {
        Ok(body) => body.to_bytes(),
        // Who makes the call could not say what it is.
        Err(status) => return Ok(status.into_http()),
    };
    let start = Instant::now();
    let mut backoff = Backoff::new(patience);
    loop {
        let request = Request::from_parts(head.clone(), Body::new(Full::new(body.clone())));
        let answer = channel.call(request).await?;
        // A refusal comes without a message, its status among the headers.
        let asked = Status::from_header_map(answer.headers()).and_then(|refused| retry_after(&refused));
        let wait = asked.and_then(|asked| backoff.next(Some(asked), start.elapsed()));
        let Some(wait) = wait else { return Ok(answer) };
        tokio::time::sleep(wait).await;
        std::future::poll_fn(|cx| Service::<Request<Body>>::poll_ready(&mut channel, cx)).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_never_shown() {
        let shown = format!("{:?}", Credentials::bearer("secret").unwrap());
        assert!(!shown.contains("secret"), "{shown}");
        assert!(Credentials::bearer("a\nb").is_none());
    }
}
