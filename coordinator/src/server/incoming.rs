//! Connections: accepted up to a limit, shaken hands with one beside the other, handed to the server.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::server::TlsStream;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::{Connected, TcpIncoming};

use super::tls::Tls;
use crate::scheduler::Line;
use crate::service::Peer;

/// How long a client may take to shake hands.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Pause after an accept that failed: no file descriptors are left, most likely.
const PAUSE: Duration = Duration::from_millis(100);
/// Connections that wait for the server to take them.
const READY: usize = 64;

/// A connection with a place among those that are served.
pub(super) struct Connection {
    stream: Stream,
    peer: Peer,
    /// Others hold it weakly, and so see when the connection is closed.
    _end: Arc<()>,
    _place: OwnedSemaphorePermit,
    open: Gauge,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.dec();
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Accepts until `stop`; at most `limit` connections at once, others wait in the system's queue.
pub(super) fn accept(
    mut incoming: TcpIncoming,
    tls: Option<Tls>,
    limit: usize,
    open: Gauge,
    stop: CancellationToken,
) -> ReceiverStream<io::Result<Connection>> {
    let (sender, receiver) = mpsc::channel(READY);
    let places = Arc::new(Semaphore::new(limit));
    tokio::spawn(stop.run_until_cancelled_owned(async move {
        loop {
            if places.available_permits() == 0 {
                tracing::warn!(limit, "as many connections as there may be: others wait");
            }
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match incoming.next().await {
                None => return,
                Some(Ok(stream)) => {
                    tokio::spawn(greet(stream, place, tls.clone(), open.clone(), sender.clone()));
                }
                Some(Err(error)) => {
                    tracing::warn!(%error, "could not accept a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }));
    ReceiverStream::new(receiver)
}

async fn greet(
    stream: TcpStream,
    place: OwnedSemaphorePermit,
    tls: Option<Tls>,
    open: Gauge,
    sender: mpsc::Sender<io::Result<Connection>>,
) {
    let end = Arc::new(());
    let peer = Peer { address: stream.peer_addr().ok(), line: Line::new(&end) };
    let stream = match tls {
        None => Stream::Plain(stream),
        Some(tls) => match tokio::time::timeout(HANDSHAKE, tls.acceptor().accept(stream)).await {
            Ok(Ok(stream)) => Stream::Tls(Box::new(stream)),
            Ok(Err(error)) => {
                tracing::debug!(%error, peer = ?peer.address, "a TLS handshake failed");
                return;
            }
            Err(_) => return,
        },
    };
    // At the stop nobody takes it any more.
    open.inc();
    drop(sender.send(Ok(Connection { stream, peer, _end: end, _place: place, open })).await);
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
