//! What a new study takes over from earlier ones, for a warm start.

use fleetune_core::study::{
    Benchmark, EarlierSetting, EarlierTrial, MOST_EARLIER, MOST_EARLIER_TRIALS, SamplerConfig, StudyConfig,
};
use fleetune_model::ModelMetadata;

use super::comparison::ranking;
use super::engine::Engine;
use super::error::EngineError;
use crate::storage::{StoreError, StudyRecord};

/// Of two studies of which one measures a model and the other whatever its clients do.
const UNLIKE: f64 = 0.5;

impl Engine {
    /// Copies the best and some other trials of the studies that `config` names.
    pub(super) async fn learn_from_earlier(&self, config: &mut StudyConfig) -> Result<(), EngineError> {
        let invalid = |why: String| EngineError::invalid("warm start", why);
        if config.earlier.is_empty() {
            return Ok(());
        }
        if config.sampler != SamplerConfig::Auto || config.directions.len() != 1 {
            return Err(invalid("only the sampler `auto` on one objective learns from earlier studies".to_owned()));
        }
        if config.earlier.len() > MOST_EARLIER {
            return Err(invalid(format!("at most {MOST_EARLIER} studies can be named")));
        }
        for earlier in &mut config.earlier {
            let record = match self.store.study_by_name(&earlier.name).await {
                Err(StoreError::StudyNotFound(name)) => return Err(invalid(format!("there is no study `{name}`"))),
                record => record?,
            };
            if record.config.directions.len() != 1 {
                return Err(invalid(format!("study `{}` has several objectives", record.name)));
            }
            earlier.trials = self.best_and_others(&record).await?;
            if earlier.trials.is_empty() {
                return Err(invalid(format!("study `{}` has no complete trial to learn from", record.name)));
            }
            earlier.setting = setting(&record);
            earlier.similarity = if earlier.setting.is_some() == config.benchmark.is_some() { 1.0 } else { UNLIKE };
        }
        Ok(())
    }

    /// Of many trials the better half of what is taken is the best, the others lie evenly among the rest.
    async fn best_and_others(&self, record: &StudyRecord) -> Result<Vec<EarlierTrial>, EngineError> {
        let desk = self.desk(record.id).await?;
        let mut live = desk.live().lock().await;
        live.catch_up().await?;
        let ranked = ranking(&live);
        let last = ranked.len().saturating_sub(1).max(1) as f64;
        let fixed = record.config.benchmark.as_ref().map(|benchmark| benchmark.fixed.clone()).unwrap_or_default();
        let trial = |place: usize| {
            let mut params = fixed.clone();
            params.extend(live.history().params(ranked[place])?);
            Some(EarlierTrial { params, rank: place as f64 / last })
        };
        Ok(places(ranked.len(), MOST_EARLIER_TRIALS).into_iter().filter_map(trial).collect())
    }
}

/// `most` of `count` places, ascending.
fn places(count: usize, most: usize) -> Vec<usize> {
    if count <= most {
        return (0..count).collect();
    }
    let best = most / 2;
    let others = most - best;
    (0..best).chain((1..=others).map(|index| best - 1 + index * (count - best) / others)).collect()
}

/// What the values of a described study hold for.
fn setting(record: &StudyRecord) -> Option<EarlierSetting> {
    let benchmark = record.config.benchmark.as_ref()?;
    let model: ModelMetadata = serde_json::from_value(record.description.as_ref()?.get("model")?.clone()).ok()?;
    let device_class = record.pin.as_ref().map(|pin| pin.device_class.as_str()).unwrap_or_default();
    Some(setting_of(&model, device_class, benchmark))
}

/// What the values of a benchmark on a model and a device hold for.
pub(super) fn setting_of(model: &ModelMetadata, device_class: &str, benchmark: &Benchmark) -> EarlierSetting {
    EarlierSetting {
        architecture: model.architecture.clone(),
        parameters: model.parameters,
        quantization: model.quantization.clone(),
        device_class: device_class.to_owned(),
        objective: benchmark.objective.as_str().to_owned(),
        tokens: (benchmark.workload.prompt, benchmark.workload.gen_tokens),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_trials_the_best_and_an_even_choice_are_taken() {
        assert_eq!(places(3, 8), [0, 1, 2]);
        assert_eq!(places(100, 8), [0, 1, 2, 3, 27, 51, 75, 99]);
        assert_eq!(places(9, 8).len(), 8);
        assert_eq!(places(0, 8), Vec::<usize>::new());
    }
}
