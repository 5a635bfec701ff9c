//! What the completed trials of a study say. Reads storage, holds no lock, and thinks on a thread of its own.

use fleetune_core::study::{Direction, StudyConfig};
use fleetune_core::{Params, TrialNumber, TrialState};
use fleetune_sampler::analysis::{
    Change, Forest, ImportanceMethod, Importances, LEAST_OBSERVATIONS, MAX_VOLUME_OBJECTIVES, Observation, Outlook,
    Setting, Surrogate, TooFew, front, hypervolume, importances, knee, losses, outlook, scalar_losses, sensitivity,
};

use super::engine::Engine;
use super::error::EngineError;
use crate::storage::{StoreError, TrialFilter, TrialRecord};

/// Trials read from storage at a time.
const PAGE: u32 = 2_000;
/// Repetitions from which a trial tells something about the noise of measuring.
const NOISE_STEPS: usize = 3;

/// The trials that no other beats.
#[derive(Clone, Debug)]
pub struct Front {
    /// By the first objective, best first.
    pub trials: Vec<TrialRecord>,
    /// Volume between the front and `reference`; none without trials and with many objectives.
    pub hypervolume: Option<f64>,
    /// The corner, in the units of the objectives; empty without trials.
    pub reference: Vec<f64>,
    /// Where the front bends most.
    pub knee: Option<TrialNumber>,
}

/// What changes of one trial are predicted to cost.
#[derive(Clone, Debug)]
pub struct Sensitivity {
    /// The trial.
    pub number: TrialNumber,
    /// Its parameters.
    pub params: Params,
    /// Which values are better.
    pub direction: Direction,
    /// Predicted loss of the trial, smaller is better.
    pub predicted: f64,
    /// Changes, in losses.
    pub changes: Vec<Change>,
    /// What is left to gain.
    pub outlook: Outlook,
}

impl Engine {
    /// Which parameters matter for an objective; without one, for the Pareto front where there are several.
    pub async fn importances(
        &self,
        name: &str,
        method: ImportanceMethod,
        objective: Option<usize>,
    ) -> Result<Importances, EngineError> {
        let (config, trials) = self.completed(name).await?;
        check_objective(&config, objective)?;
        let few = |why| EngineError::TooFewTrials { name: name.to_owned(), why };
        think(move || importances(&observations(&config, &trials), objective, method, config.seed)).await?.map_err(few)
    }

    /// The completed, feasible trials that no other beats, and the volume they dominate.
    pub async fn pareto_front(&self, name: &str, reference: Vec<f64>) -> Result<Front, EngineError> {
        let (config, mut trials) = self.completed(name).await?;
        let objectives = config.directions.len();
        if !reference.is_empty() && (reference.len() != objectives || reference.iter().any(|limit| !limit.is_finite()))
        {
            let why = format!("must be {objectives} finite numbers, one for each objective");
            return Err(EngineError::invalid("reference", why));
        }
        trials.retain(|trial| trial.values.len() == objectives && is_feasible(trial));
        think(move || pareto(&config, &trials, &reference)).await
    }

    /// What each change of one parameter of a trial is predicted to cost; without `number` of the winner.
    pub async fn sensitivity(
        &self,
        name: &str,
        number: Option<TrialNumber>,
        objective: Option<usize>,
    ) -> Result<Sensitivity, EngineError> {
        let (config, trials) = self.completed(name).await?;
        check_objective(&config, objective)?;
        let space = config.space.clone().ok_or_else(|| EngineError::NoSpace(name.to_owned()))?;
        if objective.is_none() && config.directions.len() > 1 {
            let last = config.directions.len() - 1;
            return Err(EngineError::Invalid {
                what: "objective".to_owned(),
                why: format!("the study has {} objectives, and one must be chosen", config.directions.len()),
                hint: Some(format!("pass `--objective N`, 0 to {last}")),
            });
        }
        let number = match (number, objective) {
            (Some(number), _) => Some(self.trial(name, number).await?.0),
            (None, None) => self.best(name, 1).await?.winner,
            (None, Some(_)) => None,
        };
        if let Some(trial) = &number
            && trial.state != TrialState::Complete
        {
            let (number, state) = (trial.number, trial.state);
            return Err(StoreError::WrongTrialState { number, state, what: "be analysed".to_owned() }.into());
        }
        let number = number.map(|trial| trial.number);
        let objective = objective.unwrap_or(0);
        let few = |why| EngineError::TooFewTrials { name: name.to_owned(), why };
        let thought = think(move || {
            let observations = observations(&config, &trials);
            let (mut tried, losses) = scalar_losses(&observations, Some(objective));
            TooFew::check(tried.len(), LEAST_OBSERVATIONS)?;
            let forest = Forest::fit(&tried, &losses, config.seed);
            // Best first; infeasible ones cannot win.
            tried.sort_by(|a, b| {
                let key = |o: &Observation| (!o.feasible, o.losses[objective]);
                key(a).partial_cmp(&key(b)).unwrap_or(std::cmp::Ordering::Equal)
            });
            let of = |number| observations.iter().find(|o| o.number == number);
            let winner = number.and_then(of).unwrap_or(tried[0]);
            let params = winner.values();
            Ok(Sensitivity {
                number: winner.number,
                direction: config.directions[objective],
                predicted: forest.mean_sd(&params).0,
                changes: sensitivity(&space, &forest, &params, &tried),
                outlook: outlook(&space, &forest, &tried, noise(&config, &trials), config.seed),
                params,
            })
        });
        thought.await?.map_err(few)
    }

    /// The configuration of a study and its completed trials.
    async fn completed(&self, name: &str) -> Result<(StudyConfig, Vec<TrialRecord>), EngineError> {
        let record = self.store.study_by_name(name).await?;
        let mut filter = TrialFilter { states: vec![TrialState::Complete], limit: PAGE, ..TrialFilter::default() };
        let mut trials = Vec::new();
        loop {
            let page = self.store.trials(record.id, &filter).await?;
            let Some(last) = page.last() else { return Ok((record.config, trials)) };
            filter.from = TrialNumber(last.number.0 + 1);
            trials.extend(page);
        }
    }
}

/// Runs what takes a while elsewhere than on the threads that serve.
async fn think<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, EngineError> {
    // It fails only when the runtime shuts down, or by a panic, which the hook has told of.
    tokio::task::spawn_blocking(work).await.map_err(|_| EngineError::Stopping)
}

fn check_objective(config: &StudyConfig, objective: Option<usize>) -> Result<(), EngineError> {
    let count = config.directions.len();
    match objective {
        Some(objective) if objective >= count => {
            let why = format!("there is no objective {objective}; the study has {count}, counted from 0");
            Err(EngineError::invalid("objective", why))
        }
        Some(_) | None => Ok(()),
    }
}

fn is_feasible(trial: &TrialRecord) -> bool {
    trial.constraints.iter().all(|&constraint| constraint <= 0.0)
}

fn observations(config: &StudyConfig, trials: &[TrialRecord]) -> Vec<Observation> {
    let observation = |trial: &TrialRecord| {
        let setting = |(name, param): (&String, &crate::storage::Param)| {
            (name.clone(), Setting { distribution: param.distribution.clone(), internal: param.internal })
        };
        Observation {
            number: trial.number,
            params: trial.params.iter().map(setting).collect(),
            losses: losses(&config.directions, &trial.values),
            feasible: is_feasible(trial),
        }
    };
    trials.iter().map(observation).collect()
}

fn pareto(config: &StudyConfig, trials: &[TrialRecord], reference: &[f64]) -> Front {
    let points = trials.iter().map(|trial| losses(&config.directions, &trial.values)).collect::<Vec<_>>();
    let mut members = front(&points);
    members.sort_by(|&a, &b| points[a][0].total_cmp(&points[b][0]).then(a.cmp(&b)));
    let corner = if points.is_empty() {
        Vec::new()
    } else if reference.is_empty() {
        worst(&points)
    } else {
        losses(&config.directions, reference)
    };
    let best = members.iter().map(|&member| points[member].clone()).collect::<Vec<_>>();
    let is_small = !points.is_empty() && config.directions.len() <= MAX_VOLUME_OBJECTIVES;
    Front {
        hypervolume: is_small.then(|| hypervolume(&best, &corner)),
        knee: knee(&best).map(|place| trials[members[place]].number),
        // A sign turned twice is the sign as it was.
        reference: losses(&config.directions, &corner),
        trials: members.into_iter().map(|member| trials[member].clone()).collect(),
    }
}

/// The worst loss of each objective, and a tenth of the range beyond, so that the ends of a front count.
fn worst(points: &[Vec<f64>]) -> Vec<f64> {
    let objectives = points.first().map_or(0, Vec::len);
    let corner = |objective: usize| {
        let column = points.iter().map(|point| point[objective]).filter(|loss| loss.is_finite());
        let low = column.clone().fold(f64::INFINITY, f64::min);
        let high = column.fold(f64::NEG_INFINITY, f64::max);
        // All equal: any box will do.
        if high > low { high + 0.1 * (high - low) } else { high + high.abs().max(1.0) * 0.1 }
    };
    (0..objectives).map(corner).collect()
}

/// Relative standard deviation of a measured value: the median over trials of that of the mean of their repetitions; 0
/// where steps are no repetitions.
fn noise(config: &StudyConfig, trials: &[TrialRecord]) -> f64 {
    if config.benchmark.is_none() {
        return 0.0;
    }
    let relative = |trial: &TrialRecord| {
        let count = trial.steps.len() as f64;
        if trial.steps.len() < NOISE_STEPS {
            return None;
        }
        let mean = trial.steps.iter().map(|(_, value)| value).sum::<f64>() / count;
        let squares = trial.steps.iter().map(|(_, value)| (value - mean) * (value - mean)).sum::<f64>();
        Some((squares / (count - 1.0) / count).sqrt() / mean.abs()).filter(|relative| relative.is_finite())
    };
    let all = trials.iter().filter_map(relative).collect::<Vec<_>>();
    fleetune_core::measurement::median(&all).unwrap_or(0.0)
}
