//! Passes calls on to a coordinator as they are, with the token that they need there.
//!
//! Bodies pass through unread: nothing is encoded anew, and no message is too long. Each connection of a client has one
//! of its own to the coordinator, which so sees when the client goes away.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use fleetune_proto::link::{Credentials, Link};
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codegen::{Body as HttpBody, BoxFuture, Bytes, Service, StdError, http};
use tonic::service::Routes;
use tonic::transport::server::{Connected, TcpIncoming};
use tonic::transport::{Channel, Endpoint, Error, Server};
use tonic::{Code, Status, TimeoutExpired};

/// Pause after an accept that failed: no file descriptors are left, most likely.
const PAUSE: Duration = Duration::from_millis(100);

/// The token in force. Cloning shares it.
#[derive(Clone, Default)]
pub struct Pass {
    credentials: Arc<RwLock<Option<Credentials>>>,
    refused: Arc<Notify>,
}

impl Pass {
    /// Calls carry these from now on.
    pub fn set(&self, credentials: Option<Credentials>) {
        *self.credentials.write().unwrap_or_else(PoisonError::into_inner) = credentials;
    }

    /// Waits until the coordinator refused the token.
    pub async fn refused(&self) {
        self.refused.notified().await;
    }

    fn get(&self) -> Option<Credentials> {
        self.credentials.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Where calls go, and what they need there.
pub struct Target {
    /// The coordinator.
    pub endpoint: Endpoint,
    /// The same for messages.
    pub place: String,
    /// The token.
    pub pass: Pass,
}

/// Passes on the calls that come to `listener` until `stop` is cancelled; then those under way are finished.
pub async fn serve(listener: TcpListener, target: Target, stop: CancellationToken) -> Result<(), Error> {
    let Target { endpoint, place, pass } = target;
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true)).then(move |accepted| {
        let endpoint = endpoint.clone();
        async move {
            if let Ok(stream) = accepted {
                // Connects with the first call, and again whenever the connection was lost.
                return Some(Inbound { stream, channel: endpoint.connect_lazy() });
            }
            tokio::time::sleep(PAUSE).await;
            None
        }
    });
    let incoming = incoming.filter_map(|inbound| inbound.map(Ok::<_, io::Error>));
    let forward = Forward { place: place.into(), pass };
    let routes = Routes::default().into_axum_router().reset_fallback().fallback_service(forward);
    Server::builder()
        .add_routes(Routes::from(routes))
        .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
        .await
}

/// The service of every call.
#[derive(Clone)]
struct Forward {
    place: Arc<str>,
    pass: Pass,
}

impl<B> Service<http::Request<B>> for Forward
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError>,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        let Self { place, pass } = self.clone();
        Box::pin(async move {
            let Some(channel) = request.extensions_mut().remove::<Channel>() else {
                return Ok(Status::internal("the connection of the call is not known").into_http());
            };
            let mut link = Link::new(channel, pass.get());
            let answer = match poll_fn(|cx| link.poll_ready(cx)).await {
                Ok(()) => link.call(request.map(Body::new)).await,
                Err(error) => Err(error),
            };
            Ok(match answer {
                Ok(response) => {
                    let status =
                        response.headers().get(Status::GRPC_STATUS).map(|code| Code::from_bytes(code.as_bytes()));
                    if status == Some(Code::Unauthenticated) {
                        pass.refused.notify_one();
                    }
                    response.map(|body| Body::new(Answer { body, place, is_broken: false }))
                }
                Err(error) => broken(&place, &error).into_http(),
            })
        })
    }
}

/// What is said of a call that the coordinator did not answer. Clients try again when it is unavailable.
fn broken(place: &str, error: &(dyn std::error::Error + 'static)) -> Status {
    let mut cause = error;
    loop {
        if cause.is::<TimeoutExpired>() {
            return Status::deadline_exceeded("the call took longer than its client allows");
        }
        match cause.source() {
            Some(source) => cause = source,
            None => return Status::unavailable(format!("the coordinator at {place} does not answer: {cause}")),
        }
    }
}

/// The body of an answer. A connection that breaks in its midst ends it with a status, as it would without a proxy.
struct Answer {
    body: Body,
    place: Arc<str>,
    is_broken: bool,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.is_broken {
            return Poll::Ready(None);
        }
        match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Err(error)) => {
                self.is_broken = true;
                let mut trailers = http::HeaderMap::new();
                broken(&self.place, &error).add_header(&mut trailers)?;
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            frame => Poll::Ready(frame),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_broken || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A client's connection, with the one that its calls take.
struct Inbound {
    stream: TcpStream,
    channel: Channel,
}

impl Connected for Inbound {
    type ConnectInfo = Channel;

    fn connect_info(&self) -> Channel {
        self.channel.clone()
    }
}

impl AsyncRead for Inbound {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Inbound {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
