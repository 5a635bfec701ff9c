//! `fleetune trial …`.

use clap::{Args, Subcommand};
use fleetune_core::{FailKind, Value};

use super::parse::{parse_duration, parse_fail_kind, parse_named_number, parse_setting, parse_state};

/// `fleetune trial …`.
#[derive(Debug, Subcommand)]
pub enum TrialVerb {
    /// List the trials of a study
    List {
        /// Name of the study
        study: String,
        /// Only these states: waiting, running, complete, pruned, fail
        #[arg(long, value_name = "STATE", value_parser = parse_state)]
        state: Vec<fleetune_core::TrialState>,
    },
    /// Show a trial with its executions: samples, effective settings, stderr
    Show {
        /// Name of the study
        study: String,
        /// Number of the trial
        number: i64,
    },
    /// Get a trial to measure: a number and parameters
    Ask(AskArgs),
    /// Report an intermediate value and learn whether to stop: prints `continue` or `stop`
    #[command(after_help = "Example:\n  fleetune trial report gzip 3 --step 1 --value 0.52")]
    Report(ReportArgs),
    /// End a trial with its result
    Tell(TellArgs),
    /// Queue a configuration; what is not set is suggested when its turn comes
    #[command(after_help = "Example:\n  fleetune trial enqueue gzip --set level=9 --set block=64")]
    Enqueue {
        /// Name of the study
        study: String,
        /// A parameter of the configuration, such as `level=9`; may be repeated
        #[arg(long, required = true, value_name = "NAME=VALUE", value_parser = parse_setting)]
        set: Vec<(String, Value)>,
        /// Run it although it is in quarantine, where it is because it took workers down
        #[arg(long)]
        force: bool,
    },
    /// End a trial without a result, whoever works on it
    Cancel {
        /// Name of the study
        study: String,
        /// Number of the trial
        number: i64,
    },
}

/// `fleetune trial ask`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example, a search in a shell script (more in docs/shell.md):
  while trial=$(fleetune trial ask gzip --lease 2m --shell); do
    eval \"$trial\"           # number=3 token='…' level='6'
    start=$(date +%s%N)
    gzip \"-$level\" < big.txt > big.gz
    seconds=$(echo \"($(date +%s%N) - $start) / 1000000000\" | bc -l)
    fleetune trial tell gzip \"$number\" --value \"$seconds\" --token \"$token\"
  done")]
pub struct AskArgs {
    /// Name of the study
    pub study: String,
    /// How many trials at once; JSON is then an array
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub count: Option<u32>,
    /// Give the trial to another who asks with a lease when nothing is reported for this long, such as `10m`
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub lease: Option<f64>,
    /// Print lines for `eval`: `number`, `token` (with a lease) and a variable for each parameter
    #[arg(long, conflicts_with = "count")]
    pub shell: bool,
}

/// `fleetune trial report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Name of the study
    pub study: String,
    /// Number of the trial
    pub number: i64,
    /// Which value of the trial's curve; the first report of a step counts
    #[arg(long, value_name = "K")]
    pub step: u32,
    /// The value
    #[arg(long, value_name = "VALUE", allow_hyphen_values = true)]
    pub value: f64,
    /// Token of the lease, for a trial that was asked for with `--lease`
    #[arg(long, value_name = "TOKEN")]
    pub token: Option<String>,
}

/// `fleetune trial tell`.
#[derive(Debug, Args)]
#[command(after_help = "\
Kinds of failure that teach the sampler to keep away: oom, infeasible, unsafe_region, invalid_config, timeout, crash, \
non_finite. Others: cancelled, error.

Examples:
  fleetune trial tell gzip 3 --value 0.52
  fleetune trial tell gzip 4 --state pruned
  fleetune trial tell gzip 5 --fail crash --message \"signal 11\"")]
pub struct TellArgs {
    /// Name of the study
    pub study: String,
    /// Number of the trial
    pub number: i64,
    /// How it ended.
    #[command(flatten)]
    pub end: EndArgs,
    /// With `--value`: a constraint of the search space that has no expression; met when at most 0
    #[arg(long, value_name = "NAME=VALUE", requires = "value", value_parser = parse_named_number)]
    pub constraint: Vec<(String, f64)>,
    /// With `--fail`: a sentence that says more
    #[arg(long, value_name = "TEXT", requires = "fail")]
    pub message: Option<String>,
    /// Token of the lease, for a trial that was asked for with `--lease`
    #[arg(long, value_name = "TOKEN")]
    pub token: Option<String>,
}

/// How a trial ended: one of these.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct EndArgs {
    /// The value; repeated, once for each direction of the study
    #[arg(long, value_name = "VALUE", allow_hyphen_values = true)]
    pub value: Vec<f64>,
    /// It failed: why
    #[arg(long, value_name = "KIND", value_parser = parse_fail_kind)]
    pub fail: Option<FailKind>,
    /// `pruned`: stopped early; its last reported value is kept
    #[arg(long, value_name = "STATE", value_parser = ["pruned"])]
    pub state: Option<String>,
}
