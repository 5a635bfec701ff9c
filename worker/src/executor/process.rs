//! The life of a child: spawn, one request, event lines, the end, the reaping.
//!
//! The child has its own process group and an empty working folder. Its pipes are read throughout, whatever happens.
//! Who overstays is ended by a ladder: SIGTERM to the group, a grace period, SIGKILL to the group.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use fleetune_core::runner::Event;
use process_wrap::tokio::{ChildWrapper, CommandWrap, KillOnDrop};
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::streams::{self, Said};
use super::{ExecutorError, Garbage, LogFile, LogRecord, Stop};

/// Time between SIGTERM and SIGKILL.
pub const GRACE: Duration = Duration::from_secs(5);

/// The same under WSL, where killing a process in the middle of GPU work can take the GPU from the whole machine
/// (microsoft/WSL#41062).
pub const WSL_GRACE: Duration = Duration::from_secs(30);

/// What is started, and how long it may take.
#[derive(Debug)]
pub struct Child {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Written to its stdin, followed by a newline.
    pub request: String,
    /// From the start to the end.
    pub time_limit: Duration,
    /// Between SIGTERM and SIGKILL, and for leaving after the last event.
    pub grace: Duration,
    /// Receives all of stderr.
    pub log: Option<LogFile>,
}

/// Why a child ended, as far as the worker had a hand in it.
#[derive(Debug)]
pub enum Cause {
    /// By itself.
    Exited,
    /// Its time was up.
    TimeLimit,
    /// It was told to.
    Stopped(Stop),
    /// It said something that is not of the protocol.
    Garbage(Garbage),
}

/// How a child left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Nobody knows.
    Unknown,
}

/// The rung of the ladder that ended a child.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rung {
    /// It left by itself.
    #[default]
    None,
    /// It followed SIGTERM.
    Sigterm,
    /// It had to be killed.
    Sigkill,
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "none",
            Self::Sigterm => "SIGTERM",
            Self::Sigkill => "SIGKILL",
        })
    }
}

/// All that is left of a child besides the events that were passed on.
#[derive(Debug)]
pub struct Transcript {
    /// Why it ended.
    pub cause: Cause,
    /// How it left.
    pub exit: Exit,
    /// The event after which nothing follows, if there was one.
    pub last: Option<Event>,
    /// Which rung it took.
    pub stopped_by: Rung,
    /// End of its stderr.
    pub stderr_tail: String,
    /// From start to end.
    pub wall: Duration,
    /// The complete stderr.
    pub log: Option<LogRecord>,
}

/// Runs `child` to its end. Events go to `events` in their order; a reader that is gone is no reason to stop.
///
/// Fails only when the child cannot be started. When the future is dropped, the whole group is killed.
pub async fn converse(
    child: Child,
    events: mpsc::Sender<Event>,
    mut stop: watch::Receiver<Option<Stop>>,
) -> Result<Transcript, ExecutorError> {
    let Child { program, arguments, request, time_limit, grace, log } = child;
    let folder = tempfile::Builder::new()
        .prefix("fleetune-run-")
        .tempdir()
        .map_err(|source| ExecutorError::Folder { path: std::env::temp_dir(), source })?;
    let mut command = CommandWrap::with_new(&program, |command| {
        command
            .args(&arguments)
            .current_dir(folder.path())
            .env_clear()
            .envs(environment(std::env::vars_os()))
            // Its parent may be gone before it can look who that is.
            .env(WORKER_PID, std::process::id().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
    });
    #[cfg(unix)]
    command.wrap(process_wrap::tokio::ProcessGroup::leader());
    #[cfg(windows)]
    command.wrap(process_wrap::tokio::JobObject);
    command.wrap(KillOnDrop);
    let started = Instant::now();
    let not_started = |source| ExecutorError::Start { path: program.clone(), source };
    let mut group = Group::new(command.spawn().map_err(not_started)?);

    let exited = CancellationToken::new();
    let (Some(mut stdin), Some(stdout), Some(stderr)) =
        (group.child.stdin().take(), group.child.stdout().take(), group.child.stderr().take())
    else {
        return Err(not_started(io::Error::other("the child has no pipes")));
    };
    let (said_sender, said) = oneshot::channel();
    let stdout = tokio::spawn(streams::read_events(stdout, events, said_sender, exited.clone()));
    let stderr = tokio::spawn(streams::read_stderr(stderr, log, exited.clone()));
    // A child that never reads its request must not hold up anything; it is ended by its time limit.
    let writer = tokio::spawn(async move {
        let _ = stdin.write_all(format!("{request}\n").as_bytes()).await;
    });

    let mut stopped_by = Rung::None;
    let mut cause = tokio::select! {
        biased;
        _ = group.left() => Cause::Exited,
        stop = told(&mut stop) => Cause::Stopped(stop),
        () = tokio::time::sleep(time_limit) => Cause::TimeLimit,
        said = heard(said) => match said {
            // What it was comes with the end of the stream.
            Said::Garbage => Cause::Exited,
            // Nothing follows but its exit; who does not leave is shown the door.
            Said::Last => tokio::select! {
                biased;
                _ = group.left() => Cause::Exited,
                stop = told(&mut stop) => Cause::Stopped(stop),
                () = tokio::time::sleep(grace) => Cause::Exited,
            },
        },
    };
    if group.status.is_none() {
        stopped_by = group.end(grace).await;
    }
    let exit = group.status;
    let wall = started.elapsed();
    group.reap().await;
    exited.cancel();
    writer.abort();
    let (last, garbage) = stdout.await.unwrap_or((None, None));
    let (tail, log) = stderr.await.unwrap_or_default();
    if let (Cause::Exited, Some(garbage)) = (&cause, garbage) {
        cause = Cause::Garbage(garbage);
    }
    Ok(Transcript { cause, exit: exit.map_or(Exit::Unknown, exit_of), last, stopped_by, stderr_tail: tail, wall, log })
}

/// Resolves when somebody wants the run to end; never when nobody is left who could.
async fn told(stop: &mut watch::Receiver<Option<Stop>>) -> Stop {
    let told = stop.wait_for(Option::is_some).await.ok().and_then(|stop| *stop);
    match told {
        Some(stop) => stop,
        None => std::future::pending().await,
    }
}

/// Resolves when the reader has something to say; never when it ended without.
async fn heard(said: oneshot::Receiver<Said>) -> Said {
    match said.await {
        Ok(said) => said,
        Err(_) => std::future::pending().await,
    }
}

#[cfg(unix)]
fn exit_of(status: ExitStatus) -> Exit {
    use std::os::unix::process::ExitStatusExt;
    status.code().map(Exit::Code).or_else(|| status.signal().map(Exit::Signal)).unwrap_or(Exit::Unknown)
}

#[cfg(not(unix))]
fn exit_of(status: ExitStatus) -> Exit {
    status.code().map_or(Exit::Unknown, Exit::Code)
}

/// A child and everything it started, as far as that stayed in its group.
struct Group {
    child: Box<dyn ChildWrapper>,
    #[cfg(unix)]
    id: Option<nix::unistd::Pid>,
    /// Known once the leader left.
    status: Option<ExitStatus>,
    reaped: bool,
}

impl Group {
    fn new(child: Box<dyn ChildWrapper>) -> Self {
        Self {
            #[cfg(unix)]
            id: child.id().and_then(|id| i32::try_from(id).ok()).map(nix::unistd::Pid::from_raw),
            child,
            status: None,
            reaped: false,
        }
    }

    /// Waits for the leader alone: a grandchild that stays must not keep the run open. May be cancelled.
    async fn left(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.inner_mut().wait().await.ok();
        }
        self.status
    }

    /// The ladder.
    async fn end(&mut self, grace: Duration) -> Rung {
        if self.terminate() && tokio::time::timeout(grace, self.left()).await.is_ok() {
            return Rung::Sigterm;
        }
        self.kill();
        self.left().await;
        Rung::Sigkill
    }

    #[cfg(unix)]
    fn terminate(&self) -> bool {
        self.signal(nix::sys::signal::Signal::SIGTERM)
    }

    #[cfg(not(unix))]
    fn terminate(&self) -> bool {
        false
    }

    #[cfg(unix)]
    fn kill(&mut self) {
        self.signal(nix::sys::signal::Signal::SIGKILL);
    }

    #[cfg(not(unix))]
    fn kill(&mut self) {
        let _ = self.child.start_kill();
    }

    #[cfg(unix)]
    fn signal(&self, signal: nix::sys::signal::Signal) -> bool {
        self.id.is_some_and(|id| nix::sys::signal::killpg(id, signal).is_ok())
    }

    /// Ends what the leader left behind, and collects those that are ours.
    async fn reap(&mut self) {
        self.kill();
        let _ = self.child.wait().await;
        self.reaped = true;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.reaped {
            self.kill();
        }
    }
}

/// Tells a child whose end is its own; `fleetune-runner` reads it.
const WORKER_PID: &str = "FLEETUNE_WORKER_PID";

/// Variables that a child gets as they are. Everything else stays here: it could change a speed or carry a secret.
const KEPT: [&str; 12] = [
    "PATH",
    "HOME",
    "USER",
    "TMPDIR",
    "TEMP",
    "SystemRoot",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "LC_ALL",
    "LC_NUMERIC",
    "LIBGL_DRIVERS_PATH",
    "RUST_BACKTRACE",
];

/// Families of variables that drivers, OpenMP and the engine read: the operator's settings.
const KEPT_PREFIXES: [&str; 13] =
    ["CUDA_", "HIP_", "HSA_", "ROCR_", "ROCM_", "NVIDIA_", "VK_", "ZE_", "OMP_", "GOMP_", "KMP_", "GGML_", "LLAMA_"];

/// The child's environment, out of ours.
fn environment(ours: impl Iterator<Item = (OsString, OsString)>) -> Vec<(OsString, OsString)> {
    let mut kept: Vec<_> = ours
        .filter(|(name, _)| {
            let name = name.to_string_lossy();
            KEPT.contains(&&*name) || KEPT_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        })
        .collect();
    // An abort would start a debugger otherwise. Nothing else is set: how threads wait, for one, must be as in the
    // program that will use the settings.
    if kept.iter().all(|(name, _)| name != "GGML_NO_BACKTRACE") {
        kept.push(("GGML_NO_BACKTRACE".into(), "1".into()));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(ours: &[(&str, &str)]) -> Vec<String> {
        let ours = ours.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        environment(ours).into_iter().map(|(n, v)| format!("{}={}", n.display(), v.display())).collect()
    }

    #[test]
    fn secrets_stay_and_the_operators_settings_go_along() {
        assert_eq!(
            names(&[("PATH", "/bin"), ("FLEETUNE_TOKEN", "s"), ("LD_PRELOAD", "x"), ("CUDA_VISIBLE_DEVICES", "1")]),
            ["PATH=/bin", "CUDA_VISIBLE_DEVICES=1", "GGML_NO_BACKTRACE=1"]
        );
        assert_eq!(names(&[("OMP_WAIT_POLICY", "active")]), ["OMP_WAIT_POLICY=active", "GGML_NO_BACKTRACE=1"]);
        assert_eq!(names(&[("GGML_NO_BACKTRACE", "0")]), ["GGML_NO_BACKTRACE=0"]);
    }
}
