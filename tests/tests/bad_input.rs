//! What a user can get wrong: each case is one row, with the exit code, the reason and the remedy that it must give.
//! After each the study is as it was.

mod setups;
mod sql;

use fleetune_tests::trials::essence;
use fleetune_tests::{Place, place};

use setups::{Setup, TUNE};

/// A row of the table.
struct Case {
    /// Its name.
    name: &'static str,
    /// What is wrong around the program; ends with its arguments, where they are not known before.
    setup: Setup,
    /// The arguments; `%` stands for a search of study `s` in the place's own storage.
    arguments: &'static [&'static str],
    /// The exit code.
    code: i32,
    /// What and why.
    says: &'static [&'static str],
    /// The remedy; empty where only the user can know it.
    hint: &'static str,
}

const fn case(
    name: &'static str,
    setup: Setup,
    arguments: &'static [&'static str],
    code: i32,
    says: &'static [&'static str],
    hint: &'static str,
) -> Case {
    Case { name, setup, arguments, code, says, hint }
}

const RANGE: &str = "use one of";
const URLS: &str = "a storage is `sqlite:///path/to/fleetune.db` or `postgres://user@host/database`";

#[rustfmt::skip]
const CASES: &[Case] = &[
    // The model.
    case("missing model", Setup::None, &["tune", "no.gguf"], 3, &["failed to read the model", "No such file"], "fleetune model synth"),
    case("a folder as model", Setup::None, &["tune", "tmp"], 2, &["failed to read the model", "directory"], ""),
    case("a text as model", Setup::File("text.gguf", "hello"), &["tune", "text.gguf"], 2, &["not a GGUF file: it begins with `hell`"], ""),
    case("an empty model", Setup::File("empty.gguf", ""), &["tune", "empty.gguf"], 2, &["failed to read the model"], ""),
    case("a header cut off", Setup::Truncated(3000), &["tune", "cut.gguf"], 2, &["truncated GGUF file", "ends at byte 3000"], "download it again"),
    case("weights cut off", Setup::Truncated(100_000), &["tune", "cut.gguf"], 2, &["truncated GGUF file", "the file has 100000"], "download it again"),
    // The search space.
    case("missing space", Setup::None, &["%", "--space", "no.toml"], 3, &["failed to read the search space `no.toml`", "No such file"], ""),
    case("a space that is no TOML", Setup::Space("parameters ["), &["%"], 2, &["not valid TOML: line 1"], ""),
    case("unknown key", Setup::Space("[parameters.n_batch]\ntype = 'int'\nlow = 1\nhihg = 2"), &["%"], 2, &["unknown key `hihg`"], "did you mean `high`?"),
    case("unknown parameter", Setup::Space("[parameters.n_bacth]\ntype = 'int'\nlow = 1\nhigh = 2"), &["%", "--study", "new"], 2, &["`n_bacth` is unknown"], "did you mean `n_batch`?"),
    case("unknown parameter in a condition", Setup::Space("[parameters.n_batch]\ntype = 'int'\nlow = 1\nhigh = 2\nwhen = 'n_ubacth > 1'\n[parameters.n_ubatch]\ntype = 'int'\nlow = 1\nhigh = 2"), &["%"], 2, &["there is no parameter `n_ubacth`"], "did you mean `n_ubatch`?"),
    case("low above high", Setup::Space("[parameters.n_batch]\ntype = 'int'\nlow = 64\nhigh = 32"), &["%"], 2, &["range starts at 64, above its end 32"], "set `low = 32` and `high = 64`"),
    case("logarithm of 0", Setup::Space("[parameters.n_batch]\ntype = 'int'\nlow = 0\nhigh = 32\nlog = true"), &["%"], 2, &["range starts at 0, but a logarithmic range must start at 1"], "set `low = 1`, or drop `log = true`"),
    case("step that does not divide", Setup::Space("[parameters.n_batch]\ntype = 'int'\nlow = 0\nhigh = 33\nstep = 2"), &["%"], 2, &["step 2 does not divide the range from 0 to 33"], "set `high = 32`"),
    case("cycle of conditions", Setup::Space("[parameters.n_batch]\ntype = 'int'\nlow = 1\nhigh = 9\nwhen = 'n_ubatch > 3'\n[parameters.n_ubatch]\ntype = 'int'\nlow = 1\nhigh = 9\nwhen = 'n_batch > 3'"), &["%"], 2, &["conditions form a cycle: `n_batch` → `n_ubatch` → `n_batch`"], "drop one of these `when` conditions"),
    case("everything forbidden", Setup::Space("[parameters.n_batch]\ntype = 'int'\nlow = 1\nhigh = 9\n[[forbid]]\nif = 'n_batch > 0'"), &["%"], 2, &["forbids every configuration"], "drop a `[[forbid]]` clause"),
    case("no parameters", Setup::Space(""), &["%"], 2, &["no parameters"], "[parameters.n_batch]"),
    case("value the engine cannot take", Setup::Space("[parameters.n_batch]\ntype = 'int'\nlow = -5\nhigh = 9"), &["%", "--study", "new"], 2, &["`n_batch` cannot be `-5`"], ""),
    // The study.
    case("another space for a study", Setup::Space("[parameters.n_batch]\ntype = 'int'\nlow = 32\nhigh = 64"), &["%"], 3, &["study `s` exists already and is another search", "its search space is"], "choose another `--study`, or begin anew with `--fresh`"),
    case("another metric for a study", Setup::None, &["%", "--metric", "prefill"], 3, &["its metric is decode, not prefill"], "`--fresh`"),
    case("another workload for a study", Setup::None, &["%", "--prompt", "7"], 3, &["its workload is 512 + 128 tokens × 2, not 7 + 128 tokens × 2"], "`--fresh`"),
    case("another fixed setting for a study", Setup::None, &["%", "--set", "n_ctx=2048"], 3, &["its setting `n_ctx` is"], "`--fresh`"),
    case("another model for a study", Setup::OtherModel, &["tune", "other.gguf", "--space", "space.toml", "--study", "s", "--reps", "2", "--runner", "RUNNER"], 3, &["is not the model that it has measured"], "`--fresh`"),
    case("another engine for a study", Setup::OtherEngine, &["%", "--trials", "5"], 3, &["cannot go on with this engine on this machine"], "`--fresh`"),
    case("unknown fact of a worker", Setup::None, &["study", "create", "new", "--model", "m.gguf", "--where", "inventory.vram > 1"], 2, &["there is no fact `inventory.vram`", "inventory.gpus[].vram_mib"], "inventory.gpus.exists("),
    case("unknown study shown", Setup::None, &["study", "show", "no"], 3, &["there is no study `no`"], ""),
    case("unknown study's best", Setup::None, &["study", "best", "no"], 3, &["there is no study `no`"], ""),
    case("unknown study paused", Setup::None, &["study", "pause", "no"], 3, &["there is no study `no`"], ""),
    case("unknown study deleted", Setup::None, &["study", "delete", "no"], 3, &["there is no study `no`"], ""),
    case("unknown study's trials", Setup::None, &["trial", "list", "no"], 3, &["there is no study `no`"], ""),
    case("unknown trial", Setup::None, &["trial", "show", "s", "99"], 3, &["no trial 99"], ""),
    case("unknown state", Setup::None, &["trial", "list", "s", "--state", "done"], 2, &["there is no state `done`"], RANGE),
    // The storage.
    case("a folder as storage", Setup::None, &["study", "list", "--storage", "sqlite://tmp"], 4, &["failed to open the storage", "`sqlite://tmp`"], URLS),
    case("unknown kind of storage", Setup::None, &["study", "list", "--storage", "mysql://host/db"], 2, &["cannot open storage `mysql://host/db`"], URLS),
    case("unknown option of storage", Setup::None, &["study", "list", "--storage", "sqlite://good.db?mode=ro"], 4, &["there is no option `mode`"], URLS),
    case("a text as storage", Setup::File("text.db", "this is a text, and a long one, no database"), &["study", "list", "--storage", "sqlite://text.db"], 4, &["failed to open the storage", "not a database"], URLS),
    case("Postgres that is not there", Setup::None, &["study", "list", "--storage", "postgres://me:secret@127.0.0.1:1/db"], 4, &["`postgres://me:[redacted]@127.0.0.1:1/db`", "refused"], URLS),
    case("SQLite newer than the program", Setup::NewerSqlite, &["%"], 4, &["schema version 9999, but this program knows only up to"], "use the newer program"),
    case("Postgres newer than the program", Setup::NewerPostgres, &["study", "list"], 4, &["schema version 9999, but this program knows only up to"], "use the newer program"),
    case("folder of studies that cannot be made", Setup::File("data/fleetune", "a file"), &["tune", "m.gguf"], 4, &["failed to create the data folder"], "--storage sqlite:///"),
    // The runner.
    case("missing runner", Setup::None, &["tune", "m.gguf", "--runner", "no-runner"], 3, &["the runner `fleetune-runner` was not found (as given: `no-runner` is no file)"], "build it with `make setup`, or name it or a `llama-bench` with `--runner PATH`"),
    case("a runner that cannot be started", Setup::None, &["tune", "m.gguf", "--runner", "m.gguf"], 3, &["could not be started"], "is it built for this machine?"),
    // Settings and options.
    case("unknown setting", Setup::None, &["%", "--study", "new", "--set", "n_bacth=3"], 2, &["`n_bacth` is unknown"], "did you mean `n_batch`?"),
    case("setting out of range", Setup::None, &["%", "--study", "new", "--set", "n_ctx=-3"], 2, &["`n_ctx` cannot be `-3`: it is a whole number"], ""),
    case("setting without a value", Setup::None, &["%", "--set", "n_ctx"], 2, &["`n_ctx` is no setting"], "write NAME=VALUE, as in `n_ctx=4096`"),
    case("setting twice", Setup::None, &["%", "--set", "n_ctx=1", "--set", "n_ctx=2"], 2, &["`--set n_ctx` is given twice"], ""),
    case("unknown sampler", Setup::None, &["%", "--sampler", "magic"], 2, &["there is no sampler `magic`"], "use one of auto, random, grid, tpe, "),
    case("threshold without a limit", Setup::None, &["%", "--pruner", "threshold"], 2, &["the pruner `threshold` has no limit"], "add `--prune-below VALUE`, `--prune-above VALUE` or both"),
    case("limit without the threshold", Setup::None, &["%", "--prune-below", "5"], 2, &["the pruner `racing` has no limits"], "go with `--pruner threshold`"),
    case("unknown option of the pruner", Setup::None, &["%", "--pruner-option", "depth=3"], 2, &["the pruner `racing` cannot use its options", "unknown field `depth`"], ""),
    case("option that cannot be", Setup::None, &["%", "--pruner", "hyperband", "--pruner-option", "reduction_factor=1"], 2, &["needs a `reduction_factor` of at least 2"], ""),
    case("option of a sampler without", Setup::None, &["%", "--sampler-option", "group=true"], 2, &["the sampler `auto` has no options"], ""),
    case("unknown pruner", Setup::None, &["%", "--pruner", "magic"], 2, &["there is no pruner `magic`"], "use one of none, racing, median, percentile"),
    case("unknown metric", Setup::None, &["%", "--metric", "beauty"], 2, &["there is no metric `beauty`"], "use one of decode, prefill, ttft, balanced"),
    case("no trials", Setup::None, &["tune", "m.gguf", "--trials", "0"], 2, &["'0' for '--trials <N>'"], ""),
    case("negative time", Setup::None, &["%", "--time=-3s"], 2, &["`-3s` is outside what a time may be: above 0"], ""),
    case("no unit of time", Setup::None, &["%", "--timeout-per-trial", "3x"], 2, &["`x` is no unit of time"], "use ms, s, m or h"),
    case("unknown option", Setup::None, &["%", "--trails", "3"], 2, &["unexpected argument '--trails'"], "'--trials'"),
    case("unknown verb", Setup::None, &["study", "shwo", "s"], 2, &["unrecognized subcommand 'shwo'"], "'show'"),
    // The configuration.
    case("unknown key of the configuration", Setup::Config("[tune]\ntrails = 3"), &["study", "list"], 2, &["there is no key `tune.trails`"], "did you mean `tune.trials`?"),
    case("wrong type in the configuration", Setup::Config("[tune]\ntrials = 'many'"), &["study", "list"], 2, &["failed to read the configuration", "tune.trials"], ""),
    case("configuration that is no TOML", Setup::Config("tune ["), &["study", "list"], 2, &["failed to read the configuration"], ""),
    case("missing configuration", Setup::None, &["study", "list", "--config", "no.toml"], 3, &["failed to read `no.toml`"], ""),
    case("wrong type in the environment", Setup::Environment("FLEETUNE_TRIALS", "many"), &["study", "list"], 2, &["environment variable `FLEETUNE_TRIALS` is set to `many`", "whole number"], ""),
    case("unknown format in the environment", Setup::Environment("FLEETUNE_FORMAT", "poem"), &["study", "list"], 2, &["there is no format `poem`"], "use table or json"),
];

#[test]
fn every_mistake_gets_a_reason_a_remedy_and_its_exit_code() {
    let halves = CASES.split_at(CASES.len() / 2);
    let wrong = std::thread::scope(|scope| {
        let other = scope.spawn(|| mistakes(halves.1));
        [mistakes(halves.0), other.join().expect("its own message is above")].concat()
    });
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), CASES.len(), wrong.join("\n"));
}

/// What is wrong with `cases`, tried one after the other around one study.
fn mistakes(cases: &[Case]) -> Vec<String> {
    let place = place!();
    let storage = place.sqlite("good.db");
    place.run_tune(&storage, TUNE).ok();
    let before = place.assert_whole(&storage, 3);
    let mut wrong = Vec::new();
    for case in cases {
        if let Err(why) = check(&place, &storage, case) {
            wrong.push(format!("== {}\n{why}", case.name));
        }
        assert_eq!(essence(&place.trials(&storage)), essence(&before), "{} changed the study", case.name);
    }
    assert_eq!(place.assert_whole(&storage, 3), before);
    let studies = place.run(&["study", "list", "--storage", &storage, "--format", "json"]).ok().json();
    assert_eq!(studies.as_array().map(Vec::len), Some(1), "a half-made study was left: {studies}");
    wrong
}

fn check(place: &Place, storage: &str, case: &Case) -> Result<(), String> {
    let done = case.setup.run(place, storage, case.arguments);
    let said = &done.stderr;
    let shown = || format!("`{}` ended with {:?} and said:\n{said}", done.command, done.code);
    if done.code != Some(case.code) {
        return Err(format!("expected exit code {}; {}", case.code, shown()));
    }
    for text in case.says.iter().chain([&case.hint]) {
        if !said.contains(text) {
            return Err(format!("`{text}` is missing; {}", shown()));
        }
    }
    if !said.lines().any(|line| line.starts_with("error: ")) || said.contains("panicked") || said.contains("secret") {
        return Err(format!("this is no message for users; {}", shown()));
    }
    if !done.stdout.is_empty() {
        return Err(format!("an error belongs on stderr alone; stdout: {}", done.stdout));
    }
    Ok(())
}
