//! Which program is the runner, and how it is started.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use fleetune_core::study::{LLAMA_BENCH, LLAMA_CPP};

use super::ExecutorError;

/// The file name of our own runner.
pub const RUNNER: &str = if cfg!(windows) { "fleetune-runner.exe" } else { "fleetune-runner" };

/// Arguments before a program of others, for which the program that runs this code is the adapter.
pub const ADAPTER: [&str; 2] = ["adapter", "llama-bench"];

/// A program that holds an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runner {
    path: PathBuf,
    executor: &'static str,
}

impl Runner {
    /// Finds it: `explicit`, else `FLEETUNE_RUNNER`, else our own beside the running program.
    pub fn find(explicit: Option<&Path>) -> Result<Self, ExecutorError> {
        let variable = std::env::var_os("FLEETUNE_RUNNER").filter(|path| !path.is_empty()).map(PathBuf::from);
        let beside = std::env::current_exe().ok().and_then(|program| Some(program.parent()?.join(RUNNER)));
        let (path, how) = match (explicit, variable, beside) {
            (Some(path), _, _) => (path.to_owned(), "as given"),
            (None, Some(path), _) => (path, "by `FLEETUNE_RUNNER`"),
            (None, None, Some(path)) => (path, "beside the program"),
            (None, None, None) => {
                return Err(ExecutorError::RunnerMissing { looked: "the program's own place is unknown".to_owned() });
            }
        };
        if path.is_file() {
            return Ok(Self::at(&path));
        }
        Err(ExecutorError::RunnerMissing { looked: format!("{how}: `{}` is no file", path.display()) })
    }

    /// The one at `path`. A program whose name begins with `llama-bench` is one; every other is taken for ours.
    pub fn at(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let executor = if name.starts_with("llama-bench") { LLAMA_BENCH } else { LLAMA_CPP };
        // The child is started in another folder.
        Self { path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()), executor }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The executor whose benchmarks it can run.
    pub fn executor(&self) -> &'static str {
        self.executor
    }

    /// Program and arguments of a child that speaks the line protocol.
    pub(super) fn command(&self) -> (PathBuf, Vec<OsString>) {
        if self.executor == LLAMA_CPP {
            return (self.path.clone(), Vec::new());
        }
        let arguments = ADAPTER.iter().map(OsString::from).chain([self.path.clone().into_os_string()]);
        // Should its own place be unknown, starting it says so.
        (std::env::current_exe().unwrap_or_default(), arguments.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_of_others_is_started_behind_the_adapter() {
        let ours = Runner::at(Path::new("/opt/fleetune-runner"));
        assert_eq!((ours.executor(), ours.command().0), (LLAMA_CPP, "/opt/fleetune-runner".into()));
        for name in ["llama-bench", "llama-bench.exe", "llama-bench-vulkan"] {
            let theirs = Runner::at(&Path::new("/opt").join(name));
            assert_eq!(theirs.executor(), LLAMA_BENCH);
            assert_eq!(theirs.command().1[..2], ADAPTER.map(OsString::from));
        }
    }
}
