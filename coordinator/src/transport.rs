//! gRPC within one process: the same calls, limits and deadlines as over TCP, without a port.

use std::sync::Mutex;

use tokio::io::DuplexStream;
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint, Server, Uri};

/// Bytes in flight per direction.
const BUFFER: usize = 1 << 20;

/// Serves `routes` to the returned channel alone, until `stop` is cancelled.
///
/// # Errors
/// When the connection cannot be set up, which only a bug can cause.
pub async fn in_process(routes: Routes, stop: CancellationToken) -> Result<Channel, tonic::transport::Error> {
    let (client, server) = tokio::io::duplex(BUFFER);
    // The list of connections never ends: its end would be taken for a shutdown.
    let connection = tokio_stream::once(Ok::<DuplexStream, std::io::Error>(server)).chain(tokio_stream::pending());
    tokio::spawn(async move {
        let served =
            Server::builder().add_routes(routes).serve_with_incoming_shutdown(connection, stop.cancelled_owned());
        if let Err(error) = served.await {
            tracing::error!(%error, "in-process transport failed");
        }
    });
    let client = Mutex::new(Some(client));
    Endpoint::from_static("http://in-process")
        .connect_with_connector(tower::service_fn(move |_: Uri| {
            let client = client.lock().ok().and_then(|mut client| client.take());
            async move {
                client
                    .map(hyper_util::rt::TokioIo::new)
                    .ok_or_else(|| std::io::Error::other("the in-process connection is gone"))
            }
        }))
        .await
}
