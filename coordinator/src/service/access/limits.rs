//! How much is served at once, and to one caller.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::service::status;

/// Calls of one caller in a second, unless the operator says otherwise: far above what a study needs, below what a loop
/// gone wild does.
pub const CALLS_PER_SECOND: u32 = 10_000;
/// Calls that are worked on at the same time; long polls do not count.
const AT_ONCE: usize = 4_096;
/// When to try again while too much is worked on.
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// How often callers that are quiet now are forgotten.
const FORGET_EVERY: Duration = Duration::from_mins(1);

/// Who is counted: a token, or an address where there is none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Counted {
    /// Id of a token.
    Token(i64),
    /// An address.
    Peer(IpAddr),
}

/// The limits of a server. Cloning shares them.
#[derive(Clone)]
pub struct Limits {
    rate: Option<Arc<DefaultKeyedRateLimiter<Counted>>>,
    places: Arc<Semaphore>,
}

impl Limits {
    /// At most `calls_per_second` of one caller; any number where it is 0.
    pub fn new(calls_per_second: u32) -> Self {
        let rate = NonZeroU32::new(calls_per_second).map(|rate| Arc::new(RateLimiter::keyed(Quota::per_second(rate))));
        Self { rate, places: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Counts a call of `caller`.
    pub fn count(&self, caller: &Counted) -> Result<(), Status> {
        let Some(rate) = &self.rate else { return Ok(()) };
        rate.check_key(caller).map_err(|until| {
            let wait = until.wait_time_from(DefaultClock::default().now());
            let per_second = until.quota().burst_size();
            status::overloaded(&format!("more than {per_second} calls in a second from one caller"), wait)
        })
    }

    /// A place among the calls that are worked on.
    pub fn place(&self) -> Result<OwnedSemaphorePermit, Status> {
        let full = |_| status::overloaded(&format!("{AT_ONCE} calls are worked on already"), RETRY_AFTER);
        Arc::clone(&self.places).try_acquire_owned().map_err(full)
    }

    /// Forgets callers that are quiet, until `stop`.
    pub async fn follow(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(FORGET_EVERY) => {}
            }
            if let Some(rate) = &self.rate {
                rate.retain_recent();
                rate.shrink_to_fit();
            }
        }
    }
}
