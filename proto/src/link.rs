//! The way to a coordinator, with the token that calls need there.

use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::header::AUTHORIZATION;
use tonic::codegen::http::{HeaderValue, Request, Response};
use tonic::transport::{Channel, Error};

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
}

impl Link {
    /// Over `channel`, with `credentials`.
    pub fn new(channel: Channel, credentials: Option<Credentials>) -> Self {
        Self { channel, credentials }
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
    type Future = <Channel as Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Service::<Request<Body>>::poll_ready(&mut self.channel, cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(Credentials(value)) = &self.credentials {
            request.headers_mut().insert(AUTHORIZATION, value.clone());
        }
        self.channel.call(request)
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
