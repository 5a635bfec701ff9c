//! What a program prints, up to a bound.

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Reads to the end; the first `most` bytes are kept.
pub(super) async fn read(pipe: impl AsyncRead + Unpin, most: u64) -> String {
    let mut kept = Vec::new();
    let mut bounded = pipe.take(most);
    // What came before a broken pipe is kept nevertheless; whether it suffices is for the reader of it.
    let _ = bounded.read_to_end(&mut kept).await;
    let _ = tokio::io::copy(&mut bounded.into_inner(), &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&kept).into_owned()
}
