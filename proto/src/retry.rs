//! When a call that was refused for the moment is made again: one policy for every client.

use std::time::Duration;

use rand::RngExt as _;
use tonic::Status;
use tonic_types::StatusExt as _;

/// First and longest pause between two tries.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// How long to wait at least before the same call is made again, where the coordinator asks for that: it is overloaded,
/// its database is away, or it stops. Nothing was done, or a repeat does nothing twice.
pub fn retry_after(refused: &Status) -> Option<Duration> {
    refused.get_details_retry_info().and_then(|info| info.retry_delay)
}

/// Growing pauses, each a little different so that callers who were refused together do not come back together.
#[derive(Debug)]
pub struct Backoff {
    pause: Duration,
    limit: Duration,
}

impl Backoff {
    /// Pauses that end when `limit` is over, counted from the first call.
    pub fn new(limit: Duration) -> Self {
        Self { pause: FIRST_PAUSE, limit }
    }

    /// How long to wait before the next try, `asked` or longer; none when that would be over the limit. `since_first`:
    /// gone by since the first call.
    pub fn next(&mut self, asked: Option<Duration>, since_first: Duration) -> Option<Duration> {
        let jitter = self.pause.mul_f64(rand::rng().random_range(0.5..1.5));
        let wait = asked.unwrap_or_default() + jitter;
        self.pause = (self.pause * 2).min(LAST_PAUSE);
        (since_first + wait < self.limit).then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_differ_and_end() {
        let mut backoff = Backoff::new(Duration::from_mins(1));
        let mut expected = FIRST_PAUSE;
        for _ in 0..8 {
            let wait = backoff.next(None, Duration::ZERO).unwrap();
            assert!((expected.mul_f64(0.5)..expected.mul_f64(1.5)).contains(&wait), "{wait:?}");
            expected = (expected * 2).min(LAST_PAUSE);
        }
        assert_eq!(backoff.next(None, Duration::from_secs(59)), None);
        let mut others = Backoff::new(Duration::from_mins(1));
        let first: Vec<_> = (0..3).map(|_| Backoff::new(LAST_PAUSE).next(None, Duration::ZERO)).collect();
        assert!(first[0] != first[1] || first[1] != first[2], "{first:?}");
        assert!(others.next(Some(Duration::from_secs(3)), Duration::ZERO).unwrap() > Duration::from_secs(3));
    }
}
