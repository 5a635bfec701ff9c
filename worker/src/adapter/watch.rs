//! An adapter does not outlive its worker, nor the program its adapter.

use std::time::Duration;

/// How often it is looked.
const INTERVAL: Duration = Duration::from_millis(100);

/// Resolves when the process that started this one is gone.
#[cfg(unix)]
pub(super) async fn orphaned() {
    use nix::errno::Errno;
    use nix::sys::signal::kill;
    use nix::unistd::{Pid, getppid};

    let parent = getppid();
    // It may have been gone before it could be asked for: then somebody who stays is the parent.
    let worker = std::env::var("FLEETUNE_WORKER_PID").ok().and_then(|pid| pid.parse().ok()).map(Pid::from_raw);
    let gone = |pid: Pid| pid.as_raw() > 0 && kill(pid, None) == Err(Errno::ESRCH);
    while getppid() == parent && !worker.is_some_and(gone) {
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Elsewhere the worker's job object ends everybody.
#[cfg(not(unix))]
pub(super) async fn orphaned() {
    std::future::pending::<()>().await;
}

/// Ends everything that this process has started, and itself: the worker gave it a group of its own.
#[cfg(unix)]
pub(super) fn end_group() {
    use nix::sys::signal::{Signal, killpg};
    use nix::unistd::{getpgrp, getpid};

    if getpgrp() == getpid() {
        let _ = killpg(getpgrp(), Signal::SIGKILL);
    }
}

/// Dropping the program's handle ends it.
#[cfg(not(unix))]
pub(super) fn end_group() {}
