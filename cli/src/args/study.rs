//! `fleetune study …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use fleetune_core::schedule::Per;
use fleetune_core::study::{EXECUTORS, LLAMA_CPP};
use fleetune_core::{Direction, Schedule};

use super::parse::{parse_direction, parse_duration, parse_per};
use super::search::SearchArgs;

/// `fleetune study …`.
#[derive(Debug, Subcommand)]
pub enum StudyVerb {
    /// Create a study: of a model, for workers, or of anything that a script measures
    Create(Box<CreateArgs>),
    /// List the studies
    List {
        /// Archived ones too
        #[arg(long)]
        all: bool,
    },
    /// Show a study: state, budget, machine, progress
    Show {
        /// Name of the study
        name: String,
    },
    /// Show the best configurations, the comparison with the default, and the llama-server command
    Best {
        /// Name of the study
        name: String,
        /// How many to list
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
        top: u32,
    },
    /// Follow a study until it ends
    #[command(after_help = "Every line is one change. With `--format json` every line is one event: \
        {\"event\": \"study\", …} or {\"event\": \"trial\", …}.\n\nExample:\n  fleetune study watch gzip")]
    Watch {
        /// Name of the study
        name: String,
    },
    /// Change when a study ends, or its claim to workers; a larger budget wakes a finished one
    #[command(
        visible_alias = "set",
        after_help = "Examples:\n  fleetune study update gzip --trials 100\n  \
        fleetune study set llama --priority 5 --max-parallel 4"
    )]
    Update {
        /// Name of the study
        name: String,
        /// What changes.
        #[command(flatten)]
        changes: UpdateArgs,
    },
    /// Start no more trials; running ones go on
    Pause {
        /// Name of the study
        name: String,
    },
    /// Undo a pause
    Resume {
        /// Name of the study
        name: String,
    },
    /// End a study and its running trials
    Cancel {
        /// Name of the study
        name: String,
    },
    /// Put a study away that has ended: it stays readable, out of the list, and nothing of it changes any more
    #[command(
        after_help = "Forgotten for good: the ids of the requests that made its trials, and logs and samples of attempts \
        that brought no result.\n\nExample:\n  fleetune study archive gzip"
    )]
    Archive {
        /// Name of the study
        name: String,
    },
    /// Make an archived study again what it was
    Unarchive {
        /// Name of the study
        name: String,
    },
    /// Remove a study and everything in it
    Delete {
        /// Name of the study
        name: String,
        /// Even while trials of it run
        #[arg(long)]
        force: bool,
    },
    /// Show which parameters matter
    #[command(after_help = "Methods: ped-anova tells what sets the best tenth of the trials apart, fanova what \
        explains the variance over the whole space.\n\nExample:\n  fleetune study importances llama --method fanova")]
    Importances {
        /// Name of the study
        name: String,
        /// How: ped-anova or fanova
        #[arg(long, value_name = "METHOD", default_value = "ped-anova", value_parser = ["ped-anova", "fanova"])]
        method: String,
        /// For which value, from 0; without it, and with several, for reaching the Pareto front
        #[arg(long, value_name = "N")]
        objective: Option<u32>,
    },
    /// Show the trials that no other beats in one value without losing in another
    #[command(after_help = "Example:\n  fleetune study pareto llama --reference 24000,0")]
    Pareto {
        /// Name of the study
        name: String,
        /// Corner against which the hypervolume is measured, one number for each value [default: beyond the worst values]
        #[arg(long, value_name = "VALUE", value_delimiter = ',', allow_negative_numbers = true)]
        reference: Vec<f64>,
    },
    /// Show what each change of one parameter of the winner would cost, and what a longer search can gain
    #[command(after_help = "Predictions come from a model of all completed trials; nothing is measured.\n\n\
        Example:\n  fleetune study sensitivity llama")]
    Sensitivity {
        /// Name of the study
        name: String,
        /// The trial to look at instead of the winner
        #[arg(long, value_name = "NUMBER")]
        trial: Option<i64>,
        /// For which value, from 0; needed with several
        #[arg(long, value_name = "N")]
        objective: Option<u32>,
    },
    /// Recompute every suggestion from the stored events
    Verify {
        /// Name of the study
        name: String,
    },
    /// Write a study with all trials and their measurements as JSON to stdout, or into a database for Optuna
    #[command(after_help = "\
The file holds all that Optuna has a word for: parameters, values, intermediate values, attributes, times. It is opened \
by `optuna.load_study(study_name=NAME, storage=\"sqlite:///FILE\")` of Optuna 5. A trial that runs is copied as failed.

Examples:
  fleetune study export llama > llama.json
  fleetune study export llama --to optuna.db")]
    Export {
        /// Name of the study
        name: String,
        /// Write a SQLite file that Optuna opens; it must not be there yet
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// Copy studies out of a database of Optuna's, which is only read
    Import(ImportArgs),
}

/// `fleetune study import`.
#[derive(Debug, Args)]
#[command(after_help = "\
Read are databases that Optuna 3.0 or newer has made (RDBStorage) or brought up to date. Everything is copied: trials \
under their numbers, values bit for bit, attributes as they are written. A trial that is RUNNING is copied as FAIL, since \
its program goes on elsewhere. A study gets its name when all of it is there; without that, nothing of it is left.

Examples:
  fleetune study import optuna.db --dry-run
  fleetune study import optuna.db
  fleetune study import postgresql://optuna@db/optuna --study tuning --as tuning-2")]
pub struct ImportArgs {
    /// A SQLite file, or Optuna's URL of it or of a Postgres: `sqlite:///FILE`, `postgresql://USER@HOST/DATABASE`
    pub source: String,
    /// Only the study of this name; may be repeated [default: all]
    #[arg(long = "study", value_name = "NAME")]
    pub studies: Vec<String>,
    /// What the study is called from now on; needs a single study
    #[arg(long = "as", value_name = "NAME")]
    pub name: Option<String>,
    /// Only show what is in the database
    #[arg(long)]
    pub dry_run: bool,
}

/// `fleetune study create`.
#[derive(Debug, Args)]
#[command(after_help = "\
With --model the study waits for a worker that sees the model; the metric decides the direction. Without, scripts and \
programs measure (`fleetune trial ask`, `report`, `tell`), --space and --direction say what, and what concerns the \
measuring of a model is refused: --metric, --prompt, --gen, --reps, --set, --timeout-per-trial, --no-confirm, \
--allow-wsl-unsafe.

Examples:
  fleetune study create llama --model llama-3.1-8b-q4_k_m.gguf --trials 40
  fleetune study create gzip --space gzip.toml --direction minimize --skip-if-exists")]
pub struct CreateArgs {
    /// Name of the study
    pub name: String,
    /// The model: a GGUF file on this machine, or the name by which workers know it
    #[arg(long, value_name = "FILE-OR-NAME")]
    pub model: Option<String>,
    /// Who measures the model: workers with `fleetune-runner`, or with a `llama-bench`
    #[arg(long, value_name = "NAME", requires = "model", value_parser = EXECUTORS, default_value = LLAMA_CPP)]
    pub executor: String,
    /// Which values are better, minimize or maximize; may be repeated, once for each value
    #[arg(long, value_name = "DIRECTION", value_delimiter = ',', value_parser = parse_direction)]
    pub direction: Vec<Direction>,
    /// Search for one optimum per kind of workers, each in a study of its own: `device` for each device class,
    /// `label:NAME` for each value of a label
    #[arg(long, value_name = "KIND", requires = "model", value_parser = parse_per)]
    pub per: Option<Per>,
    /// Take the study of this name if there is one of the same configuration
    #[arg(long)]
    pub skip_if_exists: bool,
    /// What is searched, how and for how long.
    #[command(flatten)]
    pub search: SearchArgs,
    /// Its claim to workers.
    #[command(flatten)]
    pub schedule: ScheduleArgs,
}

/// A study's claim to workers. What is not given stays.
#[derive(Debug, Args)]
pub struct ScheduleArgs {
    /// Serve a study of a model before those of a lower priority; those of the same one are served in turn
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-1000..=1000))]
    pub priority: Option<i32>,
    /// How many trials of a model workers may measure at once; 0: as many as there are workers
    #[arg(long, value_name = "N")]
    pub max_parallel: Option<u32>,
    /// Which workers may measure a model, such as `inventory.gpus.exists(gpu, gpu.vram_mib >= 12 * 1024)`; '': all of them
    #[arg(long = "where", value_name = "EXPRESSION")]
    pub selector: Option<String>,
}

impl ScheduleArgs {
    /// What becomes of `old`.
    pub fn applied_to(&self, old: Schedule) -> Schedule {
        let max_parallel = match self.max_parallel {
            None => old.max_parallel,
            Some(0) => None,
            limit => limit,
        };
        let selector = self.selector.clone().or(old.selector).filter(|text| !text.is_empty());
        Schedule { priority: self.priority.unwrap_or(old.priority), max_parallel, selector }
    }
}

/// What changes of a study. What is not given stays.
#[derive(Debug, Args)]
pub struct UpdateArgs {
    /// How many configurations to try
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub trials: Option<u32>,
    /// How much time in trials, such as `10m`
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub time: Option<f64>,
    /// How good a value is good enough
    #[arg(long, value_name = "VALUE", allow_negative_numbers = true)]
    pub target: Option<f64>,
    /// Its claim to workers.
    #[command(flatten)]
    pub schedule: ScheduleArgs,
}
