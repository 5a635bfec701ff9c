//! A program that runs, and what is left of it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::Value;

use crate::wait::{DEADLINE, LOOK, until};

/// A program under way. It is killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    command: String,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// A program that ended.
#[derive(Debug)]
pub struct Done {
    /// Its command line.
    pub command: String,
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it said.
    pub stderr: String,
}

impl Running {
    /// Starts `command`; its output goes to files named after `output`, so that no full pipe holds it up.
    pub(crate) fn start(mut command: Command, output: &Path) -> Self {
        let (stdout, stderr) = (output.with_extension("out"), output.with_extension("err"));
        command.stdin(Stdio::null());
        command.stdout(File::create(&stdout).expect("the folder is writable"));
        command.stderr(File::create(&stderr).expect("the folder is writable"));
        let words = command.get_args().map(|word| word.to_string_lossy().into_owned());
        let text = words.collect::<Vec<_>>().join(" ");
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"));
        Self { child, command: text, stdout, stderr }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to the process.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        kill(pid, signal).expect("a child that was not waited for takes signals");
    }

    /// Kills the process as nothing else does, and waits until it is gone. It cannot clean up anything.
    pub fn kill(mut self) -> Done {
        self.signal(Signal::SIGKILL);
        let status = self.exit();
        self.done(status)
    }

    /// The same for the whole process group that it leads.
    pub fn kill_group(mut self) -> Done {
        let group = Pid::from_raw(self.child.id().cast_signed());
        killpg(group, Signal::SIGKILL).expect("a group whose leader was not waited for takes signals");
        let status = self.exit();
        self.done(status)
    }

    /// What it said so far.
    pub fn stderr(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// Waits until it said `text`.
    pub fn until_it_says(&mut self, text: &str) {
        until(&format!("`{text}` of `{}`", self.command), || {
            let said = self.stderr();
            assert!(
                said.contains(text) || self.child.try_wait().expect("a child can be waited for").is_none(),
                "`{}` ended without saying `{text}`:\n{said}",
                self.command
            );
            said.contains(text).then_some(())
        });
    }

    /// Waits until it printed `text`; everything that it printed so far.
    pub fn until_it_prints(&mut self, text: &str) -> String {
        until(&format!("`{text}` on stdout of `{}`", self.command), || {
            let printed = std::fs::read_to_string(&self.stdout).unwrap_or_default();
            // Whole lines only.
            let found = printed.lines().any(|line| line.contains(text)) && printed.ends_with('\n');
            assert!(
                found || self.child.try_wait().expect("a child can be waited for").is_none(),
                "`{}` ended without printing `{text}`; it said:\n{}",
                self.command,
                self.stderr()
            );
            found.then_some(printed)
        })
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_none()
    }

    /// Waits until it ends.
    pub fn wait(self) -> Done {
        self.wait_within(DEADLINE)
    }

    /// Waits until it ends, which may take longer than anything else does.
    pub fn wait_within(mut self, deadline: Duration) -> Done {
        let status = self.exit_within(deadline);
        self.done(status)
    }

    fn exit(&mut self) -> ExitStatus {
        self.exit_within(DEADLINE)
    }

    fn exit_within(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "`{}` did not end within {limit:?}; it said:\n{}",
                self.command,
                self.stderr()
            );
            std::thread::sleep(pause);
            pause = (pause * 2).min(LOOK);
        }
    }

    fn done(&self, status: ExitStatus) -> Done {
        let read = |path| std::fs::read_to_string(path).expect("the program's output is text");
        Done {
            command: self.command.clone(),
            code: status.code(),
            stdout: read(&self.stdout),
            stderr: read(&self.stderr),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_running() {
            self.signal(Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

#[expect(clippy::return_self_not_must_use, reason = "what is asserted needs no further use")]
impl Done {
    /// Asserts the exit code.
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "exit code of `{}`\nstdout:\n{}\nstderr:\n{}",
            self.command,
            self.stdout,
            self.stderr
        );
        self
    }

    /// Asserts that it succeeded.
    pub fn ok(self) -> Self {
        self.exits(0)
    }

    /// Asserts that it said `text` on stderr.
    pub fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "`{}` did not say `{text}`, but:\n{}", self.command, self.stderr);
        self
    }

    /// Asserts that it printed `text` on stdout.
    pub fn prints(self, text: &str) -> Self {
        assert!(self.stdout.contains(text), "`{}` did not print `{text}`, but:\n{}", self.command, self.stdout);
        self
    }

    /// Its stdout as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("`{}` printed no JSON ({error}):\n{}", self.command, self.stdout))
    }
}
