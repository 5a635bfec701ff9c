//! Who is at the other end of a connection.

use std::net::SocketAddr;

use crate::scheduler::Line;

/// The other end of a connection; in the extensions of its calls.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address, where there is one.
    pub address: Option<SocketAddr>,
    /// The connection.
    pub line: Line,
}
