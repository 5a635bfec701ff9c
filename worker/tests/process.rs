//! The life of real children: what they do to the worker, and what the worker does to them.
#![cfg(unix)]

use std::path::Path;
use std::time::{Duration, Instant};

use fleetune_core::measurement::MAX_STDERR_TAIL;
use fleetune_core::runner::{Event, Settings};
use fleetune_core::{FailKind, Workload};
use fleetune_worker::executor::{
    Bench, Cause, Child, EVENT_QUEUE, Ended, Executor, ExecutorError, Exit, LlamaExecutor, LogFolder, Run, Rung,
    Runner, Stop, Transcript, converse,
};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use tokio::sync::{mpsc, watch};

const RUNNER: &str = env!("CARGO_BIN_EXE_fleetune-worker-test-runner");
/// Nothing here takes long; a test that hangs fails instead.
const DEADLINE: Duration = Duration::from_mins(1);

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("nothing here takes that long")
}

fn shell(script: &str, time_limit: Duration) -> Child {
    Child {
        program: "/bin/sh".into(),
        arguments: vec!["-c".into(), script.into()],
        request: "request".into(),
        time_limit,
        grace: Duration::from_millis(500),
        log: None,
    }
}

/// Runs `child` and stops it once `stop_on` says so of an event.
async fn play(child: Child, stop_on: impl Fn(&Event) -> Option<Stop>) -> (Transcript, Vec<Event>) {
    let (events, mut received) = mpsc::channel(EVENT_QUEUE);
    let (stop, stopped) = watch::channel(None);
    let listen = async {
        let mut all = Vec::new();
        while let Some(event) = received.recv().await {
            if let Some(reason) = stop_on(&event) {
                stop.send_replace(Some(reason));
            }
            all.push(event);
        }
        all
    };
    let (transcript, events) = within(async { tokio::join!(converse(child, events, stopped), listen) }).await;
    (transcript.expect("the child starts"), events)
}

async fn run_shell(script: &str, time_limit: Duration) -> Transcript {
    play(shell(script, time_limit), |_| None).await.0
}

/// Whether a process is there and not a zombie.
fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let zombie = stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'));
    kill(Pid::from_raw(pid), None).is_ok() && !zombie
}

async fn gone(pid: i32) {
    within(async {
        while is_alive(pid) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn child_that_ignores_sigterm_is_killed_with_its_children() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    // The grandchild ignores SIGTERM too, and keeps the pipes open.
    let script = format!(
        "trap '' TERM; (trap '' TERM; while :; do sleep 1; done) & echo $! > '{}'; \
         echo '{{\"event\":\"loading\",\"progress\":0.5}}'; while :; do sleep 1; done",
        file.display()
    );
    let (transcript, events) = play(shell(&script, DEADLINE), |_| Some(Stop::Cancelled)).await;
    assert_eq!(events.len(), 1);
    assert!(matches!(transcript.cause, Cause::Stopped(Stop::Cancelled)), "{:?}", transcript.cause);
    assert_eq!(transcript.stopped_by, Rung::Sigkill);
    assert_eq!(transcript.exit, Exit::Signal(9));
    assert!(transcript.wall >= Duration::from_millis(500), "{:?}", transcript.wall);
    let grandchild: i32 = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
    gone(grandchild).await;
}

#[tokio::test]
async fn child_that_follows_sigterm_is_not_killed() {
    let transcript = run_shell("sleep 100", Duration::from_millis(200)).await;
    assert_eq!((transcript.stopped_by, transcript.exit), (Rung::Sigterm, Exit::Signal(15)));
    assert!(transcript.wall < Duration::from_secs(20));
}

#[tokio::test]
async fn grandchild_that_is_left_behind_does_not_hold_up_the_end() {
    let start = Instant::now();
    let transcript = run_shell("sleep 1000 & exit 3", DEADLINE).await;
    assert!(matches!(transcript.cause, Cause::Exited));
    assert_eq!((transcript.stopped_by, transcript.exit), (Rung::None, Exit::Code(3)));
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn dropped_run_takes_its_group_along() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let script = format!("sh -c 'echo $$ > \"{0}.new\"; mv \"{0}.new\" \"{0}\"; sleep 1000' & wait", file.display());
    let (events, _received) = mpsc::channel(EVENT_QUEUE);
    let (_stop, stopped) = watch::channel(None);
    let run = converse(shell(&script, DEADLINE), events, stopped);
    let appeared = async {
        while !file.exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = run => panic!("it sleeps"),
        () = within(appeared) => {}
    }
    let grandchild: i32 = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
    gone(grandchild).await;
}

#[tokio::test]
async fn child_works_in_an_empty_folder_of_its_own_and_without_our_secrets() {
    let transcript = run_shell("ls -A | wc -l >&2; pwd >&2; env >&2; read line; echo got $line >&2", DEADLINE).await;
    let said = transcript.stderr_tail;
    assert!(said.starts_with('0'), "{said}");
    assert!(said.contains("fleetune-run-") && said.contains("got request"), "{said}");
    assert!(said.contains("GGML_NO_BACKTRACE=1"), "{said}");
    assert!(!said.contains("CARGO_"), "{said}");
}

#[tokio::test]
async fn program_that_is_not_there_is_an_error() {
    let child = Child { program: "/nowhere/runner".into(), ..shell("", DEADLINE) };
    let (events, _received) = mpsc::channel(EVENT_QUEUE);
    let (_stop, stopped) = watch::channel(None);
    assert!(matches!(converse(child, events, stopped).await, Err(ExecutorError::Start { .. })));
}

fn workload() -> Workload {
    Workload { prompt: 16, gen_tokens: 8, repetitions: 3, warmup: 1 }
}

/// Runs the scripted runner under `script`, with everything it says.
async fn scripted(folder: &Path, script: &str, time_limit: Duration, stop: Option<Stop>) -> (Run, Vec<Event>) {
    let model = folder.join("m.gguf");
    std::fs::write(&model, b"model").unwrap();
    std::fs::write(folder.join("m.gguf.script.json"), script).unwrap();
    let executor = LlamaExecutor::new(Runner::at(Path::new(RUNNER)))
        .with_grace(Duration::from_millis(500))
        .with_logs(LogFolder::new(folder.join("logs")));
    let bench = Bench {
        model,
        settings: Settings { n_threads: Some(6), ..Settings::default() },
        workload: workload(),
        seed: 1,
        time_limit,
        label: "test".into(),
    };
    let (events, mut received) = mpsc::channel(EVENT_QUEUE);
    let (sender, stopped) = watch::channel(None);
    let listen = async {
        let mut all = Vec::new();
        while let Some(event) = received.recv().await {
            if matches!(event, Event::Loaded { .. }) {
                sender.send_replace(stop);
            }
            all.push(event);
        }
        all
    };
    let (run, events) = within(async { tokio::join!(executor.run(&bench, events, stopped), listen) }).await;
    (run.expect("the runner starts"), events)
}

fn kind(run: &Run) -> FailKind {
    match &run.ended {
        Ended::Failed(failure) => failure.kind,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn scripted_benchmark_runs_to_its_end_and_repeats_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (run, events) = scripted(folder.path(), "{}", DEADLINE, None).await;
    assert_eq!((run.ended, run.stopped_by), (Ended::Done, Rung::None));
    let counted = |events: &[Event]| -> Vec<f64> {
        let speed = |event: &Event| match event {
            Event::Repetition(repetition) if !repetition.warmup => Some(repetition.decode_tok_s),
            _ => None,
        };
        events.iter().filter_map(speed).collect()
    };
    let first = counted(&events);
    assert_eq!(first.len(), 3);
    assert!(matches!(events.last(), Some(Event::Done { .. })));
    let (_, again) = scripted(folder.path(), "{}", DEADLINE, None).await;
    assert_eq!(counted(&again), first);
}

#[tokio::test]
async fn every_bad_end_has_its_kind() {
    let folder = tempfile::tempdir().unwrap();
    for (mode, expected) in [
        ("abort", FailKind::Crash),
        ("segfault", FailKind::Crash),
        ("exit", FailKind::Crash),
        ("sigkill", FailKind::Oom),
        ("oom", FailKind::Oom),
        ("invalid_config", FailKind::InvalidConfig),
        ("garbage", FailKind::Error),
        ("nan", FailKind::NonFinite),
    ] {
        let script = format!(r#"{{"mode":"{mode}","at":1}}"#);
        let (run, events) = scripted(folder.path(), &script, DEADLINE, None).await;
        assert_eq!(kind(&run), expected, "{mode}: {run:?}");
        assert!(events.iter().any(|event| matches!(event, Event::Repetition(repetition) if !repetition.warmup)));
    }
}

#[tokio::test]
async fn hanging_runner_is_a_timeout() {
    let folder = tempfile::tempdir().unwrap();
    let limit = Duration::from_millis(500);
    let (run, _) = scripted(folder.path(), r#"{"mode":"hang"}"#, limit, None).await;
    assert_eq!((kind(&run), run.stopped_by), (FailKind::Timeout, Rung::Sigterm));
}

#[tokio::test]
async fn stopped_runner_says_why_it_was_stopped_and_which_rung_it_took() {
    let folder = tempfile::tempdir().unwrap();
    let stop = Some(Stop::Cancelled);
    let (run, _) = scripted(folder.path(), r#"{"mode":"hang"}"#, DEADLINE, stop).await;
    assert_eq!((run.ended, run.stopped_by), (Ended::Stopped(Stop::Cancelled), Rung::Sigterm));
    let (run, _) = scripted(folder.path(), r#"{"mode":"hang","ignore_sigterm":true}"#, DEADLINE, stop).await;
    assert_eq!((run.ended, run.stopped_by), (Ended::Stopped(Stop::Cancelled), Rung::Sigkill));
}

#[tokio::test]
async fn flood_on_stderr_neither_blocks_nor_grows() {
    let folder = tempfile::tempdir().unwrap();
    let (run, _) = scripted(folder.path(), r#"{"stderr_bytes":5000000}"#, DEADLINE, None).await;
    assert_eq!(run.ended, Ended::Done);
    assert!(run.stderr_tail.len() <= MAX_STDERR_TAIL && run.stderr_tail.len() > MAX_STDERR_TAIL / 2);
    let log = run.log.expect("there is a log");
    assert_eq!(log.bytes, 5_000_000);
    let content = std::fs::read(&log.path).unwrap();
    assert_eq!(blake3::hash(&content).to_hex().to_string(), log.blake3);
}

#[tokio::test]
async fn engine_of_the_scripted_runner_is_never_mistaken_for_a_real_one() {
    let executor = LlamaExecutor::new(Runner::at(Path::new(RUNNER)));
    let fingerprint = within(executor.fingerprint()).await.unwrap();
    assert!(fingerprint.starts_with("scripted "), "{fingerprint}");
    assert_eq!(within(executor.devices()).await.unwrap().len(), 1);
    let missing = within(executor.describe(Path::new("/nowhere.gguf"))).await.unwrap_err();
    assert!(missing.to_string().contains("/nowhere.gguf"), "{missing}");
}
