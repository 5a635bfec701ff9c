//! Watch: the study and every trial that changes, until the client leaves or the study ends.

use std::time::Duration;

use fleetune_core::Revision;
use fleetune_proto::v1;
use tokio::sync::mpsc::Sender;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{status, view};
use crate::scheduler::Engine;
use crate::storage::StoreError;

/// Between two looks, however much changes.
const SPACING: Duration = Duration::from_millis(50);

/// Feeds `sender` with what changes after `after`.
pub async fn run(
    engine: Engine,
    study: String,
    mut after: Revision,
    sender: Sender<Result<v1::WatchEvent, Status>>,
    stop: CancellationToken,
) {
    let mut changes = engine.changes();
    let mut last: Option<v1::Study> = None;
    let mut watched = None;
    loop {
        changes.mark_unchanged();
        let (summary, trials) = match engine.changes_since(&study, after).await {
            Ok(changed) => changed,
            Err(error) => {
                let _ = sender.send(Err(status::engine(&error))).await;
                return;
            }
        };
        // A study that was deleted and made anew is another one.
        if *watched.get_or_insert(summary.record.id) != summary.record.id {
            let gone = StoreError::StudyNotFound(study).into();
            let _ = sender.send(Err(status::engine(&gone))).await;
            return;
        }
        let full_page = trials.len() >= 1_000;
        for trial in &trials {
            after = after.max(trial.revision);
            let event = v1::watch_event::Event::Trial(view::trial(trial));
            if sender.send(Ok(v1::WatchEvent { event: Some(event) })).await.is_err() {
                return;
            }
        }
        let now = view::study(&summary);
        if last.as_ref() != Some(&now) {
            let event = v1::watch_event::Event::Study(now.clone());
            if sender.send(Ok(v1::WatchEvent { event: Some(event) })).await.is_err() {
                return;
            }
            last = Some(now);
        }
        if full_page {
            continue;
        }
        if summary.record.state.is_ended() {
            return;
        }
        // What changes meanwhile is one look.
        tokio::time::sleep(SPACING).await;
        tokio::select! {
            () = stop.cancelled() => return,
            () = sender.closed() => return,
            _ = changes.changed() => {}
            () = tokio::time::sleep(engine.poll_every()) => {}
        }
    }
}
