//! Which parameters matter.

use std::collections::BTreeSet;

use fleetune_core::TrialNumber;

use super::fanova;
use super::forest::Forest;
use super::observation::{Observation, scalar_losses};
use super::ped_anova;
use crate::rng::{below, trial_rng};

/// Fewest trials with a value from which an importance is told.
pub const LEAST_OBSERVATIONS: usize = 4;
/// Samples with replacement for an interval. Origin: Efron and Tibshirani 1993, section 13.3, at least 200.
const SAMPLES: usize = 200;

/// How importances are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImportanceMethod {
    /// What sets the best tenth of the trials apart; Optuna 5's default.
    #[default]
    PedAnova,
    /// What explains the variance over the whole space.
    Fanova,
}

impl ImportanceMethod {
    /// Every method.
    pub const ALL: [Self; 2] = [Self::PedAnova, Self::Fanova];

    /// The name on the command line and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PedAnova => "ped-anova",
            Self::Fanova => "fanova",
        }
    }

    /// The method called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.as_str() == name)
    }
}

/// How much one parameter matters.
#[derive(Clone, Debug, PartialEq)]
pub struct Importance {
    /// The parameter.
    pub name: String,
    /// Its importance, all of which add up to 1; equal ones when nothing is known to matter.
    pub share: f64,
    /// Ends of the 95 % bootstrap interval around it.
    pub low: f64,
    /// See `low`.
    pub high: f64,
    /// Share of the trials in which the parameter was there.
    pub active: f64,
}

/// Importances and what they rest on.
#[derive(Clone, Debug, PartialEq)]
pub struct Importances {
    /// Most important first, equal ones by name.
    pub parameters: Vec<Importance>,
    /// Trials with a finite value.
    pub trials: usize,
}

/// Too few trials have a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{have} completed trials have a finite value, but {needed} are needed")]
pub struct TooFew {
    /// So many there are.
    pub have: usize,
    /// So many are needed.
    pub needed: usize,
}

impl TooFew {
    /// Refuses fewer trials than are needed.
    pub fn check(have: usize, needed: usize) -> Result<(), Self> {
        if have < needed { Err(Self { have, needed }) } else { Ok(()) }
    }
}

/// The importances for `objective`; without one, and with several objectives, those for reaching the Pareto front. The
/// same seed gives the same intervals.
///
/// # Errors
/// Fewer than [`LEAST_OBSERVATIONS`] trials have a finite value.
pub fn importances(
    observations: &[Observation],
    objective: Option<usize>,
    method: ImportanceMethod,
    seed: u64,
) -> Result<Importances, TooFew> {
    let (trials, losses) = scalar_losses(observations, objective);
    TooFew::check(trials.len(), LEAST_OBSERVATIONS)?;
    let names = trials.iter().flat_map(|trial| trial.params.keys().map(String::as_str)).collect::<BTreeSet<_>>();
    let names = names.into_iter().collect::<Vec<_>>();
    // The estimate, and what it is in samples of the same kind.
    let (estimate, samples) = match method {
        ImportanceMethod::PedAnova => {
            let estimate = ped_anova::importances(&names, &trials, &losses);
            let mut rng = trial_rng(seed, TrialNumber(0), &["bootstrap"]);
            let sample = |_| {
                let rows = (0..trials.len()).map(|_| below(&mut rng, trials.len() as u64) as usize);
                let (trials, losses) = rows.map(|row| (trials[row], losses[row])).unzip::<_, _, Vec<_>, Vec<_>>();
                normalized(ped_anova::importances(&names, &trials, &losses))
            };
            (estimate, (0..SAMPLES).map(sample).collect::<Vec<_>>())
        }
        ImportanceMethod::Fanova => {
            // Each tree is grown on a bootstrap sample of its own, so that the trees are the samples.
            let samples = fanova::importances(&Forest::fit(&trials, &losses, seed));
            let mean = |column: usize| samples.iter().map(|sample| sample[column]).sum::<f64>() / samples.len() as f64;
            ((0..names.len()).map(mean).collect(), samples)
        }
    };
    let estimate = normalized(estimate);
    let importance = |(column, name): (usize, &&str)| {
        let mut values = samples.iter().map(|sample| sample[column]).collect::<Vec<_>>();
        values.sort_by(f64::total_cmp);
        let at = |share: f64| values[(share * (values.len() - 1) as f64).round() as usize];
        let active = trials.iter().filter(|trial| trial.params.contains_key(*name)).count();
        let share = estimate[column];
        Importance {
            name: (*name).to_owned(),
            share,
            // Samples repeat trials, which makes them a little unlike the whole: the estimate is always inside.
            low: at(0.025).min(share),
            high: at(0.975).max(share),
            active: active as f64 / trials.len() as f64,
        }
    };
    let mut parameters = names.iter().enumerate().map(importance).collect::<Vec<_>>();
    parameters.sort_by(|a, b| b.share.total_cmp(&a.share).then_with(|| a.name.cmp(&b.name)));
    Ok(Importances { parameters, trials: trials.len() })
}

/// Makes the importances add up to 1, equal ones when they add up to 0.
fn normalized(mut importances: Vec<f64>) -> Vec<f64> {
    let sum = importances.iter().sum::<f64>();
    let equal = 1.0 / importances.len() as f64;
    for importance in &mut importances {
        *importance = if sum > 0.0 { *importance / sum } else { equal };
    }
    importances
}
