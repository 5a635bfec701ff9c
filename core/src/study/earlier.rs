//! What a study takes over from earlier ones.

use serde::{Deserialize, Serialize};

use crate::value::Params;

/// Most studies that one may learn from, and most trials of each.
pub const MOST_EARLIER: usize = 4;
/// See [`MOST_EARLIER`].
pub const MOST_EARLIER_TRIALS: usize = 40;

/// A study whose trials are known when another one begins; a copy, which nothing changes any more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EarlierStudy {
    /// Its name then.
    pub name: String,
    /// What its values hold for; none where clients measured.
    pub setting: Option<EarlierSetting>,
    /// How much its values are worth here: 0 nothing, 1 as much as own ones.
    pub similarity: f64,
    /// Some of its trials, the best first.
    pub trials: Vec<EarlierTrial>,
}

impl EarlierStudy {
    /// The study called `name`, of which nothing is known yet.
    pub fn named(name: String) -> Self {
        Self { name, setting: None, similarity: 1.0, trials: Vec::new() }
    }
}

/// One of its trials.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EarlierTrial {
    /// Its parameters.
    pub params: Params,
    /// Its place among all of them that have a value: 0 the best, 1 the worst.
    pub rank: f64,
}

/// What the values of a model study hold for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EarlierSetting {
    /// Architecture of the model.
    pub architecture: String,
    /// Its number of parameters.
    pub parameters: u64,
    /// Its quantisation.
    pub quantization: String,
    /// The devices, as [`crate::Inventory::device_class`] tells them.
    pub device_class: String,
    /// The number that is optimised.
    pub objective: String,
    /// Tokens of the prompt, and tokens that are generated.
    pub tokens: (u32, u32),
}

/// What another model family, size, quantisation, device, objective and request each leave of the similarity.
const OTHER: [f64; 6] = [0.6, 0.8, 0.8, 0.6, 0.5, 0.9];
/// Sizes and token counts are alike within this factor.
const ALIKE: f64 = 1.5;

impl EarlierSetting {
    /// How much values of one are worth for the other: 1 where everything is alike, never 0.
    pub fn similarity(&self, other: &Self) -> f64 {
        let near = |a: f64, b: f64| (a.max(1.0) / b.max(1.0)).max(b.max(1.0) / a.max(1.0)) <= ALIKE;
        let alike = [
            self.architecture == other.architecture,
            near(self.parameters as f64, other.parameters as f64),
            self.quantization == other.quantization,
            self.device_class == other.device_class,
            self.objective == other.objective,
            near(self.tokens.0.into(), other.tokens.0.into()) && near(self.tokens.1.into(), other.tokens.1.into()),
        ];
        alike.iter().zip(OTHER).map(|(alike, rest)| if *alike { 1.0 } else { rest }).product()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_worth_less() {
        let own = EarlierSetting { architecture: "llama".to_owned(), parameters: 8_000_000_000, ..Default::default() };
        assert!(own.similarity(&own) >= 1.0);
        let larger = EarlierSetting { parameters: 14_000_000_000, ..own.clone() };
        let foreign = EarlierSetting { architecture: "qwen2".to_owned(), ..larger.clone() };
        assert!(own.similarity(&larger) < 1.0 && own.similarity(&foreign) < own.similarity(&larger));
        assert!((own.similarity(&foreign) - foreign.similarity(&own)).abs() < 1e-12);
        assert!(own.similarity(&EarlierSetting { parameters: 7_000_000_000, ..own.clone() }) >= 1.0);
    }
}
