//! What shell scripts do: create a study, ask, report, tell, watch. The script is the one of the documentation.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use fleetune_tests::trials::{has_ended, rows};
use fleetune_tests::{Done, Place, Running, place, until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const DOCUMENT: &str = include_str!("../../docs/shell.md");

/// A space that anybody can measure.
const ANYTHING: &str = "[parameters.x]\ntype = 'int'\nlow = 1\nhigh = 1000\n";

/// The first block of the document in `language`.
fn block(language: &str) -> &'static str {
    let (_, rest) = DOCUMENT.split_once(&format!("```{language}\n")).expect("the document has such a block");
    rest.split_once("```").expect("blocks end").0
}

/// A shell in a place where `fleetune` is this program and the storage is `storage`.
struct Shell {
    place: Place,
    storage: String,
}

impl Shell {
    fn new() -> Self {
        let place = place!();
        std::fs::create_dir(place.path("bin")).unwrap();
        std::os::unix::fs::symlink(place.command().get_program(), place.path("bin/fleetune")).unwrap();
        place.write("anything.toml", ANYTHING);
        let storage = place.sqlite("a.db");
        Self { place, storage }
    }

    /// A script in a process group of its own, so that it can be killed with everything it runs.
    fn start(&self, script: &str) -> Running {
        let mut command = Command::new("sh");
        self.place.isolate(&mut command);
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .env("PATH", format!("{}:{path}", self.place.path("bin").display()))
            .env("FLEETUNE_STORAGE", &self.storage)
            .args(["-c", script])
            .process_group(0);
        self.place.start_command(command)
    }

    fn run(&self, words: &[&str]) -> Done {
        self.place.run(&[words, &["--storage", &self.storage]].concat())
    }

    fn json(&self, words: &[&str]) -> Value {
        self.run(&[words, &["--format", "json"]].concat()).ok().json()
    }

    fn trials(&self, study: &str) -> Vec<Value> {
        rows(&self.json(&["trial", "list", study]))
    }

    /// A study `q` of [`ANYTHING`] with room for so many trials.
    fn study(&self, trials: &str) {
        let words = ["study", "create", "q", "--space", "anything.toml", "--direction", "minimize", "--trials", trials];
        self.run(&words).ok().says("fleetune trial ask q");
    }
}

/// A place with what the documented script needs.
fn documented() -> Shell {
    let shell = Shell::new();
    shell.place.write("gzip.toml", block("toml"));
    let lines: Vec<_> = (0..4000).map(|line| format!("line {line} of a file that compresses well")).collect();
    shell.place.write("big.txt", &lines.join("\n"));
    shell
}

/// Asserts that the documented study is whole: 20 trials, each ended once, with values that came from the script.
fn assert_searched(shell: &Shell) -> Vec<Value> {
    let study = shell.json(&["study", "show", "gzip"]);
    assert_eq!(study["state"], "finished", "{study}");
    let trials = shell.trials("gzip");
    assert_eq!(trials.len(), 20);
    for trial in &trials {
        let state = trial["state"].as_str().unwrap();
        assert!(["complete", "pruned"].contains(&state), "{trial}");
        assert!(trial["values"][0].as_f64().unwrap() > 1000.0, "{trial}");
        assert!(!rows(&trial["steps"]).is_empty(), "{trial}");
    }
    assert!(trials.iter().any(|trial| trial["state"] == "complete"));
    shell.run(&["study", "verify", "gzip"]).ok();
    trials
}

#[test]
fn documented_script_tunes_a_program() {
    let shell = documented();
    let done = shell.start(block("sh")).wait().ok().says("trial budget used up").prints("measured best.\n");
    assert!(!done.stdout.to_lowercase().contains("default"), "{}", done.stdout);
    assert!(done.stderr.contains("fleetune study update gzip --trials N"), "{}", done.stderr);
    assert_searched(&shell);
    // Nothing is left to do: the same script ends at once with the same answer.
    shell.start(block("sh")).wait().ok().says("is there already (20 trials ended)");
    assert_searched(&shell);
}

#[test]
fn killed_script_goes_on_where_it_was() {
    let shell = documented();
    let script = block("sh").replace("--lease 2m", "--lease 3s");
    assert_ne!(script, block("sh"));
    let loop_ = shell.start(&script);
    until("a trial at work after three that ended", || {
        let listed = shell.run(&["trial", "list", "gzip", "--format", "json"]);
        let trials = if listed.code == Some(0) { rows(&listed.json()) } else { Vec::new() };
        let ended = trials.iter().filter(|trial| has_ended(trial)).count();
        let at_work = trials.iter().any(|trial| trial["state"] == "running" && !rows(&trial["steps"]).is_empty());
        (ended >= 3 && at_work).then_some(())
    });
    loop_.kill_group();
    let before = shell.trials("gzip");
    let ended: Vec<_> = before.iter().filter(|trial| has_ended(trial)).cloned().collect();
    until("the lease has ended", || {
        let asked = shell.start(&script).wait().ok();
        let left = shell.trials("gzip").iter().any(|trial| trial["state"] == "running");
        (!left).then_some(asked)
    });
    let trials = assert_searched(&shell);
    for old in ended {
        let number = old["number"].as_u64().unwrap() as usize;
        assert_eq!(trials[number], old, "a trial that had ended changed");
    }
    for old in before.iter().filter(|trial| trial["state"] == "running") {
        let number = old["number"].as_u64().unwrap() as usize;
        assert_eq!(trials[number]["attempt"], 2, "an interrupted trial was not taken over");
        assert_eq!(trials[number]["params"], old["params"]);
    }
}

#[test]
fn ended_lease_passes_the_trial_on_and_refuses_the_late() {
    let shell = Shell::new();
    // With no room for another trial.
    shell.study("1");
    let first = shell.json(&["trial", "ask", "q", "--lease", "1s"]);
    let token = first["lease"]["token"].as_str().unwrap();
    assert_eq!(first["lease"]["attempt"], 1);
    assert!(first["lease"]["expires_at"].as_str().unwrap().ends_with('Z'), "{first}");

    let second = until("the lease has ended", || {
        let asked = shell.run(&["trial", "ask", "q", "--lease", "10m", "--format", "json"]);
        (asked.code == Some(0)).then(|| asked.json())
    });
    assert_eq!(second["number"], first["number"]);
    assert_eq!(second["lease"]["attempt"], 2);
    assert_eq!(second["params"], first["params"]);

    let report = ["trial", "report", "q", "0", "--step", "1", "--value", "1"];
    let tell = ["trial", "tell", "q", "0", "--value", "1"];
    shell.run(&[&report[..], &["--token", token]].concat()).exits(3).says("lost its lease").says("ask for a new one");
    shell.run(&[&tell[..], &["--token", token]].concat()).exits(3).says("lost its lease");
    let held = second["lease"]["token"].as_str().unwrap();
    shell.run(&[&report[..], &["--token", held]].concat()).ok().prints("continue");
    shell.run(&[&tell[..], &["--token", held]].concat()).ok().prints("trial 0: complete");
}

#[test]
fn leased_trial_needs_its_token() {
    let shell = Shell::new();
    shell.study("5");
    let asked = shell.json(&["trial", "ask", "q", "--lease", "10m"]);
    let tell = ["trial", "tell", "q", "0", "--value", "1"];
    shell.run(&tell).exits(3).says("trial 0 is leased").says("hint: pass the token that `fleetune trial ask --lease`");
    shell.run(&[&tell[..], &["--token", "nonsense"]].concat()).exits(2).says("nonsense");
    let token = asked["lease"]["token"].as_str().unwrap();
    let digit = if token.ends_with('0') { "1" } else { "0" };
    let forged = format!("{}{digit}", &token[..token.len() - 1]);
    shell.run(&[&tell[..], &["--token", &forged]].concat()).exits(3).says("hint: ");
    shell.run(&[&tell[..], &["--token", token]].concat()).ok();
}

#[test]
fn trial_is_told_once() {
    let shell = Shell::new();
    shell.study("9");
    assert_eq!(shell.json(&["trial", "ask", "q"])["number"], 0);
    let tell = ["trial", "tell", "q", "0", "--value", "-1.5"];
    assert_eq!(shell.json(&tell)["values"], json!([-1.5]));
    assert_eq!(shell.json(&tell)["values"], json!([-1.5]));
    shell.run(&["trial", "tell", "q", "0", "--value", "2"]).exits(3).says("has ended as complete already");
    shell.run(&["trial", "tell", "q", "0", "--fail", "oom"]).exits(3).says("has ended as complete already");
    shell.run(&["trial", "tell", "q", "7", "--value", "2"]).exits(3).says("no trial 7");
}

#[test]
fn values_that_are_no_numbers_are_refused() {
    let shell = Shell::new();
    shell.study("9");
    shell.json(&["trial", "ask", "q"]);
    for bad in ["nan", "inf", "-inf"] {
        let report = ["trial", "report", "q", "0", "--step", "1", "--value", bad];
        shell.run(&report).exits(2).says("is not a finite number").says("--fail non_finite");
        shell.run(&["trial", "tell", "q", "0", "--value", bad]).exits(2).says("--fail non_finite");
    }
    let words = ["trial", "tell", "q", "0", "--fail", "non_finite", "--message", "the square root of -1"];
    let told = shell.json(&words);
    assert_eq!((&told["state"], &told["fail_kind"]), (&json!("fail"), &json!("non_finite")));
}

#[test]
fn worse_trial_is_stopped_and_told_as_pruned() {
    let shell = Shell::new();
    shell.study("9");
    for number in ["0", "1", "2", "3", "4", "5"] {
        shell.json(&["trial", "ask", "q"]);
        let value = if number == "5" { "100" } else { "1" };
        let answer = shell.json(&["trial", "report", "q", number, "--step", "1", "--value", value]);
        assert_eq!(answer["verdict"], if number == "5" { "stop" } else { "continue" });
        if number != "5" {
            shell.json(&["trial", "tell", "q", number, "--value", value]);
        }
    }
    // What was said is said again.
    shell.run(&["trial", "report", "q", "5", "--step", "1", "--value", "100"]).ok().prints("stop");
    let told = shell.json(&["trial", "tell", "q", "5", "--state", "pruned"]);
    assert_eq!((&told["state"], &told["values"]), (&json!("pruned"), &json!([100.0])));
}

#[test]
fn queue_comes_first_and_a_cancelled_trial_has_ended() {
    let shell = Shell::new();
    shell.study("9");
    assert_eq!(shell.json(&["trial", "enqueue", "q", "--set", "x=7"])["state"], "waiting");
    shell.run(&["trial", "enqueue", "q", "--set", "y=7"]).exits(2).says("`y`");
    shell.run(&["trial", "enqueue", "q", "--set", "x=0"]).exits(2).says("x");
    let batch = rows(&shell.json(&["trial", "ask", "q", "-n", "3"]));
    assert_eq!(batch.iter().map(|trial| trial["number"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(batch[0], json!({"number": 0, "params": {"x": 7}}));
    let cancelled = shell.json(&["trial", "cancel", "q", "1"]);
    assert_eq!((&cancelled["state"], &cancelled["fail_kind"]), (&json!("fail"), &json!("cancelled")));
    shell.run(&["trial", "tell", "q", "1", "--value", "1"]).exits(3);
}

#[test]
fn constraints_are_told_by_name() {
    let shell = Shell::new();
    shell.place.write("anything.toml", &format!("{ANYTHING}[[constraints]]\nname = 'size'\n"));
    shell.study("9");
    shell.json(&["trial", "ask", "q", "-n", "2"]);
    shell.run(&["trial", "tell", "q", "0", "--value", "1"]).exits(2).says("constraint `size`");
    shell.run(&["trial", "tell", "q", "0", "--value", "1", "--constraint", "sise=1"]).exits(2).says("`sise`");
    assert_eq!(
        shell.json(&["trial", "tell", "q", "0", "--value", "1", "--constraint", "size=2"])["constraints"][0],
        2.0
    );
    shell.json(&["trial", "tell", "q", "1", "--value", "5", "--constraint", "size=-1"]);
    assert_eq!(shell.json(&["study", "best", "q"])["winner"]["number"], 1, "the other one breaks the constraint");
}

#[test]
fn study_is_created_once_and_only_the_same_is_taken() {
    let shell = Shell::new();
    shell.study("9");
    let create = ["study", "create", "q", "--space", "anything.toml", "--direction", "minimize", "--trials", "9"];
    shell.run(&create).exits(3).says("a study named `q` exists already").says("--skip-if-exists");
    let skip = [&create[..], &["--skip-if-exists"]].concat();
    shell.run(&skip).ok().says("is there already (0 trials ended)");
    shell.run(&[&skip[..], &["--seed", "7"]].concat()).exits(3).says("its seed is 0, not 7");
    let larger = [&skip[..8], &["10", "--skip-if-exists"]].concat();
    shell.run(&larger).exits(3).says("its budget is 9 trials, not 10 trials").says("study update q --trials 10");
    assert_eq!(shell.json(&["study", "update", "q", "--trials", "10"])["budget"]["trials"], 10);
    shell.run(&larger).ok();
    shell.run(&["study", "update", "q"]).exits(2).says("--trials");

    shell.run(&["study", "create", "z", "--space", "anything.toml"]).exits(2).says("no direction");
    shell.run(&["study", "create", "z", "--direction", "minimize"]).exits(2).says("no search space");
    shell
        .run(&[&create[..], &["--model", "m.gguf"]].concat())
        .exits(2)
        .says("`--direction` does not go with `--model`");
    shell.run(&[&create[..], &["--metric", "ttft"]].concat()).exits(2).says("--model");
}

#[test]
fn study_of_a_model_waits_for_a_worker() {
    let shell = Shell::new();
    let by_path = shell.json(&["study", "create", "by-path", "--model", "m.gguf", "--metric", "balanced"]);
    assert_eq!(by_path["state"], "preparing");
    assert_eq!(by_path["model"], shell.place.model().display().to_string());
    assert_eq!(by_path["directions"], json!(["minimize"]));
    let by_name = shell.json(&["study", "create", "by-name", "--model", "elsewhere/big.gguf"]);
    assert_eq!(by_name["model"], "elsewhere/big.gguf");
    shell.run(&["trial", "ask", "by-name"]).exits(3).says("is being prepared");
    let skip = ["study", "create", "by-name", "--model", "elsewhere/big.gguf", "--skip-if-exists"];
    shell.run(&skip).ok().says("is there already");
    let other = [&skip[..], &["--prompt", "7"]].concat();
    shell.run(&other).exits(3).says("its workload is");
}

#[test]
fn parameter_that_is_no_variable_is_refused_before_a_trial_is_started() {
    let shell = Shell::new();
    shell.place.write("anything.toml", "[parameters.PATH]\nchoices = ['/tmp/x', '/tmp/y']\n");
    shell.study("9");
    shell.run(&["trial", "ask", "q", "--shell"]).exits(2).says("parameter `PATH`").says("--format json");
    assert_eq!(shell.trials("q"), Vec::<Value>::new());
}

#[test]
fn watch_tells_every_change_and_ends_with_the_study() {
    let shell = Shell::new();
    shell.study("2");
    let words = ["study", "watch", "q", "--storage", &shell.storage];
    let mut lines = shell.place.start(&words);
    let mut events = shell.place.start(&[&words[..], &["--format", "json"]].concat());
    lines.until_it_prints("study `q` is active: 0/2 trials");
    events.until_it_prints("\"event\":\"study\"");
    shell.json(&["trial", "ask", "q"]);
    lines.until_it_prints("trial 0    started");
    shell.json(&["trial", "tell", "q", "0", "--value", "12.5"]);
    lines.until_it_prints("* trial 0    12.50");
    shell.json(&["study", "pause", "q"]);
    lines.until_it_prints("study `q` is paused");
    shell.json(&["study", "resume", "q"]);
    shell.json(&["trial", "ask", "q"]);
    shell.json(&["trial", "tell", "q", "1", "--fail", "crash", "--message", "signal 11"]);
    lines.wait().ok().prints("[2/2 trials, best 12.50 (trial 0)]").prints("signal 11").prints("is finished");

    let done = events.wait().ok();
    let events: Vec<Value> = done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |kind: &str| events.iter().filter(|event| event["event"] == kind).collect::<Vec<_>>();
    assert_eq!(of("trial").last().unwrap()["fail_kind"], "crash");
    assert_eq!(events.last().unwrap()["state"], "finished");
    // One that has ended is told and done.
    shell.run(&["study", "watch", "q"]).ok().prints("is finished (trial budget used up): 2/2 trials");
}

#[test]
fn watch_outlives_its_coordinator() {
    let shell = Shell::new();
    shell.study("2");
    let served = shell.place.serve(&shell.storage);
    let address = served.address.clone();
    let mut watch = shell.place.start(&["study", "watch", "q", "--server", &served.url()]);
    watch.until_it_prints("study `q` is active: 0/2 trials");
    served.kill();
    watch.until_it_says("the coordinator does not answer");
    shell.json(&["trial", "ask", "q"]);
    shell.json(&["trial", "tell", "q", "0", "--value", "12.5"]);

    let again = shell.place.serve_at(&shell.storage, &address);
    watch.until_it_says("the coordinator answers again");
    watch.until_it_prints("* trial 0    12.50");
    // The same verbs over the server.
    let url = again.url();
    let over = |words: &[&str]| shell.place.run(&[words, &["--server", &url]].concat()).ok();
    over(&["trial", "ask", "q", "--lease", "10m", "--shell"]).prints("number=1\ntoken='").prints("x='");
    over(&["trial", "cancel", "q", "1"]);
    watch.wait().ok().prints("is finished (trial budget used up)");
}

#[test]
fn watch_ends_with_ctrl_c_and_says_that_a_study_failed() {
    let shell = Shell::new();
    shell.study("2");
    let mut watch = shell.place.start(&["study", "watch", "q", "--storage", &shell.storage]);
    watch.until_it_prints("is active");
    watch.signal(Signal::SIGINT);
    watch.wait().exits(130);
    shell.run(&["study", "watch", "no"]).exits(3).says("there is no study `no`");
}

#[test]
fn completions_and_pages_name_every_command() {
    let place = place!();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        place.run(&["completions", shell]).ok().prints("skip-if-exists");
    }
    place.run(&["man"]).ok().prints(".TH fleetune 1");
    place.run(&["man", "--output", "pages"]).ok().says("pages");
    let page = std::fs::read_to_string(place.path("pages/fleetune-study-create.1")).unwrap();
    assert!(page.contains("skip"), "{page}");
    place.run(&["man", "--output", "m.gguf"]).exits(3).says("failed to write the pages to `m.gguf`");
}
