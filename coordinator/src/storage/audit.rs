//! Which call a change belongs to: known to the task that serves the call, stored in the transaction of the change.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use fleetune_core::Timestamp;

use super::engine::News;
use super::error::StoreError;
use super::operations::{Lane, Operation};
use super::record::Deed;
use super::rows::Rows;

tokio::task_local! {
    static CALL: Arc<Call>;
}

/// A call that changes something, while it is served.
#[derive(Debug)]
struct Call {
    deed: Mutex<Deed>,
    /// A call is one entry, however many changes follow from it.
    recorded: AtomicBool,
}

/// Serves a call: its first change is recorded as `deed`. One that changes nothing leaves no entry.
pub async fn as_deed<F: Future>(deed: Deed, call: F) -> F::Output {
    let call_of = Arc::new(Call { deed: Mutex::new(deed), recorded: AtomicBool::new(false) });
    CALL.scope(call_of, call).await
}

/// Says what the call under way is about, such as `study llama`.
pub fn about(kind: &str, name: &str) {
    change(|deed| deed.subject = format!("{kind} {name}"));
}

/// Says that the call under way is about a trial.
pub fn about_trial(study: &str, number: i64) {
    about("study", study);
    change(|deed| deed.action = format!("{} {number}", deed.action));
}

fn change(change: impl FnOnce(&mut Deed)) {
    // Outside of a call there is nothing to say.
    let _ = CALL.try_with(|call| change(&mut call.deed.lock().unwrap_or_else(PoisonError::into_inner)));
}

/// Name of the token that the call under way came with; empty without.
pub fn actor() -> String {
    let name = CALL.try_with(|call| call.deed.lock().unwrap_or_else(PoisonError::into_inner).actor.clone());
    name.unwrap_or_default()
}

/// The deed of the call under way, unless it is recorded already.
pub(super) fn unrecorded() -> Option<Unrecorded> {
    let call = CALL.try_with(Arc::clone).ok().filter(|call| !call.recorded.load(Ordering::Relaxed))?;
    let deed = call.deed.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Some(Unrecorded { call, deed })
}

/// A deed that waits for its change.
pub(super) struct Unrecorded {
    call: Arc<Call>,
    deed: Deed,
}

/// A mutation with the deed that it is.
pub(super) struct Audited<O> {
    pub operation: O,
    pub deed: Unrecorded,
    pub now: Timestamp,
}

#[async_trait]
impl<O: Operation> Operation for Audited<O> {
    type Output = O::Output;

    const NEWS: News = O::NEWS;

    fn lane(&self) -> Lane {
        self.operation.lane()
    }

    async fn apply(&self, rows: &mut dyn Rows) -> Result<O::Output, StoreError> {
        let output = self.operation.apply(rows).await?;
        // A repeat that changed nothing is no deed.
        if rows.take_dirty() {
            rows.insert_audit(&self.deed.deed, self.now).await?;
            self.deed.call.recorded.store(true, Ordering::Relaxed);
        }
        Ok(output)
    }
}
