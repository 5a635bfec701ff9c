//! What a build of `llama-bench` can be asked, read from its `--help`: flags come and go between versions.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use fleetune_core::FailKind;
use tokio::process::Command;

use super::output;
use crate::executor::Failure;

/// Opening the drivers of a slow machine takes seconds.
const LIMIT: Duration = Duration::from_mins(1);
/// Most of an answer that is read, bytes.
const MOST: u64 = 1 << 20;

/// A build's flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Capabilities {
    /// Each line of the help that tells of a flag.
    lines: Vec<String>,
}

/// Settings and the flag of each. `load_mode` has had others.
const FLAGS: [(&str, &str); 13] = [
    ("n_gpu_layers", "-ngl"),
    ("n_batch", "-b"),
    ("n_ubatch", "-ub"),
    ("n_threads", "-t"),
    ("flash_attn", "-fa"),
    ("type_k", "-ctk"),
    ("type_v", "-ctv"),
    ("offload_kqv", "-nkvo"),
    ("op_offload", "-nopo"),
    ("split_mode", "-sm"),
    ("main_gpu", "-mg"),
    ("load_mode", "-lm"),
    ("repack", "--repack"),
];

/// What the flags of a setting were called before.
const OLDER: [(&str, &str); 1] = [("load_mode", "-mmp")];

impl Capabilities {
    /// Asks the program.
    pub(super) async fn of(program: &Path) -> Result<Self, Failure> {
        let help = ask(program, "--help").await?;
        Self::parse(&help).ok_or_else(|| {
            let name = program.display();
            Failure::new(
                FailKind::Error,
                format!("`{name} --help` does not read as that of a `llama-bench`; name one with `--runner`"),
            )
        })
    }

    /// Reads the help; `None` when it is not that of a `llama-bench`.
    pub(super) fn parse(help: &str) -> Option<Self> {
        let lines = help.lines().map(str::trim).filter(|line| line.starts_with('-')).map(str::to_owned).collect();
        let known = Self { lines };
        let can = ["-m", "-p", "-n", "-r"].iter().all(|flag| known.has(flag)) && known.takes("-o", "json");
        can.then_some(known)
    }

    fn line(&self, flag: &str) -> Option<&str> {
        let tells = |line: &&String| {
            // `-b, --batch-size <n>   (default: 2048)`
            let names = line.split(['<', '(']).next().unwrap_or_default();
            names.split([',', ' ']).any(|name| name == flag)
        };
        self.lines.iter().find(tells).map(String::as_str)
    }

    /// Whether there is this flag.
    pub(super) fn has(&self, flag: &str) -> bool {
        self.line(flag).is_some()
    }

    /// Whether the values of a flag are told to include a word: `-fa <on|off|auto>`.
    pub(super) fn takes(&self, flag: &str, word: &str) -> bool {
        let values = self.line(flag).and_then(|line| line.split_once('<')?.1.split_once('>'));
        values.is_some_and(|(values, _)| values.split('|').any(|value| value == word))
    }

    /// What a flag is when it is not given, where that is told as a number.
    pub(super) fn default(&self, flag: &str) -> Option<u32> {
        let told = self.line(flag)?.split_once("(default: ")?.1;
        told.split(')').next()?.parse().ok()
    }

    /// The flag of a setting.
    pub(super) fn flag(&self, setting: &str) -> Option<&'static str> {
        FLAGS.iter().chain(&OLDER).find(|(name, flag)| *name == setting && self.has(flag)).map(|(_, flag)| *flag)
    }

    /// The settings that can be asked for.
    pub(super) fn settings(&self) -> Vec<String> {
        let mut settings: Vec<_> =
            FLAGS.iter().filter(|(name, _)| self.flag(name).is_some()).map(|(name, _)| (*name).to_owned()).collect();
        if cfg!(target_os = "linux") {
            // By the adapter itself.
            settings.push("cpu_affinity".to_owned());
        }
        settings
    }
}

/// What the program prints, on stdout and stderr, when it is started with one argument.
pub(super) async fn ask(program: &Path, argument: &str) -> Result<String, Failure> {
    let failed = |why: String| {
        Failure::new(FailKind::Error, format!("`{} {argument}` could not be run: {why}", program.display()))
    };
    let mut command = Command::new(program);
    command.arg(argument).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|problem| failed(problem.to_string()))?;
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(failed("it has no pipes".to_owned()));
    };
    let all = async { tokio::join!(output::read(stdout, MOST), output::read(stderr, MOST), child.wait()) };
    let (stdout, stderr, status) = tokio::time::timeout(LIMIT, all)
        .await
        .map_err(|_| failed(format!("it did not end within {} s", LIMIT.as_secs())))?;
    status.map_err(|problem| failed(problem.to_string()))?;
    Ok(format!("{stdout}\n{stderr}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_says_what_it_takes() {
        let new = Capabilities::parse(include_str!("../../tests/fixtures/llama-bench/help-0.6.0.txt")).unwrap();
        assert!(new.takes("-fa", "auto") && new.has("--progress") && new.has("--list-devices"));
        assert_eq!((new.flag("load_mode"), new.default("-b"), new.default("-fa")), (Some("-lm"), Some(2048), None));
        assert!(new.settings().iter().any(|setting| setting == "repack"));
        let old = Capabilities::parse(include_str!("../../tests/fixtures/llama-bench/help-2024-05.txt")).unwrap();
        assert!(!old.takes("-fa", "auto") && !old.has("--list-devices"));
        assert_eq!((old.flag("load_mode"), old.flag("op_offload")), (Some("-mmp"), None));
        assert!(!old.settings().iter().any(|setting| setting == "repack"));
        for setting in new.settings() {
            assert!(fleetune_core::runner::SETTING_NAMES.contains(&setting.as_str()), "{setting}");
        }
        let between = Capabilities::parse(include_str!("../../tests/fixtures/llama-bench/help-2025-10.txt")).unwrap();
        assert!(between.takes("-o", "jsonl") && !between.takes("-fa", "auto") && between.flag("op_offload").is_some());
        assert_eq!(Capabilities::parse("usage: cat [OPTION]... [FILE]...\n  -n, --number   number all lines\n"), None);
    }
}
