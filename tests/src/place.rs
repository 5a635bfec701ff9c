//! A folder of one's own, with a model, and the program as it runs in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use fleetune_model::synth::{SynthQuant, SynthSize, SynthSpec};
use serde_json::Value;
use tempfile::TempDir;

use crate::SPACE;
use crate::running::{Done, Running};

/// A temporary folder that holds everything a test's programs read and write.
#[derive(Debug)]
pub struct Place {
    folder: TempDir,
    program: PathBuf,
    runner: PathBuf,
    started: AtomicU32,
}

impl Place {
    /// A place for `program`, whose searches use `runner`. See [`crate::place!`].
    pub fn new(program: &str, runner: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("fleetune-e2e-").tempdir().expect("there is a temporary folder");
        let place = Self { folder, program: program.into(), runner: runner.into(), started: AtomicU32::new(0) };
        for name in ["home", "data", "config", "tmp", "output"] {
            fs::create_dir(place.path(name)).expect("the folder is new");
        }
        let mut model = fs::File::create(place.model()).expect("the folder is writable");
        SynthSpec { size: SynthSize::Tiny, quant: SynthQuant::Q4_0, seed: 0 }
            .write(&mut std::io::BufWriter::new(&mut model))
            .expect("the model can be written");
        place.write("space.toml", SPACE);
        place
    }

    /// The same place, with another runner.
    #[must_use]
    pub fn with_runner(mut self, runner: impl Into<PathBuf>) -> Self {
        self.runner = runner.into();
        self
    }

    /// The same place, with llama.cpp.
    ///
    /// # Panics
    /// When `FLEETUNE_RUNNER` names no runner.
    #[must_use]
    pub fn with_llama(self) -> Self {
        let runner = std::env::var_os("FLEETUNE_RUNNER").map(PathBuf::from).filter(|path| path.is_file());
        let runner = runner.expect(
            "this test needs llama.cpp: `make setup` builds the runner, and `make test` names it in FLEETUNE_RUNNER",
        );
        self.with_runner(std::path::absolute(runner).expect("the path is not empty"))
    }

    /// Leaves the folder where it is.
    pub fn keep(self) -> PathBuf {
        self.folder.keep()
    }

    /// The path of `name` in this place.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The runner of its searches.
    pub fn runner(&self) -> &Path {
        &self.runner
    }

    /// Writes a file.
    pub fn write(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).expect("the folder is writable");
    }

    /// The model.
    pub fn model(&self) -> PathBuf {
        self.path("m.gguf")
    }

    /// Tells the scripted runner how to behave from now on.
    pub fn script(&self, script: &Value) {
        let partial = self.path("script.partial");
        fs::write(&partial, script.to_string()).expect("the folder is writable");
        fs::rename(partial, self.path("m.gguf.script.json")).expect("the folder is writable");
    }

    /// What the scripted runners wrote down, if their script says `journal`.
    pub fn journal(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("m.gguf.journal")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// How many benches the scripted runners began.
    pub fn begun(&self) -> usize {
        self.journal().iter().filter(|line| line.starts_with("begin ")).count()
    }

    /// Holds the processor as a measurement does, until the file is dropped: others wait.
    pub fn hold_device(&self) -> fs::File {
        fs::create_dir_all(self.path("locks")).expect("the folder is writable");
        let file = fs::File::create(self.path("locks/cpu.lock")).expect("the folder is writable");
        file.lock().expect("a file can be locked");
        file
    }

    /// The storage URL of a file in this place.
    pub fn sqlite(&self, name: &str) -> String {
        format!("sqlite://{}", self.path(name).display())
    }

    /// The program with nothing of this machine's user in its environment.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        self.isolate(&mut command);
        command
    }

    /// Gives `command` the environment of this place.
    pub fn isolate(&self, command: &mut Command) {
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path("home"))
            .env("XDG_DATA_HOME", self.path("data"))
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("TMPDIR", self.path("tmp"))
            .env("FLEETUNE_LOCK_DIR", self.path("locks"))
            .env("OMP_WAIT_POLICY", "passive")
            .current_dir(self.folder.path());
    }

    /// Starts the program.
    pub fn start(&self, arguments: &[&str]) -> Running {
        let mut command = self.command();
        command.args(arguments);
        self.start_command(command)
    }

    /// Starts another command.
    pub fn start_command(&self, command: Command) -> Running {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        Running::start(command, &self.path("output").join(number.to_string()))
    }

    /// Runs the program to its end.
    pub fn run(&self, arguments: &[&str]) -> Done {
        self.start(arguments).wait()
    }

    /// The command line of a search of [`SPACE`] that is kept in `storage` as study `s`.
    pub fn tune(&self, storage: &str, more: &[&str]) -> Vec<String> {
        let words = ["tune", "m.gguf", "--space", "space.toml", "--storage", storage, "--study", "s", "--runner"];
        let mut words: Vec<String> = words.map(str::to_owned).to_vec();
        words.push(self.runner.display().to_string());
        words.extend(more.iter().map(|&word| word.to_owned()));
        words
    }

    /// Starts a search, see [`Self::tune`].
    pub fn start_tune(&self, storage: &str, more: &[&str]) -> Running {
        let words = self.tune(storage, more);
        self.start(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Runs a search to its end, see [`Self::tune`].
    pub fn run_tune(&self, storage: &str, more: &[&str]) -> Done {
        self.start_tune(storage, more).wait()
    }

    /// Processes that work somewhere in this place: every runner does, wherever its parent is.
    pub fn children(&self) -> Vec<u32> {
        let folder = fs::canonicalize(self.path("tmp")).expect("the folder is there");
        let processes = fs::read_dir("/proc").expect("these tests need Linux's /proc");
        let works_here = |path: &Path| fs::read_link(path.join("cwd")).is_ok_and(|cwd| cwd.starts_with(&folder));
        processes
            .filter_map(Result::ok)
            .filter(|entry| works_here(&entry.path()))
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect()
    }
}
