//! What can be varied, and the two sets of values in use.

/// Options of a Parzen estimator.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ParzenOptions {
    /// Least bandwidth.
    pub least: LeastBandwidth,
    /// The ends of the range count as neighbours of the outermost observations, however many there are.
    pub endpoints: bool,
    /// Weight of the prior, 0 or more.
    pub prior_weight: f64,
}

impl ParzenOptions {
    /// Optuna 5.0's values.
    pub const OPTUNA: Self = Self { least: LeastBandwidth::MagicClip, endpoints: false, prior_weight: 1.0 };
}

/// What no bandwidth is below.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LeastBandwidth {
    /// 1 / min(100, n + 2) of the range.
    MagicClip,
    /// 1e-12.
    Tiny,
    /// A share of the range, and never below half a grid step.
    Share(f64),
}

/// Options of the sampler.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TpeOptions {
    /// Trials that are random before anything is learned.
    pub startup: usize,
    /// Candidates drawn from the good density.
    pub candidates: usize,
    /// Share of the trials that is good, rounded up.
    pub good_share: f64,
    /// Most good trials, where there is one objective.
    pub good_cap: usize,
    /// Failed and infeasible trials make two densities of their own, whose ratio weighs a candidate; they are in
    /// neither l nor g. Otherwise failed trials are ignored and infeasible ones are the last to be good.
    pub feasibility: bool,
    /// Categoricals whose choices are numbers in order are numbers on equally spaced ranks.
    pub ordered: bool,
    /// Never a configuration that was tried or runs, while there are others.
    pub fresh: bool,
    /// The estimators.
    pub parzen: ParzenOptions,
}

impl TpeOptions {
    /// Optuna 5.0's values.
    pub const OPTUNA: Self = Self {
        startup: 10,
        candidates: 24,
        good_share: 0.1,
        good_cap: 25,
        feasibility: false,
        ordered: false,
        fresh: false,
        parzen: ParzenOptions::OPTUNA,
    };
}

impl Default for TpeOptions {
    /// Departs from Optuna 5.0: feasibility as a ratio of densities, after Watanabe and Hutter 2023 (arXiv:2211.14411),
    /// because most failures of a benchmark are properties of the configuration; ordered categoricals, because batch
    /// sizes are often given as lists; no repeats and 32 candidates, because spaces are small grids; a larger least
    /// bandwidth, because a kernel narrower than a grid step sees its own cell only.
    fn default() -> Self {
        Self {
            startup: 10,
            candidates: 32,
            good_share: 0.15,
            good_cap: 25,
            feasibility: true,
            ordered: true,
            fresh: true,
            parzen: ParzenOptions { least: LeastBandwidth::Share(0.03), ..ParzenOptions::OPTUNA },
        }
    }
}
