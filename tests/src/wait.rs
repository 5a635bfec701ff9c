//! Waiting for what another process does.

use std::time::{Duration, Instant};

/// Longer than anything takes on a busy machine.
pub const DEADLINE: Duration = Duration::from_mins(2);

/// Between two looks.
pub(crate) const LOOK: Duration = Duration::from_millis(20);

/// Looks again and again until `look` finds something.
///
/// # Panics
/// When it found nothing within [`DEADLINE`]; `what` says what was waited for.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(LOOK);
    }
}
