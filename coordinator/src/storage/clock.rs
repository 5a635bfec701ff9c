//! The database's clock, as far as this process knows it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use fleetune_core::Timestamp;

/// Where the time comes from.
enum Source {
    /// This machine's clock.
    System,
    /// A measured instant of the database, carried on by this machine's steady clock. Microseconds between the start
    /// of the steady clock and 1970.
    Measured { start: Instant, offset: AtomicI64 },
}

/// A clock that never runs backwards.
pub(super) struct Clock {
    source: Source,
    last: AtomicI64,
}

impl Clock {
    /// The clock of a database in this process.
    pub fn system() -> Self {
        Self { source: Source::System, last: AtomicI64::new(0) }
    }

    /// The clock of a database that said `now` at `at`.
    pub fn measured(now: i64, at: Instant) -> Self {
        Self { source: Source::Measured { start: at, offset: AtomicI64::new(now) }, last: AtomicI64::new(0) }
    }

    /// Takes a newer measurement. A system clock has none.
    pub fn correct(&self, now: i64, at: Instant) {
        if let Source::Measured { start, offset } = &self.source {
            offset.store(now - micros(at.saturating_duration_since(*start)), Ordering::Relaxed);
        }
    }

    /// The time now, not before any time told earlier.
    pub fn now(&self) -> Timestamp {
        let now = match &self.source {
            Source::System => micros(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()),
            Source::Measured { start, offset } => offset.load(Ordering::Relaxed) + micros(start.elapsed()),
        };
        Timestamp(self.last.fetch_max(now, Ordering::Relaxed).max(now))
    }
}

fn micros(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_correction_backwards_does_not_turn_time_back() {
        let start = Instant::now();
        let clock = Clock::measured(1_000_000, start);
        let before = clock.now();
        clock.correct(0, start);
        assert!(clock.now() >= before);
    }
}
