//! Settings of the program: flag over environment over file over default.

mod secret;

use std::path::{Path, PathBuf};

use clap::ValueEnum as _;
use serde::{Deserialize, Serialize};

use crate::args::Global;
use crate::error::{CliError, CliResult, Exit};

pub use secret::Secret;

/// The commented default file; `config default` prints it.
pub const DEFAULT_FILE: &str = include_str!("../default.toml");

/// Longest configuration file that is read, bytes.
const MAX_FILE: u64 = 1 << 20;

/// Every key, in the order of the default file, with its environment variable.
pub const KEYS: [(&str, &str); 24] = [
    ("server", "FLEETUNE_SERVER"),
    ("storage", "FLEETUNE_STORAGE"),
    ("token", "FLEETUNE_TOKEN"),
    ("token_file", "FLEETUNE_TOKEN_FILE"),
    ("tls_ca", "FLEETUNE_TLS_CA"),
    ("tls_cert", "FLEETUNE_TLS_CERT"),
    ("tls_key", "FLEETUNE_TLS_KEY"),
    ("format", "FLEETUNE_FORMAT"),
    ("runner", "FLEETUNE_RUNNER"),
    ("tune.trials", "FLEETUNE_TRIALS"),
    ("tune.metric", "FLEETUNE_METRIC"),
    ("tune.prompt", "FLEETUNE_PROMPT"),
    ("tune.gen", "FLEETUNE_GEN"),
    ("tune.reps", "FLEETUNE_REPS"),
    ("tune.sampler", "FLEETUNE_SAMPLER"),
    ("tune.pruner", "FLEETUNE_PRUNER"),
    ("tune.seed", "FLEETUNE_SEED"),
    ("tune.timeout_per_trial", "FLEETUNE_TIMEOUT_PER_TRIAL"),
    ("serve.listen", "FLEETUNE_LISTEN"),
    ("serve.optuna_times", "FLEETUNE_OPTUNA_TIMES"),
    ("serve.optuna_silence", "FLEETUNE_OPTUNA_SILENCE"),
    ("serve.tls_client_ca", "FLEETUNE_TLS_CLIENT_CA"),
    ("serve.archive_after", "FLEETUNE_ARCHIVE_AFTER"),
    ("worker.models", "FLEETUNE_MODELS"),
];

/// What the program works with when no flag says otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// URL of the coordinator; empty for one in this process.
    pub server: String,
    /// Storage URL; empty for the default place.
    pub storage: String,
    /// Token for the coordinator; empty for none.
    pub token: Secret,
    /// File with the token; empty for none.
    pub token_file: String,
    /// Certificates of authorities that are trusted; empty for the system's.
    pub tls_ca: String,
    /// Certificate of this program; empty for none.
    pub tls_cert: String,
    /// Key of the certificate.
    pub tls_key: String,
    /// `table` or `json`.
    pub format: String,
    /// Path of the runner; empty for the one beside this program.
    pub runner: String,
    /// Defaults of searches.
    pub tune: TuneConfig,
    /// Defaults of `serve`.
    pub serve: ServeConfig,
    /// Defaults of `worker run`.
    pub worker: WorkerConfig,
}

/// Defaults of searches: `tune` and `study create`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TuneConfig {
    /// Configurations to try.
    pub trials: u32,
    /// What is optimised.
    pub metric: String,
    /// Tokens of the prompt.
    pub prompt: u32,
    /// Tokens to generate.
    pub r#gen: u32,
    /// Repetitions of each configuration.
    pub reps: u32,
    /// Sampler.
    pub sampler: String,
    /// Pruner.
    pub pruner: String,
    /// Seed.
    pub seed: u64,
    /// Time limit of one configuration.
    pub timeout_per_trial: String,
}

/// Defaults of `serve`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServeConfig {
    /// Where to listen.
    pub listen: String,
    /// How times are written for Optuna clients: `local` or `iso`.
    pub optuna_times: String,
    /// After how long a silent trial of an Optuna client that is gone is failed; empty for never.
    pub optuna_silence: String,
    /// Certificates of the authorities of clients; empty to ask clients for none.
    pub tls_client_ca: String,
    /// How long after its end a study is archived; empty for never.
    pub archive_after: String,
}

/// Defaults of `worker run`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkerConfig {
    /// Folders of models, separated as in `PATH`.
    pub models: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: String::new(),
            storage: String::new(),
            token: Secret::default(),
            token_file: String::new(),
            tls_ca: String::new(),
            tls_cert: String::new(),
            tls_key: String::new(),
            format: "table".to_owned(),
            runner: String::new(),
            tune: TuneConfig::default(),
            serve: ServeConfig::default(),
            worker: WorkerConfig::default(),
        }
    }
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7700".to_owned(),
            optuna_times: "local".to_owned(),
            optuna_silence: String::new(),
            tls_client_ca: String::new(),
            archive_after: String::new(),
        }
    }
}

impl Default for TuneConfig {
    fn default() -> Self {
        Self {
            trials: 30,
            metric: "decode".to_owned(),
            prompt: 512,
            r#gen: 128,
            reps: 5,
            sampler: "auto".to_owned(),
            pruner: "racing".to_owned(),
            seed: 0,
            timeout_per_trial: "5m".to_owned(),
        }
    }
}

/// A configuration with the origin of each key.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// (key, value, origin), in the order of [`KEYS`].
    pub origins: Vec<(&'static str, String, Origin)>,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    Default,
    /// The configuration file.
    File(PathBuf),
    /// This variable.
    Environment(&'static str),
    /// This flag.
    Flag(&'static str),
}

impl Origin {
    /// A higher one comes before a lower one.
    fn rank(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File(_) => 1,
            Self::Environment(_) => 2,
            Self::Flag(_) => 3,
        }
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(variable) => write!(f, "environment {variable}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// Reads file and environment.
pub fn load(global: &Global) -> CliResult<Loaded> {
    let named = global.config.clone().or_else(|| variable("FLEETUNE_CONFIG").map(PathBuf::from));
    let path = named.clone().or_else(default_path);
    let text = match &path {
        Some(path) if named.is_some() || path.exists() => Some(read(path)?),
        _ => None,
    };
    let mut table = match (&text, &path) {
        (Some(text), Some(path)) => parse(text, path)?,
        _ => toml::Table::new(),
    };
    let mut origins = Vec::new();
    for (key, variable) in KEYS {
        let mut origin = match (lookup(&table, key), &path) {
            (Some(_), Some(path)) => Origin::File(path.clone()),
            _ => Origin::Default,
        };
        if let Some(value) = self::variable(variable) {
            set(&mut table, key, &value).map_err(|why| {
                CliError::new(Exit::Usage, format!("environment variable `{variable}` is set to `{value}`"))
                    .because(why)
            })?;
            origin = Origin::Environment(variable);
        }
        if let Some((flag, value)) = flag(global, key) {
            table.insert(key.to_owned(), toml::Value::String(value));
            origin = Origin::Flag(flag);
        }
        origins.push((key, origin));
    }
    let mut config: Config = table.try_into().map_err(|error: toml::de::Error| {
        let place = path.as_deref().map_or_else(String::new, |path| format!(" `{}`", path.display()));
        // With the key, which the message alone does not name.
        let why = error.to_string().trim_end().replace('\n', " ");
        CliError::new(Exit::Usage, format!("failed to read the configuration{place}")).because(why)
    })?;
    choose_place(&mut config, &origins)?;
    choose_token(&mut config, &origins)?;
    let values = toml::Table::try_from(&config).unwrap_or_default();
    let shown = |key: &str| match lookup(&values, key) {
        Some(toml::Value::String(text)) => text.clone(),
        other => other.map(ToString::to_string).unwrap_or_default(),
    };
    let origins = origins.into_iter().map(|(key, origin)| (key, shown(key), origin)).collect();
    Ok(Loaded { config, origins })
}

/// Studies are with a server or in a storage, whichever is said closer to the command; the server where both are.
fn choose_place(config: &mut Config, origins: &[(&'static str, Origin)]) -> CliResult<()> {
    if config.server.is_empty() || config.storage.is_empty() {
        return Ok(());
    }
    let rank = |wanted: &str| origins.iter().find(|(key, _)| *key == wanted).map_or(0, |(_, origin)| origin.rank());
    let (server, storage, flag) = (rank("server"), rank("storage"), Origin::Flag("").rank());
    if server == flag && storage == flag {
        return Err(CliError::new(Exit::Usage, "both `--server` and `--storage` are given")
            .because("a server has a storage of its own")
            .hint("give one of them"));
    }
    if storage > server {
        config.server.clear();
    }
    Ok(())
}

/// The token is given or is in a file, whichever is said closer to the command.
fn choose_token(config: &mut Config, origins: &[(&'static str, Origin)]) -> CliResult<()> {
    if config.token.is_empty() || config.token_file.is_empty() {
        return Ok(());
    }
    let rank = |wanted: &str| origins.iter().find(|(key, _)| *key == wanted).map_or(0, |(_, origin)| origin.rank());
    match rank("token").cmp(&rank("token_file")) {
        std::cmp::Ordering::Less => config.token.clear(),
        std::cmp::Ordering::Greater => config.token_file.clear(),
        std::cmp::Ordering::Equal => {
            return Err(CliError::new(Exit::Usage, "both a token and a file with a token are given")
                .because("`token` and `token_file` (FLEETUNE_TOKEN and FLEETUNE_TOKEN_FILE) stand in the same place")
                .hint("give one of them"));
        }
    }
    Ok(())
}

/// An environment variable that says something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// What a flag of every command says of a key.
fn flag(global: &Global, key: &str) -> Option<(&'static str, String)> {
    match key {
        "server" => Some(("--server", global.server.clone()?)),
        "storage" => Some(("--storage", global.storage.clone()?)),
        "token_file" => Some(("--token-file", path(global.token_file.as_deref())?)),
        "tls_ca" => Some(("--tls-ca", path(global.tls_ca.as_deref())?)),
        "tls_cert" => Some(("--tls-cert", path(global.tls_cert.as_deref())?)),
        "tls_key" => Some(("--tls-key", path(global.tls_key.as_deref())?)),
        "format" => Some(("--format", global.format?.to_possible_value()?.get_name().to_owned())),
        _ => None,
    }
}

fn path(path: Option<&Path>) -> Option<String> {
    path.map(|path| path.display().to_string())
}

fn read(path: &Path) -> CliResult<String> {
    let failed = |why: String| {
        CliError::new(Exit::NotFoundOrConflict, format!("failed to read `{}`", path.display())).because(why)
    };
    let length = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
    if length > MAX_FILE {
        return Err(failed(format!("it has {length} bytes; a configuration has at most {MAX_FILE}")));
    }
    std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))
}

fn parse(text: &str, path: &Path) -> CliResult<toml::Table> {
    let what = || format!("failed to read the configuration `{}`", path.display());
    let table: toml::Table =
        text.parse().map_err(|error: toml::de::Error| CliError::new(Exit::Usage, what()).because(error.message()))?;
    for name in flatten("", &table) {
        if KEYS.iter().all(|(key, _)| *key != name) {
            let nearest = KEYS
                .iter()
                .map(|(key, _)| *key)
                .max_by(|a, b| strsim::jaro_winkler(&name, a).total_cmp(&strsim::jaro_winkler(&name, b)));
            let error = CliError::new(Exit::Usage, what()).because(format!("there is no key `{name}`"));
            return Err(error.hint(format!("did you mean `{}`?", nearest.unwrap_or_default())));
        }
    }
    Ok(table)
}

fn flatten(prefix: &str, table: &toml::Table) -> Vec<String> {
    let mut names = Vec::new();
    for (key, value) in table {
        match value {
            toml::Value::Table(inner) => names.extend(flatten(&format!("{prefix}{key}."), inner)),
            _ => names.push(format!("{prefix}{key}")),
        }
    }
    names
}

fn lookup<'a>(table: &'a toml::Table, key: &str) -> Option<&'a toml::Value> {
    match key.split_once('.') {
        Some((section, rest)) => lookup(table.get(section)?.as_table()?, rest),
        None => table.get(key),
    }
}

/// Sets a key from text, with the type that the default has.
fn set(table: &mut toml::Table, key: &str, text: &str) -> Result<(), String> {
    let defaults = toml::Table::try_from(Config::default()).unwrap_or_default();
    let value = match lookup(&defaults, key) {
        Some(toml::Value::Integer(_)) => {
            toml::Value::Integer(text.parse().map_err(|_| "a whole number is needed".to_owned())?)
        }
        _ => toml::Value::String(text.to_owned()),
    };
    let (table, key) = match key.split_once('.') {
        Some((section, rest)) => {
            let section = table.entry(section).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            (section.as_table_mut().ok_or("the section is no table")?, rest)
        }
        None => (table, key),
    };
    table.insert(key.to_owned(), value);
    Ok(())
}

fn default_path() -> Option<PathBuf> {
    folder("XDG_CONFIG_HOME", ".config").map(|folder| folder.join("config.toml"))
}

/// The folder for what this program keeps: `$XDG_DATA_HOME/fleetune`, else `~/.local/share/fleetune`.
pub fn data_folder() -> CliResult<PathBuf> {
    folder("XDG_DATA_HOME", ".local/share").ok_or_else(|| {
        CliError::new(Exit::Usage, "there is no place for studies")
            .because("neither `XDG_DATA_HOME` nor `HOME` is set")
            .hint("pass `--storage sqlite:///path/to/fleetune.db`, or set `HOME`")
    })
}

fn folder(variable: &str, below_home: &str) -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base =
        set(variable).filter(|path| path.is_absolute()).or_else(|| set("HOME").map(|home| home.join(below_home)));
    base.map(|base| base.join("fleetune"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_file_is_the_default() {
        let parsed: Config = toml::from_str(DEFAULT_FILE).unwrap();
        assert_eq!(parsed, Config::default());
        let table: toml::Table = DEFAULT_FILE.parse().unwrap();
        let keys: Vec<_> = KEYS.iter().map(|(key, _)| (*key).to_owned()).collect();
        let mut named = flatten("", &table);
        let mut expected = keys.clone();
        named.sort();
        expected.sort();
        assert_eq!(named, expected);
        for (key, variable) in KEYS {
            assert!(DEFAULT_FILE.contains(variable), "{key}");
        }
    }

    #[test]
    fn an_unknown_key_names_the_nearest() {
        let error = parse("[tune]\ntrails = 3\n", Path::new("x.toml")).unwrap_err();
        assert_eq!(error.exit, Exit::Usage);
        assert_eq!(error.hint.as_deref(), Some("did you mean `tune.trials`?"));
    }
}
